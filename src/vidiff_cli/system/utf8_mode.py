"""File names, captions and output as UTF-8 in every locale."""

from __future__ import annotations

import codecs
import contextlib
import os
import sys


def run_in_utf8_mode() -> None:
    """Starts this process anew in Python's UTF-8 mode where its locale reads file names as something else.

    The bytes of a file name would still lead to the file, but a caption table could not name it, and it would stand in
    a dataset as escapes. Returns where nothing has to be done, or it cannot be done.
    """
    if os.name != "posix" or sys.flags.utf8_mode or not sys.executable or not sys.orig_argv[1:]:
        return
    if codecs.lookup(sys.getfilesystemencoding()).name == "utf-8":
        return
    os.environ["PYTHONUTF8"] = "1"  # of the processes that it starts
    with contextlib.suppress(OSError):
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
