"""The picture of a plan: every cell says what the plan says; few frames, many frames, many windows."""

from __future__ import annotations

from fractions import Fraction as F
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidiff_cli.errors import VidiffError
from vidiff_cli.frames import Window, plan
from vidiff_cli.timeline import Timeline, extension, interpolation
from vidiff_cli.viz.plan_plot import (
    COLORS,
    COPIED,
    LABELS,
    LOW,
    MADE,
    MARGIN,
    MISSING,
    SEEN,
    START,
    TALL,
    TEXT,
    THERE,
    WIDE,
    WIDEST_CELL,
    _ranges,
    plan_lines,
    plan_picture,
)

LEFT, TOP = MARGIN + LABELS, MARGIN + 2 * TEXT
FIRST = TOP + TALL + 18


def drawn(path: Path, windows: list[Window], timeline: Timeline, **more) -> np.ndarray:
    total = len(timeline.times)
    plan_picture(path, windows, total=total, given=timeline.given, times=timeline.times, **more)
    return np.asarray(Image.open(path).convert("RGB"))


def row_of(picture: np.ndarray, y: int, total: int) -> list[int]:
    """The kinds of a row's cells, read from the colors at their middles."""
    span = min(WIDE, total * WIDEST_CELL)
    cells = [picture[y, LEFT + int((frame + 0.4) * span / total)] for frame in range(total)]
    return [int(np.flatnonzero((cell == COLORS).all(axis=1))[0]) for cell in cells]


@pytest.mark.parametrize(("total", "window"), [(10, 4), (40, 8), (200, 16), (500, 16)])
def test_every_cell_says_what_the_plan_says(tmp_path: Path, total: int, window: int) -> None:
    timeline = extension(window, F(8), new=total - window)
    windows = plan(total, timeline.given, window=window, overlap=window // 2)
    picture = drawn(tmp_path / "plan.png", windows, timeline)
    assert row_of(picture, TOP + 5, total) == [START if frame in timeline.given else MADE for frame in range(total)]
    there = set(timeline.given)
    height = TALL if len(windows) <= 30 else LOW
    for number, each in enumerate(windows):
        expected = [THERE if frame in there else MISSING for frame in range(total)]
        for frame in each.observed:
            expected[frame] = START if frame in timeline.given else SEEN
        for frame in each.makes:
            expected[frame] = MADE
        assert row_of(picture, FIRST + number * (height + 2) + height // 2, total) == expected
        there |= each.makes
    assert [path.name for path in tmp_path.iterdir()] == ["plan.png"]


def test_copies_batches_and_frames_that_are_not_written_are_marked(tmp_path: Path) -> None:
    timeline = interpolation(5, F(10), fps=F(24))
    total, unwritten = len(timeline.times), sorted(set(range(len(timeline.times))) - set(timeline.written))
    copies = {1: 0, 2: 0}
    windows = plan(total, [*timeline.given, *copies], window=8, overlap=2)
    assert unwritten and len(windows) >= 2
    more = {"written": timeline.written, "copies": copies}
    picture = drawn(tmp_path / "plan.png", windows, timeline, **more, runs=[range(len(windows))])
    assert [frame for frame, kind in enumerate(row_of(picture, TOP + 5, total)) if kind == COPIED] == [1, 2]
    dots = [
        int(picture[TOP + TALL + 6, LEFT + frame * WIDEST_CELL + WIDEST_CELL // 2].sum() < 150)
        for frame in range(total)
    ]
    assert [frame for frame in range(total) if dots[frame]] == unwritten
    joined = picture[FIRST + 4 : FIRST + len(windows) * (TALL + 2) - 8, LEFT - 6]
    assert (joined.sum(axis=1) < 150).all()
    apart = drawn(tmp_path / "apart.png", windows, timeline, runs=[range(n, n + 1) for n in range(len(windows))])
    assert (apart[FIRST : FIRST + len(windows) * (TALL + 2), LEFT - 6].sum(axis=1) > 700).all()


def test_of_many_windows_the_ends_are_drawn_and_told(tmp_path: Path) -> None:
    """5,000 frames: no picture or text that grows without bound; the last window is there."""
    timeline = extension(16, F(25), new=4984)
    windows = plan(5000, timeline.given, window=16, overlap=8)
    picture = drawn(tmp_path / "plan.png", windows, timeline)
    assert picture.shape[0] < 2000 and picture.shape[1] < 2000
    lines = plan_lines(windows, total=5000, given=timeline.given, times=timeline.times)
    assert len(lines) == 42 and "583 windows more" in lines[21] and "window 623: makes 4992-4999 from 49" in lines[-1]


def test_a_narrow_pixel_shows_what_is_made(tmp_path: Path) -> None:
    """Where several frames share a pixel a single made one among them is still seen."""
    timeline = extension(0, F(25), new=4200)
    windows = [Window(frames=(7, 2000), observed=frozenset([7]), makes=frozenset([2000]))]
    picture = drawn(tmp_path / "plan.png", windows, timeline)
    made = np.flatnonzero((picture[FIRST + 5, LEFT : LEFT + WIDE] == COLORS[MADE]).all(axis=1))
    assert made.tolist() == [2000 * WIDE // 4200]


def test_the_lines_say_the_same_in_words() -> None:
    timeline = interpolation(3, F(12), factor=2)
    one = Window(frames=(0, 1, 2), observed=frozenset([0, 2]), makes=frozenset([1]))
    other = Window(frames=(2, 3, 4), observed=frozenset([2, 4]), makes=frozenset([3]))
    said = {"total": 5, "given": timeline.given, "times": timeline.times, "written": timeline.written}
    assert plan_lines([one, other], **said, runs=[range(2)]) == [
        "5 frames: 3 given, 2 to make in 2 windows (1 batch), 1 held at the end",
        "window 1: makes 1 from 0, 2 (0.04 to 0.04 s, batch 1)",
        "window 2: makes 3 from 2, 4 (0.12 to 0.12 s, batch 1)",
    ]
    every = plan(9, range(0, 9, 8), window=9, overlap=2)
    lines = plan_lines(every, total=9, given=[0, 8], times=[F(k, 4) for k in range(9)], copies={})
    assert lines == ["9 frames: 2 given, 7 to make in 1 window", "window 1: makes 1-7 from 0, 8 (0.25 to 1.75 s)"]
    nothing = plan_lines([], total=3, given=[0, 2], times=[F(0), F(1), F(2)], copies={1: 0}, written=[0, 1])
    assert nothing == ["3 frames: 2 given, 0 to estimate, 1 that repeats a given one, 1 not written"]


def test_ranges() -> None:
    said = {(0, 1, 2, 3): "0-3", (5,): "5", (0, 4, 8, 12): "0-12 by 4", (0, 4): "0, 4", (1, 2, 9): "1-2, 9", (): ""}
    assert {frames: _ranges(frames) for frames in said} == said
    assert _ranges([n * n for n in range(2, 40)]) == "4, 9, 16, 25, 36, ..."


def test_what_cannot_be_drawn_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(VidiffError, match="no plan to draw"):
        plan_picture(tmp_path / "plan.png", [], total=0, given=[], times=[])
    with pytest.raises(VidiffError, match="no name for a picture"):
        plan_picture(tmp_path / "plan.txt", [], total=1, given=[0], times=[F(0)])
    assert list(tmp_path.iterdir()) == []
