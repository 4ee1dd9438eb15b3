"""Pictures are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vidiff_cli.errors import VidiffError

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@contextmanager
def whole_picture(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; it takes the place of `path` at the end, or goes away on an error."""
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise VidiffError(
            "This is no name for a picture", found=repr(path.name), expected="a name in " + ", ".join(PICTURE_SUFFIXES)
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.tmp-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            # mkstemp lets only the owner read; a picture is as open as any other file here
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise VidiffError(f"{path} could not be written", found=(error.strerror or str(error)).lower()) from error
