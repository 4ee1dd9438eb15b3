"""Extracts one source: decodes it once, scales, crops, measures and writes it, or rejects it with a reason.

Runs in the worker processes. Times are counted in frames of the clips' rate ("the grid"): frame k is the one
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

from vidiff_cli.config.read_options import DEFAULT, ReadOptions
from vidiff_cli.errors import VidiffError
from vidiff_cli.luma import to_gray
from vidiff_cli.preparation.archives import MediaMember
from vidiff_cli.preparation.aspect_ratio import Framing, framing
from vidiff_cli.preparation.captions import Segment
from vidiff_cli.preparation.extract_cache import ClipCandidate, ExtractedSource, ExtractWriter, Unwritten, member_path
from vidiff_cli.preparation.quality_filters import clip_scores, fingerprint
from vidiff_cli.preparation.scan import MediaSource
from vidiff_cli.system.atomic_files import remove
from vidiff_cli.system.shortage import ShortageError, raise_shortage
from vidiff_cli.system.worker_process import announce
from vidiff_cli.video.decode import MAX_FRAMES, DecodedVideo, stream_frames
from vidiff_cli.video.filters import describe_conversion
from vidiff_cli.video.image_sequence import image_sequence_info, stream_image_sequence
from vidiff_cli.video.probe import VideoInfo, probe
from vidiff_cli.video.scene_detection import FrameScores, SceneScorer, scene_starts

UNEXPECTED = "cannot be decoded"  # an unexpected error; possibly of the machine, not of the file
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
    reading: ReadOptions = DEFAULT
    gray: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ExtractJob:
    """A source, the segments to extract (none: all of it), and its file in the cache."""

    source: MediaSource
    segments: tuple[Segment, ...]
    clip_spec: ClipSpec
    path: Path


def extract(job: ExtractJob) -> ExtractedSource | VidiffError:
    """Writes an extracted source into the cache and returns it. Never raises for a bad file.

    A source of kind UNEXPECTED is not written, so that it is tried again. `Unwritten` and `ShortageError`, no faults of
    the source, are returned, not raised, to reach the parent process unchanged.
    """
    try:
        with ExtractWriter(job.path) as writer:
            extracted, prints = _cut(job, writer)
            if extracted.kind:
                writer.restart()
            if extracted.kind != UNEXPECTED:
                writer.finish(extracted, prints)
            return extracted
    except (Unwritten, ShortageError) as error:
        return error


def _cut(job: ExtractJob, writer: ExtractWriter) -> tuple[ExtractedSource, list[bytes]]:
    source = job.source
    if source.problem:
        return ExtractedSource(kind="cannot be read", reason=source.problem), []
    try:
        if source.member is not None:
            return _decoded_member(job, source.member, writer)
        return _decoded(job, writer)
    except Unwritten:
        raise
    except VidiffError as error:
        raise_shortage(source.path, error)
        return ExtractedSource(kind=_kind(error, source), reason=str(error).replace(str(source.path), source.name)), []
    except MemoryError:
        raise
    except Exception as error:  # a decoder's own error: one broken file must never stop the run
        raise_shortage(source.path, error)
        what = " ".join(str(error).split())[:300]
        return ExtractedSource(kind=UNEXPECTED, reason=f"{UNEXPECTED}: {type(error).__name__}: {what}"), []


def _decoded_member(job: ExtractJob, member: MediaMember, writer: ExtractWriter) -> tuple[ExtractedSource, list[bytes]]:
    """Decodes a member of an archive from a copy, which is gone afterwards."""
    copy = member_path(job.path, member)
    try:
        member.media.copy_to(copy)
        return _decoded(replace(job, source=replace(job.source, path=copy, member=None)), writer)
    except VidiffError as error:
        what = error.what.replace(str(copy), str(job.source.path))
        raise VidiffError(what, found=error.found, expected=error.expected, fix=error.fix) from error.__cause__
    finally:
        remove(copy)


def _decoded(job: ExtractJob, writer: ExtractWriter) -> tuple[ExtractedSource, list[bytes]]:
    clip_spec = job.clip_spec
    info, readings = _readings(job)
    announce(max(LEAST_SECONDS, TIMES_REAL * (info.duration_seconds or 0.0)))
    intervals = _intervals(job.segments, _rate(info, clip_spec), info.start_seconds)
    for reading in readings:
        writer.restart()
        measure, total = SceneScorer(), 0
        for _, frames in reading.blocks:
            measure.add(frames)
            for start, stop in _overlaps(intervals, total, total + len(frames)):
                kept = frames[start - total : stop - total]
                writer.add(to_gray(kept) if clip_spec.gray else kept)
            total += len(frames)
            if total > MAX_FRAMES:
                raise VidiffError(f"{info.path} is too long", expected=f"at most {MAX_FRAMES:,} frames")
    return _finished(job, info, reading, measure.scores(), intervals, writer)


def _readings(job: ExtractJob) -> tuple[VideoInfo, Iterator[DecodedVideo]]:
    clip_spec, source = job.clip_spec, job.source
    if source.pictures:
        info = image_sequence_info(source.path, source.pictures, clip_spec.images_fps)
        frame, fps = _framing(info, clip_spec), _rate(info, clip_spec)
        return info, iter([stream_image_sequence(info, source.pictures, size=frame.scaled, crop=frame.crop, fps=fps)])
    info = probe(source.path, clip_spec.reading)
    frame = _framing(info, clip_spec)
    rate = _rate(info, clip_spec)
    stops = [stop for _, stop in _intervals(job.segments, rate, info.start_seconds)]
    stop_seconds = None if not stops or max(stops) == math.inf else Fraction(int(max(stops))) / rate
    readings = stream_frames(
        info,
        size=frame.scaled,
        crop=frame.crop,
        fps=None if info.is_image else rate,
        decoder=clip_spec.decoder,
        stop_seconds=stop_seconds,
        keep_intact=True,
    )
    return info, readings


def _framing(info: VideoInfo, clip_spec: ClipSpec) -> Framing:
    return framing(info.width, info.height, short=clip_spec.size, aspect=clip_spec.aspect)


def _rate(info: VideoInfo, clip_spec: ClipSpec) -> Fraction:
    """The clips' rate, at most the source's own."""
    return min(clip_spec.fps, info.fps) if info.fps > 0 else clip_spec.fps


Interval = tuple[int, float]  # frames of the grid, half open; the stop may be math.inf


def _interval(segment: Segment, rate: Fraction, shift: Fraction) -> Interval:
    """The frames whose times lie in a segment. Annotations count from the file's beginning, the grid from the first
    frame, which appears `shift` seconds later."""
    if segment.start_seconds is None or segment.stop_seconds is None:
        return 0, math.inf
    start, stop = ((each - shift) * rate for each in (segment.start_seconds, segment.stop_seconds))
    return max(0, math.ceil(start)), max(0, math.ceil(stop))


def _intervals(segments: Sequence[Segment], rate: Fraction, shift: Fraction) -> list[Interval]:
    """Intervals of frames to keep: those of the segments, joined where they meet."""
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
    clip_spec, total, damage = job.clip_spec, len(scores), reading.info.damage
    extracted = ExtractedSource(
        decoder=reading.decoder,
        damage=damage.describe() if damage else None,
        remarks=(*describe_conversion(info), *reading.remarks),
        width=info.width,
        height=info.height,
        size=_framing(info, clip_spec).crop,
        fps=str(reading.fps),
        frames=total,
        start_seconds=max(0.0, round(float(info.start_seconds), 6)),
        clip_frames=1 if info.is_image else clip_spec.frames,
    )
    scenes = scene_starts(scores) if clip_spec.scenes and total else (0,)
    segments = list(enumerate(job.segments)) if not info.is_image else [(number, _WHOLE) for number in _first(job)]
    found: list[ClipCandidate] = []
    unused: list[tuple[int, str]] = []
    for number, segment in segments or [(-1, _WHOLE)]:
        starts = clip_starts(
            _interval(segment, reading.fps, info.start_seconds), total, scenes, extracted.clip_frames, clip_spec.stride
        )
        if why := _shortfall(segment, extracted, starts):
            unused.append((number, why))
        rate = reading.fps or Fraction(1)
        for start in starts:
            if damage and damage.is_lost(start / rate, (start + extracted.clip_frames) / rate):
                continue
            measured = clip_scores(scores, start, extracted.clip_frames, rate)
            found.append(ClipCandidate(start=start, offset=_offset(intervals, start), segment=number, scores=measured))
    found.sort(key=lambda each: (each.start, each.segment))
    extracted = replace(extracted, scenes=len(scenes), candidates=tuple(found), unused=tuple(unused))
    if not found:
        return _without_clips(extracted, job), []
    known: dict[int, bytes] = {}
    for each in found:
        if each.offset not in known:
            known[each.offset] = fingerprint(writer.frames(each.offset, each.offset + extracted.clip_frames))
    return extracted, [known[each.offset] for each in found]


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
    """Index of a frame of the grid among the kept frames."""
    return (
        frame
        - intervals[0][0]
        - sum(later[0] - int(earlier[1]) for earlier, later in pairwise(intervals) if later[0] <= frame)
    )


def _shortfall(segment: Segment, extracted: ExtractedSource, starts: Sequence[int]) -> str:
    """Reason why a segment yields no clip, or ends after its file; "" without a problem."""
    if segment.start_seconds is None or segment.stop_seconds is None:
        return ""
    end = extracted.start_seconds + extracted.seconds
    begins, ends = float(segment.start_seconds), float(segment.stop_seconds)
    if begins >= end:
        return f"the segment begins at {begins:g} s, the file ends at {end:.2f} s"
    if not starts:
        needed = float(extracted.clip_frames / extracted.rate)
        return f"no clip of {needed:.3g} s without a cut fits into the segment from {begins:g} to {ends:g} s"
    if ends > end + BEYOND_SECONDS:
        return f"the segment ends at {ends:g} s, the file at {end:.2f} s"
    return ""


def _without_clips(extracted: ExtractedSource, job: ExtractJob) -> ExtractedSource:
    count, rate = extracted.frames, float(extracted.rate)
    if extracted.unused and count >= extracted.clip_frames:
        return replace(extracted, kind="no segment fits", reason=f"no segment fits: {extracted.unused[0][1]}")
    found = f"{count} frame{'s' * (count != 1)} at {rate:.5g} fps, {extracted.clip_frames} needed"
    if count >= extracted.clip_frames:
        return replace(
            extracted,
            kind="scenes too short",
            reason=f"scenes too short: none of {extracted.scenes} lasts a clip; {found}",
        )
    return replace(extracted, kind="too short", reason=f"too short: {found}")


def _kind(error: VidiffError, source: MediaSource) -> str:
    """An error without the file's name and the details, so that equal reasons can be counted."""
    what = error.what.replace(str(source.path), "").replace(source.path.name, "")
    return re.sub(r"[(:].*", "", what.strip(" :"), flags=re.DOTALL).strip() or UNEXPECTED
