"""Files and folders that appear whole or not at all: written under a hidden name beside the target, then renamed.

Hidden names are `.NAME.tmp-*` for what is being written and `.NAME.old-*` for a folder that is being replaced; a killed
process leaves them behind, and `remove_leftovers` finds them.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from vidiff_cli.errors import VidiffError


@contextlib.contextmanager
def atomic_path(path: Path, *, sync: bool = False, parents: bool = False) -> Iterator[Path]:
    """Yields a hidden path beside `path`, with its suffix, which replaces `path` when the block ends without an error.

    Args:
        path: the target; a file that is there is replaced.
        sync: flush the bytes to the disk before the rename, so that the file is whole after a power failure.
        parents: create missing parent folders.

    Raises:
        VidiffError: an OSError or a SafetensorError in the block or of the rename. The hidden file is removed.
    """
    from safetensors import SafetensorError

    temporary = path.with_name(f".{path.name}.tmp-{secrets.token_hex(4)}{path.suffix}")
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if sync:
            sync_to_disk(temporary)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise unwritable(path, error) from error
    finally:
        remove(temporary)


def write_text(path: Path, text: str) -> None:
    """Replaces a UTF-8 text file atomically and durably. VidiffError: it cannot be written."""
    with atomic_path(path, sync=True) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Creates or replaces `folder` atomically and durably: `fill` writes the files into a hidden folder beside it.

    Raises VidiffError if the folder cannot be written; errors of `fill` that name the hidden folder name `folder`.
    """
    token = secrets.token_hex(4)
    temporary, aside = (folder.with_name(f".{folder.name}.{kind}-{token}") for kind in ("tmp", "old"))
    try:
        temporary.mkdir(parents=True)
        fill(temporary)
        for path in (*temporary.iterdir(), temporary):
            sync_to_disk(path)
        replace_folder(temporary, folder, aside)
        shutil.rmtree(aside, ignore_errors=True)
        sync_to_disk(folder.parent)
    except OSError as error:
        raise unwritable(folder, error) from error
    except VidiffError as error:
        raise (unwritable(folder, error.__cause__) if isinstance(error.__cause__, Exception) else error) from error
    finally:
        remove(temporary)


def replace_folder(new: Path, target: Path, aside: Path) -> None:
    """Renames `new`, a file or folder, to `target`. A folder at `target` is moved to `aside` first, because a folder
    that is not empty cannot be replaced in one step; it is moved back if the rename fails or is interrupted."""
    if target.is_dir():
        os.replace(target, aside)
    try:
        os.replace(new, target)
    except BaseException:  # KeyboardInterrupt included
        if aside.exists() and not target.exists():
            os.replace(aside, target)
        raise


def remove_folder(folder: Path) -> None:
    """Removes a folder under a hidden name, so that a killed process leaves nothing that looks like a whole folder."""
    hidden = folder.with_name(f".{folder.name}.tmp-{secrets.token_hex(4)}")
    os.replace(folder, hidden)
    shutil.rmtree(hidden)


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Removes hidden files and folders of killed writers from `folder`, all or those of the target `name`.

    A replaced folder whose successor is missing is moved back. Call it only while no other process writes here.
    """
    pattern = "*" if name is None else glob.escape(name)
    for path in folder.glob(f".{pattern}.old-*"):
        target = folder / path.name[1:].rpartition(".old-")[0]
        remove(path) if target.exists() else os.replace(path, target)
    for path in folder.glob(f".{pattern}.tmp-*"):
        remove(path)


def remove(path: Path) -> None:
    """Removes a file or a folder if possible; errors are ignored."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def sync_to_disk(path: Path) -> None:
    """Flushes a file's bytes, or a folder's entries, to the disk. OSError: a file cannot be flushed."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # some file systems do not support fsync of a folder
            raise
    finally:
        os.close(descriptor)


def unwritable(path: Path, error: Exception) -> VidiffError:
    """The error for a file or folder that cannot be written: the disk is full, the folder was removed, ...

    A SafetensorError has no strerror: "... I/O error: No space left on device (os error 28)".
    """
    found = getattr(error, "strerror", None) or re.sub(r"^.*: | \(os error \d+\).*$", "", str(error))
    fix = "make room or write elsewhere" if "space" in found.lower() else None
    return VidiffError(f"{path} could not be written", found=found.lower(), fix=fix)
