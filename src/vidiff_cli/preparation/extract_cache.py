"""Cache of extracted sources of an unfinished dataset: one file each, so that an interrupted run continues and several
machines can share the work.

An entry is found by its source's name, size and time of change, by the segments to cut and by the settings that
shape its frames; where one of these differs, the source is simply decoded again. Rejections are kept too.

A file is safetensors: `frames` uint8 (t h w c), `prints` uint8 (clips, bytes of a fingerprint), `piece` the JSON of the
`ExtractedSource`. Frames are written before their number is known, so the header has a fixed size.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import IO

import numpy as np

from vidiff_cli.dataset.jsonl import JOURNAL
from vidiff_cli.dataset.shards import Shard, uint8_entry
from vidiff_cli.errors import VidiffError
from vidiff_cli.preparation.archives import MediaMember
from vidiff_cli.preparation.captions import Segment
from vidiff_cli.preparation.scan import MediaSource
from vidiff_cli.system.atomic_files import unwritable
from vidiff_cli.system.shortage import ShortageError

CACHE_FORMAT = 2
HEADER_BYTES = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipCandidate:
    """A clip that could be made of a source: `start` is its first frame, counted at the clip's fps from the source's
    first frame, `offset` the same among the frames that were kept, `segment` a number among the source's segments
    (-1: the source has none). `scores` as `filters.clip_scores`."""

    start: int
    offset: int
    segment: int
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class ExtractedSource:
    """Result of extracting one source; plain data, stored as JSON in the cache.

    `kind` is "" where there are clips, else the reason in two or three words, `reason` the whole sentence. `width` and
    `height` of the source as displayed, `size` (width, height) of the clips. `fps` as text, "0" for an image; `frames`
    decoded at that rate; `damage`: what was lost of a damaged source; `remarks`: what became of HDR, transparency,
    fields and the like; `start_seconds`: how much later than the file its first frame appears. `unused`: (number of a
    segment, why no clip, or not all of it, could be cut).
    """

    kind: str = ""
    reason: str = ""
    decoder: str | None = None
    damage: str | None = None
    remarks: tuple[str, ...] = ()
    width: int = 0
    height: int = 0
    size: tuple[int, int] = (0, 0)
    fps: str = "0"
    frames: int = 0
    start_seconds: float = 0.0
    clip_frames: int = 0
    scenes: int = 0
    candidates: tuple[ClipCandidate, ...] = ()
    unused: tuple[tuple[int, str], ...] = ()

    @property
    def rate(self) -> Fraction:
        """Frames per second, 0 for an image."""
        return Fraction(self.fps)

    @property
    def seconds(self) -> float:
        """Seconds of the source that were decoded; an image has none."""
        return float(self.frames / self.rate) if self.rate else 0.0


def _parse_extracted(row: Mapping[str, object]) -> ExtractedSource:
    """Parses the JSON of an entry. TypeError, ValueError or KeyError if it is invalid."""
    values = dict(row)
    values["size"] = tuple(values["size"])  # type: ignore[arg-type]
    values["candidates"] = tuple(ClipCandidate(**each) for each in values["candidates"])  # type: ignore[union-attr]
    values["remarks"] = tuple(values["remarks"])  # type: ignore[arg-type]
    values["unused"] = tuple((int(number), str(why)) for number, why in values["unused"])  # type: ignore[union-attr]
    extracted = ExtractedSource(**values)  # type: ignore[arg-type]
    if not isinstance(extracted.kind, str) or extracted.rate < 0:
        raise ValueError("not an extracted source")
    return extracted


class ExtractCache:
    """The finished sources in OUTPUT/.journal. Processes may write different sources at once.

    `shaping`: the settings that shape frames, as JSON.
    """

    def __init__(self, output: Path, shaping: Mapping[str, object]) -> None:
        self.folder = output / JOURNAL
        self._shaping = dict(shaping)

    def path(self, source: MediaSource, segments: Sequence[Segment]) -> Path:
        """The path of a source's entry, whether or not it exists."""
        times = [(str(each.start_seconds), str(each.stop_seconds)) for each in segments]
        key = [CACHE_FORMAT, source.name, source.bytes, source.mtime_ns, times, self._shaping]
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return self.folder / digest[:2] / f"{digest[2:26]}.safetensors"  # no folder of a million files

    def make(self) -> None:
        """Creates the folder. `Unwritten`: it cannot be created."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritten(self.folder, error) from error

    def read(self, source: MediaSource, segments: Sequence[Segment]) -> ExtractedSource | None:
        """The result of an earlier run, None if the source was not finished."""
        path = self.path(source, segments)
        if not path.is_file():
            return None
        try:
            shard = Shard(path)
            extracted = _parse_extracted(json.loads(shard.tensor("piece").tobytes()))
            whole = not extracted.candidates or (
                len(shard.shape("frames") or ()) == 4
                and (shard.shape("prints") or (0,))[0] == len(extracted.candidates)
            )
            return extracted if whole else None
        except ShortageError:
            raise
        except (VidiffError, LookupError, TypeError, AttributeError, ArithmeticError, ValueError, RecursionError):
            return None  # damaged: decode it again

    def frames(self, source: MediaSource, segments: Sequence[Segment]) -> np.ndarray:
        """The frames of a source that were kept, uint8 (t h w c), memory-mapped."""
        return Shard(self.path(source, segments)).tensor("frames")

    def prints(self, source: MediaSource, segments: Sequence[Segment]) -> np.ndarray:
        """Fingerprints of the candidates, uint8 (clips, bytes)."""
        return Shard(self.path(source, segments)).tensor("prints")

    def write(self, source: MediaSource, segments: Sequence[Segment], extracted: ExtractedSource) -> None:
        """Marks a source as finished that has no frames."""
        with ExtractWriter(self.path(source, segments)) as writer:
            writer.finish(extracted, [])

    def remove(self) -> None:
        """Removes the whole cache."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Unwritten(VidiffError):
    """An entry could not be written, which is not a fault of its source."""


def partial_path(path: Path) -> Path:
    """The name of an entry while it is written; the parent of a killed worker removes it."""
    return path.with_name(f".{path.name}.part")


def member_path(path: Path, member: MediaMember) -> Path:
    """The file that a member of an archive is copied into while it is decoded; removed as `partial_path`."""
    return path.with_name(f".{path.name}.part{member.media.suffix}")


class ExtractWriter:
    """Writes an entry block by block, as a context manager: nothing is left unless `finish` was called.

    `Unwritten` where it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._partial = path, partial_path(path)
        self._shape: tuple[int, int, int] = (0, 0, 0)
        self.count = 0  # frames so far
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = self._partial.open("w+b", buffering=1 << 20)
        except OSError as error:
            raise _unwritten(path, error) from error
        self.restart()

    def __enter__(self) -> ExtractWriter:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._partial.unlink()

    def restart(self) -> None:
        """Drops all frames."""
        try:
            self._file.seek(0)
            self._file.truncate()
            self._file.write(bytes(8 + HEADER_BYTES))
        except OSError as error:
            raise _unwritten(self.path, error) from error
        self.count = 0

    def add(self, frames: np.ndarray) -> None:
        """The next frames, uint8 (n h w c)."""
        self._shape = frames.shape[1:]
        self.count += len(frames)
        try:
            self._file.write(np.ascontiguousarray(frames).data)
        except OSError as error:
            raise _unwritten(self.path, error) from error

    def frames(self, start: int, stop: int) -> np.ndarray:
        """Frames that were added, read back (not mapped: a long source must not count as memory of the worker)."""
        frames = np.empty((stop - start, *self._shape), np.uint8)
        try:
            self._file.flush()
            self._file.seek(8 + HEADER_BYTES + start * int(np.prod(self._shape)))
            self._file.readinto(frames.data)  # type: ignore[attr-defined]
            self._file.seek(0, os.SEEK_END)
        except OSError as error:
            raise _unwritten(self.path, error) from error
        return frames

    def finish(self, extracted: ExtractedSource, prints: Sequence[bytes]) -> None:
        """Writes the rest and renames the file: the source is finished."""
        text = json.dumps(asdict(extracted)).encode()
        parts = [("prints", [len(prints), len(prints[0]) if prints else 0], b"".join(prints))]
        parts.append(("piece", [len(text)], text))
        stop = self.count * int(np.prod(self._shape))
        header = {"frames": uint8_entry([self.count, *self._shape], 0, stop)}
        for name, shape, data in parts:
            header[name] = uint8_entry(shape, stop, stop := stop + len(data))
        line = json.dumps(header).encode()
        assert len(line) <= HEADER_BYTES
        try:
            for _, _, data in parts:
                self._file.write(data)
            self._file.seek(0)
            self._file.write(HEADER_BYTES.to_bytes(8, "little") + line.ljust(HEADER_BYTES))
            self._file.close()
            os.replace(self._partial, self.path)
        except OSError as error:
            raise _unwritten(self.path, error) from error


def _unwritten(path: Path, error: OSError) -> Unwritten:
    plain = unwritable(path, error)
    return Unwritten(plain.what, found=plain.found, fix=plain.fix)
