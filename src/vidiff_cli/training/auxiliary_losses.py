"""Losses beside the diffusion loss, off by default: on x_hat, at low noise only.

The error of x_hat is sigma times the error of a v-prediction, so a squared error of it is divided by sigma^2: a weight
then means the same at every level. Shapes: b clips in the batch, n chosen ones, t frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vidiff_cli.config.model import DiffusionSettings
from vidiff_cli.config.train import ObjectiveSettings
from vidiff_cli.device import send
from vidiff_cli.diffusion.levels import cosine
from vidiff_cli.training.loader import Batch
from vidiff_cli.training.objective import Auxiliary

GATE = 2.0  # level: sigma below 0.35. What is estimated in more noise is a blur, and a blur has no motion or texture
FLOOR = 0.02  # of sigma^2: near the clean end a term fades instead of asking for ever smaller errors
SHARE = 0.25  # of the clips that the terms are computed for, on average
_SPREAD = 10_000 * (5**0.5 - 1) / 2  # takes values of u that lie at equal distances to places all over [0, 1)

Term = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x_hat, video: n c t h w, made: n t, on the host) -> squared error in x, per clip (n)."""


def make_auxiliary_losses(
    objective: ObjectiveSettings, diffusion: DiffusionSettings, device: torch.device
) -> Auxiliary | None:
    """The auxiliary losses of the settings; None where they are off, and then none of their modules is imported.

    VidiffError for weights that cannot be read.
    """
    terms: dict[str, tuple[float, Term]] = {}
    if objective.flow_loss:
        from vidiff_cli.models.optical_flow import raft
        from vidiff_cli.motion import full_size_flow
        from vidiff_cli.training.flow_loss import ResidualFlow

        path = objective.flow_weights
        terms["flow"] = objective.flow_loss, ResidualFlow(raft(path, device) if path else full_size_flow)
    if objective.perceptual_loss:
        from vidiff_cli.training.perceptual_loss import perceptual

        assert objective.perceptual_weights is not None  # the settings see to it
        terms["perceptual"] = objective.perceptual_loss, perceptual(objective.perceptual_weights, device)
    return LowNoiseLosses(terms=terms, keep=subsample_rate(diffusion)) if terms else None


def subsample_rate(diffusion: DiffusionSettings) -> float:
    """The share of the clips above the gate that are chosen, so that they are at most `SHARE` of all."""
    u = torch.linspace(0, 1, 10_001, dtype=torch.float64)
    levels = cosine(u, low=diffusion.low, high=diffusion.high, shift=diffusion.shift)
    return min(1.0, SHARE / max(float((levels >= GATE).double().mean()), 1e-9))


@dataclass(frozen=True, kw_only=True, slots=True)
class LowNoiseLosses:
    """Weighted terms by name, each the mean over the batch of g(level) / max(sigma^2, FLOOR) times the term of a clip.

    g is 1 from the gate upwards and 0 below: below it nothing is computed. With `keep` below one, clips above the gate
    are chosen with that probability and weighted by its inverse. It is a function of each clip's own u, so that neither
    the number of processes nor of parts of a batch changes the choice.
    """

    terms: Mapping[str, tuple[float, Term]]
    keep: float = 1.0

    def __call__(self, x_hat: Tensor, batch: Batch, level: Tensor) -> dict[str, Tensor]:
        """x_hat (b c t h w), level (b, t) on the host -> scalars with a gradient; zeros where no clip is above the
        gate. The clips are chosen on the host, which waits for no device."""
        u, observed = batch.on_host
        made = ~observed
        lowest = torch.where(made, level, torch.inf).amin(dim=1).float()
        open_ = (lowest >= GATE) & made.any(dim=1)
        if self.keep < 1.0:
            open_ = open_ & ((u.amax(dim=1).double() * _SPREAD) % 1.0 < self.keep)
        chosen = open_.nonzero()[:, 0]
        if not len(chosen):
            return {name: x_hat.new_zeros((), dtype=torch.float32) for name in self.terms}
        made, device = made[chosen], x_hat.device
        scale = send(1.0 / (torch.sigmoid(-lowest[chosen]).clamp(min=FLOOR) * self.keep * len(x_hat)), device)
        chosen = send(chosen, device)
        video = batch.video[chosen].float()
        # what is given stands in the result as it is, whatever is estimated of it
        estimate = torch.where(~batch.observed[chosen][:, None, :, None, None], x_hat[chosen].float(), video)
        with torch.autocast(x_hat.device.type, enabled=False):  # flow and features need their digits
            return {
                name: weight * (term(estimate, video, made) * scale).sum()
                for name, (weight, term) in self.terms.items()
            }
