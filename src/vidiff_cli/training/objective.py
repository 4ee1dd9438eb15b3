"""The training loss: weighted squared error of the network's prediction on the frames that are not given.

Shapes: b clips, t frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vidiff_cli.config.model import DiffusionSettings
from vidiff_cli.diffusion.levels import cosine, diffuse
from vidiff_cli.diffusion.targets import loss_weight, target, x_from
from vidiff_cli.models.conditioning import Conditioning
from vidiff_cli.models.denoiser import Denoiser
from vidiff_cli.text.encoder import TextEncoder
from vidiff_cli.training.batches import Batch


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """`total` is the mean over clips; `per_clip` (b) detached, of the diffusion loss alone; `observed` (b) marks clips
    with given frames; `level` (b) is that of the frames that are made; `terms` are the auxiliary ones, detached."""

    total: Tensor
    per_clip: Tensor
    observed: Tensor
    level: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)


Auxiliary = Callable[[Tensor, Batch, Tensor], dict[str, Tensor]]
"""(x_hat: b c t h w, batch, level: b t) -> weighted terms by name, each a scalar with a gradient."""


def diffusion_loss(
    denoiser: Denoiser, text: TextEncoder | None, batch: Batch, *, auxiliary: Auxiliary | None = None
) -> Loss:
    """Given frames are shown clean, at the clean level, and count nothing; the others share one level per clip.

    The mean is over the frames that are made, then over the clips, so that a clip counts the same however much of it is
    given. Source: VDM section 2 (v-loss), RaMViD and FDM for the observed frames.
    """
    settings = denoiser.settings.diffusion
    level = _levels(batch, settings)
    z = torch.where(batch.given[:, None, :, None, None], batch.video, diffuse(batch.video, batch.noise, level))
    prediction = denoiser.predict(z, level, conditioning_of(batch, text))
    wanted = target(settings.target, batch.video, batch.noise, level)
    weight = loss_weight(settings.weighting, settings.target, level)
    errors = (prediction - wanted).square().mean(dim=(1, 3, 4)) * weight  # b t
    made = (~batch.given).to(errors.dtype)
    per_clip = (errors * made).sum(dim=1) / made.sum(dim=1)
    total, terms = per_clip.mean(), {}
    if auxiliary is not None:
        terms = auxiliary(x_from(settings.target, prediction, z, level), batch, level)
        total = total + sum(terms.values())
    return Loss(
        total=total,
        per_clip=per_clip.detach(),
        observed=batch.given.any(dim=1),
        level=torch.where(batch.given, torch.inf, level).amin(dim=1),
        terms={name: value.detach() for name, value in terms.items()},
    )


def conditioning_of(batch: Batch, text: TextEncoder | None) -> Conditioning:
    """What the network is told of a batch."""
    if text is None:
        return Conditioning(times=batch.times, given=batch.given)
    embedded = text(batch.captions)
    return Conditioning(
        times=batch.times,
        given=batch.given,
        tokens=embedded.tokens,
        token_mask=embedded.mask,
        pooled=embedded.pooled,
        dropped=batch.dropped,
    )


def _levels(batch: Batch, settings: DiffusionSettings) -> Tensor:
    level = cosine(batch.u.double(), low=settings.low, high=settings.high, shift=settings.shift).float()
    return torch.where(batch.given, torch.full_like(batch.times, settings.high), level[:, None])
