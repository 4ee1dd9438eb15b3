"""Noise: its seeds, and its priors, which give the frames of a window a share of noise in common.

Every draw comes from a generator derived from what it is for, never from a global seed. Shapes: noise (b c t h w),
covariances over frames (t, t), alone (b, t).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Generator, Tensor


def seeded(*parts: int, device: torch.device | str = "cpu") -> Generator:
    """A generator whose stream depends on all of `parts`, such as (seed, step) or (seed, window): same parts, same
    draws."""
    # The count leads: numpy pads with zeros, so that (seed,) and (seed, 0) would be one stream.
    state = np.random.SeedSequence([len(parts), *(part % 2**64 for part in parts)]).generate_state(1, np.uint64)[0]
    return Generator(device=device).manual_seed(int(state) >> 1)


def white(like: Tensor, generator: Generator | None) -> Tensor:
    """Independent standard normal noise in the shape, dtype and device of `like`."""
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)


FLOOR = 0.01  # share of every frame's noise that is its own


def _constant(apart: Tensor, strength: float) -> Tensor:
    return torch.where(apart == 0, torch.ones_like(apart), strength)


def _geometric(apart: Tensor, strength: float) -> Tensor:
    return strength**apart


def _gaussian(apart: Tensor, strength: float) -> Tensor:
    # A Gaussian low-pass of white noise, with its variance made one again, correlates frames by a Gaussian of their
    # distance. It leaves nothing of quick changes, so FLOOR of white noise is added: see Prior.
    return torch.where(apart == 0, torch.ones_like(apart), (1 - FLOOR) * (strength / (1 - FLOOR)) ** apart.square())


# Correlation of the noise of two frames so many places apart, where that of neighbours is `strength`.
PRIORS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "independent": lambda apart, strength: _constant(apart, 0.0),
    "mixed": _constant,
    "progressive": _geometric,
    "lowpass": _gaussian,
    "shared": _constant,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Prior:
    """Noise of unit variance in every frame, with a known covariance S over the frames of a window.

    `strength` is the correlation of neighbouring frames, from 0 (independent) to 1 - FLOOR. `mixed` has one noise for
    all frames and one for each (PYoCo's mixed noise, strength = a^2 / (1 + a^2)); `shared` is the same with nearly all
    of it in common; `progressive` is an autoregression along the frames (PYoCo's, strength = a / sqrt(1 + a^2));
    `lowpass` is white noise through a Gaussian filter over the frames. Source: Ge et al. 2023 (PYoCo), section 4.1.

    S depends on the places of frames in their window, not on their times. The window of a long plan may have gaps, and
    a rate may be one that training never had: by places, what sampling draws is always what training has shown, while
    times would give windows of close frames an almost singular S that no training saw. S is a Toeplitz matrix, so that
    the shorter windows of short clips have a part of it. Every window draws its own noise. Given frames are shown
    without the noise of their window, and what is left to the others is again a part of S.

    No direction of S has less variance than about FLOOR / 2: along a direction of variance s the level is raised by
    log(1 / s), so that noise without it would show the network that part of a clip at every level.
    """

    name: str = "independent"
    strength: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in PRIORS:
            raise ValueError(f"unknown noise prior {self.name!r}; known: {', '.join(PRIORS)}")
        if not 0 <= self.strength <= 1 - FLOOR:
            raise ValueError(f"the strength of a noise prior is {self.strength}, expected 0 to {1 - FLOOR}")

    @property
    def is_white(self) -> bool:
        """Whether frames have nothing in common: then nothing is computed."""
        return self.name == "independent" or self.strength == 0

    def covariance(self, frames: int) -> Tensor:
        """S of a window of so many frames: (t, t) float64 on the CPU, with a diagonal of ones."""
        place = torch.arange(frames, dtype=torch.float64)
        return PRIORS[self.name]((place[:, None] - place).abs(), self.strength)

    def of(self, noise: Tensor, alone: Tensor | None = None) -> Tensor:
        """White noise (b c t h w) with the covariance of the prior; white noise itself where that is independent.

        Frames marked in `alone` (b, t) keep their own noise, bit for bit, and no other frame has a share of it: images
        beside a clip, or given frames with a noise of their own. Linear in the noise; the root of S is Cholesky's.
        """
        if self.is_white:
            return noise
        if alone is None:
            root = _root(self, noise.shape[2])[None]
        else:
            lonely = alone.cpu()
            apart = (lonely[:, :, None] | lonely[:, None, :]) & ~torch.eye(noise.shape[2], dtype=torch.bool)
            root = torch.linalg.cholesky(self.covariance(noise.shape[2]).masked_fill(apart, 0.0))
        root = root.to(noise.device, noise.dtype).expand(len(noise), -1, -1)
        return torch.einsum("bst,bcthw->bcshw", root, noise)


INDEPENDENT = Prior()


@lru_cache(maxsize=64)
def _root(prior: Prior, frames: int) -> Tensor:
    return torch.linalg.cholesky(prior.covariance(frames))
