"""Histograms count every value once, in round bars, and say so in text and as a picture."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import pixels

from vidiff_cli.errors import VidiffError
from vidiff_cli.viz.histograms import (
    BARS,
    WIDTH,
    Histogram,
    categorical_histogram,
    histogram_lines,
    histogram_summary,
    numeric_histogram,
    plot_histograms,
)

NUMBERS = st.one_of(
    st.lists(st.integers(-5, 3000), min_size=1, max_size=60),
    st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=60),
    st.lists(st.floats(0, 255), min_size=1, max_size=60),
)


@settings(max_examples=150, deadline=None)
@given(values=NUMBERS)
def test_every_number_is_in_the_bar_that_says_so(values):
    kept = [value for value in values if math.isfinite(value) and abs(value) < 1e12]
    histogram = numeric_histogram("length", "words", values)
    if histogram is None:
        assert kept == []
        return
    assert histogram.values == sum(histogram.counts) == len(kept)
    assert (histogram.least, histogram.most) == (min(kept), max(kept))
    assert len(histogram.labels) == len(histogram.counts) <= BARS
    if histogram.edges:
        steps = np.diff(histogram.edges)
        assert len(histogram.edges) == len(histogram.counts) + 1 and np.allclose(steps, steps[0])
        for (low, high), count in zip(pairwise(histogram.edges), histogram.counts, strict=True):
            assert count == sum(low <= value < high for value in kept)
        assert histogram.counts[0] and histogram.counts[-1]
        if all(value == round(value) for value in kept):
            assert steps[0] >= 1
    else:
        assert all(histogram.counts)


@settings(max_examples=40, deadline=None)
@given(names=st.lists(st.sampled_from([f"{number}/1001" for number in range(30)])))
def test_names_are_counted_and_the_rare_ones_stand_together(names):
    histogram = categorical_histogram("rate", "clips", names)
    if histogram is None:
        assert names == []
        return
    assert sum(histogram.counts) == histogram.values == len(names)
    assert len(histogram.counts) <= BARS
    told = [label for label in histogram.labels if "others" not in label]
    assert [names.count(label) for label in told] == list(histogram.counts[: len(told)])
    assert len(set(names)) <= BARS or histogram.labels[-1] == f"{len(set(names)) - BARS + 1} others"


@given(counts=st.lists(st.integers(0, 10**6), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_bars_are_as_long_as_their_counts(counts):
    histogram = Histogram(
        name="a", unit="b", values=sum(counts), labels=tuple("x" * n for n in range(len(counts))), counts=tuple(counts)
    )
    told = histogram_lines(histogram)
    assert len({line.rindex(" ") for line in told}) == 1  # the counts stand in a column
    for line, count in zip(told, counts, strict=True):
        assert line.endswith(f" {count:,}")
        full = line.count("█")
        assert full == pytest.approx(count / max(*counts, 1, 1) * WIDTH, abs=1)
        assert any("█" <= letter <= "▏" for letter in line) == (count > 0)


def test_a_histogram_in_words():
    histogram = numeric_histogram("caption length", "words", [*range(1, 20), 7])
    assert histogram and histogram.edges == tuple(range(0, 21, 2))
    assert histogram_lines(histogram)[3] == "  6 to 8 " + "█" * WIDTH + " 3"
    assert histogram_summary(histogram) == "words: 1 to 19, median 9.5"
    few = numeric_histogram("duration", "seconds", [2.0, 2.0, 1.6])
    assert few and few.labels == ("1.6", "2") and few.counts == (1, 2) and few.edges == ()


def test_the_picture_shows_all_of_them(tmp_path):
    rng = np.random.default_rng(0)
    histograms = [
        numeric_histogram("motion", "change a second", rng.gamma(2, 20, 300)),
        numeric_histogram("duration", "seconds", [2.0] * 5),
        categorical_histogram("frame size", "clips by pixels", ["64x48", "48x64", "$64x64$"]),
    ]
    path = plot_histograms([each for each in histograms if each], tmp_path / "plots" / "a.png", title="100 $ clips")
    red, _, blue_levels = np.moveaxis(pixels(path), -1, 0)
    blue = blue_levels - red > 100
    half = np.array(blue.shape) // 2
    assert blue[: half[0], : half[1]].any() and blue[: half[0], half[1] :].any() and blue[half[0] :, : half[1]].any()
    assert not blue[half[0] :, half[1] :].any()
    assert [each.name for each in path.parent.iterdir()] == ["a.png"]
    with pytest.raises(VidiffError, match="no histograms to plot"):
        plot_histograms([], tmp_path / "b.png")
