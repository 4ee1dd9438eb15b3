"""Shards: safetensors files of uint8 (frames) or float16 tensors (latents), written once and memory-mapped.

Shapes: t frames, h height, w width, c channels.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vidiff_cli.dataset.jsonl import damaged, unreadable
from vidiff_cli.system.atomic_files import atomic_path

SHARD_BYTES = 256_000_000
LONGEST_HEADER = 100_000_000  # bytes, as safetensors has it
DTYPES = {"U8": np.dtype("<u1"), "F16": np.dtype("<f2")}  # by their names in a safetensors header


class Shard:
    """A safetensors file of tensors of one `dtype`, memory-mapped: a tensor is a view, nothing is read before it is
    used.

    `size` and `mtime_ns` are the file's; its tensors begin at byte `data_start`.
    """

    def __init__(self, path: Path, dtype: Literal["U8", "F16"] = "U8") -> None:
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                status = os.fstat(file.fileno())
                size = status.st_size
                header = json.loads(file.read(length)) if 2 <= length <= min(size - 8, LONGEST_HEADER) else None
            if header is not None and not isinstance(header, dict):
                raise TypeError("no table")
            entries = {key: value for key, value in header.items() if key != "__metadata__"} if header else {}
            layout = {key: _parse_entry(value, dtype) for key, value in entries.items()}
        except FileNotFoundError as error:
            raise damaged(path, "no such file") from error
        except OSError as error:
            raise unreadable(path, error) from error
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise damaged(path, f"no readable header ({error})") from error
        stop = 0
        for start, end, _ in sorted(layout.values()):
            if start != stop:
                raise damaged(path, "tensors that overlap or leave gaps")
            stop = end
        if header is None or size != 8 + length + stop:
            raise damaged(path, f"{size} bytes", f"{8 + length + stop}" if header else "a safetensors file")
        metadata = header.get("__metadata__")
        self.metadata: dict[str, str] = metadata if isinstance(metadata, dict) else {}
        self.size, self.mtime_ns, self.data_start = size, status.st_mtime_ns, 8 + length
        self._path, self._layout, self._dtype = path, layout, DTYPES[dtype]
        self._data: np.ndarray | None = None

    def shape(self, key: str) -> tuple[int, ...] | None:
        """The shape of a tensor; None if there is no tensor of that name."""
        return self._layout[key][2] if key in self._layout else None

    def start(self, key: str) -> int:
        """The byte after `data_start` at which a tensor begins."""
        return self._layout[key][0]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its tensors."""
        return tuple(self._layout)

    def tensor(self, key: str, data: np.ndarray | None = None) -> np.ndarray:
        """A read-only view of a tensor; of `data`, its bytes from `data_start` on, where the caller has mapped them."""
        start, stop, shape = self._layout[key]
        if data is None:
            if self._data is None:
                self._data = map_bytes(self._path, self.data_start, self.size)
            data = self._data
        return data[start:stop].view(self._dtype).reshape(shape)


def map_bytes(path: Path, start: int, size: int) -> np.ndarray:
    """The bytes of a file from `start` on, memory-mapped, read-only. VidiffError where it has not `size` bytes."""
    try:
        if path.stat().st_size != size:
            raise damaged(path, f"{path.stat().st_size} bytes", f"{size}")
        mapped = np.memmap(path, dtype=np.uint8, mode="r", offset=start) if size > start else np.empty(0, np.uint8)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    return np.asarray(mapped)  # a plain array over the map: indexing a memmap object is slow


class ShardMaps:
    """The maps of the shards that were read last. A map holds a file open, and a dataset may have any number of shards:
    only `most` are kept, and a view outlives its own. Threads may share it."""

    def __init__(self, most: int | None = None) -> None:
        self.most = most or most_maps()
        self._maps: OrderedDict[int, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, number: int, open_map: Callable[[], np.ndarray]) -> np.ndarray:
        """The map of shard `number`, opened where it is not kept."""
        with self._lock:
            if number in self._maps:
                self._maps.move_to_end(number)
            else:
                while len(self._maps) >= self.most:
                    self._maps.popitem(last=False)
                self._maps[number] = open_map()
            return self._maps[number]


def most_maps() -> int:
    """Number of shards to keep mapped: a quarter of the files that the process may open, at most 256."""
    try:
        import resource
    except ImportError:  # Windows
        return 64
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 256 if soft == resource.RLIM_INFINITY else max(4, min(256, soft // 4))


def _parse_entry(entry: Mapping[str, Any], dtype: str) -> tuple[int, int, tuple[int, ...]]:
    """(first byte, stop, shape) of a header entry; ValueError, LookupError or TypeError if it is invalid."""
    (start, stop), shape = entry["data_offsets"], tuple(entry["shape"])
    if entry["dtype"] != dtype:
        raise ValueError(f"a tensor that is not {DTYPES[dtype]}")
    if not all(type(number) is int and number >= 0 for number in (start, stop, *shape)):
        raise ValueError("a shape or an offset that is not a number")
    if stop - start != math.prod(shape) * DTYPES[dtype].itemsize:
        raise ValueError(f"{stop - start} bytes for a tensor of shape {shape}")
    return start, stop, shape


def write_tensors(path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> None:
    """A safetensors file of uint8 or float16 tensors, atomically; at most one entry of metadata, so that equal content
    gives equal bytes. Written here and not by the library, which would copy every tensor in memory once or twice
    more."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    stop = 0
    for name in sorted(tensors):
        kind = names[tensors[name].dtype.newbyteorder("<")]
        header[name] = _entry(kind, tensors[name].shape, stop, stop := stop + tensors[name].nbytes)
    line = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    line += b" " * (-len(line) % 8)
    with atomic_path(path, parents=True) as partial, partial.open("wb") as file:
        file.write(len(line).to_bytes(8, "little") + line)
        for name in sorted(tensors):
            file.write(np.ascontiguousarray(tensors[name]).data)


def uint8_entry(shape: Sequence[int], start: int, stop: int) -> dict[str, object]:
    """Header entry of one uint8 tensor in a safetensors file."""
    return _entry("U8", shape, start, stop)


def _entry(dtype: str, shape: Sequence[int], start: int, stop: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


def write_shards(
    folder: Path, clips: Iterable[tuple[str, np.ndarray]], *, shard_bytes: int = SHARD_BYTES
) -> dict[str, str]:
    """Writes clips (id, uint8 t h w c, each of its own shape) into data/shard-*.safetensors in their order; returns the
    shard of each id. The clips of one shard are copied into memory: a view would hold its source's file open."""
    shard_of: dict[str, str] = {}
    pending: dict[str, np.ndarray] = {}
    held = written = 0

    def flush() -> None:
        nonlocal held, written
        name = f"shard-{written:05d}.safetensors"
        write_tensors(folder / "data" / name, pending)
        shard_of.update(dict.fromkeys(pending, name))
        pending.clear()
        held, written = 0, written + 1

    for key, frames in clips:
        if pending and held + frames.nbytes > shard_bytes:
            flush()
        pending[key] = frames.copy()
        held += frames.nbytes
    if pending:
        flush()
    return shard_of
