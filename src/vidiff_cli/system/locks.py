"""Locks that keep other vidiff processes out of a folder or a file, and hidden folders for unfinished files.

The operating system releases a lock when the process that holds it ends, however it ends. Where no lock can be taken
(a file system without locks, a folder that cannot be written) the work goes on without one, and nothing is cleared.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

from vidiff_cli.errors import VidiffError
from vidiff_cli.system.atomic_files import remove

LOCK = ".lock"
ATTEMPTS = 100  # to take a lock whose file is gone again: its holder has just removed it, or none can be created


@contextlib.contextmanager
def folder_alone(folder: Path, *, fix: str) -> Iterator[bool]:
    """Keeps other vidiff processes out of `folder`, which is created if it is missing and removed if it stays empty.

    Yields whether the lock is held. VidiffError: another process holds it; `fix` is the advice in the message.
    """
    with alone(folder / LOCK, folder, fix=fix) as locked:
        yield locked


@contextlib.contextmanager
def alone(path: Path, subject: Path, *, fix: str = "") -> Iterator[bool]:
    """Holds the lock file `path`, which is removed at the end; `subject` is named in the error. See `folder_alone`."""
    created = [parent for parent in path.parents if not os.path.lexists(parent)]
    with contextlib.suppress(OSError):  # the first write into the folder has the better message
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = _acquire(path, subject, fix)
        try:
            yield lock is not None
        finally:
            if lock is not None:
                remove(path)  # while it is held, so that a process that has opened it finds a removed file
                lock.release()
    finally:
        with contextlib.suppress(OSError):  # not empty
            for folder in created:
                folder.rmdir()


@contextlib.contextmanager
def hidden_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Creates a hidden folder in `parent` for unfinished files and removes it at the end.

    The folder of a killed process is removed when the next one is created with the same prefix. The lock lies beside
    the folder: it is taken before the folder is created and released after it is removed.
    """
    with contextlib.ExitStack() as stack:
        while True:
            folder = parent / f"{prefix}{secrets.token_hex(8)}"
            try:
                locked = stack.enter_context(alone(folder.with_name(folder.name + LOCK), folder))
                break
            except VidiffError:  # another process or thread that clears took the lock between its creation and now
                continue
        if locked:
            _clear_abandoned(parent.absolute(), prefix)
        try:
            folder.mkdir()
            yield folder
        finally:
            remove(folder)


@cache  # once per process is enough, and a folder may hold many files
def _clear_abandoned(parent: Path, prefix: str) -> None:
    """Removes hidden folders with this prefix whose lock is not held."""
    name = re.compile(re.escape(prefix) + "[0-9a-f]{16}")
    for folder in {path.with_name(path.name.removesuffix(LOCK)) for path in parent.glob(f"{prefix}*")}:
        if name.fullmatch(folder.name):
            with contextlib.suppress(VidiffError), alone(folder.with_name(folder.name + LOCK), folder) as locked:
                if locked:
                    remove(folder)


def _acquire(path: Path, subject: Path, fix: str) -> FileLock | None:
    """Takes the lock without waiting and writes the process id into its file; None if no lock can be taken.

    VidiffError: another process holds it.
    """
    # No soft fallback: a marker file would outlive a killed process. Not per thread: a generator may be closed by
    # another thread than the one that entered it.
    lock = FileLock(path, blocking=False, thread_local=False, fallback_to_soft=False)
    existed = os.path.lexists(path)
    for _ in range(ATTEMPTS):
        try:
            lock.acquire()
            break
        except Timeout as error:
            if os.path.lexists(path):  # else its holder has just removed it
                found = f"another vidiff at work on it{_holder(path)}"
                raise VidiffError(f"{subject} is in use", found=found, fix=fix or None) from error
        except OSError:
            if not existed:
                remove(path)
            return None
    else:  # a file system such as /proc, where none can be created
        return None
    with contextlib.suppress(OSError):  # only the message needs it
        path.write_text(f"{os.getpid()}\n")
    return lock


def _holder(path: Path) -> str:
    try:
        number = path.read_bytes()[:20].strip()
    except OSError:
        return ""
    return f" (process {number.decode()})" if number.isdigit() else ""
