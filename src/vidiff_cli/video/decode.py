"""Video files to uint8 frames with exact times: decord where it can be trusted, ffmpeg's pipe where it cannot.

Both decoders are generators of (time, frame) in one ascending pass; choosing frames by time, cropping and capping are
the same code for both. Both scale inside the decoder with the same filter, so a fallback does not change the pixels.

Legend: frames (t h w c) or (h w c), uint8 RGB; times in seconds, Fractions, the first frame's is 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path

import numpy as np

from vidiff_cli.errors import VidiffError
from vidiff_cli.video import ffmpeg, stills
from vidiff_cli.video.probe import CONFIG, SUFFIXES_VIDEO, VideoInfo, probe
from vidiff_cli.video.stills import SUFFIXES_IMAGE

__all__ = ["DECODERS", "SUFFIXES_IMAGE", "SUFFIXES_VIDEO", "Decoded", "decode"]

Shown = tuple[Fraction, np.ndarray]
DECODERS = ("auto", "decord", "ffmpeg")

# decord drops, repeats or misplaces frames of these without an error
UNFIT_SUFFIXES = frozenset({".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".vob", ".gif", ".apng", ".webp"})
UNFIT_CONTAINERS = frozenset({"mpegts", "mpeg", "mpegvideo", "gif", "apng", "webp_anim"})
UNFIT_CODECS = frozenset({"av1"})
# The only files that decord may open: with its first bytes it cannot take them for another kind (a playlist, say).
MAGIC = {
    "mov": re.compile(rb".{4}(ftyp|moov|mdat|free|skip|wide|pnot|udta)", re.S),
    "matroska": re.compile(rb"\x1a\x45\xdf\xa3"),
    "avi": re.compile(rb"RIFF.{4}AVI", re.S),
    "flv": re.compile(rb"FLV"),
    "ogg": re.compile(rb"OggS"),
    "asf": re.compile(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
}
MOST_BYTES = 4 * 2**30  # of one file's frames in memory
MOST_FRAMES = 1_000_000  # each has a time, which is an object
LONGEST_FRAME_SECONDS = 600  # a broken timestamp must not fill the memory with copies of one frame
PTS = re.compile(ffmpeg.SHOWN + r"n: *\d+ pts: *(-?\d+|NOPTS) ", re.M)


class _Unfit(Exception):
    """decord must not or cannot read this file; the text says why in a few words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """A decoded file. `frames` (t h w c) uint8 RGB; `times` in seconds, from 0, strictly increasing.

    `decoder` is "decord", "ffmpeg" or "pillow"; `fallback` says why "auto" did not keep decord, else None.
    """

    frames: np.ndarray
    times: tuple[Fraction, ...]
    fps: Fraction
    decoder: str
    fallback: str | None
    info: VideoInfo


@dataclass(frozen=True, kw_only=True, slots=True)
class _Wanted:
    """What to make of the file; `scaled` is the size that the decoder scales to, once or twice the final `size`."""

    size: tuple[int, int]
    scaled: tuple[int, int]
    crop: tuple[int, int]
    fps: Fraction | None
    max_frames: int | None
    max_bytes: int


def decode(
    path: str | Path,
    *,
    size: tuple[int, int] | None = None,
    crop: tuple[int, int] | None = None,
    fps: Fraction | None = None,
    decoder: str = "auto",
    max_frames: int | None = None,
    max_bytes: int = MOST_BYTES,
) -> Decoded:
    """Reads a video, or a still image as one frame with rate 0.

    `size` (w, h): scaled to exactly that; `crop` (w, h): centre crop after scaling; `fps`: output frame k is the one
    shown at time k / fps, for every k / fps below the duration; `max_frames` stops early. Upright, square pixels.
    More than `max_bytes` of frames are refused, before they are decoded where the file says how long it is.
    Errors: VidiffError for all that `probe` refuses, and for a file that is damaged part-way (it says how far it got).
    """
    path = Path(path)
    if decoder not in DECODERS:
        raise VidiffError("unknown decoder", found=decoder, expected=" or ".join(DECODERS))
    if fps is not None and fps <= 0:
        raise VidiffError("a frame rate must be positive", found=fps)
    if max_frames is not None and max_frames < 1:
        raise VidiffError("max_frames must be positive", found=max_frames)
    info = probe(path)
    wanted = _planned(info, size, crop, fps, max_frames, max_bytes)
    if info.is_image:
        frame = _cropped(stills.read_image(path, wanted.size), wanted.crop)
        frames = np.ascontiguousarray(frame)[None]
        return Decoded(frames=frames, times=(Fraction(0),), fps=Fraction(0), decoder="pillow", fallback=None, info=info)
    if decoder == "ffmpeg":
        return _collected(_by_ffmpeg, info, wanted, "ffmpeg", None)
    try:
        return _collected(_by_decord, info, wanted, "decord", None)
    except _Unfit as reason:
        if decoder == "decord":
            raise VidiffError(f"decord cannot be trusted with {path} ({reason})", fix="use decoder auto") from reason
        return _collected(_by_ffmpeg, info, wanted, "ffmpeg", str(reason))


def _planned(
    info: VideoInfo,
    size: tuple[int, int] | None,
    crop: tuple[int, int] | None,
    fps: Fraction | None,
    max_frames: int | None,
    max_bytes: int,
) -> _Wanted:
    size = size or (info.width, info.height)
    crop = crop or size
    if min(*size, *crop) < 1:
        raise VidiffError("sizes must be positive", found=f"size {size}, crop {crop}")
    if crop[0] > size[0] or crop[1] > size[1]:
        expected = f"at most {size[0]}x{size[1]}"
        raise VidiffError("the crop is larger than the scaled frame", found=f"{crop[0]}x{crop[1]}", expected=expected)
    # swscale's fast path shares colour between neighbouring pixels and its filter is a wide triangle: twice the size
    # and a mean over 2x2 give every pixel its own colour and come near to area (worst error 44 -> 16 of 255 on film).
    twice = 2 * size[0] <= info.width and 2 * size[1] <= info.height
    scaled = (2 * size[0], 2 * size[1]) if twice else size
    stills.check_pixels(info.path, *scaled)  # a pixel may be announced to be as wide as a film
    wanted = _Wanted(size=size, scaled=scaled, crop=crop, fps=fps, max_frames=max_frames, max_bytes=max_bytes)
    if not info.is_image:
        announced = int((info.duration_seconds or 0) * (fps or info.fps))
        _check_length(info, wanted, announced if max_frames is None else min(announced, max_frames))
    return wanted


def _check_length(info: VideoInfo, wanted: _Wanted, frames: int) -> None:
    """VidiffError where so many frames would fill the memory."""
    width, height = wanted.crop
    if frames > min(MOST_FRAMES, wanted.max_bytes // (width * height * 3)):
        raise VidiffError(
            f"{info.path} is too long",
            found=f"{frames:,} frames of {width}x{height} or more",
            expected=f"at most {min(MOST_FRAMES, wanted.max_bytes // (width * height * 3)):,}",
            fix="cut it into shorter files",
        )


def _collected(
    read: Callable[[VideoInfo, tuple[int, int]], Generator[Shown]],
    info: VideoInfo,
    wanted: _Wanted,
    decoder: str,
    fallback: str | None,
) -> Decoded:
    """Runs one decoder through selection, scaling and crop into one growing buffer: no second copy of all frames."""
    source = read(info, wanted.scaled)
    try:
        shown = source if wanted.fps is None else _resampled(source, wanted.fps, info)
        times: list[Fraction] = []
        pixels = bytearray()
        for time, frame in islice(shown, wanted.max_frames):
            times.append(time)
            _check_length(info, wanted, len(times))
            pixels += np.ascontiguousarray(_cropped(_halved(frame, wanted.size), wanted.crop)).data
    finally:
        source.close()
    if not times:
        raise VidiffError(f"{info.path} is damaged: not one frame could be decoded")
    frames = np.frombuffer(pixels, np.uint8).reshape(len(times), wanted.crop[1], wanted.crop[0], 3)
    rate = wanted.fps or measured_rate(times, info.fps)
    return Decoded(frames=frames, times=tuple(times), fps=rate, decoder=decoder, fallback=fallback, info=info)


def _resampled(source: Iterator[Shown], fps: Fraction, info: VideoInfo) -> Iterator[Shown]:
    """Output k is the last frame whose time is <= k / fps; the last frame lasts one nominal frame.

    Containers with coarse ticks (1 ms in WebM, 10 ms in GIF) write times rounded: those frames may be one tick late.
    """
    exact = (1 / info.fps / info.time_base).denominator == 1
    slack = Fraction(0) if exact else min(info.time_base, 1 / info.fps / 4)
    count, time, before, held = 0, Fraction(0), Fraction(0), None
    for time, frame in source:
        if held is not None and time - before > LONGEST_FRAME_SECONDS:
            raise VidiffError(f"{info.path} shows one frame for {float(time - before):.0f} s", fix="cut the file there")
        before = time
        while held is not None and count / fps + slack < time:
            yield count / fps, held
            count += 1
        held = frame
    while held is not None and count / fps < time + 1 / info.fps - slack:
        yield count / fps, held
        count += 1


def measured_rate(times: list[Fraction], nominal: Fraction) -> Fraction:
    """The nominal rate where the times agree with it (within half a percent or 2 ms), else the mean rate."""
    if len(times) < 2:
        return nominal
    gaps, span = len(times) - 1, times[-1]
    for rate in (nominal, Fraction(round(gaps / span))):
        if rate and abs(span - gaps / rate) <= max(span / 200, Fraction(1, 500)):
            return rate
    return (gaps / span).limit_denominator(1001)


def _halved(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(2h 2w c) -> (h w c) by the mean of 2x2 pixels, rounded; a frame that has the size already is left alone."""
    width, height = size
    if frame.shape[:2] == (height, width):
        return frame
    quads = frame.reshape(height, 2, width, 2, 3).astype(np.uint16)
    return ((quads.sum(axis=(1, 3), dtype=np.uint16) + 2) >> 2).astype(np.uint8)


def _cropped(frame: np.ndarray, crop: tuple[int, int]) -> np.ndarray:
    top, left = (frame.shape[0] - crop[1]) // 2, (frame.shape[1] - crop[0]) // 2
    return frame[top : top + crop[1], left : left + crop[0]]


def _by_ffmpeg(info: VideoInfo, scaled: tuple[int, int]) -> Generator[Shown]:
    """Raw frames from ffmpeg's pipe, their times from the showinfo filter in its log.

    showinfo writes a frame's line before the frame leaves ffmpeg, so the line is there when the bytes have arrived.
    """
    width, height = scaled
    chain = f"{ffmpeg.SHOWINFO},scale={width}:{height}:flags=bilinear"
    output = ["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    arguments = ["-max_error_rate", "0", *ffmpeg.reading(info.path), "-an", "-sn", "-dn", "-vf", chain, *output]
    frame_bytes = width * height * 3
    with ffmpeg.Ffmpeg(arguments, stdout=True) as process:
        times = _logged_times(process.lines(), info)
        while len(data := process.stdout.read(frame_bytes)) == frame_bytes:
            time = next(times, None)
            if time is None:
                raise VidiffError(f"{info.path} cannot be decoded", found="a frame without a time in ffmpeg's log")
            yield time, np.frombuffer(data, np.uint8).reshape(height, width, 3)
        if process.process.wait() != 0 or data:
            before_damage = ffmpeg.ERROR_LINE.split(process.log(), maxsplit=1)[0]
            sound = f"at least {len(PTS.findall(before_damage))} frames that could be decoded before the damage"
            raise VidiffError(f"{info.path} is damaged ({process.complaint()})", found=sound)


def _logged_times(lines: Iterator[str], info: VideoInfo) -> Iterator[Fraction]:
    """The frames' times, from 0. A missing or backward time (a jump, a raw stream) goes on one nominal frame later."""
    tick, shift, last = info.time_base, Fraction(0), None
    for line in lines:
        if config := CONFIG.search(line):
            tick = Fraction(int(config[1]), int(config[2]))
        if not (found := PTS.search(line)):
            continue
        due = Fraction(0) if last is None else last + 1 / info.fps
        time = due if found[1] == "NOPTS" else int(found[1]) * tick + shift
        if last is None or time <= last:
            time, shift = due, shift + due - time
        yield time
        last = time


def _by_decord(info: VideoInfo, scaled: tuple[int, int]) -> Generator[Shown]:
    """One ascending pass, frame after frame; raises _Unfit wherever decord is known to return wrong frames or fails."""
    times, read_next = _opened_by_decord(info, scaled)
    before: np.ndarray | None = None
    for index, time in enumerate(times):
        frame = read_next()
        if before is not None and index == len(times) - 1 and np.array_equal(frame, before):
            raise _Unfit("its last frames are identical, which may be padding")
        yield time, frame
        before = frame


def _opened_by_decord(info: VideoInfo, scaled: tuple[int, int]) -> tuple[list[Fraction], Callable[[], np.ndarray]]:
    """Times from 0, and a function that reads the next frame (h w c)."""
    if info.path.suffix.lower() in UNFIT_SUFFIXES or UNFIT_CONTAINERS & set(info.container.split(",")):
        raise _Unfit(f"decord misreads {info.container.split(',')[0]} files")
    magic = MAGIC.get(info.container.split(",")[0])
    if magic is None or not magic.match(_first_bytes(info)):
        raise _Unfit(f"decord may not open {info.container.split(',')[0]} files")
    if info.codec in UNFIT_CODECS:
        raise _Unfit(f"decord has no {info.codec} decoder")
    if info.video_streams > 1:
        raise _Unfit(f"{info.video_streams} video streams")
    try:
        import decord
    except (ImportError, OSError, RuntimeError) as error:
        raise _Unfit("decord is not installed here") from error
    decord.logging.set_level(decord.logging.QUIET)
    width, height = scaled
    try:
        reader = decord.VideoReader(str(info.path.absolute()), width=width, height=height, num_threads=1)
        seconds = np.asarray(reader.get_frame_timestamp(range(len(reader))))[:, 0]
    except Exception as error:  # whatever decord raises, ffmpeg has the last word
        raise _Unfit("decord cannot open it") from error

    def read_next() -> np.ndarray:
        try:
            frame = reader.next().asnumpy()
            # where a padded row divides by the width (16, 48, 72), decord takes the padding for further channels
            return frame.reshape(height, -1)[:, : width * 3].reshape(height, width, 3)
        except Exception as error:
            raise _Unfit("decord fails part-way") from error

    return _exact_times(seconds, info.time_base), read_next


def _first_bytes(info: VideoInfo) -> bytes:
    with info.path.open("rb") as file:
        return file.read(16)


def _exact_times(seconds: np.ndarray, tick: Fraction) -> list[Fraction]:
    """decord's float32 seconds as whole ticks, exactly; _Unfit for times that show wrong frames or are too coarse."""
    if not len(seconds) or seconds[0] < 0:
        raise _Unfit("negative timestamps (an edit list)" if len(seconds) else "decord finds no frames")
    if np.spacing(np.float32(seconds[-1])) >= float(tick):
        raise _Unfit("too long for decord's rounded times")
    ticks = [round(float(second) / float(tick)) for second in seconds]
    if any(later <= earlier for earlier, later in pairwise(ticks)):
        raise _Unfit("repeated or backward timestamps")
    return [(count - ticks[0]) * tick for count in ticks]
