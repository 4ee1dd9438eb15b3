"""Frames made at the model's size carried to the input's size, between the input's own frames, which stay untouched.

A model works on a picture of its own size, so what it makes is smaller than the input and may be a little darker,
lighter or flatter. Here it is enlarged, and its colors are moved to those of the given frames where the two meet.
Detail that the model never saw does not come back.

Legend: small frames (h w c) and full-size ones (H W c), uint8 RGB; a rank is a frame's place in time, as in `frames`.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from vidiff_cli.errors import VidiffError
from vidiff_cli.video.decode import read
from vidiff_cli.video.probe import VideoInfo

USUAL_CONTRAST = 0.02  # logarithm: most neighbors in real clips differ by less, and then nothing is to be mended
MOST_CONTRAST = 0.22
MOST_OFFSET = 24.0  # 8-bit levels: where more is missing, the given frame shows something else (a cut)
LEVELS = np.arange(256.0)[:, None]  # of every channel (256 1)


class FrameReader(Protocol):
    """Frames by rank: an array (n h w c), mapped or not, or a file of them."""

    def __getitem__(self, rank: int, /) -> np.ndarray: ...


def native_size(width: int, height: int, short: int, multiple: int) -> tuple[int, int]:
    """The size (w, h) at which a model sees all of a picture: short side about `short`, both multiples of `multiple`.

    Nothing is cropped; the picture is stretched by what rounding to the multiple takes.
    """
    scale = Fraction(short, min(width, height) * multiple)
    return max(1, round(width * scale)) * multiple, max(1, round(height * scale)) * multiple


def full_size(
    source: str | Path | VideoInfo,
    *,
    fps: Fraction | None = None,
    size: tuple[int, int] | None = None,
    crop: tuple[int, int] | None = None,
) -> Iterator[np.ndarray]:
    """The frames of a video or a photo one after the other, at their own size or at `size` (w, h); the rest as `read`.

    Where a decoder gives up part-way, the next one goes on after the last frame that was handed out.
    Errors: VidiffError as `read`.
    """
    count = 0
    for reading in read(source, fps=fps, size=size, crop=crop):
        place = 0
        for _, frames in reading.blocks:
            fresh = frames[max(0, count - place) :]
            place += len(frames)
            count = max(count, place)
            yield from fresh


def native(
    small: FrameReader, given: Mapping[int, int], written: Sequence[int], full: Iterator[np.ndarray]
) -> Iterator[np.ndarray]:
    """One full-size frame for every rank of `written` (ascending; a held rank repeats).

    `given` maps ranks to the indices of their source frames in `full`, which is read once, in order: those frames are
    handed out as they are. All other ranks are enlarged from `small`, of which only they and given ranks are looked at
    (never those that repeat an earlier given frame). Their colors are moved twice: to those of the given frames that
    they meet, and by what the decoder rounds differently at the two sizes, which is up to two levels.
    Memory: a few frames. Errors: VidiffError where `full` ends before the last frame that is written.
    """
    ranks = sorted(given)
    places = {given[rank]: rank for rank in reversed(ranks)}  # where each source frame is shown first
    joins, sources = _Joins(small, {rank: places[given[rank]] for rank in ranks}), _Sources(full)
    latest, measured = given[ranks[0]], -1
    for rank, repeats in groupby(written):
        if rank in given:
            latest = given[rank]
            shown = sources.frame(latest)
        else:
            if measured != latest:
                whole, measured = sources.frame(latest), latest
                rounding = whole.mean(axis=(0, 1)) - small[places[latest]].mean(axis=(0, 1))
            table = joins.match(rank).of(LEVELS) + rounding
            shown = np.asarray(enlarged(small[rank], whole.shape[1::-1]).point(_eight_bits(table)))
        for _ in repeats:
            yield shown


class _Sources:
    """The frames of an iterator by their number, which never goes back."""

    def __init__(self, frames: Iterator[np.ndarray]) -> None:
        self.frames, self.number, self.last = frames, -1, np.empty(0)

    def frame(self, number: int) -> np.ndarray:
        assert number >= self.number, "source frames come in order"
        while self.number < number:
            found = next(self.frames, None)
            self.number += 1
            if found is None:
                what, expected = "the input has fewer frames than before", f"at least {number + 1}"
                raise VidiffError(what, found=self.number, expected=expected)
            self.last = found
        return self.last


def enlarged(small: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """A frame (h w c) at `size` (w, h) by Lanczos' filter, without its overshoot at edges.

    No pixel leaves the range of the small pixels around it.
    """
    image = Image.fromarray(np.ascontiguousarray(small))
    shrinks = max(1, -(-image.width // size[0]), -(-image.height // size[1]))
    lowest, highest = (
        image.filter(kind(2 * shrinks + 1)).resize(size, Image.Resampling.BILINEAR)
        for kind in (ImageFilter.MinFilter, ImageFilter.MaxFilter)
    )
    smooth = image.resize(size, Image.Resampling.LANCZOS)
    return ImageChops.darker(ImageChops.lighter(smooth, lowest), highest)


@dataclass(frozen=True, slots=True)
class Match:
    """Colors moved per channel (c): `gain` around the level `middle`, then `offset`; in 8-bit levels."""

    gain: np.ndarray
    middle: np.ndarray
    offset: np.ndarray

    def of(self, levels: np.ndarray) -> np.ndarray:
        """What becomes of levels (... c)."""
        return (levels - self.middle) * self.gain + self.middle + self.offset


UNCHANGED = Match(np.ones(3), np.zeros(3), np.zeros(3))


def matched(given: np.ndarray, made: np.ndarray) -> Match:
    """What takes the colors of a made frame (h w c) to those of the given one beside it: contrast, then offset.

    The offset is the mean of the middle half of the differences: what moves, comes or goes covers less than a quarter
    of the picture on either side, as a rule, and a fault of the model's colors covers all of it. Contrast is the
    standard deviation, and moves by what goes beyond the difference that neighbors have anyhow.
    """
    wanted, there = _pixels(given), _pixels(made)
    middle = there.mean(axis=0)
    apart = np.log((wanted.std(axis=0) + 1) / (there.std(axis=0) + 1))  # one level: a flat picture has no contrast
    gain = np.exp(np.sign(apart) * np.clip(np.abs(apart) - USUAL_CONTRAST, 0, MOST_CONTRAST))
    differences = np.sort(wanted - middle - (there - middle) * gain, axis=0)
    quarter = len(differences) // 4
    return Match(gain, middle, differences[quarter : len(differences) - quarter].mean(axis=0))


def _pixels(frame: np.ndarray) -> np.ndarray:
    return frame.reshape(-1, frame.shape[-1]).astype(np.float64)


def _eight_bits(table: np.ndarray) -> list[int]:
    """Levels (256 c) as Pillow takes them: one channel after the other."""
    return np.clip(table + 0.5, 0, 255).astype(np.uint8).T.ravel().tolist()


class _Joins:
    """The matches of the gap that was asked for last: ranks are asked for in ascending order."""

    def __init__(self, small: FrameReader, given: Mapping[int, int]) -> None:
        """`given`: ranks, ascending, and the ranks that show the same."""
        self.small, self.given, self.same = small, list(given), given
        self.gap, self.sides = -1, list[tuple[int, Match]]()

    def match(self, rank: int) -> Match:
        """Between two joins linear in the rank, beyond the outermost the nearest one's."""
        gap = bisect(self.given, rank)
        if gap != self.gap:
            before, after = self.given[max(0, gap - 1) : gap], self.given[gap : gap + 1]
            meeting = [(each, each + 1) for each in before] + [(each, each - 1) for each in after]
            found = [(each, matched(self.small[self.same[each]], self.small[made])) for each, made in meeting]
            self.gap, self.sides = gap, [side for side in found if np.abs(side[1].offset).max() <= MOST_OFFSET]
        if not self.sides:
            return UNCHANGED
        (first, start), (last, end) = self.sides[0], self.sides[-1]
        share = (rank - first) / (last - first) if last > first else 0.0
        parts = zip((start.gain, start.middle, start.offset), (end.gain, end.middle, end.offset), strict=True)
        return Match(*((1 - share) * one + share * other for one, other in parts))
