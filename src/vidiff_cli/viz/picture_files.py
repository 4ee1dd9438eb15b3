"""Pictures are written atomically."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vidiff_cli.errors import VidiffError
from vidiff_cli.system.atomic_files import atomic_path

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@contextmanager
def whole_picture(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, which replaces it at the end and is removed on an error.

    VidiffError: another suffix than that of a picture, or `path` cannot be written.
    """
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise VidiffError(
            "unsupported picture format", found=repr(path.name), expected="a name in " + ", ".join(PICTURE_SUFFIXES)
        )
    with atomic_path(path, parents=True) as temporary:
        yield temporary
