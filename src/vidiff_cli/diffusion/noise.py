"""Noise: its seeds, priors that correlate the frames of a window, reuse over windows (FreeNoise), partial renewal
(FreeInit).

Every draw comes from a generator derived from its purpose, never from a global seed. Shapes: noise (b c t h w),
covariances over frames (t, t), alone (b, t).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


# Correlation of the noise of two frames so many places apart, where that of neighbors is `strength`.
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

    `strength` is the correlation of neighboring frames, from 0 (independent) to 1 - FLOOR. `mixed` has one noise for
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
        """True for independent frames: then nothing is computed."""
        return self.name == "independent" or self.strength == 0

    def covariance(self, frames: int) -> Tensor:
        """S of a window of so many frames: (t, t) float64 on the CPU, with a diagonal of ones."""
        place = torch.arange(frames, dtype=torch.float64)
        return PRIORS[self.name]((place[:, None] - place).abs(), self.strength)

    def correlate(self, noise: Tensor, alone: Tensor | None = None) -> Tensor:
        """White noise (b c t h w) with the covariance of the prior; unchanged if that is independent.

        Frames marked in `alone` (b, t) keep their own noise, bit for bit, and share it with no other frame: images
        beside a clip, or given frames with a noise of their own. Linear in the noise; the root of S is Cholesky's.
        """
        if self.is_white:
            return noise
        if alone is None:
            root = _root(self, noise.shape[2], noise.device)[None]
        else:
            itself = torch.eye(noise.shape[2], dtype=torch.bool, device=alone.device)
            apart = (alone[:, :, None] | alone[:, None, :]) & ~itself
            # S with zeros is positive definite too: not checked, for which the host would wait for a GPU
            root = torch.linalg.cholesky_ex(_covariance(self, noise.shape[2], alone.device).masked_fill(apart, 0.0))[0]
        root = root.to(noise.device, noise.dtype).expand(len(noise), -1, -1)
        return torch.einsum("bst,bcthw->bcshw", root, noise)

    def whiten(self, noise: Tensor) -> Tensor:
        """The white noise (b c t h w) from which `correlate` makes this noise."""
        if self.is_white:
            return noise
        inverse = torch.linalg.inv(_root(self, noise.shape[2], CPU)).to(noise.device, noise.dtype)
        return torch.einsum("st,bcthw->bcshw", inverse, noise)


INDEPENDENT = Prior()
CPU = torch.device("cpu")


@lru_cache(maxsize=64)
def _covariance(prior: Prior, frames: int, device: torch.device) -> Tensor:
    return prior.covariance(frames).to(device)


@lru_cache(maxsize=64)
def _root(prior: Prior, frames: int, device: torch.device) -> Tensor:
    return torch.linalg.cholesky(prior.covariance(frames)).to(device)


SHUFFLE = 4  # seeded(seed, block, SHUFFLE) shuffles a block of FreeNoise; fill's CONTEXT is 1, those of start 2 and 3


def freenoise_index(place: int, *, window: int, stride: int, seed: int) -> int:
    """FreeNoise: index, 0 to window - 1, of the first window's noise that the frame at `place` (any integer) has.

    The frames of the first window have their own. Each `stride` frames after it have the noises of the `stride` frames
    that leave a window as it slides on by as many, shuffled by (seed, block); before it the same backwards. So every
    window that begins at a multiple of the stride has every noise once, and is white. Other windows cannot be: were all
    windows of neighbors white, frame i + window could only have the noise of frame i, unshuffled. Source: Qiu et al.
    2024 (FreeNoise), local noise shuffling.
    """
    if not 1 <= stride <= window:
        raise ValueError(f"a stride of {stride} frames does not fit a window of {window}: expected 1 to {window}")
    backwards = place < 0
    if backwards:
        place = window - 1 - place
    while place >= window:
        block, offset = divmod(place - window, stride)
        place = block * stride + _shuffled(seed, -1 - block if backwards else block, stride)[offset]
    return window - 1 - place if backwards else place


@lru_cache(maxsize=16384)
def _shuffled(seed: int, block: int, length: int) -> tuple[int, ...]:
    return tuple(torch.randperm(length, generator=seeded(seed, block, SHUFFLE)).tolist())


CUTOFF, ORDER = 0.25, 4  # of FreeInit's filter: a quarter of the highest frequency


def low_pass(shape: Sequence[int]) -> Tensor:
    """Gain of FreeInit's Butterworth filter at every frequency of an FFT over (t, h, w): 1 / (1 + (d / cutoff)^(2
    order)), d the distance to frequency 0 in units of the highest one of an axis. float64."""
    squares = [(2 * torch.fft.fftfreq(size, dtype=torch.float64)).square() for size in shape]
    distance = torch.stack(torch.meshgrid(*squares, indexing="ij")).sum(dim=0)
    return 1 / (1 + (distance / CUTOFF**2) ** ORDER)


def mix_frequencies(noise: Tensor, fresh: Tensor) -> Tensor:
    """Combines the low frequencies (over t, h, w) of `noise` with the high ones of `fresh`: white, of unit variance, if
    both are.

    FreeInit weighs them with H and 1 - H, which has less than unit variance where both have a part (half of it where H
    is a half); here it is H and (1 - H^2)^(1/2). Source: Wu et al. 2024 (FreeInit), section 4.2.
    """
    gain, axes = low_pass(noise.shape[2:]).to(noise.device, noise.dtype), (-3, -2, -1)
    kept = torch.fft.fftn(noise, dim=axes) * gain + torch.fft.fftn(fresh, dim=axes) * (1 - gain.square()).sqrt()
    return torch.fft.ifftn(kept, dim=axes).real
