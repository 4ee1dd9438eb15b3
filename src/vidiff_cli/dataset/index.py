"""Arrays that locate every clip, derived from clips.jsonl and stored beside it when there are many clips.

clips.jsonl stays the truth. clips.index holds what a look at every row and every shard has found, with the sizes and
times of the files that were looked at: while these stand, nothing is parsed but the rows that are asked for. An index
that is absent, damaged or older than its files is rebuilt quietly; in a folder that cannot be written it
lives in memory.

The file: a line with the format and the sha256 of the rest; a line of JSON; the columns one after another.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import zlib
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vidiff_cli.dataset.jsonl import damaged, read_lines
from vidiff_cli.dataset.schema import Clip, DatasetSpec, parse_clip
from vidiff_cli.dataset.shards import Shard
from vidiff_cli.errors import VidiffError
from vidiff_cli.system.atomic_files import atomic_path

NAME = "clips.index"
MAGIC = b"vidiff index 1 "
SIDES = ("train", "val")
SAVED_FROM = 2000  # clips: fewer are read as fast from their rows
MAX_PARSED = 50_000  # rows that were parsed anyway and are kept
LEFTOVER_SECONDS = 3600.0
SETTLED_SECONDS = 0.1  # a file written later than that may change again and keep its time

COLUMNS = {
    "row_start": "<i8",
    "row_bytes": "<i4",
    "row_sum": "<u4",
    "frames": "<i4",
    "height": "<i4",
    "width": "<i4",
    "shard": "<i4",
    "start": "<i8",
    "rate": "<i4",
    "side": "<i1",
    "captions": "<i4",
}
TYPECODES = {"<i8": "q", "<i4": "i", "<u4": "I", "<i1": "b"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardFile:
    """A shard as it was looked at: its tensors begin at byte `data_start`."""

    name: str
    size: int
    mtime_ns: int
    data_start: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Index:
    """One entry per clip in every array.

    row_start and row_bytes: the row's place in clips.jsonl, row_sum its crc32; frames, height, width: the clip's shape;
    shard: a number of `shards`, and start: the byte of its tensors at which the clip begins; rate: a number of `rates`;
    side: a number of `SIDES`; captions: how many there are.
    """

    row_start: np.ndarray
    row_bytes: np.ndarray
    row_sum: np.ndarray
    frames: np.ndarray
    height: np.ndarray
    width: np.ndarray
    shard: np.ndarray
    start: np.ndarray
    rate: np.ndarray
    side: np.ndarray
    captions: np.ndarray
    shards: tuple[ShardFile, ...]
    rates: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.frames)

    def clips_per_size(self) -> dict[str, int]:
        """Frame sizes as "64x48" and the number of clips of each, most clips first."""
        sizes, counts = np.unique(self.width.astype(np.int64) << 32 | self.height, return_counts=True)
        found = {f"{size >> 32}x{size & 0xFFFFFFFF}": int(count) for size, count in zip(sizes, counts, strict=True)}
        return dict(sorted(found.items(), key=lambda item: -item[1]))


def open_index(folder: Path, spec: DatasetSpec) -> tuple[Index, dict[int, Clip]]:
    """The index of a dataset, and rows that were parsed on the way. VidiffError: damaged (which file, and how)."""
    known = _file_stamps(folder)
    stored = _load(folder, spec, known)
    if stored is not None:
        return stored, {}
    index, parsed = _build(folder, spec)
    if (
        len(index) >= SAVED_FROM and known is not None and known == _file_stamps(folder)
    ):  # not of files that change meanwhile
        newest = max([known["rows"][1], *(shard.mtime_ns for shard in index.shards)])
        if time.time() - newest / 1e9 > SETTLED_SECONDS:
            _save(folder, index, known)
    return index, parsed


# --- made from the rows and the shards ---------------------------------------------------------------------------


def _build(folder: Path, spec: DatasetSpec) -> tuple[Index, dict[int, Clip]]:
    path = folder / "clips.jsonl"
    columns = {name: array(TYPECODES[kind]) for name, kind in COLUMNS.items()}
    ids: list[str] = []
    rates: dict[str, int] = {}
    names: dict[str, int] = {}
    parsed: dict[int, Clip] = {}
    for number, start, line, row in read_lines(path):
        clip = parse_clip(row, path, number, spec)
        if len(parsed) < MAX_PARSED:
            parsed[len(ids)] = clip
        ids.append(clip.id)
        values = {
            "row_start": start,
            "row_bytes": len(line),
            "row_sum": zlib.crc32(line),
            "frames": clip.frames,
            "height": clip.height,
            "width": clip.width,
            "shard": names.setdefault(clip.shard, len(names)),
            "start": 0,
            "rate": rates.setdefault(clip.fps, len(rates)),
            "side": SIDES.index(clip.split),
            "captions": len(clip.captions),
        }
        for name, column in columns.items():
            column.append(values[name])
    if len(ids) != spec.clips:
        raise damaged(path, f"{len(ids)} clips", f"{spec.clips}, as in dataset.json")
    if len(set(ids)) != len(ids):
        raise damaged(path, "two clips of one id")
    arrays = {name: np.frombuffer(columns[name], dtype=f"={kind[1:]}").copy() for name, kind in COLUMNS.items()}
    shards = _find_starts(folder, tuple(names), ids, arrays, spec.channels)
    index = Index(**arrays, shards=shards, rates=tuple(rates))
    _check_sizes(folder, index, spec)
    return index, parsed


def _find_starts(
    folder: Path, names: tuple[str, ...], ids: list[str], arrays: dict[str, np.ndarray], channels: int
) -> tuple[ShardFile, ...]:
    """Fills in where each clip begins. One shard's table is in memory at a time, whatever the order of the rows."""
    order = np.argsort(arrays["shard"], kind="stable")
    bounds = np.searchsorted(arrays["shard"][order], np.arange(len(names) + 1))
    files = []
    for number, name in enumerate(names):
        path = folder / "data" / name
        shard = Shard(path)
        for clip in order[bounds[number] : bounds[number + 1]].tolist():
            expected = (*(int(arrays[side][clip]) for side in ("frames", "height", "width")), channels)
            found = shard.shape(ids[clip])
            if found != expected:
                raise damaged(path, f"{found or 'nothing'} for clip {ids[clip]}", f"{expected}")
            arrays["start"][clip] = shard.start(ids[clip])
        files.append(ShardFile(name=name, size=shard.size, mtime_ns=shard.mtime_ns, data_start=shard.data_start))
    return tuple(files)


def _check_sizes(folder: Path, index: Index, spec: DatasetSpec) -> None:
    """dataset.json tells of the clips what is true."""
    found = index.clips_per_size()
    expected = spec.buckets or ({f"{spec.width}x{spec.height}": len(index)} if len(index) else {})
    if found != expected:
        raise damaged(
            folder / "clips.jsonl", f"clips of {_format_sizes(found)}", f"{_format_sizes(expected)}, as in dataset.json"
        )
    if found and found.get(f"{spec.width}x{spec.height}") != max(found.values()):
        most = next(iter(found))
        raise damaged(folder / "dataset.json", f"a size of {spec.width}x{spec.height}", f"{most}, as most clips have")


def _format_sizes(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{size} ({count})" for size, count in list(sizes.items())[:4]) or "no size"


# --- kept in a file ----------------------------------------------------------------------------------------------


def _file_stamps(folder: Path) -> dict[str, Any] | None:
    """Stamps that tell whether the rows are the same: their size and time, and the very content of dataset.json."""
    try:
        rows = (folder / "clips.jsonl").stat()
        spec = hashlib.sha256((folder / "dataset.json").read_bytes()).hexdigest()
    except OSError:
        return None
    return {"rows": [rows.st_size, rows.st_mtime_ns], "spec": spec}


def _save(folder: Path, index: Index, known: dict[str, Any]) -> None:
    """Writes clips.index; in vain where the folder cannot be written or the disk is full. Every process writes a file
    of its own name, so that several may do so at once."""
    shards = [[shard.name, shard.size, shard.mtime_ns, shard.data_start] for shard in index.shards]
    header = {"files": known, "clips": len(index), "shards": shards, "rates": index.rates}
    columns = [getattr(index, name).astype(kind).tobytes() for name, kind in COLUMNS.items()]
    body = b"".join([json.dumps(header).encode(), b"\n", *columns])
    content = b"".join([MAGIC, hashlib.sha256(body).hexdigest().encode(), b"\n", body])
    with contextlib.suppress(OSError, VidiffError):
        for leftover in folder.glob(f".{NAME}.tmp-*"):  # of a process that was killed
            with contextlib.suppress(OSError):
                if time.time() - leftover.stat().st_mtime > LEFTOVER_SECONDS:
                    leftover.unlink()
        with atomic_path(folder / NAME) as partial:
            partial.write_bytes(content)
            partial.chmod((folder / "clips.jsonl").stat().st_mode & 0o666)


def _load(folder: Path, spec: DatasetSpec, known: dict[str, Any] | None) -> Index | None:
    """The stored index where it is sound and of these very files, else None."""
    try:
        content = (folder / NAME).read_bytes()
        if known is None or not content.startswith(MAGIC):
            return None
        first = content.index(b"\n") + 1
        view = memoryview(content)[first:]
        if content[len(MAGIC) : first - 1] != hashlib.sha256(view).hexdigest().encode():
            return None
        index = _unpack(content, first, known)
        fits = index is not None and len(index) == spec.clips and _matches_shards(folder, index, spec.channels)
        return index if fits else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _unpack(content: bytes, first: int, known: dict[str, Any]) -> Index | None:
    place = content.index(b"\n", first) + 1
    header = json.loads(content[first : place - 1])
    if header["files"] != known:
        return None
    count, columns = header["clips"], {}
    for name, kind in COLUMNS.items():
        columns[name] = np.frombuffer(content, dtype=kind, count=count, offset=place)
        place += columns[name].nbytes
    if place != len(content):
        return None
    shards = (
        ShardFile(name=name, size=size, mtime_ns=time_ns, data_start=start)
        for name, size, time_ns, start in header["shards"]
    )
    return Index(**columns, shards=tuple(shards), rates=tuple(header["rates"]))


def _matches_shards(folder: Path, index: Index, channels: int) -> bool:
    """Checks that every shard is the indexed file and that every clip lies within its shard."""
    for shard in index.shards:
        found = os.stat(folder / "data" / shard.name)
        if (found.st_size, found.st_mtime_ns) != (shard.size, shard.mtime_ns):
            return False
    if not len(index):
        return True
    if min(int(index.shard.min()), int(index.rate.min()), int(index.side.min())) < 0:
        return False
    room = np.array([shard.size - shard.data_start for shard in index.shards])[index.shard]
    sizes = index.frames.astype(np.float64) * index.height * index.width * channels  # cannot wrap around
    inside = (index.start >= 0) & (index.start + sizes <= room) & (index.row_start >= 0) & (index.row_bytes > 0)
    sides = np.minimum(np.minimum(index.frames, index.height), index.width) > 0
    known = int(index.rate.max()) < len(index.rates) and int(index.side.max()) < len(SIDES)
    return bool((inside & sides).all()) and known
