"""Half blocks hold every pixel, keep to the width of the terminal, and have a likeness without colors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import noise
from rich.text import Text

from vidiff_cli.errors import VidiffError
from vidiff_cli.viz.terminal import CELL, GAP, HALF, MOST_LINES, PICTURE_LINES, SHADES, half_blocks


def pixels(lines: list[Text]) -> np.ndarray:
    """What the terminal would show, (h w c): -1 where there is nothing."""
    found = np.full((2 * len(lines), max(line.cell_len for line in lines), 3), -1)
    for row, line in enumerate(lines):
        for span in line.spans:
            for column in range(span.start, span.end):
                colors = (span.style.color, span.style.bgcolor)
                for half, color in enumerate(colors):
                    found[2 * row + half, column] = -1 if color is None else tuple(color.triplet)
    return found


def test_every_pixel_of_a_small_frame_is_there():
    frames = noise(3, 16, 16)
    shown = pixels(half_blocks(frames, 80))
    for number, frame in enumerate(frames):
        left = number * (16 + GAP)
        assert (shown[:16, left : left + 16] == frame).all()
    assert (shown[:, 16] == -1).all()


def test_a_smaller_frame_is_enlarged_by_a_whole_number_and_an_odd_height_ends_half_way():
    frame = noise(1, 5, 8)
    shown = pixels(half_blocks(frame, 25))
    assert (shown[:15] == frame[0].repeat(3, 0).repeat(3, 1)).all() and (shown[15:] == -1).all()


@settings(max_examples=60, deadline=None)
@given(
    frames=st.integers(1, 12),
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    columns=st.integers(1, 130),
    every=st.booleans(),
    color=st.booleans(),
)
def test_lines_fit_the_terminal(frames, height, width, columns, every, color):
    lines = half_blocks(noise(frames, height, width), columns, every=every, color=color)
    fitting = max(1, (columns + GAP) // (CELL + GAP))
    rows = -(-frames // fitting) if every else 1
    assert 0 < max(line.cell_len for line in lines) <= columns
    assert len(lines) <= rows * (1 + (PICTURE_LINES if frames == 1 or (fitting == 1 and not every) else MOST_LINES))
    assert {sign for line in lines for sign in line.plain} <= set(f"{HALF} " if color else SHADES)


def test_few_of_many_are_the_first_the_last_and_what_lies_evenly_between():
    gray = np.arange(9, dtype=np.uint8)[:, None, None, None].repeat(16, 1).repeat(16, 2).repeat(3, 3) * 20
    shown = pixels(half_blocks(gray, 3 * CELL + 2 * GAP))
    assert [int(shown[0, place, 0]) for place in (0, 17, 34)] == [0, 80, 160]
    assert len(half_blocks(gray, 3 * CELL + 2 * GAP, every=True)) == 3 * 8 + 2


def test_without_color_brighter_is_a_denser_sign():
    ramp = np.linspace(0, 255, 24).astype(np.uint8)[None, None, :, None].repeat(4, 1).repeat(3, 3)
    lines = half_blocks(ramp, 24, color=False)
    places = [SHADES.index(sign) for sign in lines[0].plain]
    assert places == sorted(places) and places[0] == 0 and places[-1] == len(SHADES) - 1
    assert all(not line.spans for line in lines)


@pytest.mark.parametrize("shape", [(0, 4, 4, 3), (2, 4, 4, 1), (4, 4, 3)])
def test_no_clip_is_refused(shape):
    with pytest.raises(VidiffError, match="cannot draw frames"):
        half_blocks(np.zeros(shape, np.uint8), 80)
