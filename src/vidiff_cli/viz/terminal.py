"""Frames as terminal characters: the upper half block, whose two colors are two pixels one above the other.

Legend: n frames, h and w pixels, c = 3 colors; a character is as wide as a pixel and as tall as two.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image
from rich.color import Color
from rich.style import Style
from rich.text import Text

from vidiff_cli.errors import VidiffError
from vidiff_cli.frames import evenly_spaced
from vidiff_cli.luma import LUMA

HALF = "▀"
SHADES = " .:-=+*#%@"  # from dark to bright, where there is no color: signs that every terminal has
CELL = 24  # signs that a frame should have, at least, where several stand beside each other
MOST_LINES, PICTURE_LINES = 20, 40  # of a frame of a clip, of a picture that stands alone
GAP = 1


def half_blocks(frames: np.ndarray, columns: int, *, color: bool = True, every: bool = False) -> list[Text]:
    """Draws frames (n h w c) uint8 as terminal lines of at most `columns` characters.

    Shows evenly spaced frames, as many as fit beside each other in 24 columns each; with `every` all of them, in as
    many rows as needed. Small frames are enlarged by a whole number, larger ones reduced by area. Without `color`,
    brightness is drawn with ASCII characters. Raises VidiffError for an array that is not a clip.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape or columns < 1:
        raise VidiffError("cannot draw frames", found=f"{frames.dtype} {frames.shape}, {columns} columns")
    fitting = max(1, (columns + GAP) // (CELL + GAP))
    if not every and len(frames) > fitting:
        frames = frames[evenly_spaced(len(frames), fitting)]
    beside = min(fitting, len(frames))
    max_lines = PICTURE_LINES if len(frames) == 1 else MOST_LINES
    width, height = _size(frames.shape[2], frames.shape[1], (columns + GAP) // beside - GAP, 2 * max_lines)
    draw = _colored if color else _shaded
    lines: list[Text] = []
    for first in range(0, len(frames), beside):
        cells = [draw(_resized(frame, width, height)) for frame in frames[first : first + beside]]
        lines += [Text("")] if lines else []
        lines += [Text(" " * GAP).join(parts) for parts in zip(*cells, strict=True)]
    return lines


def _size(width: int, height: int, most_width: int, most_height: int) -> tuple[int, int]:
    """Size of a frame in pixels: as large as fits, a whole multiple of the frame's own size if that is smaller."""
    scale = min(most_width / width, most_height / height)
    scale = scale if scale < 1 else int(scale)
    return max(1, min(most_width, round(width * scale))), max(1, min(most_height, round(height * scale)))


def _resized(frame: np.ndarray, width: int, height: int) -> np.ndarray:
    way = Image.Resampling.BOX if width < frame.shape[1] else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(np.ascontiguousarray(frame)).resize((width, height), way))


def _colored(frame: np.ndarray) -> list[Text]:
    """Lines of half blocks of a frame (h w c); an odd last row has an empty lower half."""
    lines = []
    for top in range(0, len(frame), 2):
        line = Text()
        below: Sequence[list[int] | None] = frame[top + 1].tolist() if top + 1 < len(frame) else [None] * len(frame[0])
        for upper, lower in zip(frame[top].tolist(), below, strict=True):
            line.append(HALF, Style(color=Color.from_rgb(*upper), bgcolor=Color.from_rgb(*lower) if lower else None))
        lines.append(line)
    return lines


def _shaded(frame: np.ndarray) -> list[Text]:
    """Lines of characters of a frame (h w c), one per two pixels, by luma (BT.601)."""
    luma = frame @ np.array(LUMA)
    if len(luma) % 2:
        luma = np.concatenate([luma, luma[-1:]])
    pairs = (luma[::2] + luma[1::2]) / 2
    places = np.minimum((pairs / 256 * len(SHADES)).astype(int), len(SHADES) - 1)
    return [Text("".join(SHADES[place] for place in row)) for row in places.tolist()]
