"""When the frames of a file really appear: all of it decoded, no picture kept. Headers announce; this counts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from vidiff_cli.video import ffmpeg
from vidiff_cli.video.ffmpeg_backend import PTS
from vidiff_cli.video.probe import CONFIG, VideoInfo
from vidiff_cli.video.resample import measured_rate

REPORT_EVERY = 100  # frames between two signs of life
UNEVEN_SECONDS = Fraction(1, 500)  # cameras jitter by less; a rate that varies does so by more


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """`frames` decoded at `fps`: the nominal rate where the times agree with it, else their mean.

    `seconds` goes from the first frame to the end of the last, which lasts 1 / fps.
    `constant`: all gaps between frames are equal but for what rounded timestamps explain; None below two gaps.
    `complete` is False where counting was stopped; `damage` says in ffmpeg's words why decoding failed part-way.
    """

    frames: int
    fps: Fraction
    seconds: Fraction
    constant: bool | None
    shortest_gap: Fraction | None
    longest_gap: Fraction | None
    complete: bool
    damage: str | None


def count(info: VideoInfo, *, patience_seconds: float) -> Iterator[int | Timing]:
    """Decodes a video and yields how many frames came so far, now and then; at last its `Timing`.

    It stops after `patience_seconds`: what is known by then counts. VidiffError where ffmpeg cannot be started.
    """
    look = ["-an", "-sn", "-dn", "-vf", ffmpeg.SHOWINFO, "-fps_mode", "passthrough", "-f", "null", "-"]
    stop_at, complete = time.monotonic() + patience_seconds, True
    tick, frames, times = info.time_base, 0, list[Fraction]()
    with ffmpeg.Ffmpeg(["-max_error_rate", "0", *ffmpeg.reading(info.path), *look]) as process:
        for line in process.lines():
            if config := CONFIG.search(line):
                tick = Fraction(int(config[1]), int(config[2]))
            if not (found := PTS.search(line)):
                continue
            frames += 1
            if found[1] != "NOPTS":
                times.append(int(found[1]) * tick)
            if frames % REPORT_EVERY == 0:
                yield frames
                if time.monotonic() > stop_at:
                    complete = False
                    break
        failed = complete and process.process.wait() != 0
        damage = process.complaint() if failed else None
    yield _summary(info, frames, times, complete=complete, damage=damage)


def _summary(info: VideoInfo, frames: int, times: list[Fraction], *, complete: bool, damage: str | None) -> Timing:
    times = [time - times[0] for time in times]
    gaps = {later - earlier for earlier, later in pairwise(times)}
    sound = len(times) == frames and all(gap > 0 for gap in gaps)
    fps = measured_rate(times, info.fps) if sound and frames else info.fps
    return Timing(
        frames=frames,
        fps=fps,
        seconds=(times[-1] if times else 0) + (1 / fps if frames else Fraction(0)),
        constant=max(gaps) - min(gaps) <= _slack(info) if len(times) > 2 else None,
        shortest_gap=min(gaps, default=None),
        longest_gap=max(gaps, default=None),
        complete=complete,
        damage=damage,
    )


def _slack(info: VideoInfo) -> Fraction:
    """How much the gaps of a constant rate may differ: a tick where a frame is no whole number of ticks, and jitter."""
    whole = (1 / info.fps / info.time_base).denominator == 1
    return UNEVEN_SECONDS + (0 if whole else info.time_base)
