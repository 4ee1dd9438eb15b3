"""Events of a running task, and the wrapper that makes a generator of events a plain function.

A task is written as a generator: it yields `Note`s and `Progress`, and returns its report. `@task` turns it into a
plain function, `report = prep(settings)`; a caller that shows the progress iterates `prep.events(settings)` instead.
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

    `figures` are names and values for a table, redrawn with each event on a terminal. `seconds_left` is the time left,
    if the task knows it better than the pace of its events does.
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

    def __init__(self, events: Callable[P, EventStream[R]]) -> None:
        self.events = events
        self.__doc__ = events.__doc__
        self.__name__, self.__module__ = events.__name__, events.__module__
        self.__wrapped__: Any = events

    def __reduce__(self) -> str:
        """Pickle by name, as a function is."""
        return self.__name__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        events = self.events(*args, **kwargs)
        while True:
            try:
                next(events)
            except StopIteration as done:
                return done.value


def task(events: Callable[P, EventStream[R]]) -> Task[P, R]:
    """Make a `Task` from a generator function of events."""
    return Task(events)
