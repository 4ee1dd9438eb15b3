"""The dataset folder: written whole or not at all, read by memory map.

    dataset.json      what it is (`DatasetSpec`); written last, so that its presence means complete
    clips.jsonl       one row per clip (`Clip`)
    ledger.jsonl      one row per source: kept, or the reason it was not
    data/shard-*.safetensors   the frames: one uint8 tensor (t h w c) per clip id
    text/             embeddings of the captions by frozen encoders (`text/cache.py`); can be made again at any time

Shapes: t frames, h height, w width, c = 3 RGB.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt, PositiveInt, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import save_file

from vidiff_cli.config.fields import recorded_rate
from vidiff_cli.errors import VidiffError

FORMAT = 1
SHARD_BYTES = 256_000_000
LONGEST_HEADER = 100_000_000  # bytes, as safetensors has it


class DatasetSpec(BaseModel):
    """dataset.json. `settings` made it; `fingerprint` stands for the sources and captions it was made of."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal[1] = FORMAT
    vidiff: str
    width: PositiveInt
    height: PositiveInt
    frames: PositiveInt
    fps: str
    sources: NonNegativeInt
    kept: NonNegativeInt
    clips: NonNegativeInt
    splits: dict[str, NonNegativeInt]
    captions_matched: NonNegativeInt
    captions_missing: NonNegativeInt
    seconds_of_video: NonNegativeFloat
    bytes: NonNegativeInt
    fingerprint: str
    settings: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """A row of clips.jsonl: frames cut from one source at `fps` (a fraction as text, "0" for an image)."""

    id: str
    source: str
    start_seconds: float
    fps: str
    frames: int
    captions: list[str]
    split: str
    shard: str
    group: str | None


class Dataset:
    """An open dataset: `len(dataset)` clips, their rows in `clips`, their frames by `frames(index)`.

    Only the frames that are asked for are read. Safe to share between threads and to send to worker processes.
    """

    def __init__(self, folder: Path, spec: DatasetSpec, clips: tuple[Clip, ...], shards: Mapping[str, Shard]) -> None:
        self.folder, self.spec, self.clips, self._shards = folder, spec, clips, shards

    def __len__(self) -> int:
        return len(self.clips)

    def __reduce__(self) -> tuple[Callable[[Path], Dataset], tuple[Path]]:
        return open_dataset, (self.folder,)  # a pickled memory map would carry all its bytes

    def split(self, name: str) -> tuple[int, ...]:
        """Indices into `clips` of one side of the split, "train" or "val"."""
        return tuple(index for index, clip in enumerate(self.clips) if clip.split == name)

    def frames(self, index: int, frame_indices: Sequence[int] | None = None) -> np.ndarray:
        """Frames of a clip, uint8 (t h w c): all, or those at `frame_indices` in that order. Always a copy."""
        clip = self.clips[index]
        view = self._shards[clip.shard].tensor(clip.id)
        return view.copy() if frame_indices is None else view[np.asarray(frame_indices, dtype=np.intp)]

    def digest(self) -> str:
        """Stands for the content: another for clips prepared anew from other sources, captions or settings."""
        parts = (hashlib.sha256((self.folder / name).read_bytes()).digest() for name in ("dataset.json", "clips.jsonl"))
        return hashlib.sha256(b"".join(parts)).hexdigest()

    def captions(self) -> tuple[str, ...]:
        """Every caption of every clip of the train split, with repetitions."""
        return tuple(text for clip in self.clips if clip.split == "train" for text in clip.captions)


def open_dataset(folder: Path | str) -> Dataset:
    """Opens a dataset folder. VidiffError: missing, unfinished, of another format, or damaged (which file, and how)."""
    folder = Path(folder)
    spec = read_spec(folder)
    rows = list(read_rows(folder / "clips.jsonl"))
    clips = tuple(_clip(row, folder / "clips.jsonl", number) for number, row in enumerate(rows, start=1))
    if len(clips) != spec.clips:
        raise _damaged(folder / "clips.jsonl", f"{len(clips)} clips", f"{spec.clips}, as in dataset.json")
    if len({clip.id for clip in clips}) != len(clips):
        raise _damaged(folder / "clips.jsonl", "two clips of one id")
    shards = {name: Shard(folder / "data" / name) for name in dict.fromkeys(clip.shard for clip in clips)}
    for clip in clips:
        expected = (clip.frames, spec.height, spec.width, 3)
        found = shards[clip.shard].shape(clip.id)
        if found != expected:
            raise _damaged(folder / "data" / clip.shard, f"{found or 'nothing'} for clip {clip.id}", f"{expected}")
    return Dataset(folder, spec, clips, shards)


def _clip(row: Mapping[str, Any], path: Path, number: int) -> Clip:
    """A row of clips.jsonl. VidiffError where a value is missing or cannot be; it names the place."""
    for name, is_good in COLUMNS.items():
        if name not in row:
            raise _damaged(path, f"no {name} in line {number}")
        if not is_good(row[name]):
            raise _damaged(path, f"{name} = {row[name]!r:.60} in line {number}")
    if row["frames"] > 1 and row["fps"] == "0":
        raise _damaged(path, f"{row['frames']} frames without a rate in line {number}")
    return Clip(**{name: row[name] for name in COLUMNS})


def _is_rate(value: object) -> bool:
    try:
        return value == "0" or recorded_rate(value) > 0  # type: ignore[arg-type]
    except ValueError:
        return False


# What the values of a row can be. The name of a shard leads nowhere else.
COLUMNS: dict[str, Callable[[Any], bool]] = {
    "id": lambda value: isinstance(value, str),
    "source": lambda value: isinstance(value, str),
    "start_seconds": lambda value: type(value) in (int, float) and 0 <= value < math.inf,
    "fps": _is_rate,
    "frames": lambda value: type(value) is int and value > 0,
    "captions": lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value),
    "split": lambda value: value in ("train", "val"),
    "shard": lambda value: isinstance(value, str) and bool(re.fullmatch(r"shard-\d{5,}\.safetensors", value, re.ASCII)),
    "group": lambda value: value is None or isinstance(value, str),
}


def read_spec(folder: Path) -> DatasetSpec:
    """dataset.json of a folder. VidiffError: no dataset, unfinished, or of another format."""
    path = folder / "dataset.json"
    if not path.is_file():
        if (folder / JOURNAL).is_dir():
            raise VidiffError(f"the dataset {folder} is unfinished", fix="run the same vidiff prep again: it continues")
        exists = "a folder without dataset.json" if folder.is_dir() else "no such folder"
        raise VidiffError(
            f"{folder} is no dataset", found=exists, fix=f"make one with: vidiff prep SOURCE... -o {folder}"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content.get("format") if isinstance(content, dict) else None
        if version != FORMAT:
            raise VidiffError(
                f"{path} has another format", found=version, expected=FORMAT, fix="prepare it again with this vidiff"
            )
        return DatasetSpec.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise _damaged(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, f"{error}") from error


def _damaged(path: Path, found: str, expected: str | None = None) -> VidiffError:
    return VidiffError(f"{path} is damaged", found=found, expected=expected, fix="prepare again with --overwrite")


def _place(entry: Mapping[str, Any]) -> tuple[int, int, tuple[int, ...]]:
    """Where a tensor of a shard lies, (first byte, stop, shape); ValueError, LookupError or TypeError for nonsense."""
    (start, stop), shape = entry["data_offsets"], tuple(entry["shape"])
    if entry["dtype"] != "U8":
        raise ValueError("a tensor that is not uint8")
    if not all(type(number) is int and number >= 0 for number in (start, stop, *shape)):
        raise ValueError("a shape or an offset that is no number")
    if stop - start != math.prod(shape):
        raise ValueError(f"{stop - start} bytes for a tensor of shape {shape}")
    return start, stop, shape


class Shard:
    """A safetensors file of uint8 tensors, memory-mapped: a tensor is a view, nothing is read before it is used."""

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                size = os.fstat(file.fileno()).st_size
                header = json.loads(file.read(length)) if 2 <= length <= min(size - 8, LONGEST_HEADER) else None
            if header is not None and not isinstance(header, dict):
                raise TypeError("no table")
            entries = {key: value for key, value in header.items() if key != "__metadata__"} if header else {}
            layout = {key: _place(value) for key, value in entries.items()}
        except FileNotFoundError as error:
            raise _damaged(path, "no such file") from error
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise _damaged(path, f"no readable header ({error})") from error
        stop = 0
        for start, end, _ in sorted(layout.values()):
            if start != stop:
                raise _damaged(path, "tensors that overlap or leave gaps")
            stop = end
        if header is None or size != 8 + length + stop:
            raise _damaged(path, f"{size} bytes", f"{8 + length + stop}" if header else "a safetensors file")
        metadata = header.get("__metadata__")
        self.metadata: dict[str, str] = metadata if isinstance(metadata, dict) else {}
        self._layout = layout
        bytes_map = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + length) if stop else np.empty(0, np.uint8)
        self._data = np.asarray(bytes_map)  # a plain array over the map: indexing a memmap object is slow

    def shape(self, key: str) -> tuple[int, ...] | None:
        """The shape of a tensor, None where there is none of that name."""
        return self._layout[key][2] if key in self._layout else None

    def tensor(self, key: str) -> np.ndarray:
        """A read-only view of a tensor, uint8."""
        start, stop, shape = self._layout[key]
        return self._data[start:stop].reshape(shape)


# --- writing -----------------------------------------------------------------------------------------------------


JOURNAL = ".journal"


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` with a hidden file beside `path` and renames it: no reader ever sees half a file."""
    partial = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        raise _unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):  # its folder has gone, say: the first error tells more
            partial.unlink()


def _unwritable(path: Path, error: Exception) -> VidiffError:
    """safetensors has errors of its own: "... I/O error: No space left on device (os error 28)"."""
    found = getattr(error, "strerror", None) or re.sub(r"^.*: | \(os error \d+\).*$", "", str(error))
    return VidiffError(f"cannot write {path}", found=found.lower())


def write_tensors(path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> None:
    """A safetensors file, atomically; at most one entry of metadata, so that equal content gives equal bytes."""
    write_atomic(path, lambda partial: save_file(tensors, partial, metadata))


def write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """A .jsonl file, atomically. File names that are not valid text come out as JSON escapes and read back equal."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_atomic(path, lambda partial: partial.write_bytes(text.encode("utf-8", "backslashreplace")))


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a .jsonl file. VidiffError where it is missing or a line is not a JSON object."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise _damaged(path, (getattr(error, "strerror", None) or str(error)).lower()) from error
    for number, line in enumerate(lines, start=1):
        if line:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise _damaged(path, f"no JSON in line {number}") from error
            if not isinstance(row, dict):
                raise _damaged(path, f"no JSON object in line {number}")
            yield row


def write_shards(
    folder: Path, clips: Iterable[tuple[str, np.ndarray]], *, shard_bytes: int = SHARD_BYTES
) -> dict[str, str]:
    """Writes clips (id, uint8 frames) into data/shard-*.safetensors in their order; returns the shard of each id."""
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
        pending[key] = frames
        held += frames.nbytes
    if pending:
        flush()
    return shard_of


def write_clips(folder: Path, clips: Iterable[Clip]) -> None:
    """clips.jsonl."""
    write_rows(folder / "clips.jsonl", (asdict(clip) for clip in clips))


def write_spec(folder: Path, spec: DatasetSpec) -> None:
    """dataset.json: the last file written, which makes the folder a dataset."""
    text = json.dumps(spec.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
    write_atomic(folder / "dataset.json", lambda partial: partial.write_bytes(text.encode("utf-8", "backslashreplace")))


def remove_data(folder: Path) -> None:
    """Removes dataset.json first, then the shards: from here on the folder is unfinished."""
    (folder / "dataset.json").unlink(missing_ok=True)
    for path in sorted((folder / "data").glob("*")) if (folder / "data").is_dir() else []:
        if path.name.lstrip(".").startswith("shard-"):
            path.unlink()
