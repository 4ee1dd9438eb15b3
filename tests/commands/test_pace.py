"""The time that is left follows the speed of the last steps, wherever it is said."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from vidiff_cli.cli import progress
from vidiff_cli.cli.progress import LiveDisplay, PlainDisplay
from vidiff_cli.events import Progress
from vidiff_cli.system.pace import Pace

TOTAL = 600
SOON_SECONDS, SOON = 30, 4  # after so long, and so many reports, a new speed is what counts


class Clock:
    """A clock that stands until it is told to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@given(
    st.lists(st.tuples(st.integers(1, 5), st.floats(0.01, 100)), min_size=1, max_size=60),
    st.integers(1, 3),
    st.floats(0.05, 40),
)
def test_what_is_long_past_does_not_count(before: list[tuple[int, float]], units: int, seconds: float) -> None:
    """After half a minute of a steady speed, and four reports of it, the pace is that speed, whatever was before."""
    pace = Pace()
    for report in before:
        pace.add(*report)
    for _ in range(max(SOON, int(np.ceil(SOON_SECONDS / seconds)) + 1)):
        pace.add(units, seconds)
    assert pace.seconds_per_unit == pytest.approx(seconds / units, rel=1e-6)


def test_nothing_done_is_no_pace() -> None:
    pace = Pace()
    assert pace.seconds_per_unit is None
    pace.add(0, 5.0)
    assert pace.seconds_per_unit is None
    pace.add(2, 5.0)
    assert pace.seconds_per_unit == 5.0, "time in which nothing was finished counts"


@pytest.mark.parametrize(("live", "seconds"), [(False, 0.5), (True, 4.0)])
def test_a_task_that_slows_down_to_a_third(clock: Clock, live: bool, seconds: float) -> None:
    """A while after half of the work became three times as slow, a line and a bar say what is really left."""
    out = io.StringIO()
    stream = Console(file=out, width=200)
    show: Any = LiveDisplay(stream) if live else PlainDisplay(stream, every_seconds=0.0)
    for done in range(TOTAL + 1):
        slow = done > TOTAL // 2
        clock.now += seconds * (3 if slow else 1)
        show(Progress(what="windows", done=done, total=TOTAL))
        if slow and done - TOTAL // 2 >= max(SOON, SOON_SECONDS / (3 * seconds)) and done < TOTAL:
            truth = 3 * seconds * (TOTAL - done)
            said = show.bars.tasks[0].fields["left"] if live else _said(out.getvalue().splitlines()[-1])
            assert said == pytest.approx(truth, rel=0.1, abs=0.6)
    assert live or "left" not in out.getvalue().splitlines()[-1]


def _said(line: str) -> int:
    """The seconds that a line says are left."""
    found = re.search(r"((\d+):)?(\d+):(\d+) left", line)
    assert found, line
    return 3600 * int(found[2] or 0) + 60 * int(found[3]) + int(found[4])


def test_what_a_task_says_itself_is_shown(clock: Clock) -> None:
    out = io.StringIO()
    show = PlainDisplay(Console(file=out, width=200), every_seconds=0.0)
    for done in range(1, 4):
        clock.now += 1
        show(Progress(what="training", done=done, total=9, seconds_left=125.0))
    assert out.getvalue().splitlines()[-1] == "training: 3/9, 0:02 elapsed, 2:05 left"
