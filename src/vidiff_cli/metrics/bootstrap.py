"""Bootstrap confidence intervals over videos.

Whole videos are resampled: frames of one video are not independent. Legend: n videos, k replicates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
NORMAL = 1.959963984540054  # standard deviations either way that hold 95 % of a normal distribution
MEANS = 1000  # replicates of a mean: they cost nothing


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfidenceInterval:
    """A number with its 95 % interval and the number of videos; None where it or its interval is undefined."""

    value: float | None
    low: float | None
    high: float | None
    videos: int


def bootstrap_mean(values: Sequence[float], *, seed: int) -> ConfidenceInterval:
    """Computes the mean of one number per video and the percentile interval of 1,000 bootstrap means.

    Missing numbers (nan) are left out. An infinite one (the PSNR of equal frames) makes the mean infinite, without an
    interval.
    """
    known = np.array([value for value in values if not np.isnan(value)], dtype=np.float64)
    if not len(known):
        return ConfidenceInterval(value=None, low=None, high=None, videos=0)
    value = float(known.mean())
    if len(known) < 2 or not np.isfinite(value):
        return ConfidenceInterval(value=value, low=None, high=None, videos=len(known))
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(len(known),)))
    means = np.array([known[rng.integers(len(known), size=len(known))].mean() for _ in range(MEANS)])
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return ConfidenceInterval(value=value, low=float(low), high=float(high), videos=len(known))


def drawn_counts(videos: int, replicates: int, *, seed: int, which: int) -> Iterator[np.ndarray]:
    """Draws each replicate: the count of every video (n). `which` numbers the sets of one comparison."""
    for number in range(replicates):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(which, number)))
        yield np.bincount(rng.integers(videos, size=videos), minlength=videos)


def around(value: float, replicates: Sequence[float], videos: int) -> ConfidenceInterval:
    """Centers the spread of bootstrap replicates on a distance; the interval is cut at 0.

    Resampled sets are further apart than the sets that they are drawn from, by about as much as these are further apart
    than infinite ones: replicates estimate the variance of a distance, not its value. The interval does not contain
    that bias.
    """
    if len(replicates) < 2:
        return ConfidenceInterval(value=value, low=None, high=None, videos=videos)
    spread = np.asarray(replicates) - np.mean(replicates)
    low, high = np.quantile(spread, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return ConfidenceInterval(value=value, low=max(0.0, value + float(low)), high=value + float(high), videos=videos)


def normal(value: float, error: float, videos: int) -> ConfidenceInterval:
    """Makes the interval of a number with a standard error: 1.96 of them either way."""
    if not np.isfinite(error):
        return ConfidenceInterval(value=value, low=None, high=None, videos=videos)
    return ConfidenceInterval(value=value, low=value - NORMAL * error, high=value + NORMAL * error, videos=videos)
