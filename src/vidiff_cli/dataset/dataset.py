"""The dataset folder: written whole or not at all, read by memory map.

    dataset.json      what it is (`DatasetSpec`); written last, so that its presence means complete
    clips.jsonl       one row per clip (`Clip`)
    clips.index       the same for the machine, in a large dataset (`index.py`); can be made again at any time
    ledger.jsonl      one row per source: kept, or the reason it was not
    data/shard-*.safetensors   the frames: one uint8 tensor (t h w c) per clip id
    text/             embeddings of the captions by frozen encoders (`text/embedding_cache.py`); can be made again
    latents/          clips encoded by autoencoders (`training/latent_cache.py`); can be made again

Shapes: t frames, h height, w width, c = 3 RGB, or 1 luma (`DatasetSpec.channels`).
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path
from typing import overload

import numpy as np

from vidiff_cli.dataset.index import MAX_PARSED, SIDES, Index, open_index
from vidiff_cli.dataset.index import NAME as INDEX
from vidiff_cli.dataset.jsonl import damaged, read_rows, unreadable, write_rows
from vidiff_cli.dataset.schema import (
    FORMAT,
    JOURNAL,
    Clip,
    DatasetSpec,
    clip_from_row,
    read_spec,
    write_clips,
    write_spec,
)
from vidiff_cli.dataset.shards import SHARD_BYTES, Shard, ShardMaps, map_bytes, write_shards, write_tensors
from vidiff_cli.luma import to_rgb

__all__ = [
    "FORMAT",
    "JOURNAL",
    "SHARD_BYTES",
    "Clip",
    "Dataset",
    "DatasetSpec",
    "Shard",
    "open_dataset",
    "read_rows",
    "read_spec",
    "remove_data",
    "write_clips",
    "write_rows",
    "write_shards",
    "write_spec",
    "write_tensors",
]


class Clips(Sequence[Clip]):
    """The rows of clips.jsonl, parsed when they are asked for. VidiffError where the file has changed since."""

    def __init__(self, path: Path, spec: DatasetSpec, index: Index, parsed: dict[int, Clip]) -> None:
        self._path, self._spec, self._index, self._parsed = path, spec, index, parsed
        self._file: FileIO | None = None

    def __len__(self) -> int:
        return len(self._index)

    @overload
    def __getitem__(self, index: int) -> Clip: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Clip]: ...
    def __getitem__(self, index: int | slice) -> Clip | Sequence[Clip]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        number = range(len(self))[index]  # IndexError and negative numbers as everywhere
        clip = self._parsed.get(number)
        if clip is None:
            clip = self._read(number)
            if len(self._parsed) < MAX_PARSED:
                self._parsed[number] = clip
        return clip

    def _read(self, number: int) -> Clip:
        index = self._index
        try:
            if self._file is None:
                self._file = self._path.open("rb", buffering=0)
            line = os.pread(self._file.fileno(), int(index.row_bytes[number]), int(index.row_start[number]))
        except (OSError, OverflowError) as error:
            raise unreadable(self._path, error) from error
        if zlib.crc32(line) != index.row_sum[number]:  # of the line that was looked at when the index was made
            raise damaged(self._path, f"another line {number + 1} than when it was opened")
        return clip_from_row(json.loads(line), self._spec)


class Dataset:
    """An open dataset: `len(dataset)` clips, their rows in `clips`, their frames by `frames(index)`; `index` has all
    that is known without parsing a row.

    Only the frames that are asked for are read. Safe to share between threads and to send to worker processes.
    """

    def __init__(self, folder: Path, spec: DatasetSpec, index: Index, parsed: dict[int, Clip]) -> None:
        self.folder, self.spec, self.index = folder, spec, index
        self.clips: Sequence[Clip] = Clips(folder / "clips.jsonl", spec, index, parsed)
        self._maps = ShardMaps()
        self._layout: np.ndarray | None = None  # one row per clip: one look-up instead of five

    def __len__(self) -> int:
        return len(self.index)

    def __reduce__(self) -> tuple[Callable[[Path], Dataset], tuple[Path]]:
        return open_dataset, (self.folder,)  # a pickled memory map would carry all its bytes

    def split(self, name: str) -> tuple[int, ...]:
        """Indices into `clips` of one split, "train" or "val"."""
        return tuple(np.flatnonzero(self.index.side == SIDES.index(name)).tolist()) if name in SIDES else ()

    def view(self, index: int) -> np.ndarray:
        """All frames of a clip, uint8 (t h w c), read-only: nothing is read before it is looked at."""
        if self._layout is None:
            known = self.index
            self._layout = np.stack([known.shard, known.start, known.frames, known.height, known.width], axis=1)
        shard, start, frames, height, width = self._layout[index].tolist()
        stop = start + frames * height * width * self.spec.channels
        return self._map(shard)[start:stop].reshape(frames, height, width, self.spec.channels)

    def window(self, index: int, frames: range) -> np.ndarray:
        """A range of frames of a clip, uint8 (t h w c), read-only."""
        return self.view(index)[frames.start : frames.stop : frames.step]

    def frames(self, index: int, frame_indices: Sequence[int] | None = None) -> np.ndarray:
        """Frames of a clip, uint8 (t h w c): all, or those at `frame_indices` in that order. Always a copy."""
        view = self.view(index)
        return view.copy() if frame_indices is None else view[np.asarray(frame_indices, dtype=np.intp)]

    def rgb(self, index: int, frame_indices: Sequence[int] | None = None) -> np.ndarray:
        """Frames of a clip as `frames` gives them, uint8 (t h w 3): to show and to compare. Luma is repeated."""
        return to_rgb(self.frames(index, frame_indices))

    def _map(self, number: int) -> np.ndarray:
        shard = self.index.shards[number]
        return self._maps.get(
            number, lambda: map_bytes(self.folder / "data" / shard.name, shard.data_start, shard.size)
        )

    def digest(self) -> str:
        """A hash of the content, which differs for other sources, captions or settings."""
        whole = hashlib.sha256()
        for name in ("dataset.json", "clips.jsonl"):
            with (self.folder / name).open("rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
        return whole.hexdigest()

    def captions(self) -> tuple[str, ...]:
        """Every caption of every clip of the train split, with repetitions."""
        return tuple(text for index in self.split("train") for text in self.clips[index].captions)


def open_dataset(folder: Path | str) -> Dataset:
    """Opens a dataset folder. VidiffError: missing, unfinished, of another format, or damaged (which file, and how)."""
    folder = Path(folder)
    spec = read_spec(folder)
    return Dataset(folder, spec, *open_index(folder, spec))


def remove_data(folder: Path) -> None:
    """Removes dataset.json first, then the shards: from here on the folder is unfinished."""
    (folder / "dataset.json").unlink(missing_ok=True)
    (folder / INDEX).unlink(missing_ok=True)
    for path in sorted((folder / "data").glob("*")) if (folder / "data").is_dir() else []:
        if path.name.lstrip(".").startswith("shard-"):
            path.unlink()
