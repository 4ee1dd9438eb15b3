"""The levels that a model is trained at."""

from __future__ import annotations

from torch import Tensor

from vidiff_cli.config.model import ModelSettings
from vidiff_cli.diffusion.levels import cosine
from vidiff_cli.models.public.networks import Process


def training_levels(model: ModelSettings, u: Tensor) -> Tensor:
    """Levels (float64) at places u in [0, 1] of a model's schedule, 0 clean and 1 noise: a cosine's, or the own
    timesteps of a public model. Shapes: any -> the same."""
    if model.base is not None:
        return Process.from_config(model.base.scheduler).training_levels(u)
    diffusion = model.diffusion
    return cosine(u, low=diffusion.low, high=diffusion.high, shift=diffusion.shift)
