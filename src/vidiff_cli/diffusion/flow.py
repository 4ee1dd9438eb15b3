"""Flow matching as levels: z_flow = (1 - s) x + s eps on the straight path, the same process up to a scale.

With s = sigmoid(-level / 2), (1 - s) / s = alpha / sigma, so z_flow = z / norm with norm = 1 / sqrt((1 - s)^2 + s^2)
times the variance-preserving z. The network's velocity is v = eps - x, hence x_hat = z_flow - s v. DDIM in these
coordinates is Euler's method on the flow. Sources: Lipman et al. 2023; Liu et al. 2023 (rectified flow); Esser et al.
2024, section 3 (shift of the path).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from vidiff_cli.diffusion.levels import per_frame

FlowSpacing = Literal["euler", "unipc", "dpmsolver"]


def flow_time(level: Tensor) -> Tensor:
    """s in [0, 1] of levels, 1 being noise. Shapes: any -> the same, float64."""
    return torch.sigmoid(-0.5 * level.double())


def level_of_flow(s: Tensor) -> Tensor:
    """Levels 2 log((1 - s) / s) of path positions, float64: -inf at 1, inf at 0. Shapes: any -> the same."""
    s = s.double()
    return 2 * (torch.log1p(-s) - torch.log(s))


def to_flow(z: Tensor, level: Tensor) -> Tensor:
    """z of the straight path. Shapes: z (b c t h w), level (b, t) -> (b c t h w)."""
    s = per_frame(flow_time(level), z)
    return ((1 - s).square() + s.square()).sqrt().to(z.dtype) * z


def x_from_velocity(velocity: Tensor, z_flow: Tensor, level: Tensor) -> Tensor:
    """x_hat = z_flow - s v. Shapes as `to_flow`."""
    return z_flow - per_frame(flow_time(level), z_flow).to(z_flow.dtype) * velocity


def flow_grid(steps: int, *, shift: float = 1.0, timesteps: int = 1000, spacing: FlowSpacing = "euler") -> Tensor:
    """Levels (steps + 1) float64 from noise to clean: s evenly spread, shifted, then 0.

    A shift k moves s to k s / (1 + (k - 1) s), which spends more steps near noise. `spacing` says where s is spread, as
    the libraries' solvers do: "euler" from 1 to the shifted 1 / T (which is then shifted twice), "unipc" from 1 and
    "dpmsolver" from 1 - 1 / T, these two with a last step as long as the others. ValueError for fewer steps than one.
    """
    if steps < 1:
        raise ValueError(f"a sampling grid needs at least 1 step, got {steps}")
    smallest = 1 / timesteps
    twice = float(_shifted(torch.tensor(smallest, dtype=torch.float64), shift))
    first, last, count = {
        "euler": (1.0, twice, steps),
        "unipc": (1.0, smallest, steps + 1),
        "dpmsolver": (1.0 - smallest, 0.0, steps + 1),
    }[spacing]
    shifted = _shifted(torch.linspace(first, last, count, dtype=torch.float64)[:steps], shift)
    return torch.cat([level_of_flow(shifted), torch.tensor([math.inf], dtype=torch.float64)])


def _shifted(s: Tensor, shift: float) -> Tensor:
    return shift * s / (1 + (shift - 1) * s)
