"""Difference of every frame to the one before, and the frames at which scenes begin.

Everything is measured on thumbnails of decoded, scaled and cropped frames: about 32 blocks across the short side,
whatever the size of the clip, so that scores are comparable between sizes and noise is averaged out.

Legend: n frames, h height, w width, c = 3 RGB; m numbers of a thumbnail.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from vidiff_cli.luma import LUMA

THUMBNAIL_SIDE = 32  # blocks across the short side, about
SAMPLES = 4  # rows and columns of a block that are looked at, at most: the cost of a large frame stays small

CUT_CHANGE = 12.0  # of 255: less than this is never a cut
CUTS = (  # change over the changes around it, `new`, `redrawn`: a cut has more than all three of one row
    (1.6, 0.90, 0.80),
    (3.0, 0.75, 0.60),
    (4.5, 0.65, 0.50),
    (6.0, 0.50, 0.40),
    (10.0, 0.45, 0.00),  # one color, then another
)
NEIGHBORS = 2  # moving frames on either side that a change is compared with
REACH = 5  # frames in which they are looked for
STILL = 0.5  # a smaller change is a repeated frame, encoded again

COARSE_SIDE = 16  # of the still smaller picture whose tiles are looked for in the frame before
TILE = 4  # pixels of it
SEARCH = 2  # pixels of it in every direction: an eighth of the short side
NEW = 0.7  # a tile is new when what differs is more than this part of its own contrast
FLAT = 4.0  # of 255: contrast below which a tile has none

FLASHES = (2, 3)  # a flash is over when a frame looks like the one so many before it: one or two bright frames
FLASH_LIGHT = 4.0  # of 255: by so much a flash is brighter than what it interrupts


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameScores:
    """One number per frame, float64 (n,).

    `change`: mean |difference| to the frame before over all colors of a thumbnail, 0..255; 0 for the first frame, and
    for a frame that repeats the one before exactly. `spread`: standard deviation of luma over the thumbnail, 0..128.
    `brightness`: mean luma, 0..255.

    Only where `change` is above 12, to tell cuts from movement and light: `new`, the part of the picture that is not in
    the frame before even a little elsewhere (0..1); `redrawn`, how little of the drawing of a typical tile is (1: none,
    0: all, whatever its brightness); `back` (n, 2), `change` as to the second and the third last frame that differed.
    Elsewhere they are 0, 0 and 255.
    """

    change: np.ndarray
    spread: np.ndarray
    brightness: np.ndarray
    new: np.ndarray
    redrawn: np.ndarray
    back: np.ndarray

    def __len__(self) -> int:
        return len(self.change)


class SceneScorer:
    """Scores the frames of a video in one pass: `add` them block by block, then call `scores`.

    Holds three thumbnails and seven numbers per frame. The scores do not depend on the division into blocks, to the
    bit. All frames have one size.
    """

    def __init__(self) -> None:
        self._parts: list[tuple[np.ndarray, ...]] = []
        self._held: np.ndarray | None = None  # (1..3 c h w): the last frames that differed from their predecessor

    def add(self, frames: np.ndarray) -> None:
        """Takes the next frames, uint8 (n h w c)."""
        if not len(frames):
            return
        small = thumbnails(frames)
        luma = _luma(small).reshape(len(small), -1)
        spread, brightness = luma.std(axis=1, dtype=np.float64), luma.mean(axis=1, dtype=np.float64)
        held = small[:0] if self._held is None else self._held
        compared, self._held = _compared(held, small)
        self._parts.append((compared[0], spread, brightness, *compared[1:]))

    def scores(self) -> FrameScores:
        """The scores of all frames added so far."""
        empty = (*[np.zeros(0)] * 5, np.zeros((0, len(FLASHES))))
        joined = [np.concatenate(each) for each in zip(empty, *self._parts, strict=True)]
        change, spread, brightness, new, redrawn, back = joined
        return FrameScores(change=change, spread=spread, brightness=brightness, new=new, redrawn=redrawn, back=back)


def thumbnails(frames: np.ndarray) -> np.ndarray:
    """Means over blocks of pixels: uint8 (n h w c) -> float32 (n c h' w'), 0..255, the short side about 32 or as it is.

    Pixels that fill no block at the edges are left out, and of large blocks four evenly spaced rows and columns count.
    """
    count, height, width, colors = frames.shape
    side = max(1, round(min(height, width) / THUMBNAIL_SIDE))
    rows, columns = height // side, width // side
    top, left = (height - rows * side) // 2, (width - columns * side) // 2
    taken = min(side, SAMPLES)
    offsets = [index * side // taken for index in range(taken)]
    lines = np.zeros((count, rows, columns * side, colors), dtype=np.uint16)
    for offset in offsets:
        lines += frames[:, top + offset : top + rows * side : side, left : left + columns * side]
    sums = np.zeros((count, colors, rows, columns), dtype=np.float32)
    for color in range(colors):  # plane by plane: an innermost axis of three is slow
        for offset in offsets:
            sums[:, color] += lines[:, :, offset::side, color]
    return sums / np.float32(taken * taken)


def _compared(held: np.ndarray, small: np.ndarray) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """(change, new, redrawn, back) of thumbnails (n c h w) that follow `held` (0..3 c h w), and the next `held`."""
    known, everything = len(held), np.concatenate([held, small])
    change = np.zeros(len(everything))
    change[1:] = _distance(everything[1:], everything[:-1])
    differs = change > 0
    differs[:1] = True
    distinct = np.flatnonzero(differs)
    new, redrawn = np.zeros(len(everything)), np.zeros(len(everything))
    back = np.full((len(everything), len(FLASHES)), 255.0)
    for place in np.flatnonzero(change[distinct] > CUT_CHANGE):
        index = distinct[place]
        if index < known:
            continue
        new[index], redrawn[index] = _novelty(*_coarse(everything[index - 1 : index + 1]))
        for column, lag in enumerate(FLASHES):
            if place >= lag:
                back[index, column] = _distance(everything[index], everything[distinct[place - lag]])
    found = tuple(each[known:] for each in (change, new, redrawn, back))
    return found, everything[distinct[-max(FLASHES) :]].copy()


def _luma(small: np.ndarray) -> np.ndarray:
    """Luma of thumbnails (n c h w): (n h w), pixel by pixel, because the rounding of a matrix product depends on n."""
    red, green, blue = np.moveaxis(small, 1, 0)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def _distance(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Mean |difference| of (... c h w): multiples of 2^-27, so that the float64 sum is exact in any order."""
    difference = np.subtract(rows, others)
    np.abs(difference, out=difference)
    return difference.mean(axis=(-3, -2, -1), dtype=np.float64)


def _coarse(small: np.ndarray) -> np.ndarray:
    """Luma of thumbnails (n c h w), about 16 pixels on the short side or as it is: (n h' w')."""
    luma = _luma(small)
    side = max(1, round(min(luma.shape[1:]) / COARSE_SIDE))
    rows, columns = luma.shape[1] // side, luma.shape[2] // side
    blocks = luma[:, : rows * side, : columns * side].reshape(-1, rows, side, columns, side)
    return blocks.mean(axis=(2, 4))


def _novelty(before: np.ndarray, now: np.ndarray) -> tuple[float, float]:
    """(`new`, `redrawn`) of a coarse picture (h w): every tile is searched for in the previous one, with small shifts.

    As an encoder chooses between prediction from the previous frame and intra coding.
    """
    elsewhere, here = _tiles(*now.shape)
    tiles = now.ravel()[here]  # pixels, tiles
    moved = np.pad(before, SEARCH, mode="edge").ravel()[elsewhere]  # pixels, places, tiles
    difference = tiles[:, None] - moved
    apart = np.abs(difference).mean(axis=0).min(axis=0)
    difference -= difference.mean(axis=0)
    apart_in_drawing = np.abs(difference).mean(axis=0).min(axis=0)
    contrast = np.maximum(np.abs(tiles - tiles.mean(axis=0)).mean(axis=0), FLAT)
    return float((apart > NEW * contrast).mean()), float(np.median(apart_in_drawing / contrast))


@cache
def _tiles(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the pixels of every tile: in the padded picture for all shifts (pixels, places, tiles), and without a
    shift."""
    tall, wide = min(TILE, height), min(TILE, width)
    y, x = (each.ravel() for each in np.mgrid[:tall, :wide])
    top, left = (each.ravel() for each in np.mgrid[: height - tall + 1 : tall, : width - wide + 1 : wide])
    down, right = (each.ravel() for each in np.mgrid[: 2 * SEARCH + 1, : 2 * SEARCH + 1])
    rows = y[:, None, None] + down[:, None] + top
    columns = x[:, None, None] + right[:, None] + left
    return rows * (width + 2 * SEARCH) + columns, (y[:, None] + top) * width + x[:, None] + left


def scene_starts(scores: FrameScores) -> tuple[int, ...]:
    """First frames of the scenes between hard cuts; always begins with 0.

    A cut stands out of the changes around it and shows a picture that was not there before. What moves, however fast,
    is found again a little elsewhere; pans, noise, strobes and fades change many frames in a row; a flash ends with the
    picture that it began with. Frames that are repeated (pulldown, a captured screen) neither hide nor fake a cut.
    """
    lit = _flashes(scores)
    candidates = (int(index) for index in np.flatnonzero(scores.change > CUT_CHANGE))
    return (0, *(index for index in candidates if index > 0 and index not in lit and _is_cut(scores, index)))


def _is_cut(scores: FrameScores, index: int) -> bool:
    """The more a change stands out, the less of the picture has to be new. Chosen on real films at 5 to 30 frames per
    second (docs/filters.md): there `new` is at least 0.94 at a cut, and `redrawn` 0.78."""
    ratio = scores.change[index] / max(_around(scores.change, index), STILL)
    new, redrawn = scores.new[index], scores.redrawn[index]
    return any(ratio > least and new >= part and redrawn >= drawing for least, part, drawing in CUTS)


def _around(change: np.ndarray, index: int) -> float:
    """Median of the changes of the nearest moving frames, two on either side within reach; 0 for absent ones.

    At the beginning and end of a video, more are taken from the other side.
    """
    before, after = change[1:index][::-1], change[index + 1 :]
    left = min(NEIGHBORS, len(before))
    right = min(2 * NEIGHBORS - left, len(after))
    left = min(2 * NEIGHBORS - right, len(before))
    near: list[float] = []
    for values, wanted in ((before, left), (after, right)):
        within = values[: max(REACH, wanted)]
        moving = within[within > STILL][:wanted].tolist()
        near += moving + [0.0] * (wanted - len(moving))
    return float(np.median(near)) if near else 0.0


def _flashes(scores: FrameScores) -> set[int]:
    """Frames at which one or two brighter frames that interrupt a scene begin or end."""
    distinct = [0, *(int(index) for index in np.flatnonzero(scores.change > 0))]
    found: set[int] = set()
    for place, index in enumerate(distinct):
        for column, lag in enumerate(FLASHES):
            if place < lag or 2 * scores.back[index, column] >= scores.change[index]:
                continue
            inside = distinct[place - lag + 1 : place]
            outside = max(scores.brightness[index], scores.brightness[distinct[place - lag]])
            if all(scores.brightness[each] > outside + FLASH_LIGHT for each in inside):
                found.update((*inside, index))
    return found
