"""The files of a completed video: the video itself, the proof that its given frames are the input's, and what --compare
shows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

import numpy as np

from vidiff_cli.errors import VidiffError
from vidiff_cli.tasks import generate as gen
from vidiff_cli.tasks.clip import Clip
from vidiff_cli.tasks.complete import Completed, Place, Settings, Work, compare_of, sources_of
from vidiff_cli.tasks.frame_file import Reel, Shown
from vidiff_cli.video.decode import read
from vidiff_cli.video.encode import encode, is_folder
from vidiff_cli.video.native import full_size, native

MOST_SEAMS = 8  # that a contact sheet marks


@dataclass(frozen=True, kw_only=True, slots=True)
class Sound:
    """How the sound of the first input goes with the result (see `encode`)."""

    delay: Fraction = Fraction(0)
    after: tuple[Path, Fraction] | None = None  # a second input's, and when its first frame is shown
    speed: Fraction = Fraction(1)
    stop: bool = False


def write_video(settings: Settings, clip: Clip, work: Work, place: Place, reel: Reel, sound: Sound) -> None:
    """The file of the result, with the sound and the facts (title, date, ...) of the first input."""
    line, own = work.timeline, settings.input
    encode(
        place.path,
        native(reel, sources_of(line), line.written, _whole(clip))
        if settings.resolution == "native"
        else reel.in_order(line.written),
        work.rate,
        lossless=settings.lossless,
        audio_from=own if settings.audio else None,
        audio_delay=sound.delay,
        audio_speed=sound.speed,
        audio_stop=sound.stop,
        audio_after=sound.after if settings.audio else None,
        metadata_from=own,
        overwrite=settings.overwrite,
        again=place.again,
    )


def _whole(clip: Clip) -> Iterator[np.ndarray]:
    """All given frames at the size of the first input."""
    size = (clip.info.width, clip.info.height)
    return chain.from_iterable(full_size(part.info, fps=part.fps, size=size) for part in clip.parts)


def largest_difference(settings: Settings, clip: Clip, work: Work, path: Path) -> int | None:
    """How far the given frames in a lossless file are from what was read, in 8-bit levels; None for other files.

    VidiffError where they differ at all.
    """
    if not settings.lossless or is_folder(path) or path.suffix.lower() != ".mkv":
        return None
    line = work.timeline
    largest = 0
    for reading in read(path):  # a second one begins anew
        ranks, number, frame, largest = iter(line.written), -1, None, 0
        given = _whole(clip) if settings.resolution == "native" else clip.frames.in_order(range(len(clip)))
        for _, block in reading.blocks:
            for written, rank in zip(block, ranks, strict=False):
                if rank not in line.given:
                    continue
                while number < line.given[rank]:
                    number, frame = number + 1, next(given)
                largest = max(largest, int(np.abs(written.astype(np.int16) - frame).max()))
    if largest:
        raise VidiffError(
            f"the given frames in {path} are not those of {settings.input}",
            found=f"a difference of {largest} of 255",
            expected="none, in a lossless file",
        )
    return largest


def compared(settings: Settings, clip: Clip, work: Work, done: Completed, place: Place) -> Path | None:
    """--compare: a contact sheet beside the result, and a video that shows the input beside it; the sheet's path."""
    if not settings.compare:
        return None
    from vidiff_cli.viewing.side_by_side import side_by_side

    line, sources = work.timeline, sources_of(work.timeline)
    there = sorted(sources)
    # the input as it is at that time: its last frame so far
    shown = [sources[there[max(0, bisect_right(there, rank) - 1)]] for rank in line.written]
    beside = side_by_side(clip.frames.in_order(shown), done.reel.in_order(line.written))
    encode(compare_of(place.path), beside, work.rate, overwrite=settings.overwrite, again=place.again)
    return compare_sheet(work, clip, done, place.path)


def compare_sheet(work: Work, clip: Clip, done: Completed, path: Path) -> Path:
    """What was given above the result, in which given frames and seams are marked."""
    from vidiff_cli.viewing.sheet import Row, contact_sheet

    line, reel = work.timeline, done.reel
    makers = {rank: number for number, window in enumerate(done.windows) for rank in window.makes}
    made = [makers.get(rank) for rank in line.written]  # None: not made
    meetings = [number for number in range(1, len(made)) if made[number] != made[number - 1]]
    seams = [number for number in meetings if None in (made[number - 1], made[number])]
    given = {number: number for number in range(len(clip))}
    rows = [
        Row(label="given", frames=Shown(Reel(reel.made, clip.frames, given), range(len(clip)))),
        Row(
            label="result",
            frames=Shown(reel, line.written),
            given=[number for number, rank in enumerate(line.written) if rank in line.given],
            seams=seams if len(seams) <= MOST_SEAMS else (),  # an interpolation has two at every frame
            borders=sorted(set(meetings) - set(seams)),
        ),
    ]
    return contact_sheet(rows, gen.sheet_of(path))
