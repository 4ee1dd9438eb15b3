"""Shortages of the system: open files, memory, disk space. They are no fault of the file in use, and pass."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from vidiff_cli.errors import VidiffError

OPEN_FILES, MEMORY, DISK = "allow more open files (ulimit -n)", "free some memory", "make room on the disk"
FIXES = {
    errno.EMFILE: OPEN_FILES,
    errno.ENFILE: OPEN_FILES,
    errno.ENOMEM: MEMORY,
    errno.EAGAIN: "allow more processes (ulimit -u)",
    errno.ENOSPC: DISK,
    errno.EDQUOT: DISK,
}
OS_ERROR = re.compile(r"\(os error (\d+)\)")  # as libraries written in Rust say it


class ShortageError(VidiffError):
    """The system was short of something; nothing is known of the file."""


def shortage_number(error: BaseException | None) -> int | None:
    """The errno of the shortage that an error, or what caused it, tells of; None for another error.

    A MemoryError does not count: a file that announces absurd sizes raises it too.
    """
    while error is not None:
        number = getattr(error, "errno", None)
        if number is None and (found := OS_ERROR.search(str(error))):
            number = int(found[1])
        if number in FIXES:
            return number
        error = error.__cause__
    return None


def raise_shortage(path: Path | str, error: BaseException) -> None:
    """Raises ShortageError where `error`, met while `path` was opened, tells of one; returns otherwise."""
    if isinstance(error, ShortageError):
        raise error
    number = shortage_number(error)
    if number is not None:
        found = (getattr(error, "strerror", None) or os.strerror(number)).lower()
        raise ShortageError(
            f"{path} could not be opened", found=found, fix=f"{FIXES[number]} and run it again"
        ) from error
