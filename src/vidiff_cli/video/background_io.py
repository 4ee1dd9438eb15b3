"""Threads that read ahead of, or write behind, the computing thread."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from typing import TypeVar

T = TypeVar("T")

AHEAD = 4  # items between two threads
POLL_SECONDS = 0.2  # between two looks at whether the other side is still there


class _End:
    """End of a queue; `error` is the exception of the other side, or None."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def read_ahead(items: Iterator[T], *, most: int = AHEAD) -> Generator[T]:
    """Yields the items of an iterator, of which a thread keeps up to `most` ready. Its errors are raised here.

    Close or exhaust it: that ends the thread, which closes the iterator if it is a generator.
    """
    ready: queue.Queue[T | _End] = queue.Queue(most)
    stopped = threading.Event()

    def put(item: T | _End) -> bool:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                ready.put(item, timeout=POLL_SECONDS)
                return True
        return False

    def work() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                if not put(item):
                    break
        except BaseException as found:  # handed on to who takes
            error = found
        finally:
            if isinstance(items, Generator):
                items.close()
            put(_End(error))

    thread = threading.Thread(target=work, name="read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            item = ready.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        stopped.set()
        thread.join()


class Abandoned(Exception):
    """The producer of a `Consumer` stopped early."""


class Consumer:
    """Runs `consume(items)` in a thread that is fed item by item.

    As a context manager: leaving the block waits until all items are consumed and raises the thread's error. If the
    block raises, the thread's iterator raises `Abandoned`, so that it can clean up, and is waited for.
    """

    def __init__(self, consume: Callable[[Iterator[T]], object], *, most: int = AHEAD) -> None:
        self._given: queue.Queue[object] = queue.Queue(most)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, args=(consume,), name="consumer", daemon=True)

    def _work(self, consume: Callable[[Iterator[T]], object]) -> None:
        try:
            consume(self._items())
        except BaseException as error:  # raised in the thread that gives
            self._error = error

    def _items(self) -> Iterator:
        while True:
            item = self._given.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item

    def give(self, item: object) -> None:
        """Waits for room in the queue. Raises the error of the consumer, if it failed."""
        while self._thread.is_alive():
            with contextlib.suppress(queue.Full):
                self._given.put(item, timeout=POLL_SECONDS)
                return
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Consumer:
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.give(_End())
        elif self._error is None:
            with contextlib.suppress(BaseException):  # the first error counts
                self.give(_End(Abandoned()))
        self._thread.join()
        if error is None and self._error is not None:
            raise self._error
