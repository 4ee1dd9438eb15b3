"""Process trees: their memory, killing them, and ending a child with its parent.

Linux knows all of it. Elsewhere there is no /proc: a family's memory is unknown, and only groups can be ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

PR_SET_PDEATHSIG = 1
PROC = Path("/proc")


class Families:
    """Parents of all processes, refreshed by `look`, which reads only processes that are new."""

    def __init__(self) -> None:
        self._parents: dict[int, int] = {}

    def look(self) -> None:
        """Takes in what has changed."""
        alive = {int(name) for name in os.listdir(PROC) if name.isdecimal()} if PROC.is_dir() else set[int]()
        self._parents = {pid: parent for pid, parent in self._parents.items() if pid in alive}
        for pid in alive - self._parents.keys():
            with contextlib.suppress(OSError, ValueError, IndexError):
                # after the name, which may hold anything: state, parent
                self._parents[pid] = int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])

    def of(self, pid: int) -> list[int]:
        """A process and all its descendants, as last seen; the ancestors come first."""
        found = [pid]
        for each in found:  # which grows
            found += [child for child, parent in self._parents.items() if parent == each]
        return found

    def resident_bytes(self, pid: int) -> int:
        """Memory that a process and its descendants hold at this moment; 0 where that cannot be known.

        Pages of files do not count: the system takes them back when it needs them.
        """
        pages = 0
        for each in self.of(pid):
            with contextlib.suppress(OSError, ValueError, IndexError):
                _, resident, of_files, *_ = map(int, (PROC / str(each) / "statm").read_text().split())
                pages += resident - of_files
        return pages * os.sysconf("SC_PAGE_SIZE") if pages else 0


def kill_family(pid: int) -> None:
    """Kills a process that leads a group of its own, the group and all descendants; it has to be waited for."""
    if not hasattr(os, "killpg"):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGTERM)  # on Windows this is the end at once
        return
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGSTOP)  # so that it starts nothing while its descendants are looked for
    families = Families()
    families.look()
    for each in families.of(pid)[1:]:
        with contextlib.suppress(OSError):
            os.kill(each, signal.SIGKILL)
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)


def await_end(pid: int, patience_seconds: float) -> None:
    """Waits until a child has ended, without taking its status: its number, and its group's, stay its own."""
    if not hasattr(os, "waitid"):
        return
    give_up = time.monotonic() + patience_seconds
    with contextlib.suppress(OSError):
        while not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) and time.monotonic() < give_up:
            time.sleep(0.01)


def death_with_parent() -> Callable[[], None] | None:
    """A function that makes the process that calls it be killed when the thread that started it ends; None where the
    system has no such thing. It is made before a fork, so that nothing is looked up after it."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        control = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return None

    def ask() -> None:
        control(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)

    return ask
