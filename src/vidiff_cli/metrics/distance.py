"""Distances between two sets of videos, from the features of each: Frechet and kernel distance, in float64.

Legend: n and m videos, d features of each; k replicates of a bootstrap.

Both take the sets in blocks of rows, so that memory grows with d and with n, never with the pixels of a video.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

Blocks = Callable[[], Iterator[np.ndarray]]
"""Called once per pass: yields the features of a set, float64 (rows d), block by block."""

NOISE = 10 * np.finfo(np.float64).eps  # of an eigenvalue, over the largest one, for each dimension
DEGREE = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Moments:
    """Sums over a set: `count`, `mean` (d) and `scatter` (d d), the sum of products of deviations; all float64."""

    count: float
    mean: np.ndarray
    scatter: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        """Sample covariance, divided by count - 1 as by `np.cov`. ValueError for fewer than two."""
        if self.count < 2:
            raise ValueError(f"a covariance takes at least two videos, found {self.count:g}")
        return self.scatter / (self.count - 1)


def moments(blocks: Blocks, weights: np.ndarray | None = None) -> Moments:
    """Computes mean and scatter in one pass over the blocks; `weights` (n) are the counts of the rows, default 1.

    Source: Chan, Golub, LeVeque 1979 (blocks merged pairwise).
    """
    total: Moments | None = None
    first = 0
    for block in blocks():
        block = np.asarray(block, np.float64)
        weight = np.ones(len(block)) if weights is None else weights[first : first + len(block)].astype(np.float64)
        first += len(block)
        count = float(weight.sum())
        if count == 0:
            continue
        mean = weight @ block / count
        away = block - mean
        part = Moments(count=count, mean=mean, scatter=(away * weight[:, None]).T @ away)
        total = part if total is None else merge_moments(total, part)
    if total is None:
        raise ValueError("moments need at least one row of features")
    return total


def merge_moments(one: Moments, other: Moments) -> Moments:
    """Merges the moments of two sets."""
    count = one.count + other.count
    apart = other.mean - one.mean
    mean = one.mean + apart * (other.count / count)
    scatter = one.scatter + other.scatter + np.outer(apart, apart) * (one.count * other.count / count)
    return Moments(count=count, mean=mean, scatter=scatter)


def frechet(one: Moments, other: Moments) -> float:
    """Computes the Frechet distance of the Gaussians with these moments."""
    return frechet_of_gaussians(one.mean, one.covariance, other.mean, other.covariance)


def frechet_of_gaussians(mean: np.ndarray, covariance: np.ndarray, mean2: np.ndarray, covariance2: np.ndarray) -> float:
    """|m - m'|^2 + Tr(S + S' - 2 (S S')^(1/2)) of two Gaussians; covariances (d d) of any rank.

    The trace of the root is the sum of the singular values of R'^T R with S = R R^T: the eigenvalues of S S' are the
    squares of these, and no root of their rounding errors is taken. Equal Gaussians have 0 to rounding; never negative.
    Source: Dowson and Landau 1982.
    """
    mean, mean2 = np.asarray(mean, np.float64), np.asarray(mean2, np.float64)
    root, root2 = _root(np.asarray(covariance, np.float64)), _root(np.asarray(covariance2, np.float64))
    shared = np.linalg.svd(root2.T @ root, compute_uv=False).sum() if root.size and root2.size else 0.0
    distance = np.square(mean - mean2).sum() + np.trace(covariance) + np.trace(covariance2) - 2 * shared
    return max(0.0, float(distance))


def _root(covariance: np.ndarray) -> np.ndarray:
    """R (d r) with R R^T the covariance, of its numerical rank r."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    kept = values > NOISE * len(values) * max(float(values[-1]), 0.0)
    return vectors[:, kept] * np.sqrt(values[kept])


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelDistance:
    """The squared maximum mean discrepancy and its standard error over videos."""

    value: float
    error: float


def kernel_distance(one: Blocks, other: Blocks) -> KernelDistance:
    """The unbiased squared MMD with the kernel (x.y / d + 1)^3: 0 on average for sets of one distribution.

    Over all pairs of different videos, where KID and KVD average over random subsets: the same expectation, less noise,
    and no draw. May be negative. Its standard error is the jackknife's, leaving out one video at a time, from the sums
    of the rows alone: memory is that of the blocks and one number per video. ValueError for fewer than two videos.
    Source: Gretton et al. 2012, equation 3; Binkowski et al. 2018 (the kernel).
    """
    inside, inside2 = _row_sums(one, one, skip_self=True), _row_sums(other, other, skip_self=True)
    across, across2 = _row_sums(one, other), _row_sums(other, one)
    n, m = len(inside), len(inside2)
    if min(n, m) < 2:
        raise ValueError(f"a kernel distance takes two videos on each side, found {n} and {m}")
    own, own2, shared = inside.sum(), inside2.sum(), across.sum()
    value = own / (n * (n - 1)) + own2 / (m * (m - 1)) - 2 * shared / (n * m)
    error = np.nan
    if min(n, m) > 2:
        without = (own - 2 * inside) / ((n - 1) * (n - 2)) + own2 / (m * (m - 1))
        without -= 2 * (shared - across) / ((n - 1) * m)
        without2 = own / (n * (n - 1)) + (own2 - 2 * inside2) / ((m - 1) * (m - 2))
        without2 -= 2 * (shared - across2) / (n * (m - 1))
        error = float(np.sqrt((n - 1) * without.var() + (m - 1) * without2.var()))
    return KernelDistance(value=float(value), error=error)


def _row_sums(rows: Blocks, columns: Blocks, *, skip_self: bool = False) -> np.ndarray:
    """The sum of the kernel of every row with all columns (n); `skip_self`: both are one set, without its diagonal."""
    sums = []
    for block in rows():
        total = np.zeros(len(block))
        for other in columns():
            total += _kernel(block @ other.T, block.shape[1]).sum(axis=1)
        sums.append(total - (_kernel(np.square(block).sum(axis=1), block.shape[1]) if skip_self else 0))
    return np.concatenate(sums) if sums else np.zeros(0)


def _kernel(products: np.ndarray, dimension: int) -> np.ndarray:
    return (products / dimension + 1) ** DEGREE
