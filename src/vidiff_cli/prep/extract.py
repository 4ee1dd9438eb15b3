"""One source to a piece of the dataset: decoded once, scaled, cropped, measured and written, or rejected with a reason.

This is what the worker processes do. Times are counted in frames of the piece's rate ("the grid"): frame k is the one
shown at k / fps seconds after the source's first frame.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from vidiff_cli.errors import VidiffError
from vidiff_cli.prep.aspect_ratio import Framing, framing
from vidiff_cli.prep.captions import Segment
from vidiff_cli.prep.extract_cache import ClipCandidate, ExtractedSource, ExtractWriter, Unwritten
from vidiff_cli.prep.quality_filters import clip_scores, fingerprint
from vidiff_cli.prep.scan import MediaSource
from vidiff_cli.system.worker_process import announce
from vidiff_cli.video.decode import MAX_FRAMES, DecodedVideo, stream_frames
from vidiff_cli.video.image_sequence import image_sequence_info, stream_image_sequence
from vidiff_cli.video.probe import VideoInfo, probe
from vidiff_cli.video.scene_detection import FrameScores, SceneScorer, scene_starts

UNEXPECTED = "cannot be decoded"  # by an error that no one foresaw; it may be the machine's fault, not the file's
BEYOND_SECONDS = 1  # by which a segment may end after its file: annotations are rounded
LEAST_SECONDS, TIMES_REAL = 120.0, 10.0  # that decoding may take, and as a multiple of the source's duration


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipSpec:
    """The settings that shape frames, as in `PrepSettings`."""

    size: int
    aspect: str
    frames: int
    fps: Fraction
    stride: int
    scenes: bool
    decoder: str
    images_fps: Fraction


@dataclass(frozen=True, kw_only=True, slots=True)
class ExtractJob:
    """A source to cut, the segments to cut it into (none: all of it), and the journal's file for it."""

    source: MediaSource
    segments: tuple[Segment, ...]
    cutting: ClipSpec
    path: Path


def cut(job: ExtractJob) -> ExtractedSource | Unwritten:
    """Writes the piece of a source into the journal and returns it. Never raises for a bad file.

    A piece of kind UNEXPECTED is not written, so that it is tried again. `Unwritten` is returned, not raised: it has to
    reach another process as it is.
    """
    try:
        with ExtractWriter(job.path) as writer:
            piece, prints = _cut(job, writer)
            if piece.kind:
                writer.restart()
            if piece.kind != UNEXPECTED:
                writer.finish(piece, prints)
            return piece
    except Unwritten as error:
        return error


def _cut(job: ExtractJob, writer: ExtractWriter) -> tuple[ExtractedSource, list[bytes]]:
    source = job.source
    if source.problem:
        return ExtractedSource(kind="cannot be read", reason=source.problem), []
    try:
        return _decoded(job, writer)
    except Unwritten:
        raise
    except VidiffError as error:
        return ExtractedSource(kind=_kind(error, source), reason=str(error).replace(str(source.path), source.name)), []
    except MemoryError:
        raise
    except Exception as error:  # a decoder's own error: one broken file must never stop the run
        what = " ".join(str(error).split())[:300]
        return ExtractedSource(kind=UNEXPECTED, reason=f"{UNEXPECTED}: {type(error).__name__}: {what}"), []


def _decoded(job: ExtractJob, writer: ExtractWriter) -> tuple[ExtractedSource, list[bytes]]:
    cutting = job.cutting
    info, readings = _readings(job)
    announce(max(LEAST_SECONDS, TIMES_REAL * (info.duration_seconds or 0.0)))
    intervals = _intervals(job.segments, _rate(info, cutting), info.start_seconds)
    for reading in readings:
        writer.restart()
        measure, total = SceneScorer(), 0
        for _, frames in reading.blocks:
            measure.add(frames)
            for start, stop in _overlaps(intervals, total, total + len(frames)):
                writer.add(frames[start - total : stop - total])
            total += len(frames)
            if total > MAX_FRAMES:
                raise VidiffError(f"{info.path} is too long", expected=f"at most {MAX_FRAMES:,} frames")
    return _finished(job, info, reading, measure.scores(), intervals, writer)


def _readings(job: ExtractJob) -> tuple[VideoInfo, Iterator[DecodedVideo]]:
    cutting, source = job.cutting, job.source
    if source.pictures:
        info = image_sequence_info(source.path, source.pictures, cutting.images_fps)
        frame, fps = _framing(info, cutting), _rate(info, cutting)
        return info, iter([stream_image_sequence(info, source.pictures, size=frame.scaled, crop=frame.crop, fps=fps)])
    info = probe(source.path)
    frame = _framing(info, cutting)
    rate = _rate(info, cutting)
    stops = [stop for _, stop in _intervals(job.segments, rate, info.start_seconds)]
    stop_seconds = None if not stops or max(stops) == math.inf else Fraction(int(max(stops))) / rate
    readings = stream_frames(
        info,
        size=frame.scaled,
        crop=frame.crop,
        fps=None if info.is_image else rate,
        decoder=cutting.decoder,
        stop_seconds=stop_seconds,
    )
    return info, readings


def _framing(info: VideoInfo, cutting: ClipSpec) -> Framing:
    return framing(info.width, info.height, short=cutting.size, aspect=cutting.aspect)


def _rate(info: VideoInfo, cutting: ClipSpec) -> Fraction:
    """Never above the source's own."""
    return min(cutting.fps, info.fps) if info.fps > 0 else cutting.fps


Interval = tuple[int, float]  # frames of the grid, half open; the stop may be math.inf


def _interval(segment: Segment, rate: Fraction, shift: Fraction) -> Interval:
    """The frames whose times lie in a segment. Annotations count from the file's beginning, the grid from the first
    frame, which appears `shift` seconds later."""
    if segment.start_seconds is None or segment.stop_seconds is None:
        return 0, math.inf
    start, stop = ((each - shift) * rate for each in (segment.start_seconds, segment.stop_seconds))
    return max(0, math.ceil(start)), max(0, math.ceil(stop))


def _intervals(segments: Sequence[Segment], rate: Fraction, shift: Fraction) -> list[Interval]:
    """What has to be kept: the segments' frames, joined where they meet."""
    joined: list[Interval] = []
    for start, stop in sorted(_interval(each, rate, shift) for each in segments) or [(0, math.inf)]:
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], stop)
        elif start < stop:
            joined.append((start, stop))
    return joined


def _overlaps(intervals: Sequence[Interval], start: int, stop: int) -> Iterator[tuple[int, int]]:
    for first, last in intervals:
        low, high = max(first, start), min(last, stop)
        if low < high:
            yield low, int(high)


def _finished(
    job: ExtractJob,
    info: VideoInfo,
    reading: DecodedVideo,
    scores: FrameScores,
    intervals: list[Interval],
    writer: ExtractWriter,
) -> tuple[ExtractedSource, list[bytes]]:
    cutting, total = job.cutting, len(scores)
    piece = ExtractedSource(
        decoder=reading.decoder,
        fallback=reading.fallback,
        width=info.width,
        height=info.height,
        size=_framing(info, cutting).crop,
        fps=str(reading.fps),
        frames=total,
        start_seconds=round(float(info.start_seconds), 6),
        clip_frames=1 if info.is_image else cutting.frames,
    )
    scenes = scene_starts(scores) if cutting.scenes and total else (0,)
    segments = list(enumerate(job.segments)) if not info.is_image else [(number, _WHOLE) for number in _first(job)]
    found: list[ClipCandidate] = []
    unused: list[tuple[int, str]] = []
    for number, segment in segments or [(-1, _WHOLE)]:
        starts = clip_starts(
            _interval(segment, reading.fps, info.start_seconds), total, scenes, piece.clip_frames, cutting.stride
        )
        if why := _shortfall(segment, piece, starts):
            unused.append((number, why))
        rate = reading.fps or Fraction(1)
        for start in starts:
            measured = clip_scores(scores, start, piece.clip_frames, rate)
            found.append(ClipCandidate(start=start, offset=_offset(intervals, start), segment=number, scores=measured))
    found.sort(key=lambda each: (each.start, each.segment))
    piece = replace(piece, scenes=len(scenes), candidates=tuple(found), unused=tuple(unused))
    if not found:
        return _without_clips(piece, job), []
    known: dict[int, bytes] = {}
    for each in found:
        if each.offset not in known:
            known[each.offset] = fingerprint(writer.frames(each.offset, each.offset + piece.clip_frames))
    return piece, [known[each.offset] for each in found]


_WHOLE = Segment(start_seconds=None, stop_seconds=None, captions=())


def _first(job: ExtractJob) -> range:
    return range(min(1, len(job.segments)))


def clip_starts(interval: Interval, total: int, scenes: Sequence[int], frames: int, stride: int) -> tuple[int, ...]:
    """First frames of the clips of `frames` frames that fit into an interval of `total` frames without containing a cut
    between `scenes` (their first frames): `stride` apart within each scene."""
    starts: list[int] = []
    first, last = interval[0], min(interval[1], total)
    for begin, end in zip(scenes, (*scenes[1:], total), strict=True):
        low, high = max(begin, first), int(min(end, last))
        starts += range(low, high - frames + 1, stride)
    return tuple(starts)


def _offset(intervals: Sequence[Interval], frame: int) -> int:
    """The place of a frame of the grid among those that were kept."""
    return (
        frame
        - intervals[0][0]
        - sum(later[0] - int(earlier[1]) for earlier, later in pairwise(intervals) if later[0] <= frame)
    )


def _shortfall(segment: Segment, piece: ExtractedSource, starts: Sequence[int]) -> str:
    """Why a segment yields no clip, or not all that it promises; "" where all is well."""
    if segment.start_seconds is None or segment.stop_seconds is None:
        return ""
    end = piece.start_seconds + piece.seconds
    begins, ends = float(segment.start_seconds), float(segment.stop_seconds)
    if begins >= end:
        return f"the segment begins at {begins:g} s, the file ends at {end:.2f} s"
    if not starts:
        needed = float(piece.clip_frames / piece.rate)
        return f"no clip of {needed:.3g} s without a cut fits into the segment from {begins:g} to {ends:g} s"
    if ends > end + BEYOND_SECONDS:
        return f"the segment ends at {ends:g} s, the file at {end:.2f} s"
    return ""


def _without_clips(piece: ExtractedSource, job: ExtractJob) -> ExtractedSource:
    count, rate = piece.frames, float(piece.rate)
    if piece.unused and count >= piece.clip_frames:
        return replace(piece, kind="no segment fits", reason=f"no segment fits: {piece.unused[0][1]}")
    found = f"{count} frame{'s' * (count != 1)} at {rate:.5g} fps, {piece.clip_frames} needed"
    if count >= piece.clip_frames:
        return replace(
            piece, kind="scenes too short", reason=f"scenes too short: none of {piece.scenes} lasts a clip; {found}"
        )
    return replace(piece, kind="too short", reason=f"too short: {found}")


def _kind(error: VidiffError, source: MediaSource) -> str:
    """An error without the file's name and the details, so that equal reasons can be counted."""
    what = error.what.replace(str(source.path), "").replace(source.path.name, "")
    return re.sub(r"[(:].*", "", what.strip(" :"), flags=re.DOTALL).strip() or UNEXPECTED
