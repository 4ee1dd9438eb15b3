"""Events of a running task on stderr: bars on a terminal, lines in a log, warnings alone with --quiet."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from rich.console import Console
from rich.markup import escape

from vidiff_cli.cli.console import shown, stderr
from vidiff_cli.cli.exits import ignore_caught_signals
from vidiff_cli.cli.live import Bars, clock
from vidiff_cli.events import Event, Note, Progress
from vidiff_cli.system.pace import Pace

R = TypeVar("R")

PLAIN_EVERY_SECONDS = 10.0  # between lines of a log


def follow(events: Generator[Event, None, R], *, quiet: bool = False, verbose: bool = False, more: bool = False) -> R:
    """Run a task to its end, show its events on stderr, and return its report.

    quiet: warnings only. verbose: a line for every progress event, and no bars. more: another task of the command
    follows, which signals still end. An interrupt that arrives while an event is shown is raised in the task, so that a
    task saves and leaves in one place.
    """
    if not gc.isenabled():  # by `start`: all is loaded now, and stays
        gc.freeze()
        gc.enable()
    console = stderr()
    show: Callable[[Event], None]
    with contextlib.ExitStack() as stack:
        if quiet:
            show = WarningsDisplay(console)
        elif console.is_terminal and not verbose:
            show = stack.enter_context(LiveDisplay(console))
        else:
            show = PlainDisplay(console, every_seconds=0.0 if verbose else PLAIN_EVERY_SECONDS)
        stack.callback(events.close)
        try:
            event = next(events)
            while True:
                try:
                    show(event)
                except KeyboardInterrupt as interrupt:
                    event = events.throw(interrupt)
                    continue
                except OSError:  # stderr is closed
                    console.quiet = True
                event = next(events)
        except StopIteration as done:
            if not more:
                ignore_caught_signals()
            return done.value


def _print_note(console: Console, note: Note) -> None:
    warning = "[yellow]Warning:[/yellow] " if note.level == "warning" else ""
    console.print(warning + escape(shown(note.text)))


class WarningsDisplay:
    """Shows warnings, and nothing else."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def __call__(self, event: Event) -> None:
        if isinstance(event, Note) and event.level == "warning":
            _print_note(self.console, event)


class TimeLeft:
    """Seconds left for each kind of work: those of its events, else by the pace of the last ones."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, int]] = {}  # time and units done at the last event
        self._paces: dict[str, Pace] = {}

    def __call__(self, event: Progress, now: float) -> float | None:
        """Take in an event (every one is needed) and return the seconds left, or None if they are unknown."""
        then, before = self._last.get(event.what, (now, event.done))
        pace = self._paces.setdefault(event.what, Pace())
        if event.what in self._last:
            pace.add(max(0, event.done - before), now - then)
        self._last[event.what] = now, event.done
        if event.seconds_left is not None or event.total is None or pace.seconds_per_unit is None:
            return event.seconds_left
        return (event.total - event.done) * pace.seconds_per_unit


class PlainDisplay:
    """Lines for a log: the first and last event of each kind of work, and one every few seconds between."""

    def __init__(self, console: Console, *, every_seconds: float, now: Callable[[], float] | None = None) -> None:
        self.console, self.every_seconds, self.now = console, every_seconds, now or time.monotonic
        self._started: dict[str, float] = {}
        self._printed: dict[str, float] = {}
        self._time_left = TimeLeft()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Note):
            return _print_note(self.console, event)
        now = self.now()
        started, left = self._started.setdefault(event.what, now), self._time_left(event, now)
        finished = event.total is not None and event.done >= event.total
        if event.what not in self._printed or finished or now - self._printed[event.what] >= self.every_seconds:
            self._printed[event.what] = now
            self.console.print(escape(shown(_line(event, now - started, None if finished else left))))


def _line(event: Progress, elapsed_seconds: float, left_seconds: float | None) -> str:
    count = f"{event.done}" if event.total is None else f"{event.done}/{event.total}"
    parts = [f"{event.what}: {count}", f"{clock(elapsed_seconds)} elapsed"]
    parts += [f"{clock(left_seconds)} left"] if left_seconds is not None else []
    return ", ".join(parts + ([event.detail] if event.detail else []))


class LiveDisplay:
    """A bar with elapsed and remaining time for each kind of work, and the figures of the last event."""

    def __init__(self, console: Console) -> None:
        self.bars = Bars(console)
        self._ids: dict[str, Any] = {}
        self._time_left = TimeLeft()

    def __enter__(self) -> LiveDisplay:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Note):
            return _print_note(self.bars.console, event)
        figures = [(shown(name), shown(value)) for name, value in event.figures]
        self.bars.show_figures(figures)
        fields = {"detail": "" if figures else shown(event.detail), "left": self._time_left(event, time.monotonic())}
        if event.what not in self._ids:
            self._ids[event.what] = self.bars.add_task(event.what, total=event.total, completed=event.done, **fields)
        self.bars.update(self._ids[event.what], completed=event.done, total=event.total, **fields)
