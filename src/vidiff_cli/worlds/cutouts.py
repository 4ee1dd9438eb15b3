"""Coverage masks of the pieces of films: bodies, limbs, smoke, specks, bars, lettering.

Each is a function of its seed, the same at every size. Legend: n texels a side; places x and y from -1 to 1, (1, n) and
(n, 1) float32; a coverage is (n, n) float32 in [0, 1], and zero along the border.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import torch
from torch.nn import functional

from vidiff_cli.worlds.outlines import draw_outline
from vidiff_cli.worlds.textures import GLYPH, glyphs, to_segment

INNER = 0.92  # what is cut out stays within so much of the border

Coverage = Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]


def cut(kind: str, seed: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and shading of a piece of a kind, lit from one side and darker towards its edge: (n, n) each."""
    rng = np.random.default_rng(seed)
    place = ((np.arange(side, dtype=np.float32) + 0.5) / side - 0.5) * 2
    x, y = place[None, :], place[:, None]
    light, round_ = rng.normal(0, 0.2, 2).astype(np.float32), float(rng.uniform(0, 0.4))
    shade = 1 + light[0] * x + light[1] * y - round_ * (x * x + y * y)
    coverage = KINDS[kind](rng, x, y)
    coverage[[0, -1]], coverage[:, [0, -1]] = 0, 0
    return coverage.astype(np.float32), shade


def _edge(distance: np.ndarray, width: float, side: int) -> np.ndarray:
    """Coverage from the distance to an edge that is `width` wide, at least a texel and a half."""
    return np.clip(0.5 - distance / max(width, 3 / side), 0, 1)


def _body(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    outline = draw_outline(rng)
    width = 0.0 if rng.random() < 0.6 else float(rng.uniform(0.02, 0.5))
    return _edge(outline.distance(x / INNER, y / INNER) + width / 2, width, x.size)


def _group(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Several outlines grown together: a figure, a plant, furniture."""
    coverage = np.zeros((y.size, x.size), np.float32)
    for _ in range(int(rng.integers(2, 7))):
        size = float(rng.uniform(0.2, 0.55))
        angle, away = rng.uniform(0, 2 * math.pi), (INNER - size) * math.sqrt(rng.random())
        distance = draw_outline(rng).distance((x - away * math.cos(angle)) / size, (y - away * math.sin(angle)) / size)
        coverage = np.maximum(coverage, _edge(distance * size, 0.0, x.size))
    return coverage


def _limb(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """An arm or a leg from the center, about which it turns, to the right border."""
    thick, thin = np.sort(rng.uniform(0.08, 0.22, 2))[::-1]
    width = thick + (thin - thick) * np.clip(x / INNER, 0, 1)
    ends = np.array([[0, 0], [INNER - thick, 0]])
    return _edge(to_segment(x, y, ends) - width, 0.0, x.size)


def _smoke(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Smoke, foam, flames, foliage: high values of smooth noise, thinner towards the border."""
    field, cells = np.zeros((y.size, x.size), np.float32), int(rng.integers(3, 6))
    for octave in range(3):
        coarse = torch.from_numpy(rng.standard_normal((1, 1, cells << octave, cells << octave), np.float32))
        fine = functional.interpolate(coarse, (y.size, x.size), mode="bicubic", align_corners=True)
        field += fine[0, 0].numpy() * 0.6**octave
    sharp = 2.0 ** rng.uniform(-1, 3)
    inside = np.clip(3 * (INNER - np.hypot(x, y)), 0, 1)
    return np.clip(0.5 + sharp * (field + 1 - 2.5 * (x * x + y * y)), 0, 1) * inside


def _specks(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Snow, sparks, birds, petals."""
    coverage = np.zeros((y.size, x.size), np.float32)
    centers, sizes = rng.uniform(-0.85, 0.85, (60, 2)), rng.uniform(0.015, 0.05, 60) * 2 ** rng.uniform(-0.5, 0.5)
    for (cx, cy), size in zip(centers.tolist(), sizes.tolist(), strict=True):
        near = max(size, 3 / x.size) + 3 / x.size
        columns, rows = np.abs(x[0] - cx) < near, np.abs(y[:, 0] - cy) < near
        place = np.ix_(rows, columns)
        spot = _edge(np.hypot(x[:, columns] - cx, y[rows] - cy) - size, size, x.size)
        coverage[place] = np.maximum(coverage[place], spot)
    return coverage


def _bars(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A fence, blades of grass, branches, a wheel with spokes."""
    count, bowed, turned = float(rng.integers(3, 9)), float(rng.normal(0, 0.3)), rng.random() < 0.3
    along = np.arctan2(y, x) * round(count) / math.pi if turned else (x + bowed * y * y) * count
    share, radius = float(rng.uniform(0.25, 0.6)), np.hypot(x, y)
    steep = math.pi * (radius * x.size / 4 if turned else x.size / (2 * count)) / 3
    bars = np.clip(0.5 + (np.cos(math.pi * along) - math.cos(math.pi * share)) * np.maximum(steep, 0.5) / math.pi, 0, 1)
    return bars * _edge((radius if turned else np.maximum(np.abs(x), np.abs(y))) - INNER, 0.0, x.size)


def _writing(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """One or two lines of made-up lettering."""
    lines, letters = int(rng.integers(1, 3)), int(rng.integers(6, 14))
    alphabet = np.stack([*glyphs(rng, 12), *np.zeros((2, *GLYPH), np.float32)])  # with blanks
    block = alphabet[rng.integers(len(alphabet), size=(lines, letters))].transpose(0, 2, 1, 3)
    block = block.reshape(lines * GLYPH[0], letters * GLYPH[1])
    width = round(x.size * INNER)
    height = max(1, min(width, round(width * block.shape[0] / block.shape[1])))
    texture = torch.from_numpy(block)[None, None]
    small = functional.interpolate(texture, (height, width), mode="bilinear", antialias=True)[0, 0].numpy()
    coverage = np.zeros((y.size, x.size), np.float32)
    top, left = (y.size - height) // 2, (x.size - width) // 2
    coverage[top : top + height, left : left + width] = small
    return coverage


KINDS: Mapping[str, Coverage] = MappingProxyType(
    {
        "body": _body,
        "group": _group,
        "limb": _limb,
        "smoke": _smoke,
        "specks": _specks,
        "bars": _bars,
        "writing": _writing,
    }
)
