"""Procedural photographs: periodic pictures with the statistics of natural images.

Fractal noise (1/f^a), dead leaves (overlapping shapes of power-law sizes), masonry, stripes, lettering and soft shading
in palettes of natural colors, mixed along fractal borders, lit unevenly and partly out of focus. Sources: Field 1987
(the spectrum of natural images); Lee, Mumford and Huang 2001 (dead leaves). Legend: s = SIDE texels; a picture is (s,
s, 3) float32, RGB about [0, 1]; a field is (s, s) float32, unit variance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from types import MappingProxyType

import numpy as np

from vidiff_cli.worlds.outlines import draw_outline

SIDE = 384
LEVELS = 4
POOL = 256  # photographs of a seed, of which all its films are made
AXES = np.array([[0.4, 0.25, -0.9], [0.7, -0.4, -0.1]])  # of color: yellow to blue, red to green
GLYPH = (14, 10)

Picture = Callable[[np.random.Generator], np.ndarray]


@lru_cache(maxsize=POOL * 5 // 4)
def photograph(seed: int, number: int) -> tuple[np.ndarray, ...]:
    """Photograph `number` of a seed at SIDE texels and reduced by 2, 4 and 8, the first row and column repeated at the
    end: (n + 1, n + 1, 3) uint8 each."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(3, number)))
    levels = [_developed(_composed(rng), rng)]
    while len(levels) < LEVELS:
        last = levels[-1]
        levels.append((last[::2, ::2] + last[1::2, ::2] + last[::2, 1::2] + last[1::2, 1::2]) / 4)
    wrapped = (np.pad(level, ((0, 1), (0, 1), (0, 0)), mode="wrap") for level in levels)
    return tuple(np.rint(level * 255).astype(np.uint8) for level in wrapped)


def _composed(rng: np.random.Generator) -> np.ndarray:
    """One or two kinds of picture beside one another, with objects on them."""
    names, weights = tuple(KINDS), np.array([weight for weight, _ in KINDS.values()])
    chosen = [names[i] for i in rng.choice(len(names), 2, p=weights / weights.sum())]
    picture = KINDS[chosen[0]][1](rng)
    if rng.random() < 0.6:
        edge = 2.0 ** rng.uniform(0, 6)
        share = np.clip(0.5 + edge * (_fractal(rng, rng.uniform(2.5, 4)) - rng.normal(0, 0.5)), 0, 1)[..., None]
        picture += share * (KINDS[chosen[1]][1](rng) - picture)
    if rng.random() < 0.5:
        _scatter(picture, rng, count=int(2 ** rng.uniform(1, 6)), smallest=2.0 ** rng.uniform(2, 5))
    if rng.random() < 0.15:
        _letter(picture, rng)
    return picture


def _developed(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Light, focus, grain and contrast."""
    picture = picture * np.exp(rng.uniform(0, 0.4) * _fractal(rng, rng.uniform(3, 4)))[..., None]
    picture = picture + rng.uniform(0.01, 0.06) * _fractal(rng, rng.uniform(0.8, 2))[..., None]
    if rng.random() < 0.25:
        near = 1.0 if rng.random() < 0.5 else np.clip(0.5 + 2 * _fractal(rng, 4), 0, 1)[..., None]
        picture = picture + near * (_blurred(picture, 2.0 ** rng.uniform(0, 2.5)) - picture)
    low, high = np.percentile(picture, [1, 99])
    dark, light = rng.uniform(0, 0.15), rng.uniform(0.85, 1)
    picture = np.clip((picture - low) / max(high - low, 0.05), -0.05, 1.05)
    return np.clip(dark + (light - dark) * picture, 0, 1).astype(np.float32) ** np.float32(2 ** rng.normal(0, 0.3))


def _palette(rng: np.random.Generator, count: int) -> np.ndarray:
    """Colors that belong together, from dark to light: (count, 3)."""
    lightness = np.sort(rng.uniform(0.02, 0.98, count))
    spread = np.array([1.0, 0.6]) * 2 ** rng.uniform(-5.5, -2.5)
    chroma = rng.normal([0.06, 0.01], [0.13, 0.05]) + rng.normal(0, 1, (count, 2)) * spread
    if rng.random() < 0.3:
        chroma[rng.integers(count)] *= 3  # an accent
    return np.clip(lightness[:, None] + (chroma @ AXES) * (0.35 + 0.65 * lightness[:, None]), 0, 1).astype(np.float32)


@cache
def _frequencies() -> tuple[np.ndarray, np.ndarray]:
    return np.fft.fftfreq(SIDE)[:, None] * SIDE, np.fft.rfftfreq(SIDE)[None, :] * SIDE


def _fractal(rng: np.random.Generator, slope: float, *, stretch: float = 1.0, angle: float = 0.0) -> np.ndarray:
    """A Gaussian field with power ~ frequency^-slope, stretched along a direction."""
    fy, fx = _frequencies()
    cos, sin = math.cos(angle), math.sin(angle)
    squared = (stretch * (fx * cos + fy * sin)) ** 2 + (fy * cos - fx * sin) ** 2
    squared[0, 0] = np.inf
    white = rng.standard_normal((*squared.shape, 2), np.float32).view(np.complex64)[..., 0]
    field = np.fft.irfft2(white * (squared ** (-slope / 4)).astype(np.float32), s=(SIDE, SIDE)).astype(np.float32)
    return field / field.std()


def _blurred(picture: np.ndarray, sigma: float) -> np.ndarray:
    fy, fx = _frequencies()
    pass_ = np.exp(-2 * (math.pi * sigma / SIDE) ** 2 * (fx * fx + fy * fy))[..., None]
    return np.fft.irfft2(np.fft.rfft2(picture, axes=(0, 1)) * pass_, s=(SIDE, SIDE), axes=(0, 1)).astype(np.float32)


def _colored(field: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Fields to pictures: values from about -2 to 2 along a palette."""
    place = np.linspace(-2, 2, len(palette))
    return np.stack([np.interp(field, place, palette[:, c]) for c in range(3)], axis=-1).astype(np.float32)


def _terrain(rng: np.random.Generator) -> np.ndarray:
    """Clouds, rock, grass, wood, marble: fractal noise, in part drawn out or warped."""
    slope, grain = rng.uniform(1.2, 2.7), rng.random() < 0.4
    stretch, angle = (2 ** rng.uniform(1, 3), rng.uniform(0, math.pi)) if grain else (1.0, 0.0)
    field = _fractal(rng, slope, stretch=stretch, angle=angle)
    if rng.random() < 0.3:
        field = np.sin(rng.uniform(1.5, 5) * field) * 1.5
    if rng.random() < 0.3:
        field = 1.2 - 1.5 * np.abs(field)  # ridges
    picture = _colored(field, _palette(rng, int(rng.integers(3, 7))))
    return picture + (rng.uniform(0, 0.05) * _fractal(rng, slope))[..., None] * AXES[0].astype(np.float32)


def _soft(rng: np.random.Generator) -> np.ndarray:
    """Skin, sky, walls: nearly even, shaded softly."""
    picture = _colored(_fractal(rng, rng.uniform(2.7, 4.5)) * rng.uniform(0.4, 1), _palette(rng, 3))
    _scatter(picture, rng, count=int(rng.integers(0, 40)), smallest=16.0, soft=0.6)
    return picture


def _leaves(rng: np.random.Generator) -> np.ndarray:
    picture = _colored(_fractal(rng, 2), _palette(rng, 4))
    _scatter(picture, rng, count=int(2 ** rng.uniform(6, 9)), smallest=2.0 ** rng.uniform(1.5, 4.5))
    return picture


def _masonry(rng: np.random.Generator) -> np.ndarray:
    """Bricks, tiles, windows, shelves: cells with joints."""
    rows, columns = (int(2 ** rng.uniform(2, 5)) for _ in range(2))
    x, y = np.meshgrid(np.arange(SIDE) / SIDE, np.arange(SIDE) / SIDE)
    row = np.floor(y * rows).astype(int)
    along = x * columns + (row % 2) * rng.choice([0, 0.5]) * (rows % 2 == 0)
    column = np.floor(along).astype(int) % columns
    palette = _palette(rng, int(rng.integers(2, 6)))
    picture = palette[rng.integers(len(palette), size=(rows, columns))[row, column]]
    picture = picture + rng.normal(0, rng.uniform(0, 0.1), (rows, columns, 1))[row, column]
    inner = np.minimum(0.5 - np.abs(along % 1 - 0.5), (0.5 - np.abs((y * rows) % 1 - 0.5)) * columns / rows)
    joint = np.clip((inner - rng.uniform(0, 0.12)) * rng.uniform(6, 30), 0, 1)[..., None]
    picture = _palette(rng, 1)[0] * (1 - joint) + picture * joint
    return (picture * (1 + rng.uniform(0, 0.25) * _fractal(rng, rng.uniform(1, 2.5))[..., None])).astype(np.float32)


def _striped(rng: np.random.Generator) -> np.ndarray:
    """Stripes, checks, ripples, folds: waves bent by smooth noise."""
    x, y = np.meshgrid(np.arange(SIDE) / SIDE, np.arange(SIDE) / SIDE)
    first = rng.integers(-24, 25, 2)
    bend = rng.uniform(0, 3) * _fractal(rng, 4) if rng.random() < 0.6 else 0.0
    wave = np.sin(2 * math.pi * (first[0] * x + first[1] * y) + bend)
    if rng.random() < 0.4:
        second = (-first[1], first[0]) if rng.random() < 0.7 else rng.integers(-24, 25, 2)
        wave = (wave + np.sin(2 * math.pi * (second[0] * x + second[1] * y) + bend)) / 2
    field = 1.5 * np.tanh(wave * 2 ** rng.uniform(-1, 3)) + rng.uniform(0, 0.6) * _fractal(rng, 2)
    return _colored(field, _palette(rng, int(rng.integers(2, 5))))


KINDS: Mapping[str, tuple[float, Picture]] = MappingProxyType(  # with their weights
    {
        "terrain": (0.25, _terrain),
        "leaves": (0.3, _leaves),
        "soft": (0.25, _soft),
        "masonry": (0.1, _masonry),
        "striped": (0.1, _striped),
    }
)


def _scatter(
    picture: np.ndarray, rng: np.random.Generator, *, count: int, smallest: float, soft: float | None = None
) -> None:
    """Lays shapes upon a picture whose number falls with the cube of their size, each with a color, shading and texture
    of its own. `soft` is the width of their edges in radii; None: sharp ones, and some out of focus."""
    palette = _palette(rng, 8)
    textures = [_fractal(rng, rng.uniform(1.2, 2.6)) for _ in range(2)]
    largest = SIDE / 3
    radii = smallest / np.sqrt(1 - rng.random(count) * (1 - (smallest / largest) ** 2))
    if rng.random() < 0.5:
        radii = np.sort(radii)[::-1]  # the small ones are nearer, as petals on a meadow
    blurry = rng.random() < 0.2
    for radius in radii.tolist():
        width = soft * radius if soft else max(1.0, radius * rng.uniform(0.1, 0.4) if blurry else 1.0)
        reach = math.ceil(radius + width)
        center = rng.uniform(0, SIDE, 2)
        near = np.arange(-reach, reach + 1)
        rows, columns = (int(c) + near for c in center.tolist())
        y, x = ((near - c % 1).astype(np.float32) / radius for c in center.tolist())
        y = y[:, None]
        distance = draw_outline(rng).distance(x, y) * radius
        place = np.ix_(rows % SIDE, columns % SIDE)
        alpha = np.clip(0.5 - distance / width, 0, 1)[..., None]
        light = rng.normal(0, 0.15, 2).tolist()
        shade = 1 + light[0] * x + light[1] * y - rng.uniform(0, 0.3) * (x * x + y * y)
        shade = shade + rng.exponential(0.1) * textures[int(rng.integers(2))][place]
        color = palette[rng.integers(len(palette))] + rng.normal(0, 0.03, 3).astype(np.float32)
        picture[place] += alpha * (color * shade[..., None] - picture[place])


def _letter(picture: np.ndarray, rng: np.random.Generator) -> None:
    """Draws lines of made-up lettering on a picture."""
    ink = _palette(rng, 2)[rng.integers(2)]
    scale = int(rng.integers(1, 4))
    height, width = GLYPH[0] * scale, GLYPH[1] * scale
    alphabet = [np.kron(glyph, np.ones((scale, scale), np.float32)) for glyph in glyphs(rng, 16)]
    for top in range(int(rng.integers(0, height)), SIDE - height, int(height * rng.uniform(1.1, 3))):
        left = int(rng.integers(0, SIDE // 3))
        while left < SIDE - width:
            if rng.random() < 0.85:
                alpha = alphabet[int(rng.integers(len(alphabet)))][..., None]
                part = picture[top : top + height, left : left + width]
                part += alpha * (ink - part)
            left += width


def glyphs(rng: np.random.Generator, count: int) -> list[np.ndarray]:
    """Letters of a made-up alphabet, two or three strokes each: GLYPH-sized coverage in [0, 1]."""
    y, x = np.mgrid[: GLYPH[0], : GLYPH[1]].astype(np.float32)
    made = []
    for _ in range(count):
        cover = np.zeros(GLYPH, np.float32)
        for _ in range(int(rng.integers(2, 4))):
            ends = np.stack([rng.choice([2.0, 4.5, 7.0], 2), rng.choice([2.0, 6.5, 11.0], 2)], axis=1)
            cover = np.maximum(cover, np.clip(1.3 - to_segment(x, y, ends), 0, 1))
        made.append(cover)
    return made


def to_segment(x: np.ndarray, y: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Distance of places to the segment between two ends (2, 2), each (x, y)."""
    (x0, y0), (dx, dy) = ends[0].tolist(), (ends[1] - ends[0]).tolist()
    along = np.clip(((x - x0) * dx + (y - y0) * dy) / max(dx * dx + dy * dy, 1e-9), 0, 1)
    return np.hypot(x - x0 - along * dx, y - y0 - along * dy)
