"""Ctrl-C, SIGTERM and a closed terminal put off to a moment at which a task can save and leave."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Deferred:
    """While it is open, a first SIGINT, SIGTERM or SIGHUP is only remembered; a second one acts at once. Ignored ones
    (nohup) stay ignored. Nothing outside the main thread."""

    def __init__(self) -> None:
        self._handlers: dict[int, Any] = {}
        self._caught: tuple[int, FrameType | None] | None = None

    def __enter__(self) -> Deferred:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)  # Windows has no SIGHUP
                if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                    self._handlers[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    @property
    def asked(self) -> bool:
        """Whether a signal has come."""
        return self._caught is not None

    def act(self) -> None:
        """Lets the remembered signal do what it would have done: most often raise KeyboardInterrupt."""
        if self._caught is None:
            return
        number, frame = self._caught
        handler = self._handlers.get(number)
        if callable(handler):
            handler(number, frame)
        raise KeyboardInterrupt

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            self.act()
        self._caught = (number, frame)
