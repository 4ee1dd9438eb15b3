"""The larger world: one or two colored objects on a background, each with its own motion, drawn exactly.

A scene is a function of the time in seconds, so that it can be rendered at any rate. Legend: t frames, h and w pixels.
Lengths are fractions of the square canvas, positions (x, y) with y pointing down, angles in radians, clockwise on the
screen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from vidiff_cli.worlds.shapes import SIZES

# Hues at least 40 degrees apart; the grounds are gray, so that color alone tells things from ground.
COLORS: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "red": (255, 50, 40),
        "yellow": (255, 225, 40),
        "green": (40, 220, 70),
        "cyan": (40, 230, 230),
        "blue": (60, 90, 255),
        "purple": (225, 60, 255),
    }
)
SHAPES = ("square", "circle", "triangle", "plus")
_DIAGONAL = math.sqrt(0.5)
DIRECTIONS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "left": (-1, 0),
        "right": (1, 0),
        "up": (0, -1),
        "down": (0, 1),
        "up left": (-_DIAGONAL, -_DIAGONAL),
        "up right": (_DIAGONAL, -_DIAGONAL),
        "down left": (-_DIAGONAL, _DIAGONAL),
        "down right": (_DIAGONAL, _DIAGONAL),
    }
)
SPEEDS: Mapping[str, float] = MappingProxyType({"slowly": 0.15, "quickly": 0.30})  # canvas per second
MOTIONS = ("moving", "bouncing", "circling", "growing", "shrinking", "turning", "still")
GROUNDS = ("plain", "gradient", "textured")

SECONDS = 15 / 8  # for so long a scene stays inside its canvas: 16 frames at 8 fps, 31 at 16
BOUNCING = 0.40  # canvas per second
CIRCLING = math.pi  # radians per second: a full turn in two
TURNING = math.radians(48)  # radians per second
GROWN = (0.20, 0.42)  # side at the two ends of growing and shrinking
CELLS = 8  # of the texture, along a side

# The farthest point of a shape from its center, of its side: standing upright (along an axis), and at any angle.
REACH: Mapping[str, float] = MappingProxyType({"square": 0.5, "circle": 0.5, "triangle": 0.55, "plus": 0.5})
RADIUS: Mapping[str, float] = MappingProxyType(
    {"square": math.sqrt(0.5), "circle": 0.5, "triangle": 0.55, "plus": math.hypot(0.5, 1 / 6)}
)


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneObject:
    """One object: the words for it, and the numbers of its path.

    size is None while it grows or shrinks; only `moving` has direction and speed. `start` is the center at time 0, or
    the center of its circle; `velocity` in canvas per second; `turn` in radians per second, of the object (turning) or
    of its place on the circle (circling), which begins at `phase`.
    """

    color: str
    shape: str
    motion: str
    size: str | None = None
    direction: str | None = None
    speed: str | None = None
    start: tuple[float, float] = (0.5, 0.5)
    velocity: tuple[float, float] = (0.0, 0.0)
    radius: float = 0.0
    phase: float = 0.0
    turn: float = 0.0

    @property
    def move(self) -> str:
        """The direction of a moving object, else the name of its motion."""
        return self.direction or self.motion

    @property
    def words(self) -> dict[str, str | None]:
        """The words by attribute."""
        names = ("color", "shape", "size", "motion", "direction", "speed")
        return {name: getattr(self, name) for name in names}

    def sides(self, seconds: np.ndarray) -> np.ndarray:
        """Side at every time: (t,)."""
        if self.size is not None:
            return np.full(len(seconds), SIZES[self.size])
        first, last = GROWN if self.motion == "growing" else GROWN[::-1]
        return first + (last - first) * seconds / SECONDS

    def angles(self, seconds: np.ndarray) -> np.ndarray:
        """Rotation at every time: (t,)."""
        return seconds * (self.turn if self.motion == "turning" else 0.0)

    def centers(self, seconds: np.ndarray) -> np.ndarray:
        """Center (x, y) at every time: (t, 2)."""
        start = np.asarray(self.start)
        if self.motion == "circling":
            angle = self.phase + self.turn * seconds
            return start + self.radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        path = start + seconds[:, None] * np.asarray(self.velocity)
        if self.motion != "bouncing" or self.size is None:
            return path
        low = REACH[self.shape] * SIZES[self.size]
        room = 1 - 2 * low  # an unfolded path: every wall is a mirror
        return low + room - np.abs((path - low) % (2 * room) - room)


@dataclass(frozen=True, kw_only=True, slots=True)
class Background:
    """A gray background: `kind` of GROUNDS, levels from `dark` to `light` (of 255).

    A gradient runs along the direction `angle`; a texture has cells drawn by `seed`.
    """

    kind: str = "plain"
    dark: float = 0.0
    light: float = 0.0
    angle: float = 0.0
    seed: int = 0

    def draw(self, canvas: int) -> np.ndarray:
        """Gray levels: (h, w) float64."""
        position = (np.arange(canvas) + 0.5) / canvas
        if self.kind == "plain":
            return np.full((canvas, canvas), self.dark)
        if self.kind == "gradient":
            along = (position - 0.5) * math.cos(self.angle), (position - 0.5) * math.sin(self.angle)
            reach = (abs(math.cos(self.angle)) + abs(math.sin(self.angle))) / 2
            share = (along[0][None, :] + along[1][:, None]) / (2 * reach) + 0.5
        else:
            cells = np.random.default_rng(self.seed).permutation(np.linspace(0, 1, CELLS * CELLS))
            cell = np.minimum((position * CELLS).astype(int), CELLS - 1)
            share = cells.reshape(CELLS, CELLS)[cell[:, None], cell[None, :]]
        return self.dark + (self.light - self.dark) * share


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """Full description of one clip."""

    things: tuple[SceneObject, ...]
    ground: Background
    caption: str

    @property
    def words(self) -> dict[str, Any]:
        """The visible attributes, as the oracle returns them."""
        return {"ground": self.ground.kind, "things": [thing.words for thing in self.things]}


def render(scene: Scene, seconds: Sequence[float] | np.ndarray, *, canvas: int) -> np.ndarray:
    """The frames of a scene at some times: (t, h, w, 3) uint8 RGB, anti-aliased; later objects cover earlier ones."""
    times = np.asarray(seconds, float)
    picture = np.repeat(scene.ground.draw(canvas)[None, :, :, None], len(times), axis=0)
    for thing in scene.things:
        covered = coverage(thing.shape, thing.centers(times), thing.sides(times), thing.angles(times), canvas)
        picture = picture + covered[..., None] * (np.asarray(COLORS[thing.color], float) - picture)
    if picture.shape[-1] == 1:
        picture = np.repeat(picture, 3, axis=-1)
    return np.rint(picture).astype(np.uint8)


def coverage(shape: str, centers: np.ndarray, sides: np.ndarray, angles: np.ndarray, canvas: int) -> np.ndarray:
    """Coverage of every pixel by a shape: centers (t, 2), sides and angles (t,) -> (t, h, w) in [0, 1].

    Computed from the distance to the outline in pixels, half of one on either side of it: exact along straight edges
    that run with the grid, off by a few percent of a pixel at corners.
    """
    pixel = np.arange(canvas) + 0.5
    x = (pixel[None, :] - canvas * centers[:, :1])[:, None, :]
    y = (pixel[None, :] - canvas * centers[:, 1:])[:, :, None]
    if shape == "circle":
        return _edge(np.sqrt(x * x + y * y) - (canvas * sides / 2)[:, None, None])
    if np.any(angles):
        cos, sin = np.cos(angles)[:, None, None], np.sin(angles)[:, None, None]
        x, y = x * cos + y * sin, y * cos - x * sin
    half = (canvas * sides / 2)[:, None, None]
    if shape == "square":
        return _edge(np.abs(x) - half) * _edge(np.abs(y) - half)
    if shape == "plus":
        lying = _edge(np.abs(x) - half) * _edge(np.abs(y) - half / 3)
        standing = _edge(np.abs(x) - half / 3) * _edge(np.abs(y) - half)
        return np.maximum(lying, standing)
    return _edge(_outside_triangle(x, y, 2 * half * REACH["triangle"]))


def _outside_triangle(x: np.ndarray, y: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Signed distance in pixels to the nearest edge of an upright equilateral triangle around its center of mass."""
    sloped = np.abs(x) * math.cos(math.pi / 6) - y * math.sin(math.pi / 6)
    return np.maximum(y, sloped) - radius / 2


def _edge(outside: np.ndarray) -> np.ndarray:
    return np.clip(0.5 - outside, 0, 1)
