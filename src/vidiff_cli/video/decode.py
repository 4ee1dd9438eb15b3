"""Decoding of video files to uint8 frames with exact times, by decord where it is reliable, else by ffmpeg.

Both decoders are generators of (time, frame) in one ascending pass; selection by time, cropping and limits are the same
code for both. Both scale inside the decoder with the same filter, so a fallback to ffmpeg does not change the pixels.
`stream_frames` yields blocks of frames and holds one at a time; `decode` collects all of them.

Legend: frames (t h w c) or (h w c), uint8 RGB; times in seconds as Fractions, 0 for the first frame.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice, takewhile
from pathlib import Path

import numpy as np

from vidiff_cli.errors import VidiffError
from vidiff_cli.video import decord_backend, ffmpeg_backend, image_file
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
DECORD_PIXELS = 2560 * 1440  # of a frame of the file: of 3840x2160, decord holds 900 MB, ffmpeg 100
LARGE_PIXELS = 200_000  # of a frame of twice the final size: from there on shrinking twice costs too much
MAX_BYTES = 4 * 2**30  # of one file's frames in memory
MAX_FRAMES = 1_000_000  # each has a time, which is an object


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """A decoded file: `frames` (t h w c) uint8 RGB; `times` in seconds, from 0, strictly increasing.

    `decoder` is "decord", "ffmpeg" or "pillow"; `fallback` is the reason why "auto" did not use decord, else None.
    """

    frames: np.ndarray
    times: tuple[Fraction, ...]
    fps: Fraction
    decoder: str
    fallback: str | None
    info: VideoInfo


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodedVideo:
    """One attempt to decode a file with one decoder.

    `fps` is the rate of the decoded frames: the requested one, else the nominal one; 0 for a still image. `blocks` are
    in ascending order: times in seconds from the first frame, and at most 32 frames (n h w c) uint8 RGB.
    """

    info: VideoInfo
    decoder: str
    fallback: str | None
    fps: Fraction
    blocks: Iterator[Block]


@dataclass(frozen=True, kw_only=True, slots=True)
class _DecodeSpec:
    """The requested frames. `scaled` is the size that the decoder scales to, once or twice the final `size`.

    `by_area`: ffmpeg shrinks to `size` in one step, which is faster and more exact for large frames.
    """

    size: tuple[int, int]
    scaled: tuple[int, int]
    by_area: bool
    crop: tuple[int, int]
    fps: Fraction | None
    max_frames: int | None
    stop_seconds: Fraction | None = None


def decode(
    path: str | Path,
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
        path: the file.
        size: (w, h) that frames are scaled to; None keeps their size.
        crop: (w, h) of a center crop after scaling.
        fps: output rate; frame k is the one shown at time k / fps, for every k / fps below the duration.
        decoder: "auto", "decord" or "ffmpeg".
        max_frames: stop after so many frames.
        max_bytes: limit of the frames in memory; checked before decoding if the header has a duration.

    Raises:
        VidiffError: all that `probe` refuses, too many frames, or a damaged file (with the number of intact frames).
    """
    _check_arguments(decoder, fps)
    if max_frames is not None and max_frames < 1:
        raise VidiffError("max_frames must be positive", found=max_frames)
    info = probe(Path(path))
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
) -> Iterator[DecodedVideo]:
    """Decodes a video of any length, or a still image, block by block: the frames of `decode` in bounded memory.

    Yields one attempt as a rule. If decord fails part-way, its blocks end early and a second attempt starts over with
    ffmpeg. The caller exhausts `blocks`, discards them if another attempt follows, and keeps those of the last.

    Args:
        source: the file; a `VideoInfo` saves the probe.
        size: (w, h) that frames are scaled to; None keeps their size.
        crop: (w, h) of a center crop after scaling.
        fps: output rate, as in `decode`.
        decoder: "auto", "decord" or "ffmpeg".
        stop_seconds: frames at this time or later are not decoded.

    Raises:
        VidiffError: as `decode`, from either iterator.
    """
    _check_arguments(decoder, fps)
    if stop_seconds is not None and stop_seconds <= 0:
        raise VidiffError("stop_seconds must be positive", found=stop_seconds)
    info = source if isinstance(source, VideoInfo) else probe(Path(source))
    spec = replace(_make_spec(info, size, crop, fps, None, None), stop_seconds=stop_seconds)
    yield from _decode_attempts(info, spec, decoder)


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
    # swscale's fast path shares color between neighboring pixels and its filter is a wide triangle: twice the size
    # and a mean over 2x2 give every pixel its own color and come near to area (worst error 44 -> 16 of 255 on film).
    # ffmpeg of today has area itself (mean error 0.2 instead of 1), which decord has not: it is for large frames only,
    # which cost decord twice as much, so that files of one dataset mostly go the same way.
    twice = 2 * size[0] <= info.width and 2 * size[1] <= info.height
    scaled = (2 * size[0], 2 * size[1]) if twice else size
    image_file.check_pixels(info.path, *scaled)  # a pixel may be announced to be as wide as a film
    by_area = twice and scaled[0] * scaled[1] >= LARGE_PIXELS
    spec = _DecodeSpec(size=size, scaled=scaled, by_area=by_area, crop=crop, fps=fps, max_frames=max_frames)
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
        fallback=attempt.fallback,
        info=info,
    )


def _decode_attempts(info: VideoInfo, spec: _DecodeSpec, decoder: str) -> Iterator[DecodedVideo]:
    """Yields an attempt with the requested decoder; in "auto", a second one with ffmpeg if decord fails."""
    if info.is_image:
        image = _image_block(info, spec)
        yield DecodedVideo(info=info, decoder="pillow", fallback=None, fps=Fraction(0), blocks=image)
        return
    rate, fallback = spec.fps or info.fps, None
    if decoder == "auto" and spec.by_area:
        fallback = "ffmpeg shrinks to large frames in fewer steps"
    elif decoder == "auto" and info.coded_width * info.coded_height > DECORD_PIXELS:
        fallback = "decord would hold many of such large frames in memory"
    elif decoder != "ffmpeg":
        failures: list[DecordUnfit] = []
        try:
            source = decord_backend.frames(info, spec.scaled)
        except DecordUnfit as reason:
            failures.append(reason)
        else:
            with closing(_until_unfit(_blocks(source, info, spec), failures)) as blocks:
                yield DecodedVideo(info=info, decoder="decord", fallback=None, fps=rate, blocks=blocks)
        if not failures:
            return
        fallback = str(failures[0])
        if decoder == "decord":
            what = f"decord cannot be trusted with {info.path} ({fallback})"
            raise VidiffError(what, fix="use decoder auto") from failures[0]
    filtering = ffmpeg_backend.LIKE_DECORD
    if spec.by_area:
        spec, filtering = replace(spec, scaled=spec.size), ffmpeg_backend.BY_AREA
    with closing(_blocks(ffmpeg_backend.frames(info, spec.scaled, filtering), info, spec)) as blocks:
        yield DecodedVideo(info=info, decoder="ffmpeg", fallback=fallback, fps=rate, blocks=blocks)


def _until_unfit(blocks: Generator[Block], failures: list[DecordUnfit]) -> Generator[Block]:
    """Yields the blocks until decord fails, and appends the reason to the list."""
    try:
        yield from blocks
    except DecordUnfit as reason:
        failures.append(reason)


def _image_block(info: VideoInfo, spec: _DecodeSpec) -> Iterator[Block]:
    frame = image_file.read_image(info.path, spec.size)[None]
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
