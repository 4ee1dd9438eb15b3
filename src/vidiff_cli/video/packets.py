"""Times of a file's packets, which ffmpeg lists without decoding: the rate that frames really have, and how long the
last one stays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from vidiff_cli.errors import VidiffError
from vidiff_cli.video import ffmpeg
from vidiff_cli.video.resample import LONGEST_FRAME_SECONDS

if TYPE_CHECKING:
    from vidiff_cli.video.probe import VideoInfo

DISCARDED = 4  # flag of a packet that is decoded and not shown
NO_TIME = -(2**62)  # ffmpeg's is below
MEASURED_PACKETS = 1000  # that a rate is measured on
ROUNDING_SECONDS = Fraction(1, 500)  # a stay that differs from a nominal frame by less is one


@dataclass(frozen=True, kw_only=True, slots=True)
class PacketTimes:
    """Times of frames in seconds, ascending, from 0; `last_seconds`, how long the last one stays (None: not stored);
    `hidden`, how many frames an edit list takes off the beginning."""

    times: tuple[Fraction, ...]
    last_seconds: Fraction | None
    hidden: int = 0


def read_packet_times(path: Path, *, limit: int | None = None) -> PacketTimes:
    """List the frame times of a file, or of its first `limit` packets. Without times in the file: none."""
    some = ["-frames:v", str(limit)] if limit else []
    arguments = ["-an", "-sn", "-dn", "-c", "copy", *some, "-f", "framecrc", "-"]
    tick, shown, decoded = Fraction(0), dict[int, int](), set[int]()  # by their time: how long they stay
    complete, hidden = True, 0
    with ffmpeg.Ffmpeg([*ffmpeg.input_arguments(path), *arguments], stdout=True) as process:
        for line in process.stdout:
            words = line.decode(errors="replace").replace(",", " ").split()
            if words[:1] == ["#tb"]:
                tick = Fraction(words[2])
            elif len(words) > 3 and not words[0].startswith("#"):
                before, at, stays = (int(word) for word in words[1:4])
                complete = complete and at > NO_TIME
                hidden += hidden == len(shown) and int(words[-1].removeprefix("F="), 16) & DISCARDED > 0
                decoded |= {before} if before > NO_TIME else set()
                shown[at] = stays
    ticks = sorted(shown if complete else decoded)  # in the order of decoding frames have the same rate
    if not ticks or not tick:
        return PacketTimes(times=(), last_seconds=None)
    stay = shown[ticks[-1]] if complete else 0
    return PacketTimes(
        times=tuple((each - ticks[0]) * tick for each in ticks),
        # a tick is what is written where nothing is known
        last_seconds=stay * tick if stay > 1 and stay * tick <= LONGEST_FRAME_SECONDS else None,
        hidden=hidden,
    )


def partly_shown_start(path: Path) -> Fraction | None:
    """The time of the first frame, by the file's clock, if an edit list begins while it is shown; else None.

    ffmpeg leaves such a frame out, though the list takes off a part of its time only.
    """
    arguments = ["-an", "-sn", "-dn", "-c", "copy", "-frames:v", "1", "-f", "framecrc", "-"]
    inputs = ffmpeg.input_arguments(path, ["-advanced_editlist", "0"])  # which shifts times and drops nothing
    with ffmpeg.Ffmpeg(["-copyts", *inputs, *arguments], stdout=True) as process:
        text = process.stdout.read().decode(errors="replace")
    lines = [line.replace(",", " ").split() for line in text.splitlines()]
    tick = next((Fraction(words[2]) for words in lines if words[:1] == ["#tb"]), None)
    first = next((words for words in lines if words and not words[0].startswith("#")), None)
    if tick is None or first is None:
        return None
    start, stays = int(first[2]) * tick, int(first[3]) * tick
    return start if start < 0 < start + stays else None


def with_last_frame(info: VideoInfo) -> VideoInfo:
    """The info with the time that the last frame stays, where the file stores another than a nominal frame's."""
    if info.is_image or info.pictures or info.last_seconds is not None:
        return info
    try:
        stay = read_packet_times(info.path).last_seconds
    except VidiffError:  # gone since it was probed: whoever reads it says so
        return info
    usual = 1 / info.fps
    return info if stay is None or abs(stay - usual) <= ROUNDING_SECONDS else replace(info, last_seconds=stay)
