"""Stationary Gaussian processes over time: their covariances, and how far one law is from another."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vidiff_cli.diffusion.guidance import clamp_known, reconstruct
from vidiff_cli.diffusion.levels import alpha_sigma
from vidiff_cli.diffusion.noise import INDEPENDENT, Prior
from vidiff_cli.diffusion.samplers import Denoise
from vidiff_cli.sampling.windows import Conditioner

# Correlation over a distance in frames.
PROCESSES: dict[str, Callable[[Tensor], Tensor]] = {
    "AR(1)": lambda apart: 0.95**apart,
    "Matern-5/2": lambda apart: (1 + math.sqrt(5) * apart / 6 + 5 * apart**2 / 108) * (-math.sqrt(5) * apart / 6).exp(),
}


def covariance(process: str, frames: Sequence[int]) -> Tensor:
    index = torch.tensor(list(frames), dtype=torch.float64)
    return PROCESSES[process]((index[:, None] - index).abs())


def ideal(process: str, frames: Sequence[int], prior: Prior = INDEPENDENT) -> Denoise:
    """E[x | z] = K A (A K A + D S D)^-1 z of videos (b 1 n 1 1), with A and D the scales of signal and noise of each
    frame (every one may have a level of its own), K the covariance of these frames and S the prior's."""
    k, s, gains = covariance(process, frames), prior.covariance(len(frames)), dict[bytes, Tensor]()

    def gain(level: Tensor) -> Tensor:
        if (key := level.numpy().tobytes()) not in gains:
            alpha, sigma = alpha_sigma(level)
            noisy = alpha[:, None] * k * alpha + sigma[:, None] * s * sigma
            gains[key] = torch.linalg.solve(noisy, alpha[:, None] * k)
        return gains[key]

    def denoise(z: Tensor, level: Tensor) -> Tensor:
        level, flat = level.double(), z.reshape(len(z), len(frames))
        if bool((level == level[:1]).all()):
            return (flat @ gain(level[0])).reshape(z.shape)
        return torch.stack([row @ gain(own) for row, own in zip(flat, level, strict=True)]).reshape(z.shape)

    return denoise


def root_of(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T


def frechet(law: Tensor, other: Tensor) -> float:
    """tr(C + K - 2 (C K)^(1/2)) of two covariances."""
    root = root_of(other)
    return float((law + other).trace() - 2 * root_of(root @ law @ root).trace())


def guided(weight: float | Callable[[Tensor], Tensor], of: Tensor | None = None) -> Conditioner:
    """Reconstruction guidance, for noise of the covariance `of`."""
    return lambda denoise, known, observed: clamp_known(
        reconstruct(denoise, known, observed, weight, covariance=of), known, observed
    )
