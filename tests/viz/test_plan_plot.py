"""The plot of a plan: every cell shows what the plan says, for few and many frames and windows; the same in words."""

from __future__ import annotations

from fractions import Fraction as F

import numpy as np
import pytest
from PIL import Image

from vidiff_cli.errors import VidiffError
from vidiff_cli.frames import Window, plan
from vidiff_cli.timeline import Timeline, extension, interpolation
from vidiff_cli.viz.plan_plot import (
    ABSENT,
    AVAILABLE,
    GENERATED,
    GIVEN,
    MAX_COLUMNS,
    OBSERVED,
    REPEATED,
    PlanView,
    draw_plan,
    plan_lines,
    write_plan_plot,
)


def view(windows: list[Window], timeline: Timeline, **more) -> PlanView:
    return PlanView(windows=windows, times=timeline.times, given=timeline.given, **more)


def cells(plan: PlanView) -> np.ndarray:
    """The kinds that the plot shows: the video, the row of dots, one row a window."""
    return np.asarray(draw_plan(plan).axes[0].images[0].get_array())


@pytest.mark.parametrize(("total", "window"), [(10, 4), (40, 8), (200, 16)])
def test_every_cell_shows_what_the_plan_says(total, window):
    timeline = extension(window, F(8), new=total - window)
    windows = plan(total, timeline.given, window=window, overlap=window // 2)
    rows = cells(view(windows, timeline))
    assert rows[0].tolist() == [GIVEN if frame in timeline.given else GENERATED for frame in range(total)]
    assert len(rows) == 2 + len(windows)
    available = set(timeline.given)
    for row, shown in zip(rows[2:], windows, strict=True):
        expected = [AVAILABLE if frame in available else ABSENT for frame in range(total)]
        for frame in shown.observed:
            expected[frame] = GIVEN if frame in timeline.given else OBSERVED
        for frame in shown.makes:
            expected[frame] = GENERATED
        assert row.tolist() == expected
        available |= shown.makes


def test_repeats_batches_times_and_frames_that_are_not_written_are_marked():
    timeline = interpolation(5, F(10), fps=F(24))
    repeats = {1: 0, 2: 0}
    windows = plan(len(timeline.times), [*timeline.given, *repeats], window=8, overlap=2)
    one = view(windows, timeline, written=timeline.written, repeats=repeats, batches=[range(len(windows))])
    axis = draw_plan(one).axes[0]
    assert np.flatnonzero(cells(one)[0] == REPEATED).tolist() == [1, 2]
    dots, batch = axis.lines
    assert one.unwritten and list(dots.get_xdata()) == one.unwritten
    assert np.round(batch.get_ydata()).tolist() == [2, 1 + len(windows)] and len(windows) >= 2
    for frame, label in zip(axis.get_xticks(), axis.get_xticklabels(), strict=True):
        assert label.get_text() == f"{frame:.0f}\n{float(timeline.times[int(frame)]):.2f} s"
    apart = view(windows, timeline, batches=[range(number, number + 1) for number in range(len(windows))])
    assert len(draw_plan(apart).axes[0].lines) == 1


def test_of_many_windows_the_first_and_last_are_shown(tmp_path):
    """5,000 frames: the plot and the text are bounded, the last window is there."""
    timeline = extension(16, F(25), new=4984)
    long = view(plan(5000, timeline.given, window=16, overlap=8), timeline)
    path = write_plan_plot(tmp_path / "plan.png", long)
    assert max(Image.open(path).size) < 2000 and list(tmp_path.iterdir()) == [path]
    lines = plan_lines(long)
    assert len(lines) == 42 and "583 windows more" in lines[21] and "window 623: makes 4992-4999 from 49" in lines[-1]
    labels = [label.get_text() for label in draw_plan(long).axes[0].get_yticklabels()]
    assert labels[0] == "the video" and labels[-1] == "window 623" and len(labels) == 41


def test_a_generated_frame_shows_among_others_in_its_column():
    timeline = extension(0, F(25), new=4200)
    windows = [Window(frames=(7, 2000), observed=frozenset([7]), makes=frozenset([2000]))]
    made = np.flatnonzero(cells(view(windows, timeline))[2] == GENERATED)
    assert made.tolist() == [2000 * MAX_COLUMNS // 4200]


def test_the_lines_say_the_same_in_words():
    timeline = interpolation(3, F(12), factor=2)
    one = Window(frames=(0, 1, 2), observed=frozenset([0, 2]), makes=frozenset([1]))
    other = Window(frames=(2, 3, 4), observed=frozenset([2, 4]), makes=frozenset([3]))
    assert plan_lines(view([one, other], timeline, written=timeline.written, batches=[range(2)])) == [
        "5 frames: 3 given, 2 to make in 2 windows (1 batch), 1 held at the end",
        "window 1: makes 1 from 0, 2 (0.04 to 0.04 s, batch 1)",
        "window 2: makes 3 from 2, 4 (0.12 to 0.12 s, batch 1)",
    ]
    every = plan(9, range(0, 9, 8), window=9, overlap=2)
    lines = plan_lines(PlanView(windows=every, given=[0, 8], times=[F(k, 4) for k in range(9)]))
    assert lines == ["9 frames: 2 given, 7 to make in 1 window", "window 1: makes 1-7 from 0, 8 (0.25 to 1.75 s)"]
    nothing = PlanView(windows=[], given=[0, 2], times=[F(0), F(1), F(2)], repeats={1: 0}, written=[0, 1])
    assert plan_lines(nothing) == ["3 frames: 2 given, 0 to estimate, 1 that repeats a given one, 1 not written"]


RANGES = [([0, 1, 2, 3], "0-3"), ([0, 4, 8, 12], "0-12 by 4"), ([0, 4], "0, 4"), ([1, 2, 9], "1-2, 9")]


@pytest.mark.parametrize(("observed", "text"), [*RANGES, ([n * n for n in range(2, 40)], "4, 9, 16, 25, 36, ...")])
def test_frames_are_listed_as_ranges(observed, text):
    window = Window(frames=(*observed, 2000), observed=frozenset(observed), makes=frozenset([2000]))
    line = plan_lines(PlanView(windows=[window], given=observed, times=[F(n) for n in range(2001)]))[1]
    assert f" from {text} (" in line


def test_a_plan_that_cannot_be_drawn_is_refused(tmp_path):
    with pytest.raises(VidiffError, match="empty plan"):
        write_plan_plot(tmp_path / "plan.png", PlanView(windows=[], given=[], times=[]))
    with pytest.raises(VidiffError, match="unsupported picture format"):
        write_plan_plot(tmp_path / "plan.txt", PlanView(windows=[], given=[0], times=[F(0)]))
    assert list(tmp_path.iterdir()) == []
