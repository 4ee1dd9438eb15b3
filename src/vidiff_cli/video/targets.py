"""Files and folders that are to be written: whether they can be, and in the end whole or not at all."""

from __future__ import annotations

import contextlib
import filecmp
import os
from collections.abc import Generator
from pathlib import Path

from vidiff_cli.errors import VidiffError
from vidiff_cli.system.atomic_files import replace_folder, unwritable
from vidiff_cli.system.locks import hidden_folder

HIDDEN = ".vidiff-"  # folders of unfinished files


def check_target(target: Path, *, folder: bool, overwrite: bool) -> None:
    """Raise VidiffError for a target that exists, without `overwrite`, or cannot be written; make its parent folders.

    `folder`: it is to be a folder of PNG frames.
    """
    try:
        if target.exists() and not (folder and not any(target.iterdir())):
            if not overwrite:
                raise VidiffError(f"{target} exists", fix="choose another name, or pass --overwrite")
            _check_replaceable(target, folder=folder)
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VidiffError(f"{target} cannot be written", found=error.strerror or str(error)) from error
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise VidiffError(f"{target} cannot be written", found=f"no permission to write into {target.parent}")


def is_folder(path: str | Path) -> bool:
    """True if `path` names a folder of PNG frames: a trailing slash, no extension, or an existing folder."""
    return str(path).endswith(("/", os.sep)) or not Path(path).suffix or Path(path).is_dir()


def _check_replaceable(target: Path, *, folder: bool) -> None:
    """Refuses to replace anything but a file, or a folder with other contents than numbered PNG frames."""
    if folder != target.is_dir():
        raise VidiffError(f"{target} is {'a file' if folder else 'a folder'}", fix="choose another name")
    if folder:
        foreign = next((entry.name for entry in target.iterdir() if not _is_frame_name(entry.name)), None)
        if foreign is not None:
            raise VidiffError(f"{target} holds more than frames", found=foreign, fix="choose another folder")


def _is_frame_name(name: str) -> bool:
    return name.endswith(".png") and name.removesuffix(".png").isdigit()


@contextlib.contextmanager
def beside(target: Path, *, same: bool = False) -> Generator[Path]:
    """Yields a hidden path beside `target` that replaces it if the block succeeds and is removed if not.

    `same`: an existing target with the same bytes is kept without an error.
    """
    with contextlib.ExitStack() as stack:
        try:
            place = stack.enter_context(hidden_folder(target.parent, HIDDEN))
        except OSError as error:
            raise unwritable(target, error) from error
        part = place / "part"
        yield part
        if same and target.exists():
            if not _are_same(part, target):
                raise VidiffError(f"{target} exists", fix="choose another name, or pass --overwrite")
            return
        try:
            replace_folder(part, target, place / "old")
        except OSError as error:
            raise unwritable(target, error) from error


def _are_same(one: Path, other: Path) -> bool:
    """True if two files, or two folders of files, hold the same bytes."""
    if one.is_dir() != other.is_dir():
        return False
    if not one.is_dir():
        return filecmp.cmp(one, other, shallow=False)
    names = sorted(entry.name for entry in one.iterdir())
    if names != sorted(entry.name for entry in other.iterdir()):
        return False
    return all(filecmp.cmp(one / name, other / name, shallow=False) for name in names)
