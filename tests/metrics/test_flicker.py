"""Flicker of made frames against the given ones around them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vidiff_cli.metrics.drift import FrameStats, frame_stats
from vidiff_cli.metrics.flicker import measure_flicker


def series(count: int) -> list[FrameStats]:
    """A fade: every number changes steadily."""
    base = FrameStats(mean=100.0, contrast=40.0, saturation=20.0, sharpness=9.0, motion=None)
    return [replace(base, mean=100 + place, contrast=40 + place / 4, sharpness=9 + place / 8) for place in range(count)]


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_a_steady_change_does_not_flicker(factor: int) -> None:
    stats = series(24 * factor + 1)
    found = measure_flicker(stats, [place / 50 for place in range(len(stats))], set(range(0, len(stats), factor)))
    assert found is not None and found.warnings() == []
    assert abs(found.luma) < 0.01 and abs(found.contrast - 1) < 0.01 and abs(found.sharpness - 1) < 0.01
    assert found.peak is not None and found.peak < 1.5


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("mean", lambda value, place: value * 0.5, ["luma flickers", "luma swings"]),
        ("mean", lambda value, place: value + 4, ["luma flickers", "luma swings"]),
        ("mean", lambda value, place: value + 3 * (-1) ** (place // 2), ["luma flickers"]),  # in turns
        ("contrast", lambda value, place: value * 0.9, ["contrast flickers"]),
        ("sharpness", lambda value, place: value * 0.6, ["sharpness flickers"]),
        ("sharpness", lambda value, place: value * 1.5, ["sharpness flickers"]),
    ],
)
def test_what_flickers_is_named(name: str, change, words: list[str]) -> None:
    stats, given = series(49), set(range(0, 49, 2))
    made = [
        each if place in given else replace(each, **{name: change(getattr(each, name), place)})
        for place, each in enumerate(stats)
    ]
    found = measure_flicker(made, [float(place) for place in range(49)], given)
    assert found is not None
    warned = found.warnings()
    assert [any(word in text for text in warned) for word in words] == [True] * len(words), warned
    quiet = {"mean": "luma", "contrast": "contrast", "sharpness": "sharpness"}
    assert not any(word in text for each, word in quiet.items() if each != name for text in warned)


def test_times_count_and_not_places() -> None:
    """A made frame just after a given one is expected to be like that one."""
    stats = [frame_stats(np.full((1, 8, 8, 3), level, np.uint8)) for level in (100, 110, 200)]
    found = measure_flicker(stats, [0.0, 0.1, 1.0], {0, 2})
    assert found is not None and found.luma == pytest.approx(0, abs=0.01) and found.peak is None


def test_nothing_between_given_frames_is_no_flicker() -> None:
    assert measure_flicker(series(6), list(map(float, range(6))), {0, 1, 2}) is None
    assert measure_flicker(series(6), list(map(float, range(6))), set(range(6))) is None
