"""Finished windows of a video in the making: one hidden file beside the output, from which a repeated command goes on.

It holds the 8-bit pixels that later windows are shown anyway: the result does not tell where it was interrupted.
Shapes: b clips, c channels, n frames, h w pixels.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidiff_cli.checkpoint import read_header, read_tensors, write_tensors
from vidiff_cli.errors import VidiffError
from vidiff_cli.locks import alone, remove_leftovers
from vidiff_cli.tasks.interrupts import Deferred

FIX = "wait for it to end, or give another name with -o or another --seed"


class WindowJournal:
    """`key` stands for all that decides the result, but for a random seed; `seed` is the one asked for, that of the
    interrupted call, or a new one. `stale`: there was an interrupted call, of another command.

    `videos` are finished and written, of the present batch `windows` are made; `complete`: all of them, so that files
    may have been written before the interruption.
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
        header = _header_of(path) if kept else {}
        self.stale = bool(header) and header.get("key") != key
        header = {} if self.stale else header
        self.videos, self.windows = int(header.get("videos", 0)), int(header.get("windows", 0))
        self.complete = bool(header.get("complete"))
        self._sheet: Tensor | None = None
        found = header.get("seed") if seed is None else seed
        self.seed = secrets.randbelow(2**31) if found is None else int(found)

    def recall(self) -> Tensor | None:
        """The frames as they were saved, None where there are none: a damaged journal costs time, not the result."""
        try:
            tensors = read_tensors(self.path) if self.kept and not self.stale and self.path.is_file() else {}
        except VidiffError:
            return None
        self._sheet = tensors.get("sheet")
        return tensors.get("frames")

    def save(self, frames: Tensor, windows: int, *, of: int) -> None:
        """Keeps the frames (b c n h w uint8) as they are after `windows` of the batch's."""
        self.windows, self.complete = windows, windows == of
        self._write({"frames": frames})

    def next_batch(self, videos: int, sheet: Sequence[np.ndarray]) -> None:
        """From here on `videos` are finished and written; `sheet` are frames (n h w c uint8) that its sheet will
        show."""
        self.videos, self.windows, self.complete = videos, 0, False
        self._sheet = torch.from_numpy(np.stack(sheet)) if sheet else None
        self._write({})

    def sheet_frames(self) -> list[np.ndarray]:
        """The frames that were kept for a sheet."""
        self.recall()
        return [] if self._sheet is None else list(self._sheet.numpy())

    def _write(self, tensors: dict[str, Tensor]) -> None:
        self.stale = False
        header = {key: getattr(self, key) for key in ("key", "seed", "videos", "windows", "complete")}
        if self.kept:
            write_tensors(self.path, tensors | ({} if self._sheet is None else {"sheet": self._sheet}), header)

    def clear(self, *files: Path) -> None:
        """Removes what a killed call left of these files while it was writing them."""
        for path in files if self.locked else ():
            remove_leftovers(path.parent, path.name)

    def remove(self) -> None:
        """The result is safe, with all that belongs to it: what interrupts the rest of the call comes too late, as the
        same command would now find its own result in the way."""
        self._ending.enter_context(Deferred())
        if self.kept:
            self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def window_journal(target: Path, key: str, seed: int | None, *, share: bool = False) -> Iterator[WindowJournal]:
    """The journal of a result, while no other process can make the same. VidiffError where one does; or, with `share`
    (a random seed gives each its own names), a journal that keeps nothing."""
    path = journal_of(target)
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
        yield journal


def journal_of(path: Path) -> Path:
    """out.mp4 -> .out.mp4.partial."""
    return path.with_name(f".{path.name}.partial")


def _header_of(path: Path) -> dict[str, Any]:
    """What a journal says of itself; nothing where there is none that can be read."""
    try:
        return read_header(path) if path.is_file() else {}
    except VidiffError:
        return {}
