"""Levels: log-SNR, the one coordinate of noise in vidiff.

A level is log(alpha^2 / sigma^2), variance preserving (alpha^2 + sigma^2 = 1): +20 is clean, -20 is noise. Everything
else (alpha, sigma, schedules, sampling grids) is a function of it. Source: Ho et al. 2022 (Video Diffusion Models),
section 2 and appendix A; Kingma et al. 2021 (Variational Diffusion Models); the shift is Hoogeboom et al. 2023 (simple
diffusion), section 3.1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOW, HIGH = -20.0, 20.0


def alpha_sigma(level: Tensor) -> tuple[Tensor, Tensor]:
    """Signal and noise scales at a level.

    Shapes: any -> the same, twice. alpha = sqrt(sigmoid(level)), sigma = sqrt(sigmoid(-level)): each is computed from
    its own sigmoid, so that neither loses digits where it is small.
    """
    return torch.sigmoid(level).sqrt(), torch.sigmoid(-level).sqrt()


def cosine(u: Tensor, *, low: float = LOW, high: float = HIGH, shift: float = 0.0) -> Tensor:
    """Level of the cosine schedule at u in [0, 1]: u = 0 is `high` (clean), u = 1 is `low` (noise).

    level(u) = -2 log tan(a u + b) + shift, with b and a set by the end points, which the shift leaves in place: a
    negative shift spends more of u on noisy levels. Shapes: any -> the same. Source: VDM appendix A; simple diffusion
    for the shift.
    """
    start = math.atan(math.exp(-0.5 * (high - shift)))
    stop = math.atan(math.exp(-0.5 * (low - shift)))
    level = -2.0 * torch.log(torch.tan(start + (stop - start) * u)) + shift
    # tan near pi/2 loses digits: the two ends are given exactly.
    level = torch.where(u <= 0, torch.full_like(level, high), level)
    return torch.where(u >= 1, torch.full_like(level, low), level).clamp(low, high)


def grid(steps: int, *, low: float = LOW, high: float = HIGH, shift: float = 0.0) -> Tensor:
    """Sampling levels of `steps` steps on the cosine schedule, from u = 1 exactly to u = 0.

    Returns (steps + 1,) float64, strictly increasing from `low` to `high`. Raises ValueError for fewer than one step.
    """
    if steps < 1:
        raise ValueError(f"a sampling grid needs at least 1 step, got {steps}")
    return cosine(torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64), low=low, high=high, shift=shift)


def levels_from(levels: Tensor, level: float) -> Tensor:
    """Levels of a sampling run that resumes from z at `level`: that level, then those of `levels` above it.

    Shapes: (steps + 1,) -> (1 to steps + 1,), and one more if `level` is not one of them. Raises ValueError for a level
    outside of `levels`, or at their end.
    """
    if not float(levels[0]) <= level < float(levels[-1]):
        raise ValueError(f"level {level:g} lies outside of {float(levels[0]):g} to {float(levels[-1]):g}")
    return torch.cat([levels.new_tensor([level]), levels[levels > level]])


def per_frame(level: Tensor, like: Tensor) -> Tensor:
    """Levels (b, t) as (b, 1, t, 1, 1), to scale videos (b c t h w); the dtype of the levels is kept."""
    if level.shape != (like.shape[0], like.shape[2]):
        expected = (like.shape[0], like.shape[2])
        raise ValueError(f"levels have shape {tuple(level.shape)}, expected one per clip and frame: {expected}")
    return level[:, None, :, None, None]


def add_noise(x: Tensor, noise: Tensor, level: Tensor) -> Tensor:
    """z = alpha x + sigma noise: a video (b c t h w) at levels (b, t). Source: VDM section 2."""
    alpha, sigma = alpha_sigma(per_frame(level.double(), x))
    return alpha.to(x.dtype) * x + sigma.to(x.dtype) * noise
