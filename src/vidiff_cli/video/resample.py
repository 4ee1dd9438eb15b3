"""Selection of frames by their times for an exact output rate."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from statistics import median_low
from typing import TYPE_CHECKING

import numpy as np

from vidiff_cli.errors import VidiffError

if TYPE_CHECKING:
    from vidiff_cli.video.probe import VideoInfo

# Time from the first frame in units of `unit`, (h w c) uint8; without a frame: the last one's end, where it is known.
TimedFrame = tuple[int, np.ndarray | None]
FrameInSeconds = tuple[Fraction, np.ndarray]  # in seconds

LONGEST_FRAME_SECONDS = 600  # a broken timestamp must not fill the memory with copies of one frame
PAUSE = 3  # times the usual gap: a longer one says nothing about the rate


def time_unit(info: VideoInfo) -> Fraction:
    """Seconds of a time unit of which a tick of the file and a nominal frame are whole multiples: integers are fast."""
    return Fraction(1, math.lcm(info.time_base.denominator, info.fps.numerator))


def to_seconds(source: Iterator[TimedFrame], info: VideoInfo) -> Iterator[FrameInSeconds]:
    """Yields every frame with its own time in seconds."""
    seconds = time_unit(info)
    for time, frame in source:
        if frame is not None:
            yield time * seconds, frame


def resample(source: Iterator[TimedFrame], fps: Fraction, info: VideoInfo) -> Iterator[FrameInSeconds]:
    """Yields as output k the last frame with a time <= k / fps.

    The last frame lasts one nominal frame unless its stay is known. Containers with coarse ticks (1 ms in
    WebM, 10 ms in GIF) store rounded times; their frames may be one tick late.
    """
    exact = (1 / info.fps / info.time_base).denominator == 1
    slack = Fraction(0) if exact else min(info.time_base, 1 / info.fps / 4)
    # In whole numbers of 1 / scale seconds: a unit, an output frame, a nominal frame and the slack.
    lasts = info.last_seconds or 1 / info.fps
    scale = math.lcm(time_unit(info).denominator, fps.numerator, slack.denominator, lasts.denominator)
    durations = time_unit(info), 1 / fps, lasts, slack
    units, step, frame_lasts, late = (int(duration * scale) for duration in durations)
    count, before, held = 0, 0, None
    for time, frame in source:
        time *= units
        if held is not None and time - before > LONGEST_FRAME_SECONDS * scale:
            raise VidiffError(
                f"{info.path} shows one frame for {(time - before) / scale:.0f} s", fix="cut the file there"
            )
        before = time
        while held is not None and count * step + late < time:
            yield count / fps, held
            count += 1
        if frame is None:
            frame_lasts = 0
            break
        held = frame
    while held is not None and count * step < before + frame_lasts - late:
        yield count / fps, held
        count += 1


def measure_rate(times: list[Fraction], nominal: Fraction) -> Fraction:
    """The nominal rate if the times agree with it (within half a percent or 2 ms), else a usual rate near the mean,
    else the mean. Pauses, gaps of more than three times the usual one, do not count."""
    gaps = [later - earlier for earlier, later in pairwise(times)]
    if not gaps:
        return nominal
    longest = PAUSE * median_low(gaps)
    gaps = [gap for gap in gaps if gap <= longest]
    count, span = len(gaps), sum(gaps, Fraction(0))
    if span <= 0:
        return nominal
    mean = count / span
    whole = Fraction(round(mean))
    usual = sorted((whole, whole * Fraction(1000, 1001)), key=lambda rate: abs(rate - mean))
    for rate in (nominal, *usual):
        if rate and abs(span - count / rate) <= max(span / 200, Fraction(1, 500)):
            return rate
    return mean.limit_denominator(1001)
