"""Distances between both sides on one extractor's features, with intervals, and between halves of the real side."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vidiff_cli.events import EventStream, Progress
from vidiff_cli.metrics.bootstrap import ConfidenceInterval, around, drawn_counts, normal
from vidiff_cli.metrics.distance import Blocks, frechet, kernel_distance, moments
from vidiff_cli.metrics.features import Features

RECOMMENDED_VIDEOS = 2048  # as in most papers that report FVD
MIN_HALVED = 4  # videos


def frechet_distance(
    real: Features, generated: Features, *, replicates: int, seed: int, what: str
) -> EventStream[tuple[ConfidenceInterval, ConfidenceInterval | None]]:
    """Computes the Frechet distance, and that of two random halves of the real videos (None for fewer than four)."""
    value = frechet(moments(real.blocks), moments(generated.blocks))
    replicas = list[float]()
    draws = zip(
        drawn_counts(len(real), replicates, seed=seed, which=0),
        drawn_counts(len(generated), replicates, seed=seed, which=1),
        strict=True,
    )
    for done, (counts, counts2) in enumerate(draws):
        yield Progress(what=what, done=done, total=replicates)
        replicas.append(frechet(moments(real.blocks, counts), moments(generated.blocks, counts2)))
    if replicates:
        yield Progress(what=what, done=replicates, total=replicates)
    estimate = around(value, replicas, min(len(real), len(generated)))
    return estimate, _halves_distance(real, seed, lambda one, other: frechet(moments(one), moments(other)))


def kernel_estimate(
    real: Features, generated: Features, *, seed: int
) -> tuple[ConfidenceInterval, ConfidenceInterval | None]:
    """Computes the kernel distance with its jackknife interval, and that of two random halves of the real videos."""
    found = kernel_distance(real.blocks, generated.blocks)
    estimate = normal(found.value, found.error, min(len(real), len(generated)))
    return estimate, _halves_distance(real, seed, lambda one, other: kernel_distance(one, other).value)


def _halves_distance(
    real: Features, seed: int, distance: Callable[[Blocks, Blocks], float]
) -> ConfidenceInterval | None:
    if len(real) < MIN_HALVED:
        return None
    order = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2,))).permutation(len(real))
    half = np.zeros(len(real), dtype=bool)
    half[order[: len(real) // 2]] = True
    value = distance(real.subset(half), real.subset(~half))
    return ConfidenceInterval(value=value, low=None, high=None, videos=len(real) // 2)
