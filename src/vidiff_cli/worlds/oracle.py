"""Oracle of the shapes world: color, shape, size, direction and speed of the one object, from frames alone.

It reads true and generated clips, so it tolerates a background that is not quite black, noise of some percent, blur and
frames without an object. Attributes that cannot be determined are None (or nan).

Legend: t frames, h and w pixels; positions are centers (x, y) in pixels, pixel i covering [i, i + 1), as in shapes.py.
"""

from __future__ import annotations

import colorsys
from collections import Counter
from dataclasses import dataclass

import numpy as np

from vidiff_cli.errors import VidiffError
from vidiff_cli.worlds import shapes

FAINTEST = 24.0  # brightness over the background (mean of R, G and B, of 255) under which a clip shows nothing
OBJECT_LEVEL = 0.3  # of the peak: what counts as the object; noise on the background stays below
LEAST_AREA = 0.35  # of the area of the smallest object: with less there is nothing in a frame
LEAST_SATURATION = 0.25
FARTHEST_HUE = 40 / 360
MAJORITY = 2 / 3  # of the frames must show the same color
LEAST_LIKENESS = 0.75  # correlation with the best template
STILL = 0.4  # of the slow speed: slower is standing still
ERRATIC = 0.4  # of the path: with positions that far off the line on average, nothing travels along it
STEEPEST = 0.6  # of the main axis: what moves farther along the other one moves in none of the four directions


@dataclass(frozen=True, kw_only=True, slots=True)
class ShapeReading:
    """Attributes of a clip; None if the oracle cannot determine one."""

    color: str | None
    shape: str | None
    size: str | None
    direction: str | None
    speed: str | None
    positions: np.ndarray  # (t, 2) centers (x, y) in pixels, nan where nothing is seen
    speed_px_per_frame: float  # of the straight line fitted to the positions; nan without one
    residual_px: float  # root mean square distance of the positions from that line's uniform motion

    @property
    def attributes(self) -> dict[str, str | None]:
        """The five words by attribute."""
        return {name: getattr(self, name) for name in shapes.ATTRIBUTES}


def read_shape(frames: np.ndarray, *, stride: float = 1.0) -> ShapeReading:
    """Reads a clip: frames (t, h, w, 3) uint8, square.

    `stride` is the number of frames of the world from one of these frames to the next (2 for every other frame, 0.5
    after the rate was doubled); only the speed depends on it.
    """
    bright, excess = _foreground(frames)
    seen, centers = _locate(bright)
    velocity, residual = _motion(centers)
    pace = float(np.hypot(*velocity))
    travels = residual <= ERRATIC * pace * len(frames)
    color, shape, size = None, None, None
    if np.isfinite(centers).any():
        color = _color(excess, seen)
        shape, size = _shape_and_size(bright, centers)
    return ShapeReading(
        color=color,
        shape=shape,
        size=size,
        direction=_direction(velocity / stride, frames.shape[1]) if travels else None,
        speed=_speed(pace / stride, frames.shape[1]) if travels else None,
        positions=centers,
        speed_px_per_frame=pace,
        residual_px=residual,
    )


def positions(frames: np.ndarray) -> np.ndarray:
    """The center (x, y) of the object in every frame in pixels, nan where nothing is seen: (t, 2) float64."""
    return _locate(_foreground(frames)[0])[1]


def _foreground(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Brightness (t, h, w) and RGB (t, h, w, 3) over the background, which is the median pixel of the clip."""
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.shape[1] != frames.shape[2] or not frames.size:
        raise VidiffError("The oracle reads square RGB clips", found=frames.shape, expected="(frames, c, c, 3)")
    excess = frames - np.median(frames, axis=(0, 1, 2))
    return excess.mean(3), excess


def _locate(bright: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of the object (t, h, w) bool and their centroids (t, 2)."""
    canvas = bright.shape[1]
    smallest = shapes.ARM * (2 - shapes.ARM) * (canvas * min(shapes.SIZES.values())) ** 2  # the area of a small plus
    core = max(1, round(smallest / 2))
    brightest = np.sort(bright.reshape(len(bright), -1), axis=1)[:, -core:].mean(1)
    peak = brightest.max()
    seen = np.zeros(bright.shape, bool)
    centers = np.full((len(bright), 2), np.nan)
    if peak < FAINTEST:
        return seen, centers
    for frame, image in enumerate(bright):
        mask = dilate(_near_the_blob(image > OBJECT_LEVEL * peak, image))
        weights = np.where(mask, np.maximum(image, 0), 0)
        if weights.sum() >= LEAST_AREA * smallest * peak:
            seen[frame], centers[frame] = mask, _centroid(weights)
    return seen, centers


def _near_the_blob(mask: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Restricts the mask to the reach of one object around the brightest place, without specks elsewhere."""
    canvas = len(image)
    reach = canvas * max(shapes.SIZES.values()) / 2 + 1.5
    x, y = _brightest_place(np.where(mask, image, 0), round(canvas * min(shapes.SIZES.values())))
    pixel = np.arange(canvas) + 0.5
    kept = mask
    for _ in range(3):  # the window follows its own centroid
        kept = mask & (np.abs(pixel - y) <= reach)[:, None] & (np.abs(pixel - x) <= reach)
        if not kept.any():
            break
        x, y = _centroid(np.where(kept, image, 0))
    return kept


def _brightest_place(image: np.ndarray, side: int) -> tuple[float, float]:
    """The center of the square of `side` pixels with the most light, by a summed area table."""
    table = np.pad(image, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    sums = table[side:, side:] - table[:-side, side:] - table[side:, :-side] + table[:-side, :-side]
    row, column = np.unravel_index(int(sums.argmax()), sums.shape)
    return float(column + side / 2), float(row + side / 2)


def dilate(mask: np.ndarray) -> np.ndarray:
    """Adds the eight neighbors of every pixel of (... h w), so that faint edges count in a centroid on all sides."""
    height, width = mask.shape[-2:]
    padded = np.pad(mask, [(0, 0)] * (mask.ndim - 2) + [(1, 1), (1, 1)])
    return np.any([padded[..., i : i + height, j : j + width] for i in range(3) for j in range(3)], axis=0)


def _centroid(weights: np.ndarray) -> tuple[float, float]:
    pixel = np.arange(len(weights)) + 0.5
    total = weights.sum()
    return float(weights.sum(0) @ pixel / total), float(weights.sum(1) @ pixel / total)


def _color(excess: np.ndarray, seen: np.ndarray) -> str | None:
    """The color of most frames: an object that is first red, then green is not yellow."""
    names = [_nearest_color(image[mask].mean(0)) for image, mask in zip(excess, seen, strict=True) if mask.any()]
    name, votes = Counter(names).most_common(1)[0]
    return name if votes > MAJORITY * len(names) else None


def _nearest_color(rgb: np.ndarray) -> str | None:
    hue, saturation = _hue_and_saturation(rgb)
    turns = {
        name: abs((hue - _hue_and_saturation(np.asarray(true))[0] + 0.5) % 1 - 0.5)
        for name, true in shapes.COLORS.items()
    }
    nearest = min(turns, key=turns.__getitem__)
    return nearest if saturation >= LEAST_SATURATION and turns[nearest] <= FARTHEST_HUE else None


def _hue_and_saturation(rgb: np.ndarray) -> tuple[float, float]:
    hue, saturation, _ = colorsys.rgb_to_hsv(*(np.clip(rgb, 0, 255) / 255))
    return hue, saturation


def _shape_and_size(bright: np.ndarray, centers: np.ndarray) -> tuple[str | None, str | None]:
    """The template, sharp or blurred, with the best correlation when it is drawn at the measured centers."""
    canvas = bright.shape[1]
    visible = np.isfinite(centers).all(1)
    images = np.maximum(bright[visible], 0)
    likeness: dict[tuple[str, str], float] = {}
    for shape in shapes.SHAPES:
        for size, part in shapes.SIZES.items():
            sharp = shapes.coverage(shape, canvas * part, centers[visible], canvas)
            likeness[shape, size] = max(_correlation(images, sharp), _correlation(images, blur(sharp)))
    best = max(likeness, key=likeness.__getitem__)
    return best if likeness[best] >= LEAST_LIKENESS else (None, None)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine between two stacks of images, independent of brightness."""
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def blur(images: np.ndarray) -> np.ndarray:
    """A binomial blur, 1 2 1 in both directions."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
    return (rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 4


def _motion(centers: np.ndarray) -> tuple[np.ndarray, float]:
    """Velocity (x, y) in pixels per frame, the median of all pairwise slopes, and the residual; nan with one frame."""
    moments = np.flatnonzero(np.isfinite(centers).all(1))
    if len(moments) < 2:
        return np.full(2, np.nan), float("nan")
    early, late = np.triu_indices(len(moments), 1)
    seen = centers[moments]
    velocity = np.median((seen[late] - seen[early]) / (moments[late] - moments[early])[:, None], axis=0)
    start = np.median(seen - moments[:, None] * velocity, axis=0)
    off = seen - start - moments[:, None] * velocity
    return velocity, float(np.sqrt((off**2).sum(1).mean()))


def _direction(velocity: np.ndarray, canvas: int) -> str | None:
    if not np.hypot(*velocity) >= STILL * canvas * min(shapes.SPEEDS.values()):  # also when nan
        return None
    along = {name: float(velocity @ np.asarray(unit)) for name, unit in shapes.DIRECTIONS.items()}
    best = max(along, key=along.__getitem__)
    across = float(np.abs(velocity).min())
    return best if across <= STEEPEST * along[best] else None


def _speed(px_per_frame: float, canvas: int) -> str | None:
    slow, quick = sorted(shapes.SPEEDS, key=shapes.SPEEDS.__getitem__)
    if not px_per_frame >= STILL * canvas * shapes.SPEEDS[slow]:  # also when nan
        return None
    return slow if px_per_frame < canvas * (shapes.SPEEDS[slow] + shapes.SPEEDS[quick]) / 2 else quick
