"""Random outlines as functions of the place, for dead-leaves pictures and the layers of films.

Legend: places (x, y) are in units of the outline's radius, about its center; a distance is negative inside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

HARMONICS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Outline:
    """A closed outline within the unit circle: the intersection of half-planes, or a wavy ellipse.

    sides (n, 3): normals and offsets of half-planes; empty for an ellipse, which is `flat` times as high as wide,
    turned by `angle` and wavy by `waves` (HARMONICS, 2), cosine and sine of each harmonic of its radius.
    """

    sides: np.ndarray
    waves: np.ndarray
    flat: float
    angle: float

    def distance(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Approximate signed distance to the outline, exact near its edges. x and y broadcast."""
        if len(self.sides):
            inside = [nx * x + ny * y - offset for nx, ny, offset in self.sides.tolist()]
            return np.maximum.reduce(inside)
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        across, up = x * cos + y * sin, (y * cos - x * sin) / self.flat
        radius = np.sqrt(across * across + up * up)
        reach = np.ones_like(radius)
        if self.waves.any():
            direction = np.arctan2(up, across)
            for number, (a, b) in enumerate(self.waves.tolist(), 2):
                reach += a * np.cos(number * direction) + b * np.sin(number * direction)
        return (radius - reach / (1 + float(np.hypot(*self.waves.T).sum()))) * self.flat


def draw_outline(rng: np.random.Generator) -> Outline:
    """A disc, ellipse, blob, rectangle or convex polygon."""
    kind = rng.random()
    if kind < 0.45:
        return _polygon(rng) if kind < 0.2 else _rectangle(rng)
    waves = np.zeros((HARMONICS, 2))
    if kind > 0.65:
        waves = rng.uniform(-1, 1, (HARMONICS, 2)) * rng.uniform(0.05, 0.3) / np.arange(1, HARMONICS + 1)[:, None]
    flat = 1.0 if kind < 0.5 else float(rng.uniform(0.35, 1))
    return Outline(sides=np.zeros((0, 3)), waves=waves, flat=flat, angle=float(rng.uniform(0, math.pi)))


def _polygon(rng: np.random.Generator) -> Outline:
    count = int(rng.integers(3, 8))
    angles = (np.arange(count) + rng.uniform(-0.1, 0.1, count) * count / 3) * 2 * math.pi / count + rng.uniform(
        0, 2 * math.pi
    )
    widest = np.diff(np.append(angles, angles[0] + 2 * math.pi)).max()
    offsets = rng.uniform(0.75, 1, count) * math.cos(widest / 2)
    return _half_planes(angles, offsets)


def _rectangle(rng: np.random.Generator) -> Outline:
    angle, long = rng.uniform(0, math.pi), math.sqrt(1 / (1 + rng.uniform(0.15, 1) ** 2))
    if rng.random() < 0.5:
        angle = round(angle / (math.pi / 2)) * math.pi / 2  # most of what people build stands upright
    short = math.sqrt(1 - long * long)
    return _half_planes(angle + np.arange(4) * math.pi / 2, np.array([long, short, long, short]))


def _half_planes(angles: np.ndarray, offsets: np.ndarray) -> Outline:
    sides = np.stack([np.cos(angles), np.sin(angles), offsets], axis=1)
    return Outline(sides=sides, waves=np.zeros((HARMONICS, 2)), flat=1.0, angle=0.0)
