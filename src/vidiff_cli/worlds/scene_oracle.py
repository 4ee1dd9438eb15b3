"""Oracle of the larger world: the objects of a clip, their motions and the background, from frames alone.

Backgrounds are gray and objects are not: the chroma of a pixel (its largest channel minus its smallest) measures how
much of it an object covers, its hue identifies the object. The oracle also reads generated clips: it tolerates noise,
blur, specks and frames without an object. Attributes that cannot be determined are None.

Legend: t frames, h and w pixels. Lengths are fractions of the canvas, times seconds, as in scenes.py.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from vidiff_cli.errors import VidiffError
from vidiff_cli.worlds import scenes
from vidiff_cli.worlds.motion_fit import MotionFit, fit_motion
from vidiff_cli.worlds.oracle import blur, dilate

FAINTEST = 40.0  # chroma, of 255, of a pixel that has a color
FARTHEST_HUE = 20 / 360
LEAST_AREA = 0.35  # of the smallest thing's: with less of a color in a frame it shows nothing of it
PRESENT = 0.6  # of the frames: an object that is visible in fewer of them is ignored
LEAST_LIKENESS = 0.75  # correlation with the best template
CLEAR = 0.05  # covered by less, a pixel shows the ground
SLOPE = 20.0  # gray levels from end to end: a gradient
ROUGH = 6.0  # gray levels about the slope, the median: a texture

_SMALLEST = (scenes.SIZES["small"] ** 2) * 5 / 9  # the area of a small plus
_HUES = {name: colorsys.rgb_to_hsv(*(value / 255 for value in rgb))[0] for name, rgb in scenes.COLORS.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectedObject:
    """An object in a clip; `words` as those of a `SceneObject`, None where unknown.

    `centers` (t, 2) are nan where it is not visible; `likeness` is the correlation with its template; `residual` the
    root mean square distance from the path of its motion.
    """

    words: dict[str, str | None]
    centers: np.ndarray
    likeness: float
    residual: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Detection:
    """Content of a clip, the object with most color first."""

    ground: str
    things: tuple[DetectedObject, ...]

    @property
    def words(self) -> dict[str, Any]:
        """Same format as `Scene.words`."""
        return {"ground": self.ground, "things": [thing.words for thing in self.things]}


def detect_objects(frames: np.ndarray, seconds: Sequence[float] | np.ndarray) -> Detection:
    """Reads a clip: frames (t, h, w, 3) uint8, square, at least two, with their times (t,) in seconds.

    Raises VidiffError for any other input.
    """
    times_seconds = np.asarray(seconds, float)
    if frames.ndim != 4 or frames.shape[1] != frames.shape[2] or frames.shape[3] != 3 or len(frames) < 2:
        raise VidiffError("The oracle reads square RGB clips", found=frames.shape, expected="(2 or more, c, c, 3)")
    if times_seconds.shape != (len(frames),):
        raise VidiffError(
            "Every frame needs its time", found=f"{times_seconds.shape} times", expected=f"({len(frames)},)"
        )
    picture = frames.astype(np.float32)
    covered = _covered(picture)
    canvas = frames.shape[1]
    least = LEAST_AREA * _SMALLEST * canvas * canvas
    things = []
    for color in sorted(covered, key=lambda name: -float(covered[name].sum())):
        own = _one_blob(covered[color])
        visible = own.sum(axis=(1, 2)) >= least
        if visible.mean() >= PRESENT and visible.sum() >= 2:
            things.append(_seen(color, own, visible, times_seconds))
    return Detection(ground=_ground(picture.mean(axis=3), sum(covered.values())), things=tuple(things[:2]))


def _covered(picture: np.ndarray) -> dict[str, np.ndarray]:
    """Coverage of every pixel by each color that occurs: {color: (t, h, w)}.

    A pixel with enough chroma belongs to an object. Its neighbors count too, however faint: the edge of an object may
    cover a whole row of pixels by less than that, and without the row its center of mass would be off by a quarter of a
    pixel.
    """
    largest, smallest = picture.max(axis=3), picture.min(axis=3)
    chroma = largest - smallest
    names = tuple(_HUES)
    far = np.abs(
        (_hue(picture, largest, chroma)[..., None] - np.array([_HUES[name] for name in names]) + 0.5) % 1 - 0.5
    )
    strong = (chroma >= FAINTEST) & (far.min(axis=-1) <= FARTHEST_HUE)
    nearest = np.where(strong, far.argmin(axis=-1), -1)
    tint = picture - picture.mean(axis=3, keepdims=True)  # without the gray of the ground
    found = {}
    for number, name in enumerate(names):
        own = nearest == number
        if own.any():
            true = np.asarray(scenes.COLORS[name], np.float32)
            true = true - true.mean()
            mask = own | (dilate(own) & (nearest == -1))
            found[name] = np.where(mask, np.clip(tint @ true / (true @ true), 0, 1), 0.0)
    return found


def _hue(picture: np.ndarray, largest: np.ndarray, chroma: np.ndarray) -> np.ndarray:
    """Hue as in HSV, 0 to 1; 0 for gray."""
    red, green, blue = np.moveaxis(picture, 3, 0)
    safe = np.maximum(chroma, 1e-6)
    turn = np.where(
        largest == red,
        ((green - blue) / safe) % 6,
        np.where(largest == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    return np.where(chroma > 0, turn / 6, 0.0)


def _one_blob(covered: np.ndarray) -> np.ndarray:
    """Removes specks: coverage farther from the center of a frame's color than an object reaches."""
    canvas = covered.shape[1]
    pixel = np.arange(canvas) + 0.5
    reach = canvas * max(scenes.GROWN) * 0.75 + 1
    kept = covered
    for _ in range(2):
        x, y = canvas * _middles(kept).T
        near = (np.abs(pixel - y[:, None]) <= reach)[:, :, None] & (np.abs(pixel - x[:, None]) <= reach)[:, None, :]
        kept = np.where(near, covered, 0.0)
    return kept


def _seen(color: str, covered: np.ndarray, visible: np.ndarray, times_seconds: np.ndarray) -> DetectedObject:
    canvas = covered.shape[1]
    shown, times = covered[visible], times_seconds[visible]
    centers = _middles(shown)
    fit = fit_motion(times, centers, shown.sum(axis=(1, 2)) / canvas**2)
    shape, size, turn, likeness = _template(shown, times, centers, fit)
    if shape is not None:  # a drawn corner, above all a triangle's, has not quite its weight; nor in the template
        drawn = scenes.coverage(shape, centers, _sides(shape, size, fit), turn * times, canvas)
        centers = centers - (_middles(drawn) - centers)
    motion = "turning" if fit.motion == "still" and turn else fit.motion
    words: dict[str, str | None] = {
        "color": color,
        "shape": shape,
        "size": size if motion not in ("growing", "shrinking") else None,
        "motion": motion,
        "direction": fit.direction if motion == "moving" else None,
        "speed": fit.speed if motion == "moving" else None,
    }
    everywhere = np.full((len(covered), 2), np.nan)
    everywhere[visible] = centers
    return DetectedObject(words=words, centers=everywhere, likeness=likeness, residual=fit.residual)


def _template(
    covered: np.ndarray, times: np.ndarray, centers: np.ndarray, fit: MotionFit
) -> tuple[str | None, str | None, float, float]:
    """(shape, size, turn in radians per second, likeness) of the template with the best correlation over all frames.

    Templates are drawn at the measured centers; turning ones are tried only for an object that does not move.
    """
    canvas = covered.shape[1]
    resized = fit.motion in ("growing", "shrinking")
    turns = (0.0, scenes.TURNING, -scenes.TURNING) if fit.motion == "still" else (0.0,)
    sizes = ("",) if resized else tuple(scenes.SIZES)
    best: tuple[float, str | None, str | None, float] = (-1.0, None, None, 0.0)
    for shape, size, turn in product(scenes.SHAPES, sizes, turns):
        if turn and shape == "circle":
            continue
        drawn = scenes.coverage(shape, centers, _sides(shape, size or None, fit), turn * times, canvas)
        for image in (drawn, blur(drawn)):
            likeness = float((image * covered).sum() / np.sqrt((image**2).sum() * (covered**2).sum() + 1e-12))
            best = max(best, (likeness, shape, size or None, turn), key=lambda found: found[0])
    likeness, shape, size, turn = best
    return (shape, size, turn, likeness) if likeness >= LEAST_LIKENESS else (None, None, 0.0, likeness)


# Area of a shape of side 1.
_AREAS = {"square": 1.0, "circle": np.pi / 4, "triangle": 0.75 * 3**0.5 * scenes.REACH["triangle"] ** 2, "plus": 5 / 9}


def _sides(shape: str, size: str | None, fit: MotionFit) -> np.ndarray:
    """Side of a shape at every time (t,): that of its size or, without one, from its area."""
    return np.sqrt(fit.areas / _AREAS[shape]) if size is None else np.full(len(fit.areas), scenes.SIZES[size])


def _middles(covered: np.ndarray) -> np.ndarray:
    """Center of mass (x, y) of every picture (t, h, w), as fractions of the canvas: (t, 2)."""
    pixel = (np.arange(covered.shape[1]) + 0.5) / covered.shape[1]
    moments = np.stack([covered.sum(axis=1) @ pixel, covered.sum(axis=2) @ pixel], axis=1)
    return moments / np.maximum(covered.sum(axis=(1, 2)), 1e-9)[:, None]


def _ground(gray: np.ndarray, covered: np.ndarray | int) -> str:
    """Kind of the background: the median over time of uncovered pixels against the best-fitting plane."""
    clear = np.broadcast_to(np.asarray(covered) < CLEAR, gray.shape)
    seen = np.asarray(clear.any(axis=0))
    if seen.sum() < 16:
        return "plain"
    level = np.ma.median(np.ma.masked_array(gray, ~clear), axis=0).filled(0.0)
    y, x = np.indices(seen.shape)[:, seen] / seen.shape[0] - 0.5
    plane = np.stack([np.ones_like(x), x, y], axis=1)
    fitted = np.linalg.lstsq(plane, level[seen], rcond=None)[0]
    rough = float(np.median(np.abs(level[seen] - plane @ fitted)))
    slope = float(np.abs(fitted[1]) + np.abs(fitted[2]))
    return "textured" if rough >= ROUGH else "gradient" if slope >= SLOPE else "plain"
