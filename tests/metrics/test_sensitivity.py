"""What the distances notice: clips of the shapes world, damaged more and more."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from vidiff_cli.evaluation.extractors import shapes_extractor
from vidiff_cli.metrics.distance import frechet, kernel_distance, moments
from vidiff_cli.metrics.extractors import Extractor, random_extractor
from vidiff_cli.worlds.shapes import draw_numbered, render

CLIPS = 64
CPU = torch.device("cpu")
REAL: dict[str, np.ndarray] = {}  # features of the undamaged half, by extractor


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    """Twice as many as a set has: the halves are of one kind."""
    return [render(draw_numbered(0, number, frames=8)) for number in range(2 * CLIPS)]


@pytest.fixture(scope="module", params=[random_extractor, shapes_extractor])
def extractor(request: pytest.FixtureRequest) -> Extractor:
    torch.set_num_threads(1)
    return request.param(CPU)


def distances(
    extractor: Extractor, clips: list[np.ndarray], damage: Callable[[np.ndarray, np.random.Generator], np.ndarray]
) -> tuple[float, float]:
    """Frechet and kernel distance of one half and the other half, damaged."""
    rng = np.random.default_rng(0)
    if extractor.name not in REAL:
        REAL[extractor.name] = np.stack([extractor(clip) for clip in clips[:CLIPS]]).astype(np.float64)
    real = REAL[extractor.name]
    made = np.stack([extractor(damage(clip, rng)) for clip in clips[CLIPS:]]).astype(np.float64)
    sides = (lambda: iter([real])), (lambda: iter([made]))
    return frechet(*(moments(side) for side in sides)), kernel_distance(*sides).value


def noisy(levels: float) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    return lambda clip, rng: np.clip(clip + rng.normal(0, levels, clip.shape), 0, 255).astype(np.uint8)


def test_more_noise_is_more_distance(extractor: Extractor, clips: list[np.ndarray]) -> None:
    found = [distances(extractor, clips, noisy(levels)) for levels in (0.0, 24.0, 64.0)]
    for which in (0, 1):
        assert found[0][which] < found[1][which] < found[2][which]
    assert found[2][0] > 3 * found[0][0]


def test_a_wrong_order_and_few_different_videos_are_noticed(extractor: Extractor, clips: list[np.ndarray]) -> None:
    """Every picture by itself is right, and so is each of the four videos: a measure of pictures would see nothing."""
    same = distances(extractor, clips, lambda clip, rng: clip)
    shuffled = distances(extractor, clips, lambda clip, rng: clip[rng.permutation(len(clip))])
    times = {"random": 3.0, "shapes": 1.2}[extractor.name]
    assert shuffled[0] > times * same[0] and shuffled[1] > 2 * abs(same[1])
    four = clips[CLIPS : CLIPS + 4] * (CLIPS // 4)
    assert distances(extractor, clips[:CLIPS] + four, lambda clip, rng: clip)[0] > 1.5 * same[0]
