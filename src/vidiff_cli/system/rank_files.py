"""Files by which the processes of a launcher tell each other of their work: each writes one, and the others read it.

A line is [kind, value] as JSON: `hello` of a process; `welcome` of rank 0, with the files of all, and the answer `met`;
`share`, a value of rank 0; `item` and `done` of `Ranks.merge`; `beat`, so that silence means that a process is lost;
`end` with its error.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
import traceback
from collections import deque
from pathlib import Path
from typing import Any

from vidiff_cli.errors import UsageError, VidiffError, error_sentence

SILENT_SECONDS = 120.0  # after which a process without a line is lost
BEAT_SECONDS = 2.0


class RankVoice:
    """The file of this process, and a thread that adds a beat to it every few seconds.

    It is opened for every line: a network file system shows others what was written when a file is closed.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._lock, self._closed = path, threading.Lock(), threading.Event()
        path.touch()
        threading.Thread(target=self._beat, daemon=True).start()

    def say(self, kind: str, value: Any = None) -> None:
        """Adds a line. A file that is gone, because rank 0 has left, is not made anew."""
        line = json.dumps([kind, value]).encode() + b"\n"
        with self._lock, contextlib.suppress(FileNotFoundError):
            if not self._closed.is_set():
                with open(os.open(self.path, os.O_WRONLY | os.O_APPEND), "wb", buffering=0) as file:
                    file.write(line)

    def _beat(self) -> None:
        while not self._closed.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):  # the next line of the work itself says why
                self.say("beat")

    def close(self) -> None:
        """Ends the beats; nothing more is written."""
        with self._lock:
            self._closed.set()


class RankListener:
    """The file of another process. `ended`: it is done, or its file is gone; `error`: what ended it, if any did."""

    def __init__(self, path: Path) -> None:
        self.path, self._offset, self._heard = path, 0, time.monotonic()
        self.messages: deque[tuple[str, Any]] = deque()
        self.shared: deque[Any] = deque()
        self.welcomed: list[str] = []
        self.error: dict[str, Any] | None = None
        self.met = self.ended = False

    def read(self) -> None:
        """Takes in the lines that are new and whole."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            if not self.ended:  # rank 0 has left, and has told why
                self.ended = True
                self.error = {"sentence": "the first process has ended", "code": 1}
            return
        data = data[: data.rfind(b"\n") + 1]
        self._offset += len(data)
        if data:
            self._heard = time.monotonic()
        for line in data.splitlines():
            kind, value = json.loads(line)
            if kind == "welcome":
                self.welcomed = value
            elif kind == "met":
                self.met = True
            elif kind == "share":
                self.shared.append(value)
            elif kind == "end":
                self.met = self.ended = True
                self.error = value
            elif kind in ("item", "done"):
                self.messages.append((kind, value))

    def is_silent(self) -> bool:
        """True if the process is lost."""
        return not self.ended and time.monotonic() - self._heard > SILENT_SECONDS


def error_as_data(error: BaseException) -> dict[str, Any]:
    """The error that ends a process, as data for the others."""
    if not isinstance(error, Exception):
        return {"signal": int(getattr(error, "number", signal.SIGINT))}
    trace = "".join(traceback.format_exception(error))
    return {"sentence": error_sentence(error), "code": 2 if isinstance(error, UsageError) else 1, "trace": trace}


def error_from_data(data: dict[str, Any], *, said: bool) -> BaseException:
    """The error that another process has had. `said`: it is reported already."""
    error: BaseException
    if number := data.get("signal"):
        if not said and callable(signal.getsignal(number)) and threading.current_thread() is threading.main_thread():
            signal.raise_signal(number)  # raises, as it would have here
        error = KeyboardInterrupt()
    else:
        error = (UsageError if data["code"] == 2 else VidiffError)(data["sentence"])
        error.__cause__ = RuntimeError(data["trace"]) if "trace" in data else None
    if said:
        error.reported_by_other_rank = True  # type: ignore[attr-defined]
    return error
