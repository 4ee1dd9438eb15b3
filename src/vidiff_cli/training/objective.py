"""The training loss: weighted squared error of the network's prediction on the frames that are not observed.

Shapes: b clips, t frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from vidiff_cli.config.model import DiffusionSettings, ModelSettings
from vidiff_cli.diffusion.levels import add_noise
from vidiff_cli.diffusion.noise import Prior
from vidiff_cli.diffusion.targets import target, x_from
from vidiff_cli.models.conditioning import Conditioning
from vidiff_cli.models.denoiser import Denoiser
from vidiff_cli.models.noise_schedule import training_levels
from vidiff_cli.models.video_model import VideoNetwork
from vidiff_cli.text.encoder import TextEncoder
from vidiff_cli.training.loader import Batch


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """`total` is the mean over clips; `per_clip` (b) and `per_frame` (b, t) detached, of the diffusion loss alone;
    `level` (b, t). `made` (b, t) marks the frames that are not observed, without images. `terms` are the auxiliary ones
    and that of images, detached."""

    total: Tensor
    per_clip: Tensor
    per_frame: Tensor
    made: Tensor
    level: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)


Auxiliary = Callable[[Tensor, Batch, Tensor], dict[str, Tensor]]
"""(x_hat: b c t h w, batch, level: b t, on the host and of the frames that are made) -> weighted terms by name, each a
scalar with a gradient."""


Objective = Callable[[VideoNetwork, Batch], Loss]
"""(model in training, batch) -> its loss: `training_loss`, or that of a distillation."""


class LossModule(nn.Module):
    """The loss of a model as a module of its own, for DDP and FSDP2 to wrap."""

    def __init__(self, video_model: VideoNetwork) -> None:
        super().__init__()
        self.video_model = video_model

    def forward(self, batch: Batch, objective: Objective) -> tuple[Tensor, Loss]:
        """The total beside the loss: DDP and FSDP2 find tensors in tuples, not in dataclasses."""
        loss = objective(self.video_model, batch)
        return loss.total, loss


def training_loss(video_model: VideoNetwork, batch: Batch, auxiliary: Auxiliary | None = None) -> Loss:
    """`diffusion_loss` of a model in training."""
    return diffusion_loss(video_model.denoiser, video_model.text, batch, auxiliary=auxiliary)


def diffusion_loss(
    denoiser: Denoiser, text: TextEncoder | None, batch: Batch, *, auxiliary: Auxiliary | None = None
) -> Loss:
    """The v-loss of a batch and the auxiliary terms.

    Observed frames are shown clean at the clean level, or noisy at the level that the batch has for them, and are
    excluded from the loss; each of the others has its own level and the weight of that level.

    The mean is over the generated frames, then over the clips, so that a clip has the same weight however many of its
    frames are observed. Images beside the clips have the share of the loss that they have of the frames; `per_clip` and
    the auxiliary terms exclude them. Noise has the covariance of the model's prior; images and the noise of observed
    frames do not. Source: VDM section 2 (v-loss) and 3.1 (images: one level for a clip and what is beside it), RaMViD
    and FDM for the observed frames, Imagen Video for their noise, Diffusion Forcing for levels by frame.
    """
    settings, frames = denoiser.settings.diffusion, batch.clip_frames
    level = batch_levels(batch, denoiser.settings)
    z, noise = noisy_video(batch, settings, level)
    conditioning = make_conditioning(batch, text)
    prediction = denoiser.predict(z, level, conditioning)
    wanted = target(settings.target, batch.video, noise, level)
    weight = denoiser.loss_weight(level, conditioning)
    errors = ((prediction - wanted).square() * weight).mean(dim=(1, 3, 4))  # b t
    made = ~batch.observed[:, :frames]
    per_clip = (errors[:, :frames] * made).sum(dim=1) / made.to(errors.dtype).sum(dim=1)
    total, terms = (_bounded(per_clip) if denoiser.settings.network.between else per_clip).mean(), {}
    if auxiliary is not None:
        x_hat = x_from(settings.target, prediction, z, level)[:, :, :frames]
        clips = batch.without_images()
        on_host = training_levels(denoiser.settings, clips.on_host[0].double()).float()
        terms = auxiliary(x_hat, clips, on_host)
    if batch.is_image is not None:
        images = errors[:, frames:].mean()
        share = 1 - frames / errors.shape[1]
        total, terms = (1 - share) * total, terms | {"images": share * images}
    if terms:
        total = total + sum(terms.values())
    return Loss(
        total=total,
        per_clip=per_clip.detach(),
        per_frame=errors[:, :frames].detach(),
        made=made,
        level=level[:, :frames],
        terms={name: value.detach() for name, value in terms.items()},
    )


def _bounded(per_clip: Tensor) -> Tensor:
    """Losses of clips (b) with the gradients of those above 1 divided by them: the estimate by motion of such a clip is
    far worse than its spread says, and one of them would outweigh a batch."""
    return per_clip / per_clip.detach().clamp(min=1.0)


def make_conditioning(batch: Batch, text: TextEncoder | None) -> Conditioning:
    """The conditioning of the network for a batch."""
    plain = Conditioning(
        times=batch.times,
        observed=batch.observed,
        is_image=batch.is_image,
        estimate=batch.estimate,
        uncertainty=batch.uncertainty,
        estimated_from=batch.estimated_from,
        around=batch.around,
        augmentation=batch.augmentation,
        seeds=batch.seeds,
    )
    if text is None:
        return plain
    assert batch.text is not None, "the captions of the batch were not read"
    embedded = text(batch.text)
    return replace(
        plain,
        tokens=embedded.tokens,
        token_mask=embedded.mask,
        pooled=embedded.pooled,
        dropped=batch.dropped,
    )


def batch_levels(batch: Batch, model: ModelSettings) -> Tensor:
    """The levels (b, t) at which a batch is shown to a model, float32."""
    level = training_levels(model, batch.u.double()).float()
    if batch.context is None:
        return torch.where(batch.observed, model.diffusion.high, level)
    return torch.where(batch.observed, training_levels(model, batch.context.double()).float()[:, None], level)


def noisy_video(batch: Batch, settings: DiffusionSettings, level: Tensor) -> tuple[Tensor, Tensor]:
    """z of a batch at its levels (b, t), where observed frames may be clean, and the noise in it (b c t h w)."""
    noise = _noise(batch, settings)
    shown_clean = _shown_clean(batch)[:, None, :, None, None]
    return torch.where(shown_clean, batch.video, add_noise(batch.video, noise, level)), noise


def _noise(batch: Batch, settings: DiffusionSettings) -> Tensor:
    prior = Prior(name=settings.noise, strength=settings.noise_strength)
    alone = batch.is_image
    if batch.context is not None:
        alone = batch.observed if alone is None else batch.observed | alone
    with torch.autocast(batch.noise.device.type, enabled=False):  # noise of fewer digits would not be that of sampling
        return prior.correlate(batch.noise, alone)


def _shown_clean(batch: Batch) -> Tensor:
    return batch.observed if batch.context is None else batch.observed & (batch.context == 0)[:, None]
