"""Generated frames upscaled to the input's size, between the input's own frames, which stay untouched.

A model works at its own size, so its frames are smaller than the input and may be darker, lighter or flatter. They are
enlarged here and their colors are matched to the given frames beside them. Detail is not restored.

Legend: small frames (h w c) and full-size ones (H W c), uint8 RGB; a rank is a frame's position in time, as in
`frames`.
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
from vidiff_cli.video.decode import stream_frames
from vidiff_cli.video.probe import VideoInfo

USUAL_CONTRAST = 0.02  # logarithm: most neighbors in real clips differ by less, and then nothing is to be mended
MOST_CONTRAST = 0.7
MOST_OFFSET = 24.0  # 8-bit levels: where more is missing on one side alone, that given frame is of another scene
LEVELS = np.arange(256.0)[:, None]  # of every channel (256 1)


class FrameReader(Protocol):
    """Frames by rank: an array (n h w c) or a file of frames."""

    def __getitem__(self, rank: int, /) -> np.ndarray: ...


def model_size(width: int, height: int, short: int, multiple: int) -> tuple[int, int]:
    """The size (w, h) at which a model sees a whole frame: short side about `short`, both multiples of `multiple`.

    Nothing is cropped; rounding to the multiple changes the aspect ratio slightly.
    """
    scale = Fraction(short, min(width, height) * multiple)
    return max(1, round(width * scale)) * multiple, max(1, round(height * scale)) * multiple


def stream_full_size(
    source: str | Path | VideoInfo,
    *,
    fps: Fraction | None = None,
    size: tuple[int, int] | None = None,
    crop: tuple[int, int] | None = None,
) -> Iterator[np.ndarray]:
    """Yields the frames of a video or an image one by one, at their own size or at `size` (w, h).

    If a decoder fails part-way, the next one continues after the last frame that was yielded. Arguments and errors as
    `stream_frames`.
    """
    count = 0
    for attempt in stream_frames(source, fps=fps, size=size, crop=crop):
        place = 0
        for _, frames in attempt.blocks:
            fresh = frames[max(0, count - place) :]
            place += len(frames)
            count = max(count, place)
            yield from fresh


def restore_resolution(
    small: FrameReader,
    given: Mapping[int, int],
    written: Sequence[int],
    full: Iterator[np.ndarray],
    *,
    large: FrameReader | None = None,
) -> Iterator[np.ndarray]:
    """Yields one full-size frame for every rank of `written` (ascending; a held rank repeats). Memory: a few frames.

    Given frames are yielded unchanged. All other ranks are enlarged, and their colors corrected twice: by the match to
    the given frames next to them, and by the decoder's rounding difference between the two sizes (up to two levels).

    Args:
        small: frames at the model's size; read at generated and given ranks (never at repeats of a given frame).
        given: source frame index in `full` by rank.
        written: ranks of the result.
        full: source frames at full size, read once in order.
        large: the generated frames as an upscaler made them larger; what is enlarged is these.

    Raises:
        VidiffError: `full` ends before the last written frame.
    """
    ranks = sorted(given)
    places = {given[rank]: rank for rank in reversed(ranks)}  # where each source frame is shown first
    joins, sources = _ColorMatches(small, {rank: places[given[rank]] for rank in ranks}), SourceFrames(full)
    source_index, corrected_for = given[ranks[0]], -1
    for rank, repeats in groupby(written):
        if rank in given:
            source_index = given[rank]
            shown = sources.frame(source_index)
        else:
            if corrected_for != source_index:
                whole, corrected_for = sources.frame(source_index), source_index
                rounding = whole.mean(axis=(0, 1)) - small[places[source_index]].mean(axis=(0, 1))
            table = joins.match(rank).apply(LEVELS) + rounding
            made = small[rank] if large is None else large[rank]
            shown = np.asarray(enlarge(made, whole.shape[1::-1]).point(_eight_bits(table)))
        for _ in repeats:
            yield shown


class SourceFrames:
    """Frames of an iterator by their number, which must not decrease."""

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


def enlarge(small: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """Resizes a frame (h w c) to `size` (w, h) by Lanczos' filter without overshoot at edges.

    Every pixel stays within the range of the small pixels around it.
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
class ColorMatch:
    """An affine color correction per channel (c): `gain` around the level `middle`, then `offset`; in 8-bit levels."""

    gain: np.ndarray
    middle: np.ndarray
    offset: np.ndarray

    def apply(self, levels: np.ndarray) -> np.ndarray:
        """Corrected levels (... c)."""
        return (levels - self.middle) * self.gain + self.middle + self.offset


def match_colors(given: np.ndarray, made: np.ndarray) -> ColorMatch:
    """The correction from the colors of a generated frame (h w c) to those of the given one beside it.

    The offset is the mean of the middle half of the differences: as a rule, moving content covers less than a quarter
    of the picture on either side, while a color error of the model covers all of it. Contrast is the standard
    deviation; it changes by the part that exceeds the usual difference between neighbors.
    """
    target, source = _pixels(given), _pixels(made)
    middle = source.mean(axis=0)
    log_ratio = np.log((target.std(axis=0) + 1) / (source.std(axis=0) + 1))  # one level: a flat picture has no contrast
    gain = np.exp(np.sign(log_ratio) * np.clip(np.abs(log_ratio) - USUAL_CONTRAST, 0, MOST_CONTRAST))
    differences = np.sort(target - middle - (source - middle) * gain, axis=0)
    quarter = len(differences) // 4
    return ColorMatch(gain, middle, differences[quarter : len(differences) - quarter].mean(axis=0))


def _pixels(frame: np.ndarray) -> np.ndarray:
    return frame.reshape(-1, frame.shape[-1]).astype(np.float64)


def _eight_bits(table: np.ndarray) -> list[int]:
    """A table of levels (256 c) in Pillow's layout, channel by channel."""
    return np.clip(table + 0.5, 0, 255).astype(np.uint8).T.ravel().tolist()


def _is_near(match: ColorMatch) -> bool:
    return bool(np.abs(match.offset).max() <= MOST_OFFSET)


class _ColorMatches:
    """Color matches at both ends of the gap that was asked for last; ranks are asked for in ascending order."""

    def __init__(self, small: FrameReader, given: Mapping[int, int]) -> None:
        """`given`: ranks, ascending, and the ranks that show the same."""
        self.small, self.given, self.same = small, list(given), given
        self.gap, self.sides = -1, list[tuple[int, ColorMatch]]()

    def match(self, rank: int) -> ColorMatch:
        """The match at a rank: linear between both ends of a gap, the nearest one beyond the outermost."""
        gap = bisect(self.given, rank)
        if gap != self.gap:
            before, after = self.given[max(0, gap - 1) : gap], self.given[gap : gap + 1]
            meeting = [(each, each + 1) for each in before] + [(each, each - 1) for each in after]
            found = [(each, match_colors(self.small[self.same[each]], self.small[made])) for each, made in meeting]
            # Where it is missing on all sides, the model is at fault.
            self.gap, self.sides = gap, [side for side in found if _is_near(side[1])] or found
        (first, start), (last, end) = self.sides[0], self.sides[-1]
        share = (rank - first) / (last - first) if last > first else 0.0
        parts = zip((start.gain, start.middle, start.offset), (end.gain, end.middle, end.offset), strict=True)
        return ColorMatch(*((1 - share) * one + share * other for one, other in parts))
