"""The worker process of `worker_pool.run`: takes jobs from one pipe, puts answers on another (POSIX).

The process leads a group of its own, in which everything that it starts stays. It ends, and its group with it, when its
parent's end of the pipe closes, whatever the job is at.
"""

from __future__ import annotations

import contextlib
import importlib
import operator
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from vidiff_cli.system import process_tree

READY, FAILED, ANNOUNCE, RESULT, RAISED, MEMORY = "ready", "failed", "announce", "result", "raised", "memory"

_channel: Connection | None = None  # to the parent, in a worker


def announce(seconds: float) -> None:
    """Called by a job in a worker: it may take so many seconds from now on. Elsewhere it does nothing."""
    if _channel is not None:
        _channel.send((ANNOUNCE, float(seconds)))


def receive(channel: Connection) -> Any:
    """The next message, None where the pipe has ended, also in the middle of one."""
    with contextlib.suppress(EOFError, OSError):
        return channel.recv()
    return None


def serve() -> None:
    """Runs a worker until its parent ends. The first message: parent, module paths, function, initializer."""
    global _channel
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    inbox, _channel = Connection(os.dup(0), writable=False), Connection(os.dup(1), readable=False)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)  # what a decoder prints must not mix with the answers
    os.dup2(null, 1)
    parent, paths, function_name, initializer_name = receive(inbox)
    tie = process_tree.death_with_parent()
    if parent is not None and tie is not None:
        tie()
        if os.getppid() != parent:  # it died in the meantime
            os._exit(1)
    jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_take, args=(inbox, jobs), daemon=True).start()
    try:
        sys.path[:] = paths
        if initializer_name is not None:
            _import(initializer_name)()
        function = _import(function_name)
    except Exception as error:
        _channel.send((FAILED, f"{type(error).__name__}: {error}"))
        return
    _channel.send((READY, None))
    while True:
        _answer(function, jobs.get())


def _import(name: tuple[str, str]) -> Callable:
    """A function by the name of its module and its own name there."""
    module, qualified_name = name
    return operator.attrgetter(qualified_name)(importlib.import_module(module))


def _take(inbox: Connection, jobs: queue.SimpleQueue) -> None:
    """Hands the jobs on; the parent closes the pipe only by its own end."""
    while (message := receive(inbox)) is not None:
        jobs.put(message[0])
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _answer(function: Callable, job: object) -> None:
    assert _channel is not None
    try:
        _channel.send((RESULT, function(job)))
    except MemoryError:
        _channel.send((MEMORY, "no more could be had"))
    except Exception as error:
        what = " ".join(str(error).split())[:300]
        _channel.send((RAISED, f"{type(error).__name__}: {what}" if what else type(error).__name__))
