"""Parser of the description of an input file that ffmpeg writes to its log.

ffmpeg has no other output that lists all streams (the bundled one comes without ffprobe). Indentation carries no
meaning here: the lines of a stream are indented by the program or the group that it belongs to. Text from the file (a
title, say) stands behind the name of its tag, and the further lines of such a text lack the mark of a log line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

StreamKind = Literal["video", "audio", "subtitle", "data", "attachment", "unknown"]

CONTAINER = re.compile(r"^\[info\] Input #0, (.+), from '", re.M)
END = re.compile(r"^\[info\] (?:Stream mapping:|Output #0, .*)\r?$", re.M)
DURATION = re.compile(r"^\[info\] +Duration: (\d{1,9}):(\d\d):(\d\d(?:\.\d+)?)", re.M)
CHAPTER = re.compile(r"^\[info\] +Chapters? #0:\d+: start ", re.M)
KINDS = "Video|Audio|Subtitle|Data|Attachment|Unknown"
STREAM = re.compile(rf"\[info\] +Stream #0:(\d{{1,9}})(?:\[0x[0-9a-f]+\])?(?:\(.*\))?: ({KINDS}): (.*)")
MAPPED = re.compile(r"^\[info\] +Stream #0:(\d{1,9}) -> #0:0", re.M)
ROTATION = re.compile(r"\[info\] +display ?matrix: rotation of (-?\d{1,3}(?:\.\d+)?|nan) degrees", re.I)
ALPHA_MODE = re.compile(r"\[info\] +alpha_mode +: 1\s*", re.I)
CODED_SIZE = re.compile(r", (\d{1,9})x(\d{1,9})(?=[ ,]|$)")
LAYOUT = re.compile(r" Hz, ([^,]+),")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedStream:
    """A stream of an input file: its `kind`, its `codec` ("none": unknown to ffmpeg) and ffmpeg's `description`.

    `rotation` in degrees counterclockwise, None without a display matrix; a matrix that mirrors has a rotation too, or
    nan. `alpha_mode`: packets hold a second picture, the transparency (VP8 and VP9).
    """

    index: int
    kind: StreamKind
    codec: str
    description: str
    rotation: float | None = None
    alpha_mode: bool = False

    @property
    def is_cover(self) -> bool:
        """True for a picture that is attached to the file."""
        return self.kind == "video" and "(attached pic)" in self.description

    @property
    def coded_size(self) -> tuple[int, int] | None:
        """Width and height before rotation and with the pixels' own aspect, if known."""
        found = CODED_SIZE.search(self.description)
        return (int(found[1]), int(found[2])) if found else None

    @property
    def channel_layout(self) -> str:
        """Layout of an audio stream: "stereo", "5.1(side)", "3 channels"; "" if unknown."""
        found = LAYOUT.search(self.description)
        return found[1] if found and self.kind == "audio" else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggedInput:
    """An input file: its `container` (ffmpeg's names, with commas), its streams by number, and the one that is decoded
    as the first output."""

    container: str
    duration_seconds: float | None
    chapters: int
    streams: tuple[LoggedStream, ...]
    mapped: int | None = None

    def of_kind(self, kind: StreamKind) -> tuple[LoggedStream, ...]:
        """Streams of a kind, without covers, in the order that ffmpeg counts them."""
        return tuple(stream for stream in self.streams if stream.kind == kind and not stream.is_cover)

    @property
    def has_cover(self) -> bool:
        """True if a picture is attached to the file."""
        return any(stream.is_cover for stream in self.streams)


def parse_input(log: str) -> LoggedInput | None:
    """Parses ffmpeg's description of its only input; None if ffmpeg could not open it."""
    container = CONTAINER.search(log)
    if container is None:
        return None
    end = END.search(log, container.end())
    head = log[container.start() : end.start() if end else len(log)]
    streams = dict[int, LoggedStream]()
    latest: int | None = None
    for line in head.splitlines():
        if found := STREAM.fullmatch(line):
            latest = int(found[1])
            codec = re.match(r"[\w.\-]+", found[3])
            kind: StreamKind = found[2].lower()  # type: ignore[assignment]
            stream = LoggedStream(index=latest, kind=kind, codec=codec[0] if codec else "none", description=found[3])
            streams.setdefault(latest, stream)  # listed once more where it belongs to several groups
        elif latest is not None and (turned := ROTATION.match(line)):
            streams[latest] = replace(streams[latest], rotation=float(turned[1]))
        elif latest is not None and ALPHA_MODE.fullmatch(line):
            streams[latest] = replace(streams[latest], alpha_mode=True)
    duration, mapped = DURATION.search(head), MAPPED.search(log, end.start()) if end else None
    return LoggedInput(
        container=container[1],
        duration_seconds=int(duration[1]) * 3600 + int(duration[2]) * 60 + float(duration[3]) if duration else None,
        chapters=len(CHAPTER.findall(head)),
        streams=tuple(streams[number] for number in sorted(streams)),
        mapped=int(mapped[1]) if mapped else None,
    )
