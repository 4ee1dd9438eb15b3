"""LeRobot datasets of version 3: meta/info.json, meta/episodes/*/*.parquet, videos/CAMERA/chunk-*/file-*.mp4.

One video file holds many episodes; each is a segment whose captions are its tasks. Paths are built of numbers and of
the names of cameras, and only looked up among the sources: nothing is opened by a name from a file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from vidiff_cli.errors import VidiffError
from vidiff_cli.preparation.captions.document import Document
from vidiff_cli.preparation.captions.parquet import parquet_rows
from vidiff_cli.preparation.captions.types import Annotation, InvalidRow, MatchTarget, Segment, clean_captions

MARKS = ('"codebase_version"', '"features"')
CAMERA = re.compile(r"[\w.-]{1,200}", re.ASCII)
FINEST = 10**6  # parts of a second that times are rounded to: k / fps as a float becomes that fraction again
MOST_SECONDS, MOST_FILES = 1e8, 10**6


def fits(value: Any) -> bool:
    """Tells whether JSON is the meta/info.json of a LeRobot dataset."""
    return isinstance(value, dict) and {"codebase_version", "features"} <= value.keys()


def read_lerobot(document: Document) -> Iterator[Annotation | InvalidRow]:
    """One entry an episode and camera. VidiffError: another version, or its tables cannot be read."""
    if not fits(document.json):
        raise VidiffError(f"{document} is not the meta/info.json of a LeRobot dataset", expected=" and ".join(MARKS))
    version, features = document.json["codebase_version"], document.json["features"]
    if not str(version).startswith("v3"):
        raise VidiffError(
            f"{document} is of another version of LeRobot", found=str(version)[:20], expected="v3", fix="convert it"
        )
    cameras = [
        name
        for name, feature in (features.items() if isinstance(features, dict) else ())
        if isinstance(feature, dict) and feature.get("dtype") == "video" and CAMERA.fullmatch(name)
    ]
    tables = sorted((document.path.parent / "episodes").glob("*/*.parquet"))
    if not cameras or not tables:
        missing = "no feature of dtype video" if not cameras else "no meta/episodes/*/*.parquet"
        raise VidiffError(f"{document} has no videos to read", found=missing)
    columns = {"episode_index", "tasks", *(f"videos/{name}/{part}" for name in cameras for part in PARTS)}
    for table in tables:
        for row in parquet_rows(table, columns):
            for camera in cameras:
                yield _episode(row, camera)


PARTS = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")


def _episode(row: dict[str, Any], camera: str) -> Annotation | InvalidRow:
    """The segment of an episode in the file of a camera."""
    name = f"{camera} episode {row.get('episode_index')}"
    chunk, number, begins, ends = (row.get(f"videos/{camera}/{part}") for part in PARTS)
    if not all(type(each) is int and 0 <= each < MOST_FILES for each in (chunk, number)):
        return InvalidRow(reason="no number of a video file", part=name)
    if not all(isinstance(each, int | float) and math.isfinite(each) for each in (begins, ends)):
        return InvalidRow(reason="no times in its video file", part=name)
    assert begins is not None and ends is not None
    if not 0 <= begins < ends < MOST_SECONDS:
        return InvalidRow(reason=f"a segment from {begins:g} to {ends:g} s", part=name)
    start, stop = (Fraction(each).limit_denominator(FINEST) for each in (begins, ends))
    tasks = row.get("tasks")
    tasks = [tasks] if isinstance(tasks, str) else tasks if isinstance(tasks, list) else []
    captions = clean_captions(text for text in tasks if isinstance(text, str))
    segment = Segment(start_seconds=start, stop_seconds=stop, captions=captions)
    return Annotation(
        video=name,
        sentences=len(captions),
        targets=(MatchTarget(stems=(), segments=(segment,)),),
        file=f"../videos/{camera}/chunk-{chunk:03d}/file-{number:03d}.mp4",  # from meta/
        columns={"camera": camera},
    )
