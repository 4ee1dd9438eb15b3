"""What a running task tells its caller, and the wrapper that makes a generator of events a plain function.

A task is written as a generator: it yields `Note`s and `Progress`, and returns its report. `@task` turns it into a
plain function, `report = prep(settings)`; a caller that wants to show the progress iterates `prep.events(settings)`
instead.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Generic, Literal, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """`done` of `total` units of `what`; `detail` is a short text such as a loss or a file name.

    `figures` are names and values, for a table that is drawn anew with each event where there is a screen for it.
    `seconds_left` is the time that the rest takes, where the task knows it better than the times of its events do.
    """

    what: str
    done: int
    total: int | None = None
    detail: str = ""
    figures: tuple[tuple[str, str], ...] = ()
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """One line for a person, on stderr."""

    text: str
    level: Literal["info", "warning"] = "info"


Event = Progress | Note
EventStream = Generator[Event, None, R]


class Task(Generic[P, R]):
    """A callable task: `task(...)` drains its events and returns the report, `task.events(...)` yields them."""

    def __init__(self, steps: Callable[P, EventStream[R]]) -> None:
        self.events = steps
        self.__doc__ = steps.__doc__
        self.__name__, self.__module__ = steps.__name__, steps.__module__
        self.__wrapped__: Any = steps

    def __reduce__(self) -> str:
        """Pickle by name, as a function is."""
        return self.__name__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        steps = self.events(*args, **kwargs)
        while True:
            try:
                next(steps)
            except StopIteration as done:
                return done.value


def task(steps: Callable[P, EventStream[R]]) -> Task[P, R]:
    """Makes a generator function of events a `Task`."""
    return Task(steps)
