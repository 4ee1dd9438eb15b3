"""Two videos beside each other, frame by frame: the source and the result.

Legend: h and w pixels, c = 3 colors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, zip_longest

import numpy as np
from PIL import Image, ImageDraw

from vidiff_cli.errors import VidiffError
from vidiff_cli.viz.contact_sheet import FAINT, INK, PAGE
from vidiff_cli.viz.fonts import load_font

SMALL = 192  # pixels: frames whose long side is smaller are enlarged, so that the labels find room
STRIP, LETTERS = 20, 13  # pixels: height of the labels' strip, and of its letters
DIVIDER = 2


def side_by_side(
    left: Iterable[np.ndarray], right: Iterable[np.ndarray], *, labels: tuple[str, str] = ("input", "result")
) -> Iterator[np.ndarray]:
    """Yields frames, uint8 (h w c), with `left` and `right` beside each other below their labels.

    Both are frames (h w c) uint8 at one rate; the last frame of the shorter one is held. Frames below 192 pixels are
    enlarged by a whole number without smoothing; the lower picture is centered vertically. Width and height are even,
    as H.264 requires. Raises VidiffError for a side without frames, or whose frames change their size.
    """
    sides = [_enlarged(frames, label) for frames, label in zip((left, right), labels, strict=True)]
    firsts = [next(side) for side in sides]
    offsets = (0, firsts[0].shape[1] + DIVIDER)
    height, width = STRIP + max(len(first) for first in firsts), offsets[1] + firsts[1].shape[1]
    page = np.full((height + height % 2, width + width % 2, 3), PAGE, np.uint8)
    page[:, offsets[1] - DIVIDER : offsets[1]] = FAINT  # to be seen between dark frames and between bright ones
    for first, offset, label in zip(firsts, offsets, labels, strict=True):
        page[:STRIP, offset : offset + first.shape[1]] = _strip(label, first.shape[1])
    for pair in zip_longest(*(chain([first], side) for first, side in zip(firsts, sides, strict=True))):
        for frame, offset in zip(pair, offsets, strict=True):
            if frame is not None:  # a side that has ended keeps its last frame on the page
                top = STRIP + (height - STRIP - len(frame)) // 2
                page[top : top + len(frame), offset : offset + frame.shape[1]] = frame
        yield page.copy()


def _enlarged(frames: Iterable[np.ndarray], label: str) -> Iterator[np.ndarray]:
    shape: tuple[int, ...] = ()
    for frame in frames:
        shape = shape or frame.shape
        if frame.shape != shape:
            raise VidiffError(f"the frames of {label!r} change their size", found=frame.shape, expected=shape)
        factor = max(1, SMALL // max(shape[:2]))
        yield frame.repeat(factor, axis=0).repeat(factor, axis=1)
    if not shape:
        raise VidiffError(f"the video {label!r} has no frames")


def _strip(label: str, width: int) -> np.ndarray:
    """The label centered in a strip (h w c)."""
    image = Image.new("RGB", (width, STRIP), PAGE)
    ImageDraw.Draw(image).text((width / 2, STRIP / 2), label, fill=INK, font=load_font(LETTERS), anchor="mm")
    return np.asarray(image)
