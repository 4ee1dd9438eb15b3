"""Resume journal of a partially generated video: hidden files beside the output.

`.NAME.partial` identifies the command and counts finished windows; `.NAME.partial.frames` holds the 8-bit pixels that
later windows observe in any case, so that a resumed result has the same bytes as an uninterrupted one. For a model that
works on the values of a codec, `.NAME.partial.latents` holds those.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidiff_cli.checkpoint import read_header, read_tensors, write_tensors
from vidiff_cli.errors import VidiffError
from vidiff_cli.generation.frame_store import DiskFrameArray
from vidiff_cli.system.atomic_files import remove, remove_leftovers
from vidiff_cli.system.locks import alone
from vidiff_cli.system.shortage import ShortageError
from vidiff_cli.system.signals import DeferredSignals

STATE = "state."  # start of the names of a rolling window's tensors
FIX = "wait for it to end, or give another name with -o or another --seed"


class WindowJournal:
    """`key` stands for all that decides the result, but for a random seed; `seed` is the one asked for, that of the
    interrupted call, or a new one. `stale`: there was an interrupted call, of another command.

    `videos` are finished and written, of the present batch `windows` are made, whose bytes have this `checksum`;
    `complete`: all of them, so that files may have been written before the interruption. `shared`: the videos of a
    batch, where batches are shared out and have journals of their own; else 0.
    """

    def __init__(
        self,
        path: Path,
        key: str,
        seed: int | None,
        *,
        ending: contextlib.ExitStack,
        locked: bool = False,
        kept: bool = True,
    ) -> None:
        self.path, self.key, self.locked, self.kept, self._ending = path, key, locked, kept, ending
        header = _read_header(path) if kept else {}
        self.stale = bool(header) and header.get("key") != key
        header = {} if self.stale else header
        self.videos, self.windows = int(header.get("videos", 0)), int(header.get("windows", 0))
        self.complete, self.checksum = bool(header.get("complete")), int(header.get("checksum", 0))
        self.shared = int(header.get("shared", 0))
        self._shape, self._state_checksum = header.get("shape"), header.get("state")
        self._frames: DiskFrameArray | None = None
        found = header.get("seed") if seed is None else seed
        self.seed = secrets.randbelow(2**31) if found is None else int(found)

    def frames(self, shape: Sequence[int]) -> DiskFrameArray:
        """The frames made so far, of `shape` (b h w c): of an interrupted call where its windows are still there."""
        if self._frames is None:
            if self.stale or not frames_path(self.path).is_file():
                self._shape = None
            self._frames = self._opened(frames_path(self.path), shape, np.uint8)
        if self._shape != list(shape):
            self.begin_anew(shape)
        return self._frames

    def latents(self, shape: Sequence[int]) -> DiskFrameArray:
        """The values of made frames, of `shape` (b c h w). If an interrupted call left none, its windows are lost."""
        if self.windows and self._shape is not None and not latents_path(self.path).is_file():
            self.begin_anew(self._shape)
        return self._opened(latents_path(self.path), shape, np.float32)

    def begin_anew(self, shape: Sequence[int]) -> None:
        """None of the present batch's windows is made."""
        assert self._frames is not None
        self._shape, self.windows, self.complete, self.checksum = list(shape), 0, False, 0
        self._frames.empty(shape)

    def _opened(self, path: Path, shape: Sequence[int], dtype: type[np.generic]) -> DiskFrameArray:
        if not self.kept:
            return self._closing(DiskFrameArray.temporary(self.path.parent, shape, dtype))
        try:
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+b")
            return self._closing(DiskFrameArray(file, shape, dtype))
        except OSError as error:
            found = (error.strerror or str(error)).lower()
            raise VidiffError(f"cannot write temporary frames to {path.parent}", found=found) from error

    def _closing(self, array: DiskFrameArray) -> DiskFrameArray:
        return self._ending.enter_context(contextlib.closing(array))

    def save(self, windows: int, checksum: int, *, of: int, state: Mapping[str, torch.Tensor] | None = None) -> None:
        """The frames of `windows` of the batch's are in the file; of a rolling window these are its slots, and `state`
        is what the next one goes on from."""
        self.windows, self.checksum, self.complete = windows, checksum, windows == of
        kept = {f"{STATE}{name}": value.cpu().contiguous() for name, value in (state or {}).items()}
        self._write(more=kept)

    def state(self) -> dict[str, torch.Tensor]:
        """State of a rolling window that was kept; nothing if it is missing or damaged."""
        kept = {name: value for name, value in self._tensors().items() if name.startswith(STATE)}
        if self._state_checksum != _checksum(kept):
            return {}
        return {name.removeprefix(STATE): value for name, value in kept.items()}

    def next_batch(self, videos: int, sheet: Sequence[np.ndarray]) -> None:
        """From here on `videos` are finished and written; `sheet` are frames (n h w c) that its sheet will show."""
        self.videos, self.windows, self.complete, self._shape = videos, 0, False, None
        self._write(np.stack(sheet) if sheet else None)

    def begin_sharing(self, batch: int) -> None:
        """From here on batches of so many videos have journals of their own; this one keeps the seed."""
        self.shared = batch
        self._write()

    def remove_frames(self) -> None:
        """Removes the frames of finished videos."""
        if self.kept:
            remove(frames_path(self.path))
            remove(latents_path(self.path))

    def sheet_frames(self) -> list[np.ndarray]:
        """The frames that were kept for a sheet."""
        sheet = self._tensors().get("sheet")
        return [] if sheet is None else list(sheet.numpy())

    def _tensors(self) -> Mapping[str, torch.Tensor]:
        try:
            is_readable = self.kept and not self.stale and self.path.is_file()
            return read_tensors(self.path) if is_readable else {}
        except ShortageError:
            raise
        except VidiffError:  # a damaged journal costs time, not the result
            return {}

    def _write(self, sheet: np.ndarray | None = None, more: Mapping[str, torch.Tensor] | None = None) -> None:
        if not self.kept:
            return
        tensors = {} if sheet is None else {"sheet": torch.from_numpy(sheet)}
        if sheet is None and (before := self.sheet_frames()):
            tensors = {"sheet": torch.from_numpy(np.stack(before))}
        self._state_checksum = _checksum(more or {})
        tensors |= more or {}
        self.stale = False
        header = {
            key: getattr(self, key) for key in ("key", "seed", "videos", "windows", "complete", "checksum", "shared")
        }
        write_tensors(self.path, tensors, header | {"shape": self._shape, "state": self._state_checksum})

    def clear(self, *files: Path) -> None:
        """Removes what a killed call left of these files while it was writing them."""
        for path in files if self.locked else ():
            remove_leftovers(path.parent, path.name)

    def remove(self) -> None:
        """Delete the journal: the result is safe, with all its files. Signals are ignored until the call returns,
        because the same command would now refuse to replace its own result."""
        self._ending.enter_context(DeferredSignals())
        if self.kept:
            _remove_files(self.path)


@contextlib.contextmanager
def window_journal(
    target: Path, key: str, seed: int | None, *, share: bool = False, keep: bool = True
) -> Iterator[WindowJournal]:
    """The journal of a result, while no other process can make the same. VidiffError where one does; or, with `share`
    (a random seed gives each its own names), a journal that keeps nothing, as without `keep`."""
    path = journal_path(target)
    if not keep:
        with contextlib.ExitStack() as ending:
            yield WindowJournal(path, key, seed, ending=ending, kept=False)
        return
    with contextlib.ExitStack() as ending, contextlib.ExitStack() as stack:
        try:
            locked = stack.enter_context(alone(path.with_name(path.name + ".lock"), target, fix=FIX))
        except VidiffError:
            if not share:
                raise
            yield WindowJournal(path, key, seed, ending=ending, kept=False)
            return
        journal = WindowJournal(path, key, seed, ending=ending, locked=locked)
        journal.clear(path)
        try:
            yield journal
        finally:
            if not path.exists():  # no window is done
                remove(frames_path(path))
                remove(latents_path(path))


def is_written(target: Path, key: str) -> bool:
    """True if an interrupted call may have written the videos of a journal, or has."""
    header = _read_header(journal_path(target))
    return header.get("key") == key and bool(header.get("videos") or header.get("complete"))


def kept_sheet(target: Path) -> list[np.ndarray]:
    """The frames for a sheet that the journal of a target keeps. VidiffError: it cannot be read."""
    sheet = read_tensors(journal_path(target)).get("sheet")
    return [] if sheet is None else list(sheet.numpy())


def remove_journal(target: Path) -> None:
    """Removes what is left of the journal of a target."""
    _remove_files(journal_path(target))


def _remove_files(journal: Path) -> None:
    for path in (journal, frames_path(journal), latents_path(journal)):
        path.unlink(missing_ok=True)


def journal_path(path: Path) -> Path:
    """out.mp4 -> .out.mp4.partial."""
    return path.with_name(f".{path.name}.partial")


def frames_path(journal: Path) -> Path:
    """.out.mp4.partial -> .out.mp4.partial.frames."""
    return journal.with_name(f"{journal.name}.frames")


def latents_path(journal: Path) -> Path:
    """.out.mp4.partial -> .out.mp4.partial.latents."""
    return journal.with_name(f"{journal.name}.latents")


def _checksum(tensors: Mapping[str, torch.Tensor]) -> int:
    checksum = 0
    for name in sorted(tensors):
        checksum = zlib.crc32(tensors[name].numpy().data, checksum)
    return checksum


def _read_header(path: Path) -> dict[str, Any]:
    """The header of a journal; empty if it is missing or damaged."""
    try:
        return read_header(path) if path.is_file() else {}
    except ShortageError:
        raise
    except VidiffError:
        return {}
