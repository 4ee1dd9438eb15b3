"""Description of a video, an image, or a folder of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from vidiff_cli.errors import VidiffError
from vidiff_cli.events import EventStream, Note, Progress
from vidiff_cli.generation.sidecar import MadeBy, made_by
from vidiff_cli.preparation.captions import read_captions
from vidiff_cli.preparation.scan import scan
from vidiff_cli.video.probe import SUFFIXES_IMAGE, VideoInfo, probe
from vidiff_cli.video.timestamps import Timing, measure_timing

COUNT_SECONDS = 60.0  # of decoding, before counting frames is given up
MEASURED_IMAGES = 1000  # of a folder
DEPTH = re.compile(r"(?:p[0-4]?|gray|rgb|bgr|gbr|gbrp|x2rgb|x2bgr|ya|y)(9|10|12|14|16)(?:le|be)?$")
DEEP = re.compile(r"^(?:rgb48|bgr48|rgba64|bgra64|I;16)")


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaInfo:
    """Description of a video, or of an image (kind "photo": no times). Sizes in pixels.

    `transfer`, `primaries`: ffmpeg's names; `hdr`: "PQ" or "HLG"; `others`: subtitles, chapters, a cover.
    `fps` is the measured rate, `fps_announced` the header's. `frames` were counted by decoding, all of them if
    `counted_all`; `frames_announced` follow from the header's duration. `damage` names the place where decoding failed.
    """

    kind: Literal["video", "photo"]
    path: Path
    bytes: int
    container: str
    codec: str
    pixel_format: str
    bit_depth: int
    alpha: bool
    transfer: str
    primaries: str
    hdr: str | None
    interlaced: bool
    width: int
    height: int
    coded_width: int
    coded_height: int
    rotation: int
    square_pixels: bool
    fps: Fraction | None
    fps_announced: Fraction | None
    rate: Literal["constant", "variable"] | None
    shortest_gap_seconds: float | None
    longest_gap_seconds: float | None
    frames: int
    frames_announced: int | None
    counted_all: bool
    seconds: float | None
    seconds_announced: float | None
    start_seconds: float
    audio: bool
    video_streams: int
    others: tuple[str, ...]
    damage: str | None
    made_by: MadeBy | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderInfo:
    """Description of a folder of sources. `sizes`: number of images per size.

    `numbered`: the images are the frames of one video, as vidiff writes them.
    """

    kind: Literal["folder"]
    path: Path
    bytes: int
    videos: int
    images: int
    other_files: int
    captioned: int
    sizes: dict[str, int]
    unreadable: int
    numbered: bool
    made_by: MadeBy | None
    warnings: tuple[str, ...]


def describe_video(path: Path) -> EventStream[MediaInfo]:
    """Describes a video; decodes it to count the frames, for a minute at most. VidiffError: it has no frames."""
    info = probe(path)
    timing = None if info.is_image else (yield from _counted(info))
    warnings = tuple(_warnings(info, timing))
    for text in warnings:
        yield Note(text, "warning")
    turned = info.rotation in (90, 270)
    announced = info.duration_seconds
    return MediaInfo(
        kind="video" if timing else "photo",
        path=path,
        bytes=path.stat().st_size,
        container=info.container,
        codec=info.codec,
        pixel_format=info.pixel_format,
        bit_depth=bit_depth(info.pixel_format),
        alpha=info.alpha,
        transfer=info.transfer,
        primaries=info.primaries,
        hdr=info.hdr,
        interlaced=info.interlaced,
        width=info.width,
        height=info.height,
        coded_width=info.coded_width,
        coded_height=info.coded_height,
        rotation=info.rotation,
        square_pixels=info.width == (info.coded_height if turned else info.coded_width),
        fps=timing.fps if timing else None,
        fps_announced=info.header_fps if timing else None,
        rate=_rate(timing),
        shortest_gap_seconds=_seconds(timing and timing.shortest_gap),
        longest_gap_seconds=_seconds(timing and timing.longest_gap),
        frames=timing.frames if timing else 1,
        frames_announced=round(announced * info.header_fps) if timing and announced is not None else None,
        counted_all=timing.complete if timing else True,
        seconds=_seconds(timing and timing.seconds),
        seconds_announced=announced,
        start_seconds=float(info.start_seconds),
        audio=info.has_audio,
        video_streams=info.video_streams,
        others=info.others,
        damage=timing.damage if timing else None,
        made_by=made_by(path),
        warnings=warnings,
    )


def _counted(info: VideoInfo) -> EventStream[Timing]:
    total = None if info.duration_seconds is None else round(info.duration_seconds * info.fps)
    for step in measure_timing(info, patience_seconds=COUNT_SECONDS):
        if isinstance(step, Timing):
            return step
        yield Progress(what="frames", done=step, total=None if total is None else max(total, step))
    raise AssertionError("counting ends with a Timing")


def _rate(timing: Timing | None) -> Literal["constant", "variable"] | None:
    if timing is None or timing.constant is None:
        return None
    return "constant" if timing.constant else "variable"


def _seconds(value: Fraction | None) -> float | None:
    return None if value is None else float(value)


def _warnings(info: VideoInfo, timing: Timing | None) -> Iterator[str]:
    if timing is None:
        return
    if timing.damage:
        yield f"{info.path} is damaged ({timing.damage}): {timing.frames} frames can be decoded."
    if not timing.complete:
        yield f"Counting stopped after {COUNT_SECONDS:.0f} s: there are more than {timing.frames} frames."


def bit_depth(pixel_format: str) -> int:
    """Bits per color of a pixel, from ffmpeg's or Pillow's name: yuv420p10le has 10."""
    if pixel_format in ("1", "monob", "monow"):
        return 1
    if DEEP.match(pixel_format):
        return 16
    found = DEPTH.search(pixel_format)
    return int(found[1]) if found else 32 if pixel_format in ("I", "F") else 8


def describe_folder(path: Path) -> EventStream[FolderInfo]:
    """Describes a folder. Raises VidiffError if it has no video or image."""
    found = scan([str(path)])
    captions = read_captions(found.sources)
    images = [source for source in found.sources if source.path.suffix.lower() in SUFFIXES_IMAGE]
    sizes, unreadable = Counter[str](), 0
    for done, source in enumerate(images[:MEASURED_IMAGES], start=1):
        try:
            info = probe(source.path)
            sizes[f"{info.width}x{info.height}"] += 1
        except VidiffError:
            unreadable += 1
        yield Progress(what="images", done=done, total=min(len(images), MEASURED_IMAGES))
    warnings = list(captions.notes)
    if len(images) > MEASURED_IMAGES:
        warnings.append(f"Only the first {MEASURED_IMAGES} of {len(images)} images were measured.")
    for text in warnings:
        yield Note(text, "warning")
    return FolderInfo(
        kind="folder",
        path=path,
        bytes=sum(source.bytes for source in found.sources),
        videos=len(found.sources) - len(images),
        images=len(images),
        other_files=found.other_files,
        captioned=sum(bool(texts) for texts in captions.by_source.values()),
        sizes=dict(sizes.most_common()),
        unreadable=unreadable,
        numbered=len(images) == len(found.sources) and all(source.path.stem.isdigit() for source in images),
        made_by=made_by(path),
        warnings=tuple(warnings),
    )
