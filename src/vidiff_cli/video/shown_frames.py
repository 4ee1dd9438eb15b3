"""Frames, and signs of damage, in the log that ffmpeg's decoder, filters and muxers write at the same time.

ffmpeg writes some lines in parts, and another thread may write between the parts: its line then begins in the middle of
a line, without the mark of who wrote it. No text of the file may be in the log behind the first line of the showinfo
filter (`NO_TEXT`), so that there only ffmpeg itself can have written what looks like such a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from vidiff_cli.video import ffmpeg

# For an output: tags of the input are not copied to it, and so not in the log where ffmpeg describes the output.
NO_TEXT = ("-map_metadata", "-1", "-map_chapters", "-1")

# ffmpeg ends its remark on an angle such as 45 degrees without a new line; what a file says never begins a line
ODD_ANGLE = r"^If you want to help, upload a sample of this file .*\(ffmpeg-devel@ffmpeg\.org\)"
CONFIG = re.compile(rf"(?:{ffmpeg.SHOWN}|{ODD_ANGLE})config in time_base: (\d+)/(\d+), frame_rate: (\d+)/(\d+)", re.M)
FRAME = re.compile(r"n: *\d+ pts: *(-?\d+|NOPTS) +pts_time:\S+ +duration: *(-?\d+) .* fmt:\S+ .* s:(\d+)x(\d+) i:")
# What ffmpeg says where a frame is damaged or missing; its exit status knows of some of these only.
SIGN = r"(?:corrupt decoded frame|Error submitting packet to decoder|corrupt input packet in)"
MARKED = re.compile(rf"\] \[(?:warning|error)\] {SIGN}")
UNMARKED = re.compile(SIGN)


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownFrame:
    """A frame in the log: `pts` and `duration` in units of `tick` seconds, `size` (w, h) before scaling.

    `pts` is None where the frame has no time; `duration` is 0 where the file stores none.
    """

    pts: int | None
    duration: int
    size: tuple[int, int]
    tick: Fraction


def shown_frames(lines: Iterator[str]) -> Iterator[ShownFrame | None]:
    """Yields each frame that a log tells of, in order, and None where it says that something is damaged or missing.

    The command needs the filter `ffmpeg.SHOWINFO`, and `NO_TEXT` at its output.
    """
    tick: Fraction | None = None
    for line in lines:
        if config := CONFIG.search(line):
            tick = Fraction(int(config[1]), int(config[2]))
        if (MARKED if tick is None else UNMARKED).search(line):
            yield None
        if tick is not None and (found := FRAME.search(line)):
            pts = None if found[1] == "NOPTS" else int(found[1])
            yield ShownFrame(pts=pts, duration=int(found[2]), size=(int(found[3]), int(found[4])), tick=tick)
