"""The world of moving shapes: one colored object on black moves in a straight line; a caption describes it fully.

Legend: t frames, h and w pixels. A position is the center (x, y) of the object in pixels, y pointing down; pixel i
covers [i, i + 1), so that the center of the top left pixel is (0.5, 0.5). All lengths are fractions of the canvas.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from types import MappingProxyType

import numpy as np

from vidiff_cli.errors import VidiffError

# Bright enough in luma (also the blue) to keep their outline when a codec halves the resolution of the chroma.
COLORS: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {"red": (255, 50, 40), "green": (40, 220, 70), "blue": (60, 110, 255), "yellow": (255, 225, 40)}
)
SHAPES = ("square", "plus")
SIZES: Mapping[str, float] = MappingProxyType({"small": 1 / 4, "large": 3 / 8})  # side, of the canvas
DIRECTIONS: Mapping[str, tuple[int, int]] = MappingProxyType(
    {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
)
SPEEDS: Mapping[str, float] = MappingProxyType({"slowly": 0.3 / 16, "quickly": 0.6 / 16})  # per frame, of the canvas
ARM = 1 / 3  # thickness of the two bars of a plus, of its side

ATTRIBUTES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "color": tuple(COLORS),
        "shape": SHAPES,
        "size": tuple(SIZES),
        "direction": tuple(DIRECTIONS),
        "speed": tuple(SPEEDS),
    }
)
COMBINATIONS: tuple[Mapping[str, str], ...] = tuple(
    MappingProxyType(dict(zip(ATTRIBUTES, words, strict=True))) for words in product(*ATTRIBUTES.values())
)
SMALLEST_CANVAS = 8  # below it the bars of a plus are thinner than half a pixel


@dataclass(frozen=True, kw_only=True, slots=True)
class ShapeScene:
    """Full description of one clip; `start` is the center (x, y) in the first frame, in pixels."""

    color: str
    shape: str
    size: str
    direction: str
    speed: str
    canvas: int
    frames: int
    fps: Fraction
    start: tuple[float, float]

    @property
    def caption(self) -> str:
        """The caption, such as "a small red square moving right slowly"."""
        return f"a {self.size} {self.color} {self.shape} moving {self.direction} {self.speed}"

    @property
    def attributes(self) -> dict[str, str]:
        """The five words of the caption by attribute."""
        return {name: getattr(self, name) for name in ATTRIBUTES}

    @property
    def side_px(self) -> float:
        """The side of the object's bounding square."""
        return self.canvas * SIZES[self.size]

    @property
    def positions(self) -> np.ndarray:
        """The center (x, y) in pixels in every frame: (t, 2) float64."""
        step = self.canvas * SPEEDS[self.speed] * np.asarray(DIRECTIONS[self.direction], float)
        return np.asarray(self.start, float) + np.arange(self.frames)[:, None] * step


def frames_that_fit(size: str, speed: str) -> int:
    """Number of frames for which an object of this size and speed can move inside the canvas (of any size)."""
    return int(np.floor((1 - SIZES[size]) / SPEEDS[speed] + 1e-9)) + 1


def parse_caption(caption: str) -> dict[str, str]:
    """Attributes that a caption names, in any order: "a blue plus" -> {"color": "blue", "shape": "plus"}."""
    said = re.findall(r"[a-z]+", caption.lower())
    return {name: word for name, options in ATTRIBUTES.items() for word in said if word in options}


def draw(
    rng: np.random.Generator,
    *,
    canvas: int = 16,
    frames: int = 16,
    fps: Fraction = Fraction(8),
    attributes: Mapping[str, str] = MappingProxyType({}),
) -> ShapeScene:
    """Draws a scene; `attributes` fixes some or all of the words (see `ATTRIBUTES`), the others are drawn.

    The start is uniform over all places from which the whole object stays inside the canvas for the whole clip.
    Raises VidiffError for an unknown word, too small a canvas, and a clip too long for a combination it may draw.
    """
    choices = {name: _choices(name, attributes.get(name)) for name in ATTRIBUTES}
    _check_words(attributes)
    _check_room(canvas, frames, choices)
    words = {name: options[int(rng.integers(len(options)))] for name, options in choices.items()}
    half = canvas * SIZES[words["size"]] / 2
    path = (frames - 1) * canvas * SPEEDS[words["speed"]] * np.asarray(DIRECTIONS[words["direction"]], float)
    low = half + np.maximum(-path, 0)
    high = np.maximum(canvas - half - np.maximum(path, 0), low)  # the maximum guards against rounding only
    x, y = rng.uniform(low, high)
    return ShapeScene(**words, canvas=canvas, frames=frames, fps=fps, start=(float(x), float(y)))


def draw_numbered(
    seed: int, number: int, *, canvas: int = 16, frames: int = 16, fps: Fraction = Fraction(8)
) -> ShapeScene:
    """Scene `number` of an endless seeded sequence in which every run of 128 has each caption once, shuffled.

    It depends on its arguments alone, so that any part of the sequence can be generated anywhere. Raises VidiffError if
    the clip is too long for one of the captions.
    """
    _check_room(canvas, frames, ATTRIBUTES)
    turn, place = divmod(number, len(COMBINATIONS))
    order = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0, turn))).permutation(len(COMBINATIONS))
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1, number)))
    return draw(rng, canvas=canvas, frames=frames, fps=fps, attributes=COMBINATIONS[order[place]])


def coverage(shape: str, side: float, centers: np.ndarray, canvas: int) -> np.ndarray:
    """Exact coverage of every pixel by the object: centers (t, 2) -> (t, h, w) float64 in [0, 1].

    A plus is the union of two bars; their overlap is counted once.
    """
    bar = side * ARM
    x_side, y_side = (_overlap(centers[:, axis], side, canvas) for axis in (0, 1))
    if shape == "square":
        return y_side[:, :, None] * x_side[:, None, :]
    x_bar, y_bar = (_overlap(centers[:, axis], bar, canvas) for axis in (0, 1))
    lying = y_bar[:, :, None] * x_side[:, None, :]
    standing = y_side[:, :, None] * x_bar[:, None, :]
    return lying + standing - y_bar[:, :, None] * x_bar[:, None, :]


def render(scene: ShapeScene) -> np.ndarray:
    """The frames of a scene: (t, h, w, 3) uint8 RGB, anti-aliased, on black."""
    covered = coverage(scene.shape, scene.side_px, scene.positions, scene.canvas)
    return np.rint(covered[..., None] * np.asarray(COLORS[scene.color], float)).astype(np.uint8)


def _overlap(center: np.ndarray, length: float, canvas: int) -> np.ndarray:
    """The part of each pixel [i, i + 1) inside the interval around each center: (t,) -> (t, canvas)."""
    edges = np.arange(canvas + 1)
    inside = np.clip(edges, center[:, None] - length / 2, center[:, None] + length / 2)
    return np.diff(inside, axis=1)


def _choices(name: str, word: str | None) -> tuple[str, ...]:
    if word is not None and word not in ATTRIBUTES[name]:
        raise VidiffError(f"Unknown {name} of a shape", found=repr(word), expected=" or ".join(ATTRIBUTES[name]))
    return ATTRIBUTES[name] if word is None else (word,)


def _check_words(attributes: Mapping[str, str]) -> None:
    for name in attributes:
        if name not in ATTRIBUTES:
            raise VidiffError("Unknown attribute of a shape", found=repr(name), expected=", ".join(ATTRIBUTES))


def _check_room(canvas: int, frames: int, choices: Mapping[str, tuple[str, ...]]) -> None:
    if canvas < SMALLEST_CANVAS:
        raise VidiffError(
            "The canvas is too small for shapes", found=f"{canvas} px", expected=f"{SMALLEST_CANVAS} px or more"
        )
    if frames < 1:
        raise VidiffError("A clip needs at least one frame", found=frames)
    fit, size, speed = min(
        (frames_that_fit(size, speed), size, speed) for size in choices["size"] for speed in choices["speed"]
    )
    if frames > fit:
        raise VidiffError(
            f"A {size} object that moves {speed} leaves the canvas",
            found=f"{frames} frames",
            expected=f"at most {fit} frames",
            fix="ask for fewer frames, or fix the size and the speed to smaller ones",
        )
