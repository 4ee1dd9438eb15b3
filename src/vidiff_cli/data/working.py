"""Inside a worker process of `workers.run`: takes jobs from one pipe, puts answers on another.

The process leads a group of its own, in which everything that it starts stays. It ends, and its group with it, when its
parent's end of the pipe closes, whatever the job is at.
"""

from __future__ import annotations

import contextlib
import importlib
import operator
import os
import pickle
import queue
import signal
import struct
import sys
import threading
from collections.abc import Callable
from typing import IO, Any

from vidiff_cli.video import ffmpeg, processes

READY, FAILED, ANNOUNCE, RESULT, RAISED, MEMORY = "ready", "failed", "announce", "result", "raised", "memory"
LENGTH = struct.Struct("<Q")

_channel: IO[bytes] | None = None  # to the parent, in a worker


def announce(seconds: float) -> None:
    """Called by a job in a worker: it may take so many seconds from now on. Elsewhere it does nothing."""
    if _channel is not None:
        send(_channel, (ANNOUNCE, float(seconds)))


def send(pipe: IO[bytes], message: object) -> None:
    """Writes one message: its length, then the object, pickled; between our own processes only."""
    data = pickle.dumps(message)
    pipe.write(LENGTH.pack(len(data)) + data)
    pipe.flush()


def receive(pipe: IO[bytes]) -> Any:
    """The next message, None where the pipe has ended, also in the middle of one."""
    with contextlib.suppress(OSError, ValueError):
        head = pipe.read(LENGTH.size)
        if len(head) == LENGTH.size:
            (length,) = LENGTH.unpack(head)
            data = pipe.read(length)
            if len(data) == length:
                return pickle.loads(data)
    return None


def serve() -> None:
    """The whole life of a worker. Its first message says whose child it is, where modules are and what to do."""
    global _channel
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    inbox, _channel = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)  # what a decoder prints must not mix with the answers
    os.dup2(null, 1)
    parent, paths, module, name = receive(inbox)
    tie = processes.death_with_parent()
    if parent is not None and tie is not None:
        tie()
        if os.getppid() != parent:  # it died in the meantime
            os._exit(1)
    jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_take, args=(inbox, jobs), daemon=True).start()
    ffmpeg.keep_in_group()
    try:
        sys.path[:] = paths
        function = operator.attrgetter(name)(importlib.import_module(module))
    except Exception as error:
        send(_channel, (FAILED, f"{type(error).__name__}: {error}"))
        return
    send(_channel, (READY, None))
    while True:
        _answer(function, jobs.get())


def _take(inbox: IO[bytes], jobs: queue.SimpleQueue) -> None:
    """Hands the jobs on; the parent closes the pipe only by its own end."""
    while (message := receive(inbox)) is not None:
        jobs.put(message[0])
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _answer(function: Callable, job: object) -> None:
    assert _channel is not None
    try:
        send(_channel, (RESULT, function(job)))
    except MemoryError:
        send(_channel, (MEMORY, "no more could be had"))
    except Exception as error:
        what = " ".join(str(error).split())[:300]
        send(_channel, (RAISED, f"{type(error).__name__}: {what}" if what else type(error).__name__))
