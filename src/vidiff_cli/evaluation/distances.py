"""Distances between the two sides on one extractor's features, with intervals, and what two halves of the real side
give.
"""

from __future__ import annotations

import numpy as np

from vidiff_cli.events import EventStream, Progress
from vidiff_cli.metrics.bootstrap import ConfidenceInterval, around, drawn_counts, normal
from vidiff_cli.metrics.distance import frechet, kernel_distance, moments
from vidiff_cli.metrics.features import Features

FEWEST = 2048  # videos: what FVD is usually told of
FEWEST_HALVED = 4


def frechet_distance(
    real: Features, generated: Features, *, replicates: int, seed: int, what: str
) -> EventStream[tuple[ConfidenceInterval, ConfidenceInterval | None]]:
    """The Frechet distance, and that of two random halves of the real videos (None for fewer than four)."""
    value = frechet(moments(real.blocks), moments(generated.blocks))
    found = list[float]()
    draws = zip(
        drawn_counts(len(real), replicates, seed=seed, which=0),
        drawn_counts(len(generated), replicates, seed=seed, which=1),
        strict=True,
    )
    for done, (counts, counts2) in enumerate(draws):
        yield Progress(what=what, done=done, total=replicates)
        found.append(frechet(moments(real.blocks, counts), moments(generated.blocks, counts2)))
    if replicates:
        yield Progress(what=what, done=replicates, total=replicates)
    estimate = around(value, found, min(len(real), len(generated)))
    return estimate, _of_halves(real, seed, lambda one, other: frechet(moments(one), moments(other)))


def kernel_estimate(
    real: Features, generated: Features, *, seed: int
) -> tuple[ConfidenceInterval, ConfidenceInterval | None]:
    """The kernel distance with its jackknife interval, and that of two random halves of the real videos."""
    found = kernel_distance(real.blocks, generated.blocks)
    estimate = normal(found.value, found.error, min(len(real), len(generated)))
    return estimate, _of_halves(real, seed, lambda one, other: kernel_distance(one, other).value)


def _of_halves(real: Features, seed: int, distance) -> ConfidenceInterval | None:
    if len(real) < FEWEST_HALVED:
        return None
    order = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2,))).permutation(len(real))
    half = np.zeros(len(real), dtype=bool)
    half[order[: len(real) // 2]] = True
    value = distance(real.chosen(half), real.chosen(~half))
    return ConfidenceInterval(value=value, low=None, high=None, videos=len(real) // 2)
