"""Schemas of dataset.json (`DatasetSpec`) and of the rows of clips.jsonl (`Clip`)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    StringConstraints,
    ValidationError,
)

from vidiff_cli.config.fields import recorded_rate
from vidiff_cli.dataset.jsonl import JOURNAL, damaged, unreadable, write_rows
from vidiff_cli.errors import VidiffError
from vidiff_cli.system.atomic_files import atomic_path

FORMAT = 2
READABLE = (1, 2)  # 1: clips of one size, without scores
Bucket = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,5}x[1-9][0-9]{0,5}$")]


class DatasetSpec(BaseModel):
    """dataset.json. `settings` made it; `fingerprint` stands for the sources and captions it was made of.

    `buckets` has the number of clips of every frame size ("64x48"); `width` and `height` are those of the size with
    most clips. `channels`: 3 for RGB, 1 for luma.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal[1, 2] = FORMAT
    vidiff: str
    width: PositiveInt
    height: PositiveInt
    channels: Literal[1, 3] = 3
    frames: PositiveInt
    fps: str
    aspect: str = "square"
    buckets: dict[Bucket, PositiveInt] = {}
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
    """A row of clips.jsonl: frames cut from one source at `fps` (a fraction as text, "0" for an image).

    `width` and `height` in pixels; a row without them has the dataset's size. `scores` are what the filters measured.
    """

    id: str
    source: str
    start_seconds: float
    fps: str
    frames: int
    captions: list[str]
    split: str
    shard: str
    group: str | None
    width: int = 0
    height: int = 0
    scores: dict[str, float] = field(default_factory=dict)


def parse_clip(row: Mapping[str, Any], path: Path, number: int, spec: DatasetSpec) -> Clip:
    """Parses a row of clips.jsonl. VidiffError: a value is missing or invalid; the message names the line."""
    for name, is_good in COLUMNS.items():
        if name not in row:
            if name in ADDED:
                continue
            raise damaged(path, f"no {name} in line {number}")
        if not is_good(row[name]):
            raise damaged(path, f"{name} = {row[name]!r:.60} in line {number}")
    if row["frames"] > 1 and row["fps"] == "0":
        raise damaged(path, f"{row['frames']} frames without a rate in line {number}")
    return clip_from_row(row, spec)


def clip_from_row(row: Mapping[str, Any], spec: DatasetSpec) -> Clip:
    """Builds the clip of a valid row."""
    values = {name: row[name] for name in COLUMNS if name in row}
    if len(values) < len(COLUMNS):
        values = {"width": spec.width, "height": spec.height, "scores": {}} | values
    return Clip(**values)


@lru_cache(maxsize=256)  # the same few in a million rows
def _is_rate(text: str) -> bool:
    try:
        return text == "0" or recorded_rate(text) > 0
    except ValueError:
        return False


@lru_cache(maxsize=256)
def _is_shard(name: str) -> bool:
    return bool(re.fullmatch(r"shard-\d{5,9}\.safetensors", name, re.ASCII))


def _is_side(value: object) -> bool:
    return type(value) is int and 0 < value < 10**6


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and -1e300 < value < 1e300  # type: ignore[operator]


# Valid values of a row. The name of a shard cannot point outside data/.
COLUMNS: dict[str, Callable[[Any], bool]] = {
    "id": lambda value: isinstance(value, str),
    "source": lambda value: isinstance(value, str),
    "start_seconds": lambda value: type(value) in (int, float) and 0 <= value < math.inf,
    "fps": lambda value: isinstance(value, str) and _is_rate(value),
    "frames": lambda value: type(value) is int and 0 < value < 2**31,
    "captions": lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value),
    "split": lambda value: value in ("train", "val"),
    "shard": lambda value: isinstance(value, str) and _is_shard(value),
    "group": lambda value: value is None or isinstance(value, str),
    "width": _is_side,
    "height": _is_side,
    "scores": lambda value: isinstance(value, dict) and all(map(_is_number, value.values())),
}
ADDED = ("width", "height", "scores")  # that rows of format 1 do not have


def read_spec(folder: Path) -> DatasetSpec:
    """dataset.json of a folder. VidiffError: no dataset, unfinished, or of another format."""
    path = folder / "dataset.json"
    if not path.is_file():
        if (folder / JOURNAL).is_dir():
            raise VidiffError(f"the dataset {folder} is unfinished", fix="run the same vidiff prep again: it continues")
        exists = "a folder without dataset.json" if folder.is_dir() else "no such folder"
        raise VidiffError(
            f"{folder} is not a dataset", found=exists, fix=f"make one with: vidiff prep SOURCE... -o {folder}"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content.get("format") if isinstance(content, dict) else None
        if type(version) is not int or version not in READABLE:
            raise VidiffError(
                f"{path} has another format",
                found=version,
                expected=" or ".join(map(str, READABLE)),
                fix="prepare it again with this vidiff",
            )
        return DatasetSpec.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise damaged(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"{error}") from error


def write_clips(folder: Path, clips: Iterable[Clip]) -> None:
    """clips.jsonl."""
    write_rows(folder / "clips.jsonl", (_row(clip) for clip in clips))


def _row(clip: Clip) -> dict[str, object]:
    left_out = () if clip.width and clip.height else ("width", "height")  # of the dataset's size
    return {name: getattr(clip, name) for name in COLUMNS if name not in left_out}


def write_spec(folder: Path, spec: DatasetSpec) -> None:
    """dataset.json: the last file written, which makes the folder a dataset."""
    text = json.dumps(spec.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
    with atomic_path(folder / "dataset.json", parents=True) as partial:
        partial.write_bytes(text.encode("utf-8", "backslashreplace"))
