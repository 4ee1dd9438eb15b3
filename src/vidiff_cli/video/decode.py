"""Decoding of video files to uint8 frames with exact times, by ffmpeg, or by decord on request.

Both decoders are generators of (time, frame) in one ascending pass; selection by time, cropping and limits are the same
code for both. What ffmpeg shows is the truth: decord is refused for files that it is known, or seen, to show otherwise.
`stream_frames` yields blocks of frames and holds one at a time; `decode` collects all of them.

Legend: frames (t h w c) or (h w c), uint8 RGB; times in seconds as Fractions, 0 for the first frame.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import islice, takewhile
from pathlib import Path

import numpy as np

from vidiff_cli.errors import VidiffError
from vidiff_cli.video import decord_backend, ffmpeg_backend, filters, image_file
from vidiff_cli.video.damage import Damage, DamagedVideo
from vidiff_cli.video.decord_backend import DecordUnfit
from vidiff_cli.video.image_file import SUFFIXES_IMAGE
from vidiff_cli.video.probe import SUFFIXES_VIDEO, VideoInfo, probe
from vidiff_cli.video.resample import TimedFrame, measure_rate, resample, to_seconds

__all__ = [
    "DECODERS",
    "SUFFIXES_IMAGE",
    "SUFFIXES_VIDEO",
    "Block",
    "Decoded",
    "DecodedVideo",
    "decode",
    "stream_frames",
]

Block = tuple[list[Fraction], np.ndarray]  # times of n frames, and the frames (n h w c)
DECODERS = ("auto", "decord", "ffmpeg")

BLOCK_FRAMES = 32
BLOCK_BYTES = 32 * 2**20  # of the frames as they come from the decoder
MAX_BYTES = 4 * 2**30  # of one file's frames in memory
MAX_FRAMES = 1_000_000  # each has a time, which is an object


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """A decoded file: `frames` (t h w c) uint8 RGB; `times` in seconds, from 0, strictly increasing.

    `decoder` is "decord", "ffmpeg" or "pillow".
    """

    frames: np.ndarray
    times: tuple[Fraction, ...]
    fps: Fraction
    decoder: str
    info: VideoInfo


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodedVideo:
    """One attempt to decode a file with one decoder.

    `fps` is the rate of the decoded frames: the requested one, else the nominal one; 0 for a still image. `blocks` are
    in ascending order: times in seconds from the first frame, and at most 32 frames (n h w c) uint8 RGB. `remarks` are
    sentences for a person, complete when the blocks are exhausted.
    """

    info: VideoInfo
    decoder: str
    fps: Fraction
    blocks: Iterator[Block]
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class _DecodeSpec:
    """The requested frames. `scaled` is the size that the decoder scales to, once or twice the final `size`."""

    size: tuple[int, int]
    scaled: tuple[int, int]
    crop: tuple[int, int]
    fps: Fraction | None
    max_frames: int | None
    stop_seconds: Fraction | None = None


def decode(
    source: str | Path | VideoInfo,
    *,
    size: tuple[int, int] | None = None,
    crop: tuple[int, int] | None = None,
    fps: Fraction | None = None,
    decoder: str = "auto",
    max_frames: int | None = None,
    max_bytes: int = MAX_BYTES,
) -> Decoded:
    """Decodes a video, or a still image as one frame with rate 0. Pixels are upright and square.

    Args:
        source: the file; a `VideoInfo` saves the probe.
        size: (w, h) that frames are scaled to; None keeps their size.
        crop: (w, h) of a center crop after scaling.
        fps: output rate; frame k is the one shown at time k / fps, for every k / fps below the duration.
        decoder: "auto" (ffmpeg), "ffmpeg", or "decord", which is an error for files that it cannot be trusted with.
        max_frames: stop after so many frames.
        max_bytes: limit of the frames in memory; checked before decoding if the header has a duration.

    Raises:
        VidiffError: all that `probe` refuses, too many frames, or a damaged file (with the number of intact frames).
    """
    _check_arguments(decoder, fps)
    if max_frames is not None and max_frames < 1:
        raise VidiffError("max_frames must be positive", found=max_frames)
    info = source if isinstance(source, VideoInfo) else probe(Path(source))
    spec = _make_spec(info, size, crop, fps, max_frames, max_bytes)
    return _collect(info, spec, decoder, max_bytes)


def stream_frames(
    source: str | Path | VideoInfo,
    *,
    size: tuple[int, int] | None = None,
    crop: tuple[int, int] | None = None,
    fps: Fraction | None = None,
    decoder: str = "auto",
    stop_seconds: Fraction | None = None,
    keep_intact: bool = False,
) -> Iterator[DecodedVideo]:
    """Decodes a video of any length, or a still image, block by block: the frames of `decode` in bounded memory.

    Yields one attempt as a rule. If the file turns out to be damaged part-way, the blocks end early and a second
    attempt starts over with the intact frames. The caller exhausts `blocks`, discards them if another attempt follows,
    and keeps those of the last.

    Args:
        source: the file; a `VideoInfo` saves the probe.
        size: (w, h) that frames are scaled to; None keeps their size.
        crop: (w, h) of a center crop after scaling.
        fps: output rate, as in `decode`.
        decoder: "auto", "decord" or "ffmpeg".
        stop_seconds: frames at this time or later are not decoded.
        keep_intact: of a damaged file, read the intact groups of pictures; the `damage` of the attempt's `info` has
            what was lost. Else damage is an error.

    Raises:
        VidiffError: as `decode`, from either iterator.
    """
    _check_arguments(decoder, fps)
    if stop_seconds is not None and stop_seconds <= 0:
        raise VidiffError("stop_seconds must be positive", found=stop_seconds)
    info = source if isinstance(source, VideoInfo) else probe(Path(source))
    spec = replace(_make_spec(info, size, crop, fps, None, None), stop_seconds=stop_seconds)
    if info.pictures:
        from vidiff_cli.video.image_sequence import stream_image_sequence

        rate = fps or info.fps
        yield stream_image_sequence(info, info.pictures, size=spec.size, crop=spec.crop, fps=rate)
        return
    yield from _decode_attempts(info, spec, decoder, keep_intact=keep_intact)


def _check_arguments(decoder: str, fps: Fraction | None) -> None:
    if decoder not in DECODERS:
        raise VidiffError("unknown decoder", found=decoder, expected=" or ".join(DECODERS))
    if fps is not None and fps <= 0:
        raise VidiffError("a frame rate must be positive", found=fps)


def _make_spec(
    info: VideoInfo,
    size: tuple[int, int] | None,
    crop: tuple[int, int] | None,
    fps: Fraction | None,
    max_frames: int | None,
    max_bytes: int | None,
) -> _DecodeSpec:
    size = size or (info.width, info.height)
    crop = crop or size
    if min(*size, *crop) < 1:
        raise VidiffError("sizes must be positive", found=f"size {size}, crop {crop}")
    if crop[0] > size[0] or crop[1] > size[1]:
        expected = f"at most {size[0]}x{size[1]}"
        raise VidiffError("the crop is larger than the scaled frame", found=f"{crop[0]}x{crop[1]}", expected=expected)
    image_file.check_pixels(info.path, *size)  # a pixel may be announced to be as wide as a film
    spec = _DecodeSpec(size=size, scaled=size, crop=crop, fps=fps, max_frames=max_frames)
    if not info.is_image and max_bytes is not None:
        announced = int((info.duration_seconds or 0) * (fps or info.fps))
        _check_length(info, crop, announced if max_frames is None else min(announced, max_frames), max_bytes)
    return spec


def _check_length(info: VideoInfo, crop: tuple[int, int], frames: int, max_bytes: int) -> None:
    """Raises VidiffError if so many frames would exceed the memory limit."""
    width, height = crop
    limit = _max_frames(crop, max_bytes)
    if frames > limit:
        raise VidiffError(
            f"{info.path} is too long",
            found=f"{frames:,} frames of {width}x{height} or more",
            expected=f"at most {limit:,}",
            fix="cut it into shorter files",
        )


def _max_frames(crop: tuple[int, int], max_bytes: int) -> int:
    return min(MAX_FRAMES, max_bytes // (crop[0] * crop[1] * 3))


def _collect(info: VideoInfo, spec: _DecodeSpec, decoder: str, max_bytes: int) -> Decoded:
    """Collects all frames in one growing buffer, without a second copy."""
    limit = _max_frames(spec.crop, max_bytes) + 1  # one more tells that it is too long
    capped = replace(spec, max_frames=min(limit, spec.max_frames or limit))
    for attempt in _decode_attempts(info, capped, decoder):
        times: list[Fraction] = []
        pixels = bytearray()
        for block_times, frames in attempt.blocks:
            times += block_times
            _check_length(info, spec.crop, len(times), max_bytes)
            pixels += frames.data
    frames = np.frombuffer(pixels, np.uint8).reshape(len(times), spec.crop[1], spec.crop[0], 3)
    rate = attempt.fps if info.is_image or spec.fps else measure_rate(times, info.fps)
    return Decoded(
        frames=frames,
        times=tuple(times),
        fps=rate,
        decoder=attempt.decoder,
        info=info,
    )


def _decode_attempts(
    info: VideoInfo, spec: _DecodeSpec, decoder: str, *, keep_intact: bool = False
) -> Iterator[DecodedVideo]:
    """Yields an attempt with the requested decoder; another one if a damaged file has intact frames."""
    if info.is_image:
        yield DecodedVideo(info=info, decoder="pillow", fps=Fraction(0), blocks=_image_block(info, spec))
        return
    shrinks = 2 * spec.size[0] <= info.width and 2 * spec.size[1] <= info.height
    rate, found = spec.fps or info.fps, list[Damage]()
    if decoder == "decord":
        # its old scaler has no filter by area, and its triangle is wide: twice the size, then a mean over 2x2
        spec = replace(spec, scaled=(2 * spec.size[0], 2 * spec.size[1])) if shrinks else spec
        with closing(_blocks(_decord_frames(info, spec.scaled), info, spec)) as blocks:
            yield DecodedVideo(info=info, decoder="decord", fps=rate, blocks=blocks)
        return
    scaling = filters.BY_AREA if shrinks else filters.BY_TRIANGLE
    for _ in range(2):
        remarks = [info.damage.describe()] if info.damage else []
        source = ffmpeg_backend.frames(info, spec.scaled, scaling, remarks)
        with closing(_until_damaged(_blocks(source, info, spec), found)) as blocks:
            yield DecodedVideo(info=info, decoder="ffmpeg", fps=rate, blocks=blocks, remarks=remarks)
        if not found or info.damage is not None:
            return
        if not keep_intact or not found[0].intact:
            raise _damaged(info, found[0])
        info = replace(info, damage=found[0])


def _until_damaged(blocks: Generator[Block], found: list[Damage]) -> Generator[Block]:
    """Yields the blocks until a damaged frame is reached, and appends the damage to the list."""
    try:
        yield from blocks
    except DamagedVideo as reached:
        found.append(reached.damage)


def _damaged(info: VideoInfo, damage: Damage) -> VidiffError:
    found = f"at least {damage.first} frames that could be decoded before the damage"
    found += "" if damage.intact else ", and no group of pictures without an error"
    return VidiffError(f"{info.path} is damaged ({damage.error})", found=found)


def _decord_frames(info: VideoInfo, scaled: tuple[int, int]) -> Generator[TimedFrame]:
    try:
        yield from decord_backend.frames(info, scaled)
    except DamagedVideo as reached:
        raise _damaged(info, reached.damage) from reached
    except DecordUnfit as reason:
        raise VidiffError(f"decord cannot be trusted with {info.path} ({reason})", fix="use --decoder auto") from reason


def _image_block(info: VideoInfo, spec: _DecodeSpec) -> Iterator[Block]:
    frame = image_file.read_image(info.path, spec.size, info.options.background_rgb)[None]
    yield [Fraction(0)], np.ascontiguousarray(frame[(slice(None), *_center(spec.size, spec.crop))])


def _blocks(source: Generator[TimedFrame], info: VideoInfo, spec: _DecodeSpec) -> Generator[Block]:
    """Yields blocks of one decoder after selection by time, cropping and the last halving."""
    factor = spec.scaled[0] // spec.size[0]
    put = _copy if factor == 1 else _halve
    inside = _center(spec.size, spec.crop, factor)
    shape = (spec.crop[1], spec.crop[0], 3)
    length = max(1, min(BLOCK_FRAMES, BLOCK_BYTES // (shape[0] * shape[1] * 3)))
    shown = to_seconds(source, info) if spec.fps is None else resample(source, spec.fps, info)
    if spec.stop_seconds is not None:
        stop = spec.stop_seconds
        shown = takewhile(lambda item: item[0] < stop, shown)
    shown = islice(shown, spec.max_frames)
    decoded = False
    with closing(source):
        while True:
            times: list[Fraction] = []
            frames = np.empty((length, *shape), np.uint8)
            for time, frame in islice(shown, length):
                put(frame[inside], frames[len(times)])
                times.append(time)
            if not times:
                break
            decoded = True
            yield times, frames[: len(times)]
    if not decoded:
        raise VidiffError(f"{info.path} is damaged: not one frame could be decoded")


def _center(size: tuple[int, int], crop: tuple[int, int], factor: int = 1) -> tuple[slice, slice]:
    """Slices of rows and columns of a center crop in a frame of `size` that is `factor` times as large."""
    left, top = (size[0] - crop[0]) // 2 * factor, (size[1] - crop[1]) // 2 * factor
    return slice(top, top + crop[1] * factor), slice(left, left + crop[0] * factor)


def _copy(frame: np.ndarray, out: np.ndarray) -> None:
    out[:] = frame


def _halve(frame: np.ndarray, out: np.ndarray) -> None:
    """Halves a frame, (2h 2w c) -> (h w c), by the rounded mean of 2x2 pixels.

    Color by color: numpy adds such long strided rows 25 times as fast as an axis of two.
    """
    pairs = np.add(frame[::2], frame[1::2], dtype=np.uint16).reshape(len(out), -1)
    pairs += 1
    for color in range(3):
        out[:, :, color] = (pairs[:, color::6] + pairs[:, color + 3 :: 6]) >> 2
