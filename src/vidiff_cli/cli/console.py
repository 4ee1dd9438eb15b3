"""What a person sees: progress and notes on stderr, results on stdout, errors as one sentence with an exit code.

Exit codes: 0 done; 1 a clear error; 2 wrong usage; 130 interrupted with Ctrl-C; 143 ended by SIGTERM, 129 by SIGHUP
(128 + the signal's number).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from fractions import Fraction
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from vidiff_cli.cli.live import LiveProgress, clock
from vidiff_cli.errors import UsageError, error_sentence
from vidiff_cli.events import Event, Note, Progress
from vidiff_cli.system.pace import Pace

R = TypeVar("R")

LONGEST_LINE = 2000
PLAIN_EVERY_SECONDS = 10.0  # without a terminal: a log should stay readable


class Terminated(KeyboardInterrupt):
    """SIGTERM, SIGHUP or SIGUSR1: handled everywhere like Ctrl-C (save and leave), but exits with 128 + the signal's
    number."""

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__()
        self.number = number


class _Talk(Console):
    """Where nobody listens any more (a closed terminal or pipe), the work goes on in silence."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


def stderr() -> Console:
    """A console on the present stderr (looked up late, so that redirection works)."""
    return _Talk(stderr=True, highlight=False, soft_wrap=True)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        stderr().print(text)


def shown(text: str) -> str:
    """What a file, its name or a caption says, on one line of bounded length: control characters, which a terminal
    would obey, and what turns the direction of text come out as escapes."""
    text = text if len(text) <= LONGEST_LINE else f"{text[: LONGEST_LINE // 2]} ... {text[-LONGEST_LINE // 2 :]}"
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def follow(steps: Generator[Event, None, R], *, quiet: bool = False, verbose: bool = False) -> R:
    """Runs a task's steps to the end, shows its events on stderr, and returns its report.

    quiet: warnings only. verbose: every progress event, without a bar that would hide earlier ones. An interrupt
    that arrives while an event is being drawn is handed into the task, so that a task has one place to save and leave.
    """
    console = stderr()
    show: Callable[[Event], None]
    with contextlib.ExitStack() as stack:
        if quiet:
            show = _Warnings(console)
        elif console.is_terminal and not verbose:
            show = stack.enter_context(_Live(console))
        else:
            show = _Plain(console, every_seconds=0.0 if verbose else PLAIN_EVERY_SECONDS)
        stack.callback(steps.close)
        try:
            event = next(steps)
            while True:
                try:
                    show(event)
                except KeyboardInterrupt as interrupt:
                    event = steps.throw(interrupt)
                    continue
                except OSError:  # the terminal has gone
                    console.quiet = True
                event = next(steps)
        except StopIteration as done:
            if _catching:  # all is written: to end by a signal now would say that it is not
                ignore_signals()
            return done.value


def _note(console: Console, note: Note) -> None:
    if note.level == "warning":
        console.print(f"[yellow]Warning:[/yellow] {escape(shown(note.text))}")
    else:
        console.print(escape(shown(note.text)))


class _Warnings:
    def __init__(self, console: Console) -> None:
        self.console = console

    def __call__(self, event: Event) -> None:
        if isinstance(event, Note) and event.level == "warning":
            _note(self.console, event)


class _TimeLeft:
    """Seconds that each kind of work still takes: as its events say, else at the pace of the last ones."""

    def __init__(self) -> None:
        self.last: dict[str, tuple[float, int]] = {}  # when, and what was done then
        self.paces: dict[str, Pace] = {}

    def __call__(self, event: Progress, now: float) -> float | None:
        """None where it is not known. To be called with every event."""
        then, before = self.last.get(event.what, (now, event.done))
        pace = self.paces.setdefault(event.what, Pace())
        if event.what in self.last:
            pace.add(max(0, event.done - before), now - then)
        self.last[event.what] = now, event.done
        if event.seconds_left is not None or event.total is None or pace.seconds_per_unit is None:
            return event.seconds_left
        return (event.total - event.done) * pace.seconds_per_unit


class _Plain:
    """Lines for logs: the first and last event of each kind of work, and one every few seconds between."""

    def __init__(self, console: Console, *, every_seconds: float) -> None:
        self.console, self.every_seconds = console, every_seconds
        self.started: dict[str, float] = {}
        self.last: dict[str, float] = {}
        self.time_left = _TimeLeft()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Note):
            return _note(self.console, event)
        now = time.monotonic()
        started, left = self.started.setdefault(event.what, now), self.time_left(event, now)
        finished = event.total is not None and event.done >= event.total
        if event.what not in self.last or finished or now - self.last[event.what] >= self.every_seconds:
            self.last[event.what] = now
            self.console.print(escape(shown(_line(event, now - started, None if finished else left))))


def _line(event: Progress, elapsed_seconds: float, left_seconds: float | None) -> str:
    count = f"{event.done}" if event.total is None else f"{event.done}/{event.total}"
    parts = [f"{event.what}: {count}", f"{clock(elapsed_seconds)} elapsed"]
    parts += [f"{clock(left_seconds)} left"] if left_seconds is not None else []
    return ", ".join(parts + ([event.detail] if event.detail else []))


class _Live:
    """Bars with elapsed and remaining time, one for each kind of work, and the figures of the last event."""

    def __init__(self, console: Console) -> None:
        self.bars = LiveProgress(console)
        self.ids: dict[str, Any] = {}
        self.time_left = _TimeLeft()

    def __enter__(self) -> _Live:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Note):
            return _note(self.bars.console, event)
        figures = [(shown(name), shown(value)) for name, value in event.figures]
        self.bars.show_figures(figures)
        fields = {"detail": "" if figures else shown(event.detail), "left": self.time_left(event, time.monotonic())}
        if event.what not in self.ids:
            self.ids[event.what] = self.bars.add_task(event.what, total=event.total, completed=event.done, **fields)
        self.bars.update(self.ids[event.what], completed=event.done, total=event.total, **fields)


def print_paths(*paths: Path | str) -> None:
    """The paths written, one a line on stdout, without any markup; a terminal shows control characters as escapes."""
    for path in paths:
        _print(shown(str(path)) if sys.stdout.isatty() else str(path))


def print_json(value: object) -> None:
    """One JSON object on stdout: a dataclass, a pydantic model or plain data; fractions and paths become text."""
    _print(json.dumps(_plain(value), indent=2, allow_nan=False))


def print_rows(rows: Sequence[Sequence[str]], *, colors: Mapping[str, str] | None = None) -> None:
    """Columns on stdout for a person: never wrapped or cut, on a terminal with the colors of the cells so named.

    What a file or a caption says is shown, not obeyed: control characters come out as escapes.
    """
    console, colors = Console(highlight=False, soft_wrap=True), colors or {}
    for *cells, last in aligned(rows):
        with console.capture() as line:
            console.print(Text("  ").join([*(Text(cell, colors.get(cell.rstrip(), "")) for cell in cells), Text(last)]))
        _print(line.get().rstrip())


def aligned(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """The cells as they can be shown, all columns but the last padded to one width each."""
    table = [[shown(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*(row[:-1] for row in table), strict=True)]
    return [[*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]] for row in table]


def _print(line: str) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(os.fsencode(line) + b"\n")  # a file name that is not valid UTF-8 goes out as it came in
    sys.stdout.buffer.flush()


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    if isinstance(value, Path | Fraction):
        return str(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, Integral):  # NumPy's numbers too
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None  # JSON knows no nan
    return value


@contextlib.contextmanager
def errors_as_sentences(verbose: bool | Callable[[], bool] = False) -> Iterator[None]:
    """Any error leaves as one sentence on stderr and an exit code; the traceback only when `verbose`.

    `verbose` may be a function, asked when an error came: the whole app runs inside one, before --verbose was read.
    """
    try:
        yield
    except BrokenPipeError:
        # the reader (`| head`) has gone; point stdout away, else the interpreter complains once more at exit
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except KeyboardInterrupt as interrupt:
        terminated = isinstance(interrupt, Terminated)
        # After one that fell into code run by exec() (of an import, say) `python -m` ends by SIGINT, whatever the exit
        # code; running anything else that way undoes it.
        exec("")
        if not _is_reported_by_other_rank(interrupt):
            _say("Terminated." if terminated else "Interrupted.")
        raise typer.Exit(128 + interrupt.number if terminated else 130) from None
    except typer.Abort:
        _say("Aborted.")
        raise typer.Exit(1) from None
    except Exception as error:
        if hasattr(error, "exit_code"):  # Typer's own: wrong usage, or an Exit on its way out
            raise
        if _is_reported_by_other_rank(error):
            raise typer.Exit(1) from None
        tell_all = verbose() if callable(verbose) else verbose
        if tell_all:
            lines = "".join(traceback.format_exception(error)).rstrip().split("\n")
            _say(escape("\n".join(shown(line) for line in lines)))
        _say(f"[red]Error:[/red] {escape(shown(error_sentence(error, verbose=tell_all)))}")
        raise typer.Exit(2 if isinstance(error, UsageError) else 1) from None


def _is_reported_by_other_rank(error: BaseException) -> bool:
    """Whether another process of the same training says why all of them end (training/distributed.py)."""
    return getattr(error, "reported_by_other_rank", False)


_catching = False


def catch_signals() -> None:
    """From now on SIGTERM, SIGHUP and SIGUSR1 (by which batch systems warn) raise `Terminated` in this process (forked
    workers still end at once), and SIGINT KeyboardInterrupt; what is ignored (nohup, a background job) stays so."""
    global _catching
    owner, _catching = os.getpid(), True

    def terminate(number: int, frame: object) -> None:
        if os.getpid() != owner:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        raise Terminated(number)

    handlers = {"SIGINT": signal.default_int_handler, **dict.fromkeys(("SIGTERM", "SIGHUP", "SIGUSR1"), terminate)}
    for number, handler in _known(handlers):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def ignore_signals() -> None:
    """All is done: a signal that comes while the interpreter closes has nothing to interrupt."""
    for number, _ in _known(dict.fromkeys(("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"))):
        signal.signal(number, signal.SIG_IGN)


def _known(by_name: Mapping[str, Any]) -> Iterator[tuple[signal.Signals, Any]]:
    """The signals that this system has."""
    return ((getattr(signal, name), value) for name, value in by_name.items() if hasattr(signal, name))
