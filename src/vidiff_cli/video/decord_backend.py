"""Frames from decord, for the files that it decodes correctly; of many others it shows something else.

Its ffmpeg is years older than ours: it knows no display matrix outside mp4, no mirroring, no cropping by codecs of
today. So it is refused for what it is known to get wrong, and its first and a later frame are compared with ffmpeg's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from contextlib import closing
from fractions import Fraction

import numpy as np

from vidiff_cli.video import ffmpeg_backend, filters
from vidiff_cli.video.probe import VideoInfo
from vidiff_cli.video.resample import TimedFrame, time_unit

# decord drops, repeats or misplaces frames of these without an error
UNFIT_SUFFIXES = frozenset({".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".vob", ".gif", ".apng", ".webp"})
UNFIT_CONTAINERS = frozenset({"mpegts", "mpeg", "mpegvideo", "gif", "apng", "webp_anim"})
UNFIT_CODECS = frozenset({"av1"})
LATER_FRAME = 24  # that is compared, or the last one
MOST_DIFFERENCE = 4.0  # of 255, on average: between two ways to convert and scale
# The only files that decord may open: with its first bytes it cannot take them for another kind (a playlist, say).
MAGIC = {
    "mov": re.compile(rb".{4}(ftyp|moov|mdat|free|skip|wide|pnot|udta)", re.S),
    "matroska": re.compile(rb"\x1a\x45\xdf\xa3"),
    "avi": re.compile(rb"RIFF.{4}AVI", re.S),
    "flv": re.compile(rb"FLV"),
    "ogg": re.compile(rb"OggS"),
    "asf": re.compile(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
}


class DecordUnfit(Exception):
    """decord must not or cannot decode this file; the message is the reason in a few words."""


def frames(info: VideoInfo, scaled: tuple[int, int]) -> Generator[TimedFrame]:
    """Opens the file and yields its frames in one ascending pass.

    Raises DecordUnfit, at once or from the generator, if decord fails or is known to return wrong frames for such a
    file.
    """
    ticks, read_next = _opened(info, scaled)
    return _shown(info, ticks, read_next, _true_frames(info, scaled))


def _true_frames(info: VideoInfo, scaled: tuple[int, int]) -> dict[int, np.ndarray]:
    """The first frame and a later one, by number, as ffmpeg shows them."""
    first = later = np.empty(0, np.uint8)
    number = 0
    with closing(ffmpeg_backend.frames(info, scaled)) as source:
        for number, (_, frame) in zip(range(LATER_FRAME + 1), source, strict=False):
            later = later if frame is None else frame
            first = first if number else later
    return {0: first, number: later}


def _shown(
    info: VideoInfo, ticks: np.ndarray, read_next: Callable[[], np.ndarray], true_frames: dict[int, np.ndarray]
) -> Generator[TimedFrame]:
    before: np.ndarray | None = None
    last, units = len(ticks) - 1, int(info.time_base / time_unit(info))
    for index, tick in enumerate(ticks):
        frame = read_next()
        if index in true_frames and np.abs(frame.astype(np.int16) - true_frames[index]).mean() > MOST_DIFFERENCE:
            raise DecordUnfit(f"its frame {index} is not the one that ffmpeg shows")
        if index == last and before is not None and np.array_equal(frame, before):
            raise DecordUnfit("its last frames are identical, which may be padding")
        yield int(tick) * units, frame
        before = frame


def _opened(info: VideoInfo, scaled: tuple[int, int]) -> tuple[np.ndarray, Callable[[], np.ndarray]]:
    """Times in ticks from 0, and a function that returns the next frame (h w c)."""
    _check_fit(info)
    try:
        import decord
    except (ImportError, OSError, RuntimeError) as error:
        raise DecordUnfit("decord is not installed here") from error
    decord.logging.set_level(decord.logging.QUIET)
    width, height = scaled
    try:
        reader = decord.VideoReader(str(info.path.absolute()), width=width, height=height, num_threads=1)
        seconds = np.asarray(reader.get_frame_timestamp(range(len(reader))))[:, 0]
    except Exception as error:  # whatever decord raises, ffmpeg has the last word
        raise DecordUnfit("decord cannot open it") from error

    def read_next() -> np.ndarray:
        try:
            frame = reader.next().asnumpy()
            # where a padded row divides by the width (16, 48, 72), decord takes the padding for further channels
            return frame.reshape(height, -1)[:, : width * 3].reshape(height, width, 3)
        except Exception as error:
            raise DecordUnfit("decord fails part-way") from error

    return _exact_ticks(seconds, info.time_base), read_next


def _check_fit(info: VideoInfo) -> None:
    container = info.container.split(",")[0]
    if info.path.suffix.lower() in UNFIT_SUFFIXES or UNFIT_CONTAINERS & set(info.container.split(",")):
        raise DecordUnfit(f"decord misreads {container} files")
    magic = MAGIC.get(container)
    if magic is None or not magic.match(_first_bytes(info)):
        raise DecordUnfit(f"decord may not open {container} files")
    if info.codec in UNFIT_CODECS:
        raise DecordUnfit(f"decord has no {info.codec} decoder")
    if info.video_streams > 1:
        raise DecordUnfit(f"{info.video_streams} video streams")
    changes = {
        "turned or mirrored frames": info.has_display_matrix,
        "transparent pixels": info.alpha,
        "a range of colors beyond BT.709": info.hdr or info.wide_gamut,
        "interlaced frames": filters.deinterlaces(info),
    }
    for what, found in changes.items():
        if found:
            raise DecordUnfit(f"decord may not read {what}")


def _first_bytes(info: VideoInfo) -> bytes:
    with info.path.open("rb") as file:
        return file.read(16)


def _exact_ticks(seconds: np.ndarray, tick: Fraction) -> np.ndarray:
    """Converts decord's float32 seconds to whole ticks from 0.

    Raises DecordUnfit for times that imply wrong frames or are too coarse.
    """
    if not len(seconds) or seconds[0] < 0:
        raise DecordUnfit("negative timestamps (an edit list)" if len(seconds) else "decord finds no frames")
    if np.spacing(np.float32(seconds[-1])) >= float(tick):
        raise DecordUnfit("too long for decord's rounded times")
    ticks = np.round(seconds.astype(np.float64) / float(tick)).astype(np.int64)
    if (np.diff(ticks) <= 0).any():
        raise DecordUnfit("repeated or backward timestamps")
    return ticks - ticks[0]
