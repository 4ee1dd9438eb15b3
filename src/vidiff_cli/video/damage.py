"""Damaged frames of a video, found by decoding all of it: whole groups of pictures are intact or lost.

A group reaches from one key frame to the next, in the order of display. An error in one of its frames spreads to the
others, in some codecs without a further message, so a group with an error is lost as a whole.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from vidiff_cli.video import ffmpeg
from vidiff_cli.video.shown_frames import NO_TEXT

DECODED = re.compile(r"decoder -> pts:(-?\d+|NOPTS) .* keyframe:(\d) .*time_base:(\d+)/(\d+)")
NO_PTS = "-9223372036854775808"
CORRUPT, DISCARD = 2, 4  # flags of packets
REORDERED = 16  # frames at most that a decoder holds back


@dataclass(frozen=True, kw_only=True, slots=True)
class Damage:
    """Damage of a video of `frames` decodable frames.

    `error`: ffmpeg's first complaint; `intact`: half-open ranges of frame numbers; `lost`: spans of seconds from the
    first frame (the end is None after the last intact frame); `first`: number of the first frame that may be wrong.
    """

    error: str
    frames: int
    intact: tuple[tuple[int, int], ...]
    lost: tuple[tuple[Fraction, Fraction | None], ...]
    first: int

    @property
    def count(self) -> int:
        """Number of intact frames."""
        return sum(stop - start for start, stop in self.intact)

    def is_intact(self, frame: int) -> bool:
        """True if a frame's group of pictures has no error."""
        return any(start <= frame < stop for start, stop in self.intact)

    def is_lost(self, start: Fraction, stop: Fraction) -> bool:
        """True if something between two times (seconds from the first frame, half open) is lost."""
        return any(begin < stop and (end is None or start < end) for begin, end in self.lost)

    def describe(self) -> str:
        """A sentence without the file's name: what was lost, and where."""
        stops = ["the end" if stop is None else f"{float(stop):.2f} s" for _, stop in self.lost]
        spans = [f"{float(start):.2f} s to {stop}" for (start, _), stop in zip(self.lost, stops, strict=True)]
        where = ", ".join(spans[:3]) + (f" and {len(spans) - 3} more times" if len(spans) > 3 else "")
        return f"damaged: {self.count} of {self.frames} frames kept, lost {where} ({self.error})"


class DamagedVideo(Exception):
    """A damaged frame was reached; `damage` is that of the whole file."""

    def __init__(self, damage: Damage) -> None:
        super().__init__(damage.describe())
        self.damage = damage


class _Frame(NamedTuple):
    time: int | None
    key: bool
    corrupt: bool


def find_damage(path: Path, options: Sequence[str] = ()) -> Damage | None:
    """Decodes a video and finds the groups of pictures with an error; None without one.

    `options` are ffmpeg's for reading the file. Raises VidiffError if ffmpeg cannot be started.
    """
    quiet = ["-an", "-sn", "-dn", *NO_TEXT]
    outputs = [*quiet, "-fps_mode", "passthrough", "-f", "null", "-", *quiet, "-c", "copy", "-f", "framecrc", "pipe:1"]
    with ffmpeg.Ffmpeg(["-debug_ts", *ffmpeg.input_arguments(path, options), *outputs], stdout=True) as process:
        packets = process.stdout.read().decode(errors="replace")
        process.process.wait()
        frames, failures, tick = _read_frames(process.log())
        error = process.first_error()
    if not frames:
        return None
    known = [frame.time for frame in frames if frame.time is not None]
    times = known if len(known) == len(frames) else list(range(len(frames)))
    keys, bad = _read_packets(packets, set(known), lost=bool(failures)) if times is known else (None, [])
    if keys is None:
        keys = [time for time, frame in zip(times, frames, strict=True) if frame.key]
        bad = [time for number in failures for time in times[number : number + REORDERED] or times[-1:]]
    bad += [time for time, frame in zip(times, frames, strict=True) if frame.corrupt]
    bad = [time for time in bad if time >= times[0]]  # what precedes the first frame cannot be shown by any decoder
    if not bad:
        return None
    groups = {bisect_right(keys, time) for time in bad}
    sound = [bisect_right(keys, time) not in groups for time in times]
    first = next((number for number, time in enumerate(times) if time >= min(bad)), len(times))
    return _summary(error, times, sound, tick, first)


def _read_frames(log: str) -> tuple[list[_Frame], list[int], Fraction]:
    """The decoded frames, how many of them came before each packet that failed, and the tick of their times."""
    frames, failures, corrupt, tick = list[_Frame](), list[int](), False, Fraction(1)
    for line in log.splitlines():
        if "corrupt decoded frame" in line:
            corrupt = True
        elif "Error submitting packet to decoder" in line:
            failures.append(len(frames))
        elif found := DECODED.search(line):
            time = None if found[1] == "NOPTS" else int(found[1])
            frames.append(_Frame(time, found[2] == "1", corrupt))
            corrupt, tick = False, Fraction(int(found[3]), int(found[4]))
    return frames, failures, tick


def _read_packets(text: str, shown: set[int], *, lost: bool) -> tuple[list[int] | None, list[int]]:
    """Times of key frames, in order, and of packets that are marked as corrupt, or (`lost`) have no frame.

    None where a packet has no time.
    """
    keys, bad = list[int](), list[int]()
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if line.startswith("#") or len(cells) < 6:
            continue
        flags = next((int(cell[2:], 16) for cell in cells[6:] if cell.startswith("F=")), 1)
        if cells[2] in (NO_PTS, "NOPTS"):
            return None, []
        time = int(cells[2])
        if flags & 1:
            keys.append(time)
        if flags & CORRUPT or (lost and time not in shown and not flags & DISCARD):
            bad.append(time)
    return sorted(keys), bad


def _summary(error: str, times: Sequence[int], sound: list[bool], tick: Fraction, first: int) -> Damage:
    intact, lost = list[tuple[int, int]](), list[tuple[Fraction, Fraction | None]]()
    number = 0
    while number < len(sound):
        stop = next((later for later in range(number, len(sound)) if sound[later] != sound[number]), len(sound))
        start = (times[number] - times[0]) * tick
        if sound[number]:
            intact.append((number, stop))
        else:
            lost.append((start, (times[stop] - times[0]) * tick if stop < len(times) else None))
        number = stop
    return Damage(error=error, frames=len(sound), intact=tuple(intact), lost=tuple(lost), first=first)
