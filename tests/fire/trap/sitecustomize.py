"""Loaded at its start by every Python process of a command in a trap (`harness.trap` puts this folder on its path).

FIRE_TRAP is "SIGNAL COUNT PATTERN": the command gets the signal when it, or a worker process of it, is about to give a
file or folder whose path matches the pattern its final name, for the COUNT-th time in that process. What is
killed for good leaves that file cut in half, as if it had still been writing. A worker waits there for its end.
"""

import os
import signal
import sys
import time
from fnmatch import fnmatch


def _arm(number: signal.Signals, count: int, pattern: str) -> None:
    command = int(os.environ.setdefault("FIRE_COMMAND", str(os.getpid())))  # the first process; the others inherit it
    hits = 0

    def spring(event: str, arguments: tuple) -> None:
        nonlocal hits
        if event != "os.rename" or not fnmatch(os.path.abspath(os.fspath(arguments[0])), pattern):
            return
        hits += 1
        if hits != count:
            return
        if number == signal.SIGKILL and os.path.isfile(arguments[0]):
            os.truncate(arguments[0], os.path.getsize(arguments[0]) // 2)
        os.kill(command, number)
        while os.getpid() != command:
            time.sleep(60)

    sys.addaudithook(spring)


if "FIRE_TRAP" in os.environ:
    _number, _count, _pattern = os.environ["FIRE_TRAP"].split(" ", 2)
    _arm(signal.Signals(int(_number)), int(_count), _pattern)
