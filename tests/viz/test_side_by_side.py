"""Two videos on one page: both whole and untouched, the shorter one held."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from pictures import noise

from vidiff_cli.errors import VidiffError
from vidiff_cli.viz.side_by_side import DIVIDER, STRIP, side_by_side


@pytest.mark.parametrize(("lengths"), [(3, 5), (5, 3)])
def test_both_sides_are_whole_and_the_shorter_is_held(lengths):
    left, right = noise(lengths[0], 200, 260), noise(lengths[1], 240, 230, seed=1)
    pages = list(side_by_side(left, right))
    assert len(pages) == max(lengths) and len({page.shape for page in pages}) == 1
    for number, page in enumerate(pages):
        one, other = left[min(number, len(left) - 1)], right[min(number, len(right) - 1)]
        assert (page[STRIP + 20 : STRIP + 220, :260] == one).all()  # in the middle of the taller one's height
        assert (page[STRIP : STRIP + 240, 260 + DIVIDER : 490 + DIVIDER] == other).all()


def test_small_frames_are_enlarged_without_smoothing_and_sizes_are_even():
    left, right = noise(1, 17, 13), noise(1, 195, 301, seed=1)
    (page,) = side_by_side(left, right)
    factor = 192 // 17
    assert page.shape[0] % 2 == 0 == page.shape[1] % 2
    top = STRIP + (195 - 17 * factor) // 2
    enlarged = left[0].repeat(factor, 0).repeat(factor, 1)
    assert (page[top : top + 17 * factor, : 13 * factor] == enlarged).all()
    assert (page[STRIP : STRIP + 195, 13 * factor + DIVIDER :][:, :301] == right[0]).all()


def test_labels_stand_over_their_sides():
    frames = noise(1, 64, 200)
    plain, named = (next(side_by_side(frames, frames, labels=labels)) for labels in (("", ""), ("", "B")))
    differs = np.argwhere((plain != named).any(axis=2))
    assert len(differs) and (differs[:, 0] < STRIP).all() and (differs[:, 1] > 200).all()


def test_frames_are_taken_one_at_a_time():
    """Endless sides: nothing is collected."""
    endless = (np.full((8, 8, 3), number % 256, np.uint8) for number in itertools.count())
    pages = side_by_side(endless, itertools.repeat(np.zeros((8, 8, 3), np.uint8)))
    levels = [int(page[STRIP + 9, 9, 0]) for page in itertools.islice(pages, 300)]
    assert levels == [number % 256 for number in range(300)]


def test_sides_that_cannot_be_shown_are_clear_errors():
    with pytest.raises(VidiffError, match="'result' has no frames"):
        next(side_by_side(noise(1, 8, 8), []))
    with pytest.raises(VidiffError, match="'input' change their size"):
        list(side_by_side([*noise(1, 8, 8), *noise(1, 9, 8)], noise(1, 8, 8)))
