"""Errors and signals as messages and exit codes.

0 done; 1 a clear error; 2 wrong usage; 130 interrupted with Ctrl-C; 143 ended by SIGTERM, 129 by SIGHUP
(128 + the signal's number).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import typer
from rich.markup import escape

from vidiff_cli.cli.console import shown, stderr
from vidiff_cli.errors import UsageError, VidiffError, error_sentence
from vidiff_cli.system.launcher import ProcessInfo

FIRST_SPEAKS_SECONDS = 3.0


class Terminated(KeyboardInterrupt):
    """SIGTERM, SIGHUP or SIGUSR1. Handled everywhere like Ctrl-C (save and leave), but exits with 128 + `number`."""

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__()
        self.number = number


@contextlib.contextmanager
def errors_as_sentences(verbose: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Turn any error into one sentence on stderr and an exit code, with a traceback only if `verbose()`.

    `verbose` is asked when an error came: the app runs inside, so --verbose is not parsed before.
    """
    try:
        yield
    except BrokenPipeError:
        # the reader (`| head`) has gone; redirect stdout, or the interpreter reports the closed pipe again at exit
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except KeyboardInterrupt as interrupt:
        terminated = isinstance(interrupt, Terminated)
        # An interrupt inside code run by exec() (an import, say) makes `python -m` end by SIGINT, whatever the exit
        # code; running any other code by exec() undoes that.
        exec("")
        if not _is_reported_by_other_rank(interrupt):
            _say("Terminated." if terminated else "Interrupted.")
        raise typer.Exit(128 + interrupt.number if terminated else 130) from None
    except typer.Abort:
        _say("Aborted.")
        raise typer.Exit(1) from None
    except Exception as error:
        if hasattr(error, "exit_code"):  # Typer's own: wrong usage, or an Exit
            if not isinstance(error, typer.Exit) and _is_other_rank():
                _let_first_speak()
                raise typer.Exit(error.exit_code) from None  # type: ignore[attr-defined]
            raise
        if _is_reported_by_other_rank(error) or (isinstance(error, UsageError) and _is_other_rank()):
            _let_first_speak()
        else:
            _say_error(error, verbose=verbose())
        raise typer.Exit(2 if isinstance(error, UsageError) else 1) from None


def _say_error(error: Exception, *, verbose: bool) -> None:
    if verbose:
        lines = "".join(traceback.format_exception(error)).rstrip().split("\n")
        _say(escape("\n".join(shown(line) for line in lines)))
    _say(f"[red]Error:[/red] {escape(shown(error_sentence(error, verbose=verbose)))}")


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        stderr().print(text)


def _is_reported_by_other_rank(error: BaseException) -> bool:
    """True if another process of the same launch reports this error (training/distributed.py, system/ranks.py)."""
    return getattr(error, "reported_by_other_rank", False)


def _is_other_rank() -> bool:
    """True in a process of a launcher where the first one has the same flags, and tells what is wrong with them."""
    with contextlib.suppress(VidiffError):
        return ProcessInfo.from_environment(os.environ).rank > 0
    return False


def _let_first_speak() -> None:
    """Waits, because a launcher ends all processes when one has failed, also the one that is about to tell why."""
    with contextlib.suppress(KeyboardInterrupt):
        time.sleep(FIRST_SPEAKS_SECONDS)


_catching = False


def catch_signals() -> None:
    """Raise `Terminated` in this process on SIGTERM, SIGHUP and SIGUSR1 (a batch system's warning), and
    KeyboardInterrupt on SIGINT. Forked workers still end at once; ignored signals (nohup, a background job) stay so."""
    global _catching
    owner, _catching = os.getpid(), True

    def terminate(number: int, frame: object) -> None:
        if os.getpid() != owner:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        raise Terminated(number)

    handlers = {"SIGINT": signal.default_int_handler, **dict.fromkeys(("SIGTERM", "SIGHUP", "SIGUSR1"), terminate)}
    for number, handler in _available(handlers):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def ignore_caught_signals() -> None:
    """Ignore the signals of `catch_signals`: the result is written, and an exit by a signal would deny it."""
    if _catching:
        ignore_signals()


def ignore_signals() -> None:
    """Ignore signals while the interpreter closes: nothing is left to interrupt."""
    for number, _ in _available(dict.fromkeys(("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"))):
        signal.signal(number, signal.SIG_IGN)


def _available(by_name: Mapping[str, Any]) -> Iterator[tuple[signal.Signals, Any]]:
    """The signals that this system has, with their values."""
    return ((getattr(signal, name), value) for name, value in by_name.items() if hasattr(signal, name))
