"""Random sets of observed frames, so that one model learns free generation, extension and interpolation.

Plain draws on indices: which of t frames are given clean. Source of the idea: RaMViD (Hoeppe et al. 2022), FDM (Harvey
et al. 2022).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

REGULAR = 0.75  # of the clips of frames between given ones have every k-th frame


def _prefix(rng: np.random.Generator, t: int) -> np.ndarray:
    return np.arange(t) < rng.integers(1, t)


def _suffix(rng: np.random.Generator, t: int) -> np.ndarray:
    return np.arange(t) >= rng.integers(1, t)


def _both_ends(rng: np.random.Generator, t: int) -> np.ndarray:
    head = rng.integers(1, t)
    tail = rng.integers(0, t - head)  # at least one frame stays to be made
    index = np.arange(t)
    return (index < head) | (index >= t - tail)


def _every_kth(rng: np.random.Generator, t: int) -> np.ndarray:
    k = rng.integers(2, max(3, t))
    return np.arange(t) % k == rng.integers(k) % t


def _scattered(rng: np.random.Generator, t: int) -> np.ndarray:
    mask = rng.random(t) < rng.random()
    mask[rng.integers(t)] = False
    return mask


PATTERNS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "prefix": _prefix,
    "suffix": _suffix,
    "both ends": _both_ends,
    "every k-th": _every_kth,
    "scattered": _scattered,
}


def draw_ends(rng: np.random.Generator, t: int) -> np.ndarray:
    """A random pattern over t frames, of which the first and the last are given: every k-th frame, or any others too.
    (t,) bool, True = given. At least one frame is left to be made; fewer than three frames are not given."""
    if t < 3:
        return np.zeros(t, dtype=bool)
    mask = np.arange(t) % rng.integers(2, t) == 0 if rng.random() < REGULAR else rng.random(t) < rng.random()
    mask[[0, -1]] = True
    if mask.all():
        mask[rng.integers(1, t - 1)] = False
    return mask


def draw_observed(rng: np.random.Generator, t: int) -> np.ndarray:
    """One random pattern over t frames: (t,) bool, True = given. At least one frame is left to be made."""
    if t < 2:
        return np.zeros(t, dtype=bool)
    mask = list(PATTERNS.values())[rng.integers(len(PATTERNS))](rng, t)
    return mask if not mask.all() else _prefix(rng, t)
