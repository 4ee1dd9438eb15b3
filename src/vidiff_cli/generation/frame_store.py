"""Frames of an unfinished video, kept in files: memory does not grow with the length of the video.

Shapes: n frames, b clips, h w pixels, c = 3 RGB; uint8. Values of a codec: b clips, c channels, h w; float32.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol

import numpy as np

from vidiff_cli.errors import VidiffError

BLOCK_BYTES = 4 * 2**20  # that `in_order` holds at a time


class DiskFrameArray:
    """Frames of one `shape` (... h w c) and `dtype` by their number in a file; what was never written is zero.

    Not memory-mapped: pages of a map count as memory of the process. VidiffError where the disk fails.
    """

    def __init__(self, file: IO[bytes], shape: Sequence[int], dtype: type[np.generic] = np.uint8) -> None:
        self.shape, self.dtype, self._file = tuple(shape), np.dtype(dtype), file
        self._bytes = int(np.prod(self.shape)) * self.dtype.itemsize

    @classmethod
    def temporary(cls, folder: Path, shape: Sequence[int], dtype: type[np.generic] = np.uint8) -> DiskFrameArray:
        """An array in a file without a name in `folder`, which is made: it is gone with the process, however that
        ends."""
        with _disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
            return cls(tempfile.TemporaryFile(dir=folder), shape, dtype)

    def read(self, numbers: Sequence[int]) -> np.ndarray:
        """The frames (n ... h w c) of these numbers."""
        frames = np.zeros((len(numbers), *self.shape), self.dtype)
        with _disk(self._file.name):
            for frame, number in zip(frames, numbers, strict=True):
                os.preadv(self._file.fileno(), [frame.data], number * self._bytes)
        return frames

    def write(self, numbers: Sequence[int], frames: np.ndarray) -> None:
        """Puts frames (n ... h w c) in their places."""
        if frames.shape != (len(numbers), *self.shape) or frames.dtype != self.dtype:
            expected = f"{self.dtype} {self.shape}"
            raise ValueError(f"{len(numbers)} frames of {frames.dtype} {frames.shape}, expected {expected}")
        with _disk(self._file.name):
            for frame, number in zip(frames, numbers, strict=True):
                data, place = np.ascontiguousarray(frame).data.cast("B"), number * self._bytes
                while data:
                    done = os.pwrite(self._file.fileno(), data, place)
                    data, place = data[done:], place + done

    def in_order(self, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        """The frames of these numbers, one after the other."""
        for block in _blocks(numbers, self._bytes):
            yield from self.read(block)

    def empty(self, shape: Sequence[int]) -> None:
        """Forgets all frames; the next ones have this shape."""
        self.shape, self._bytes = tuple(shape), int(np.prod(shape)) * self.dtype.itemsize
        with _disk(self._file.name):
            os.ftruncate(self._file.fileno(), 0)

    def close(self) -> None:
        self._file.close()


class MemoryFrameArray:
    """Frames of one `shape` (... h w c) by their number in memory, as `DiskFrameArray` has them in a file."""

    def __init__(self, frames: np.ndarray) -> None:
        self._frames, self.shape = frames, frames.shape[1:]

    def read(self, numbers: Sequence[int]) -> np.ndarray:
        """The frames (n ... h w c) of these numbers."""
        return self._frames[list(numbers)]

    def write(self, numbers: Sequence[int], frames: np.ndarray) -> None:
        """Puts frames (n ... h w c) in their places."""
        self._frames[list(numbers)] = frames


FrameArray = DiskFrameArray | MemoryFrameArray


class ReadableFrames(Protocol):
    """Frames (n h w c) uint8 by their number."""

    def read(self, numbers: Sequence[int], /) -> np.ndarray: ...


class FrameStore:
    """All frames of b unfinished videos by their rank: `given` ones (h w c), as `sources` (rank -> number) finds
    them in their file, and `made` ones (b h w c), which are written as they come. `latents` (b c h w) are a codec's
    values of made frames, where it has some (`window_codec.latent_shape`).

    By index, and in order but for a single video, it is their mean.
    """

    def __init__(
        self,
        made: FrameArray,
        given: ReadableFrames | None = None,
        sources: Mapping[int, int] | None = None,
        latents: FrameArray | None = None,
    ) -> None:
        self.made, self._given, self._sources, self.latents = made, given, sources or {}, latents

    def read(self, ranks: Sequence[int]) -> np.ndarray:
        """Frames (n b h w c)."""
        frames = self.made.read(ranks)
        known = [place for place, rank in enumerate(ranks) if rank in self._sources]
        if known and self._given is not None:
            numbers = [self._sources[ranks[place]] for place in known]
            frames[known] = self._given.read(numbers)[:, None]
        return frames

    def write(self, ranks: Sequence[int], frames: np.ndarray) -> None:
        """Puts made frames (n b h w c) in their places."""
        self.made.write(ranks, frames)

    def checksum(self, ranks: Sequence[int], checksum: int = 0) -> int:
        """The checksum of frames, and of the codec's values of them, after that of others."""
        checksum = zlib.crc32(self.read(ranks).data, checksum)
        return checksum if self.latents is None else zlib.crc32(self.latents.read(ranks).data, checksum)

    def in_order(self, ranks: Sequence[int], clip: int | None = None) -> Iterator[np.ndarray]:
        """The frames (h w c) of one video, or their mean, one after the other."""
        for block in _blocks(ranks, int(np.prod(self.made.shape))):
            frames = self.read(block)
            yield from _mean(frames) if clip is None else frames[:, clip]

    def __getitem__(self, rank: int) -> np.ndarray:
        """One frame (h w c)."""
        return _mean(self.read([rank]))[0]


def _mean(frames: np.ndarray) -> np.ndarray:
    """Frames (n b h w c) -> (n h w c), rounded to the nearest level."""
    count = frames.shape[1]
    return (
        frames[:, 0] if count == 1 else ((2 * frames.sum(1, dtype=np.uint32) + count) // (2 * count)).astype(np.uint8)
    )


class FrameSlice:
    """Frames of a store as one clip (t h w c) that is read frame by frame: for a contact sheet."""

    dtype = np.dtype(np.uint8)

    def __init__(self, store: FrameStore, ranks: Sequence[int]) -> None:
        self._store, self._ranks = store, ranks
        self.shape = (len(ranks), *store.made.shape[1:])

    def __len__(self) -> int:
        return len(self._ranks)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._store[self._ranks[index]]


def _blocks(numbers: Sequence[int], frame_bytes: int) -> Iterator[Sequence[int]]:
    several = max(1, BLOCK_BYTES // frame_bytes)
    return (numbers[first : first + several] for first in range(0, len(numbers), several))


def free_bytes(place: Path) -> int:
    """Free bytes of the disk of a path, which need not exist."""
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free


@contextlib.contextmanager
def _disk(where: object) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        found = (error.strerror or str(error)).lower()
        if isinstance(where, Path):
            raise VidiffError(f"{where} cannot be written", found=found) from error
        raise VidiffError("cannot write temporary frames", found=found) from error
