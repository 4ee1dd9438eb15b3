"""Samplers: functions of (denoise, z, levels) that walk z from noise to the last level.

A sampler knows no schedule, no model, no conditioning and no progress bar: those are closed over or wrapped around
`denoise`. Shapes: z (b c t h w); levels (steps + 1,) or (steps + 1, b, t), not decreasing; the denoiser is always
handed levels (b, t). Every sampler returns z at levels[-1]. A frame whose level does not change in a step keeps its z
bit for bit in that step. Coefficients are computed in float64 and applied in the dtype of z.

Noise may have a covariance S over the frames (`noise.Prior`): the z to start from has it, and every noise drawn has
it; nothing else changes. q(z_s | z_t, x) has the same mean and S times its variance, and wherever the score enters it
is multiplied by S, which x_hat already holds: by Tweedie's formula sigma^2 S grad log p(z) = alpha x_hat - z.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor

from vidiff_cli.diffusion.levels import alpha_sigma, per_frame
from vidiff_cli.diffusion.noise import white

Denoise = Callable[[Tensor, Tensor], Tensor]
"""(z: b c t h w, level: b t) -> x_hat: b c t h w"""

Noise = Callable[[Tensor, Generator | None], Tensor]
"""(like: b c t h w, generator) -> noise of that shape; white unless a prior gives it a covariance."""


Draw = Callable[[Tensor], Tensor]
"""(like: b c t h w) -> noise of that shape, with its generator closed over."""


class Sampler(Protocol):
    """(denoise, z, levels, *, generator) -> z at levels[-1]; a sampler may have further settings of its own."""

    def __call__(
        self, denoise: Denoise, z: Tensor, levels: Tensor, *, generator: Generator | None = None
    ) -> Tensor: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class PreviousStep:
    """The step before: its estimate (b c t h w), and by how much half the level rose (b t), 0 for frames that stood."""

    estimate: Tensor
    rise: Tensor


class SamplerStep(Protocol):
    """One step: (z, x_hat at z, level, following: b t) -> z at `following`, for a loop of its own.

    `before` is the step before, where there was one; `last` (b t) marks frames that come to their last level, in which
    the step is of first order and adds no noise; `noise` draws some in the shape of a tensor, where a sampler needs it.
    """

    def __call__(
        self,
        z: Tensor,
        x: Tensor,
        level: Tensor,
        following: Tensor,
        *,
        before: PreviousStep | None,
        last: Tensor,
        noise: Draw | None,
    ) -> Tensor: ...


def ddim(denoise: Denoise, z: Tensor, levels: Tensor, *, generator: Generator | None = None) -> Tensor:
    """DDIM, the first-order solver of the probability flow: z_s = (sigma_s / sigma_t) z_t - alpha_s (e^-h - 1) x_hat.

    h = (level_s - level_t) / 2. Deterministic: `generator` is accepted for the common signature and never drawn from.
    Source: Song et al. 2021; VDM section 2; the exponential form is Lu et al. 2022 (DPM-Solver).
    """
    return _deterministic(ddim_step, denoise, z, levels)


def dpmpp_2m(denoise: Denoise, z: Tensor, levels: Tensor, *, generator: Generator | None = None) -> Tensor:
    """DPM-Solver++(2M): as DDIM, with x_hat extrapolated from the last two estimates; one evaluation a step.

    The first and the last step in which a frame moves are first order. Deterministic.
    Source: Lu et al. 2022 (DPM-Solver++), algorithm 2; its lambda is half of our level.
    """
    return _deterministic(dpmpp_2m_step, denoise, z, levels)


def ddpm(
    denoise: Denoise,
    z: Tensor,
    levels: Tensor,
    *,
    generator: Generator | None = None,
    gamma: float = 0.0,
    correct: float = 0.0,
    noise: Noise | None = None,
) -> Tensor:
    """Ancestral sampling with VDM's gamma, and a Langevin correction after each step where `correct` > 0.

    A step draws from N(mu, (small^2)^(1 - gamma) (large^2)^gamma), where small^2 = (1 - e^(level_t - level_s))
    sigma_s^2 is the variance of q(z_s | z_t, x) and large^2 = (1 - e^(level_t - level_s)) sigma_t^2 that of q(z_t |
    z_s). The correction is z_s <- z_s - (delta / 2) sigma_s eps_hat(z_s) + sqrt(delta) sigma_s xi, at the cost of a
    second evaluation (VDM uses delta = 0.1). The last step draws no noise and is not corrected. Source: VDM section 2,
    equation 3 and appendix A.

    Args:
        denoise: Estimate of x.
        z: Noise at levels[0] (b c t h w).
        levels: The grid (steps + 1,) or (steps + 1, b, t), rising.
        generator: Of all draws.
        gamma: Interpolates the variance of a step from the smallest (0) to the largest (1).
        correct: Step size delta of the Langevin correction; 0: no correction.
        noise: Draws noise with the covariance of the prior; white if not given.

    Returns:
        z at levels[-1].
    """
    draw = noise or white
    steps = _steps(z, levels)
    end = steps[-1][1]
    for number, (level, following) in enumerate(steps):
        ends = number == len(steps) - 1
        last, own = following == end, None if ends else lambda like: draw(like, generator)
        z = ddpm_step(z, denoise(z, level), level, following, last=last, noise=own, gamma=gamma)
        if correct > 0 and not ends:
            corrected = _langevin(denoise, z, following, correct, draw(z, generator))
            z = torch.where(per_frame((following != level) & ~last, z), corrected, z)
    return z


def ddim_step(
    z: Tensor,
    x: Tensor,
    level: Tensor,
    following: Tensor,
    *,
    before: PreviousStep | None = None,
    last: Tensor | None = None,
    noise: Draw | None = None,
) -> Tensor:
    """One step of `ddim`; only z, x and the levels count."""
    return _exponential_step(z, x, level, following)


def dpmpp_2m_step(
    z: Tensor,
    x: Tensor,
    level: Tensor,
    following: Tensor,
    *,
    before: PreviousStep | None,
    last: Tensor,
    noise: Draw | None = None,
) -> Tensor:
    """One step of `dpmpp_2m`; no noise counts."""
    if before is not None:
        rise = 0.5 * (following - level)
        usable = (before.rise > 0) & (rise > 0) & ~last
        ratio = torch.where(usable, rise / (2.0 * torch.where(usable, before.rise, 1.0)), 0.0)
        x = x + per_frame(ratio, z).to(z.dtype) * (x - before.estimate)
    return _exponential_step(z, x, level, following)


def ddpm_step(
    z: Tensor,
    x: Tensor,
    level: Tensor,
    following: Tensor,
    *,
    before: PreviousStep | None = None,
    last: Tensor,
    noise: Draw | None,
    gamma: float = 0.0,
) -> Tensor:
    """One step of `ddpm`, without correction; no step before counts, and without `noise` none is added."""
    mean, deviation = _ancestral(z, x, level, following, gamma)
    moved = mean if noise is None else torch.where(per_frame(last, z), mean, mean + deviation * noise(z))
    return torch.where(per_frame(following != level, z), moved, z)


SAMPLERS: dict[str, Sampler] = {"ddpm": ddpm, "ddim": ddim, "dpmpp-2m": dpmpp_2m}
SAMPLER_STEPS: dict[str, SamplerStep] = {"ddpm": ddpm_step, "ddim": ddim_step, "dpmpp-2m": dpmpp_2m_step}


def _deterministic(step: SamplerStep, denoise: Denoise, z: Tensor, levels: Tensor) -> Tensor:
    """Walks z along the levels without noise."""
    steps, before = _steps(z, levels), None
    for level, following in steps:
        x = denoise(z, level)
        z = step(z, x, level, following, before=before, last=following == steps[-1][1], noise=None)
        before = PreviousStep(estimate=x, rise=0.5 * (following - level))
    return z


def _steps(z: Tensor, levels: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Pairs of float64 levels (b, t): where a step starts, where it ends."""
    b, t = z.shape[0], z.shape[2]
    # those of another device are not asked, for which the host would wait
    if levels.device.type == "cpu" and bool((levels[1:] < levels[:-1]).any()):
        raise ValueError("levels fall along the grid; expected them to rise from noise (low) to clean (high)")
    levels = levels.to(device=z.device, dtype=torch.float64, non_blocking=True)
    if levels.ndim == 1:
        levels = levels[:, None, None].expand(-1, b, t)
    if levels.shape[1:] != (b, t) or len(levels) < 2:
        raise ValueError(f"levels have shape {tuple(levels.shape)}, expected (steps + 1,) or (steps + 1, {b}, {t})")
    return [(levels[number], levels[number + 1]) for number in range(len(levels) - 1)]


def _exponential_step(z: Tensor, estimate: Tensor, level: Tensor, following: Tensor) -> Tensor:
    level, following = per_frame(level, z), per_frame(following, z)
    alpha_s, sigma_s = alpha_sigma(following)
    _, sigma_t = alpha_sigma(level)
    keep = (sigma_s / sigma_t).to(z.dtype)
    take = (-alpha_s * torch.expm1(-0.5 * (following - level))).to(z.dtype)
    return torch.where(following == level, z, keep * z + take * estimate)


def _ancestral(z: Tensor, estimate: Tensor, level: Tensor, following: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    level, following = per_frame(level, z), per_frame(following, z)
    alpha_s, sigma_s = alpha_sigma(following)
    _, sigma_t = alpha_sigma(level)
    fresh = -torch.expm1(level - following)  # 1 - e^(level_t - level_s), the share of the step that is new
    keep = torch.exp(0.5 * (level - following)) * sigma_s / sigma_t  # e^(level_t - level_s) alpha_s / alpha_t
    mean = keep.to(z.dtype) * z + (fresh * alpha_s).to(z.dtype) * estimate
    deviation = fresh.sqrt() * sigma_s ** (1.0 - gamma) * sigma_t**gamma
    return mean, deviation.to(z.dtype)


def _langevin(denoise: Denoise, z: Tensor, level: Tensor, delta: float, noise: Tensor) -> Tensor:
    alpha, sigma = alpha_sigma(per_frame(level, z))
    # sigma * eps_hat = z - alpha x_hat: no division by a small sigma. With noise of covariance S it is -sigma^2 S times
    # the score: Langevin dynamics preconditioned by S, which leave p(z) as it is if their noise has that covariance.
    drift = z - alpha.to(z.dtype) * denoise(z, level)
    return z - 0.5 * delta * drift + (delta**0.5) * sigma.to(z.dtype) * noise
