"""Discrete schedules of public models as levels: T betas, their timesteps, and the grids that their pipelines walk.

abar_t is the product of 1 - beta up to timestep t, and level_t = log(abar_t / (1 - abar_t)): the log-SNR of z_t =
sqrt(abar_t) x + sqrt(1 - abar_t) eps. Sources: Ho et al. 2020 (DDPM); Nichol and Dhariwal 2021 (cosine betas); Lin et
al. 2024, algorithm 1 (zero terminal SNR), table 2 (spacing of timesteps); Hoogeboom et al. 2023 (shift of the SNR).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SPACINGS = ("leading", "linspace", "trailing")
MULTISTEP = frozenset({"DPMSolverMultistepScheduler", "UniPCMultistepScheduler"})  # their grids leave room for t = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class DiscreteSchedule:
    """Levels (T,) float64 of timesteps 0 (clean) to T - 1, strictly descending; the last may be -inf.

    `leaves_end`: spaced as for one step more, the last of which is left out, as multistep solvers do.
    """

    levels: Tensor
    spacing: str = "trailing"
    offset: int = 0
    leaves_end: bool = False

    def __post_init__(self) -> None:
        if self.levels.ndim != 1 or len(self.levels) < 2 or not bool((self.levels[1:] < self.levels[:-1]).all()):
            raise ValueError("expected levels of two timesteps or more, descending from clean to noise")

    @property
    def has_zero_terminal_snr(self) -> bool:
        """True if nothing of x is left at the last timestep."""
        return bool(self.levels[-1] == -math.inf)

    def level(self, timestep: Tensor) -> Tensor:
        """Levels of timesteps in [0, T - 1], fractional ones between two by their angle. Shapes: any -> the same."""
        angles, timestep = _angle(self.levels), timestep.double()
        low = timestep.floor().clamp(0, len(angles) - 2).long()
        share = timestep - low
        angle = angles[low] * (1 - share) + angles[low + 1] * share
        exact = torch.where(share == 0, self.levels[low], self.levels[low + 1])
        return torch.where((share == 0) | (share == 1), exact, -2 * torch.log(torch.tan(angle)))

    def timestep(self, level: Tensor) -> Tensor:
        """Timesteps (float64) of levels, linear in the angle arctan(sigma / alpha) between whole ones.

        The angle is finite where the level is not. Levels beyond the first or the last timestep are those. Shapes: any
        -> the same.
        """
        angles, wanted = _angle(self.levels), _angle(level.double().cpu())
        upper = torch.searchsorted(angles, wanted.contiguous()).clamp(1, len(angles) - 1)
        low, high = angles[upper - 1], angles[upper]
        return (upper - 1 + (wanted - low) / (high - low)).clamp(0, len(angles) - 1).to(level.device)

    def grid(self, steps: int) -> Tensor:
        """Levels (steps + 1) float64 from noise to clean: those of the model's own timesteps, then inf.

        At inf z is x_hat exactly. ValueError for fewer steps than one or more than timesteps.
        """
        total, spaced = len(self.levels), steps + self.leaves_end
        if not 1 <= steps <= total:
            raise ValueError(f"a grid over {total} timesteps has 1 to {total} steps, got {steps}")
        if self.spacing == "trailing":
            timesteps = (total - torch.arange(steps, dtype=torch.float64) * (total / steps)).round() - 1
        elif self.spacing == "leading":
            even = torch.arange(spaced, dtype=torch.float64) * (total // spaced)
            timesteps = even.flip(0)[:steps] + self.offset
        elif self.spacing == "linspace":
            timesteps = torch.linspace(total - 1, 0, spaced, dtype=torch.float64)[:steps].round()
        else:
            raise ValueError(f"unknown spacing {self.spacing!r} of timesteps; known: {', '.join(SPACINGS)}")
        return torch.cat([self.level(timesteps.clamp(0, total - 1)), torch.tensor([math.inf], dtype=torch.float64)])


def read_discrete(config: Mapping[str, Any]) -> DiscreteSchedule:
    """The schedule of a scheduler_config.json. ValueError for what is not known here."""
    count = int(config.get("num_train_timesteps", 1000))
    kind = config.get("beta_schedule", "linear")
    first, last = float(config.get("beta_start", 1e-4)), float(config.get("beta_end", 0.02))
    if config.get("trained_betas") is not None:
        betas = torch.tensor(config["trained_betas"], dtype=torch.float64)
    elif kind == "linear":
        betas = torch.linspace(first, last, count, dtype=torch.float64)
    elif kind == "scaled_linear":
        betas = torch.linspace(first**0.5, last**0.5, count, dtype=torch.float64) ** 2
    elif kind == "squaredcos_cap_v2":
        betas = _cosine_betas(count)
    else:
        raise ValueError(f"unknown beta_schedule {kind!r}")
    alphas = torch.cumprod(1 - betas, dim=0)
    shift = float(config.get("snr_shift_scale", 1.0) or 1.0)
    alphas = alphas / (shift + (1 - shift) * alphas)
    if config.get("rescale_betas_zero_snr"):
        root = alphas.sqrt()
        alphas = ((root - root[-1]) * (root[0] / (root[0] - root[-1]))).square()
    levels = torch.log(alphas) - torch.log1p(-alphas)
    multistep = config.get("_class_name") in MULTISTEP
    spacing = str(config.get("timestep_spacing") or ("linspace" if multistep else "leading"))
    offset = int(config.get("steps_offset") or 0)
    return DiscreteSchedule(levels=levels, spacing=spacing, offset=offset, leaves_end=multistep)


def _angle(level: Tensor) -> Tensor:
    """arctan(sigma / alpha) of levels: 0 is clean, pi / 2 is noise."""
    return torch.atan2(torch.sigmoid(-level).sqrt(), torch.sigmoid(level).sqrt())


def _cosine_betas(count: int) -> Tensor:
    at = torch.arange(count + 1, dtype=torch.float64) / count
    remaining = torch.cos((at + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - remaining[1:] / remaining[:-1]).clamp(max=0.999)
