"""One process at a time in a folder or at a file, and what killed ones left there.

A lock is a file that its holder has locked (flock): the kernel lets go of it when the process ends, however it ends.
Where the file system knows no locks or cannot be written, nothing is kept apart and nothing is cleared.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from vidiff_cli.errors import VidiffError
from vidiff_cli.system.atomic_files import remove

LOCK = ".lock"


@contextlib.contextmanager
def folder_alone(folder: Path, *, fix: str) -> Iterator[bool]:
    """Keeps other vidiff processes out of `folder`, which is made where it is missing, and removed if it stays empty.

    Yields whether it is really locked. VidiffError where another process holds it, with what to do instead.
    """
    with alone(folder / LOCK, folder, fix=fix) as locked:
        yield locked


@contextlib.contextmanager
def alone(path: Path, what: Path, *, fix: str = "") -> Iterator[bool]:
    """The same with a lock file at `path`, which vanishes at the end; `what` is named in the error."""
    made = [each for each in path.parents if not os.path.lexists(each)]
    with contextlib.suppress(OSError):  # who writes there next says it better
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        try:
            descriptor = _take(path)
        except BlockingIOError as error:
            found = f"another vidiff at work on it{_holder(path)}"
            raise VidiffError(f"{what} is in use", found=found, fix=fix or None) from error
        try:
            yield descriptor is not None
        finally:
            if descriptor is not None:
                remove(path)  # while it is held: whoever opened it meanwhile sees that it is no longer there
                os.close(descriptor)
    finally:
        with contextlib.suppress(OSError):  # no longer empty
            for each in made:
                each.rmdir()


@contextlib.contextmanager
def hidden_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder in `parent` for unfinished files: it goes away at the end, or, if this process is killed, when the
    next one makes such a folder there. Its lock stands beside it, so that it is never taken for one of the dead."""
    place = parent / f"{prefix}{secrets.token_hex(8)}"
    with alone(place.with_name(place.name + LOCK), place) as locked:
        if locked:
            _clear_abandoned(parent.absolute(), prefix)
        try:
            place.mkdir()
            yield place
        finally:
            remove(place)


@cache  # once is enough, and a folder may hold many files
def _clear_abandoned(parent: Path, prefix: str) -> None:
    """Removes such folders whose lock nobody holds. (A lock is taken before its folder is made, and goes after it.)"""
    name = re.compile(re.escape(prefix) + "[0-9a-f]{16}")
    for place in {path.with_name(path.name.removesuffix(LOCK)) for path in parent.glob(f"{prefix}*")}:
        if name.fullmatch(place.name):
            with contextlib.suppress(VidiffError), alone(place.with_name(place.name + LOCK), place) as locked:
                if locked:
                    remove(place)


def _take(path: Path) -> int | None:
    """The descriptor that holds the lock; None where there can be none. BlockingIOError: another process has it."""
    try:
        import fcntl
    except ImportError:  # no POSIX
        return None
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _same_file(descriptor, path):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"{os.getpid()}\n".encode())
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise
        except OSError:
            remove(path)
            os.close(descriptor)
            return None
        os.close(descriptor)  # its last holder removed it between our two calls


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    try:
        number = path.read_bytes()[:20].strip()
    except OSError:
        return ""
    return f" (process {number.decode()})" if number.isdigit() else ""
