"""Ctrl-C, SIGTERM and a closed terminal put off to a moment at which a task can save and leave."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class DeferredSignals:
    """While it is open, a first SIGINT, SIGTERM, SIGHUP or SIGUSR1 is only remembered; a second one acts at once,
    unless there are to be several: what starts many processes passes on signals that they have had. Ignored ones
    (nohup) stay ignored. Nothing outside the main thread."""

    def __init__(self, *, several: bool = False) -> None:
        self._several = several
        self._handlers: dict[int, Any] = {}
        self._caught: tuple[int, FrameType | None] | None = None

    def __enter__(self) -> DeferredSignals:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):
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
        """True once a signal has arrived."""
        return self._caught is not None

    @property
    def number(self) -> int:
        """The signal that has come; 0: none."""
        return self._caught[0] if self._caught else 0

    def reraise(self, number: int = 0) -> None:
        """Lets the remembered signal do what it would have done: most often raise KeyboardInterrupt. So does a signal
        of this `number`, which another process that works at the same has had."""
        if self._caught is None and not number:
            return
        number, frame = self._caught or (number, None)
        handler = self._handlers.get(number)
        if callable(handler):
            handler(number, frame)
        raise KeyboardInterrupt

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.asked and not self._several:
            self.reraise()
        self._caught = (number, frame)
