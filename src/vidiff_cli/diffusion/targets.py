"""Network predictions (eps, x, v or flow) as views of one estimate, and the weight of an error over the levels.

With z = alpha x + sigma eps, v = alpha eps - sigma x and flow = eps - x (the velocity of `flow.py`), any one of eps, x,
v, flow gives the others with z. An error of the prediction becomes an error of x_hat through `error_scale`:
|x_hat - x| = error_scale * |prediction - target|. Sources: Salimans and Ho 2022 (v), VDM section 2, Hang et al. 2023
(min-SNR).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from vidiff_cli.diffusion.flow import flow_time, to_flow, x_from_velocity
from vidiff_cli.diffusion.levels import alpha_sigma, per_frame

PredictionType = Literal["eps", "x", "v", "flow"]


def _scales(z: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
    alpha, sigma = alpha_sigma(per_frame(level.double(), z))
    return alpha.to(z.dtype), sigma.to(z.dtype)


def x_from(kind: PredictionType, prediction: Tensor, z: Tensor, level: Tensor) -> Tensor:
    """x_hat from a prediction of `kind`. Shapes: prediction, z (b c t h w), level (b, t) -> (b c t h w)."""
    alpha, sigma = _scales(z, level)
    views = {
        "x": lambda: prediction,
        "eps": lambda: (z - sigma * prediction) / alpha,
        "v": lambda: alpha * z - sigma * prediction,
        "flow": lambda: x_from_velocity(prediction, to_flow(z, level), level),
    }
    return views[_known(kind)]()


def eps_from_x(x: Tensor, z: Tensor, level: Tensor) -> Tensor:
    """eps_hat = (z - alpha x_hat) / sigma. Shapes as `x_from`."""
    alpha, sigma = _scales(z, level)
    return (z - alpha * x) / sigma


def v_from_x(x: Tensor, z: Tensor, level: Tensor) -> Tensor:
    """v_hat = (alpha z - x_hat) / sigma. Shapes as `x_from`."""
    alpha, sigma = _scales(z, level)
    return (alpha * z - x) / sigma


def velocity_from_x(x: Tensor, z: Tensor, level: Tensor) -> Tensor:
    """The velocity (z_flow - x_hat) / s of the straight path. Shapes as `x_from`."""
    return (to_flow(z, level) - x) / per_frame(flow_time(level), z).to(z.dtype)


def prediction_from(kind: PredictionType, x: Tensor, z: Tensor, level: Tensor) -> Tensor:
    """The prediction of `kind` whose x_hat is x: the inverse of `x_from`, shapes as there."""
    views = {
        "x": lambda: x,
        "eps": lambda: eps_from_x(x, z, level),
        "v": lambda: v_from_x(x, z, level),
        "flow": lambda: velocity_from_x(x, z, level),
    }
    return views[_known(kind)]()


def target(kind: PredictionType, x: Tensor, noise: Tensor, level: Tensor) -> Tensor:
    """Training target of a network of `kind` for z = alpha x + sigma noise. Shapes: (b c t h w), level (b, t)."""
    alpha, sigma = _scales(x, level)
    views = {
        "x": lambda: x,
        "eps": lambda: noise,
        "v": lambda: alpha * noise - sigma * x,
        "flow": lambda: noise - x,
    }
    return views[_known(kind)]()


def error_scale(kind: PredictionType, level: Tensor) -> Tensor:
    """Squared ratio of the error of x_hat to the error of the prediction: 1 (x), sigma^2/alpha^2 (eps), sigma^2 (v),
    s^2 (flow)."""
    views = {
        "x": lambda: torch.ones_like(level),
        "eps": lambda: torch.exp(-level),
        "v": lambda: torch.sigmoid(-level),
        "flow": lambda: flow_time(level).square().to(level.dtype),
    }
    return views[_known(kind)]()


# Weights on the squared error of x_hat, per level. `v` is plain v-MSE, `eps` plain eps-MSE, `x` plain x-MSE,
# `flow` plain velocity-MSE. `truncated` is v-MSE whose weight stops growing at 4 (level 1.1): a small network need not
# learn to copy the noise of almost clean frames.
WEIGHTINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "eps": torch.exp,
    "x": torch.ones_like,
    "v": lambda level: 1.0 + torch.exp(level),
    "flow": lambda level: (1.0 + torch.exp(0.5 * level)).square(),
    "min-snr": lambda level: torch.exp(level).clamp(max=5.0),
    "truncated": lambda level: (1.0 + torch.exp(level)).clamp(max=4.0),
}


def loss_weight(weighting: str, kind: PredictionType, level: Tensor) -> Tensor:
    """Factor on the squared error of the *prediction* so that the loss is the weighted squared error of x_hat.

    Shapes: level (b, t) -> (b, t). Computed in float64: plain v-MSE of a v-network is exactly 1 everywhere.
    """
    if weighting not in WEIGHTINGS:
        raise ValueError(f"unknown weighting {weighting!r}; known: {', '.join(WEIGHTINGS)}")
    if weighting == kind:
        return torch.ones_like(level)
    wide = level.double()
    return (WEIGHTINGS[weighting](wide) * error_scale(kind, wide)).to(level.dtype)


def _known(kind: str) -> str:
    if kind not in ("eps", "x", "v", "flow"):
        raise ValueError(f"unknown target {kind!r}; known: eps, x, v, flow")
    return kind
