"""Frames and their times from ffmpeg's pipe, for every file that ffmpeg decodes."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from fractions import Fraction

import numpy as np

from vidiff_cli.errors import VidiffError
from vidiff_cli.video import ffmpeg
from vidiff_cli.video.probe import CONFIG, VideoInfo
from vidiff_cli.video.resample import TimedFrame, time_unit

LIKE_DECORD = "bilinear"
BY_AREA = "area+full_chroma_int+accurate_rnd"  # every pixel is the mean of those that it covers, with its own color
# Their files say how long each frame stays, the last one too; equal frames are often one long frame.
TIMED_CONTAINERS = frozenset({"webp_anim", "gif", "apng"})
LASTS = re.compile(ffmpeg.SHOWN + r"n: *\d+ pts: *\S+ +pts_time:\S+ +duration: *(-?\d+) ", re.M)
PTS = re.compile(ffmpeg.SHOWN + r"n: *\d+ pts: *(-?\d+|NOPTS) ", re.M)


def frames(info: VideoInfo, scaled: tuple[int, int], filtering: str = LIKE_DECORD) -> Generator[TimedFrame]:
    """Yields raw frames from ffmpeg's pipe with the times that the showinfo filter writes to its log.

    showinfo logs a frame before the frame leaves ffmpeg, so the line exists when the bytes arrive. If the file stores
    the duration of its last frame, one more item without a frame has the time at which that frame ends. Raises
    VidiffError for a file that is damaged part-way, with the number of intact frames.
    """
    width, height = scaled
    chain = f"{ffmpeg.SHOWINFO},scale={width}:{height}:flags={filtering}"
    output = ["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    arguments = ["-max_error_rate", "0", *ffmpeg.input_arguments(info.path), "-an", "-sn", "-dn", "-vf", chain, *output]
    frame_bytes = width * height * 3
    with ffmpeg.Ffmpeg(arguments, stdout=True) as process:
        times, last = _logged_times(process.lines(), info), 0
        while len(data := process.stdout.read(frame_bytes)) == frame_bytes:
            time = next(times, None)
            if time is None:
                raise VidiffError(f"{info.path} cannot be decoded", found="a frame without a time in ffmpeg's log")
            yield time, np.frombuffer(data, np.uint8).reshape(height, width, 3)
            last = time
        if process.process.wait() != 0 or data:
            before_damage = ffmpeg.ERROR_LINE.split(process.log(), maxsplit=1)[0]
            sound = f"at least {len(PTS.findall(before_damage))} frames that could be decoded before the damage"
            raise VidiffError(f"{info.path} is damaged ({process.first_error()})", found=sound)
        if info.container in TIMED_CONTAINERS:
            stay = int(LASTS.findall(process.log())[-1])
            if stay > 0:
                yield last + stay * int(info.time_base / time_unit(info)), None


def _logged_times(lines: Iterator[str], info: VideoInfo) -> Iterator[int]:
    """Yields the times of frames, from 0. A missing or decreasing time (a jump, a raw stream) becomes the previous one
    plus a nominal frame."""
    units, frame_lasts, shift, last = (
        int(info.time_base / time_unit(info)),
        int(1 / info.fps / time_unit(info)),
        0,
        None,
    )
    for line in lines:
        found = PTS.search(line)
        if not found:
            if config := CONFIG.search(line):
                units = int(Fraction(int(config[1]), int(config[2])) / time_unit(info))
            continue
        due = 0 if last is None else last + frame_lasts
        time = due if found[1] == "NOPTS" else int(found[1]) * units + shift
        if last is None or time <= last:
            time, shift = due, shift + due - time
        yield time
        last = time
