"""Measured times of all frames of a file: everything is decoded, no frame is kept."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from vidiff_cli.video import ffmpeg
from vidiff_cli.video.packets import with_last_frame
from vidiff_cli.video.probe import VideoInfo
from vidiff_cli.video.resample import measure_rate
from vidiff_cli.video.shown_frames import NO_TEXT, shown_frames

REPORT_EVERY = 100  # frames between two signs of life
UNEVEN_SECONDS = Fraction(1, 500)  # cameras jitter by less; a rate that varies does so by more


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """Number of decoded frames and their rate: the nominal one if the times agree with it, else their mean.

    `seconds` is the time from the first frame to the end of the last, which lasts 1 / fps if the file stores no other
    stay. `constant`: all gaps between frames are equal within the rounding of timestamps; None below two gaps.
    `complete` is False if counting was stopped; `damage` is ffmpeg's error if decoding failed part-way.
    """

    frames: int
    fps: Fraction
    seconds: Fraction
    constant: bool | None
    shortest_gap: Fraction | None
    longest_gap: Fraction | None
    complete: bool
    damage: str | None


def measure_timing(info: VideoInfo, *, patience_seconds: float) -> Iterator[int | Timing]:
    """Decodes a video; yields the number of frames so far, now and then, and last its `Timing`.

    Stops after `patience_seconds` with what is known by then. Raises VidiffError if ffmpeg cannot be started.
    """
    arguments = ["-an", "-sn", "-dn", "-vf", ffmpeg.SHOWINFO, "-fps_mode", "passthrough", "-f", "null"]
    stop_at, complete = time.monotonic() + patience_seconds, True
    frames, times, damaged = 0, list[Fraction](), False
    inputs = ffmpeg.input_arguments(info.path, info.input_options)
    with ffmpeg.Ffmpeg(["-max_error_rate", "0", *inputs, *arguments, *NO_TEXT, "-"]) as process:
        for frame in shown_frames(process.lines()):
            if frame is None:
                damaged = True
                continue
            frames += 1
            if frame.pts is not None:
                times.append(frame.pts * frame.tick)
            if frames % REPORT_EVERY == 0:
                yield frames
                if time.monotonic() > stop_at:
                    complete = False
                    break
        failed = complete and process.process.wait() != 0
        damage = process.first_error() if failed or damaged else None
    yield _summary(info, frames, times, complete=complete, damage=damage)


def _summary(info: VideoInfo, frames: int, times: list[Fraction], *, complete: bool, damage: str | None) -> Timing:
    times = [time - times[0] for time in times]
    gaps = {later - earlier for earlier, later in pairwise(times)}
    sound = len(times) == frames and all(gap > 0 for gap in gaps)
    fps = measure_rate(times, info.fps) if sound and frames else info.fps
    stored = with_last_frame(info).last_seconds if complete and damage is None else None
    return Timing(
        frames=frames,
        fps=fps,
        seconds=(times[-1] if times else 0) + (stored or 1 / fps if frames else Fraction(0)),
        constant=max(gaps) - min(gaps) <= _slack(info) if len(times) > 2 else None,
        shortest_gap=min(gaps, default=None),
        longest_gap=max(gaps, default=None),
        complete=complete,
        damage=damage,
    )


def _slack(info: VideoInfo) -> Fraction:
    """Allowed difference between gaps of a constant rate: jitter, and a tick if a frame is not a whole number of
    ticks."""
    is_whole = (1 / info.fps / info.time_base).denominator == 1
    return UNEVEN_SECONDS + (0 if is_whole else info.time_base)
