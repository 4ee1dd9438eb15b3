"""Layers of a film: pieces of photographs that move, turn, grow and bend, seen through a camera.

Lengths are in short sides of the picture, places (x, y) from its middle with y pointing down, angles in radians, clockwise
on the screen. A layer's own places run from -0.5 to 0.5. Legend: h = w pixels; s samples of a pixel, each at a place of
its own and, where the shutter stays open, at a time of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vidiff_cli.worlds.cutouts import cut
from vidiff_cli.worlds.textures import LEVELS, SIDE, photograph

SAMPLES = ((-0.25, -0.25), (0.25, 0.25), (0.25, -0.25), (-0.25, 0.25))  # of a pixel
FINER = 4  # a bend is enlarged so much before it is sampled
LARGEST = 256  # texels along a side of a piece that is cut out


@dataclass(frozen=True, kw_only=True, slots=True)
class Motion:
    """A smooth path of (x, y, angle, log of the scale), defined for all times.

    velocity and acceleration (4,) per second, the latter about time 0.5; waves (k, 4) are amplitudes of sines of `hertz`
    (k,) and `phase` (k, 4). At `turning_seconds` the velocity changes by `turned`, within about `turning_width` seconds: a
    stop, a start or a bounce.
    """

    start: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray
    waves: np.ndarray
    hertz: np.ndarray
    phase: np.ndarray
    turned: np.ndarray
    turning_seconds: float = 0.0
    turning_width: float = 0.1

    def at(self, seconds: float) -> np.ndarray:
        """Its (x, y, angle, log of the scale) at a time."""
        since = (seconds - self.turning_seconds) / self.turning_width
        turning = self.turning_width * float(np.logaddexp(0, since))
        value = self.start + self.velocity * seconds + self.acceleration * ((seconds - 0.5) ** 2 / 2)
        value = value + (self.waves * np.sin(2 * math.pi * self.hertz[:, None] * seconds + self.phase)).sum(0)
        return value + self.turned * turning


@dataclass(frozen=True, kw_only=True, slots=True)
class Bend:
    """A deformation that swings: fields (k, 2, n, n) of displacement in the layer's own units, each with an amplitude of
    one; `hertz` and `phase` (k,)."""

    fields: np.ndarray
    hertz: np.ndarray
    phase: np.ndarray

    def enlarged(self) -> Tensor:
        """The fields, finer: (k, 2, m, m)."""
        side = FINER * self.fields.shape[-1]
        return functional.interpolate(torch.from_numpy(self.fields), (side, side), mode="bicubic", align_corners=True)

    def at(self, seconds: float) -> Tensor:
        """The share of every field at a time: (k, 1, 1, 1)."""
        swing = np.sin(2 * math.pi * self.hertz * seconds + self.phase)
        return torch.from_numpy(swing.astype(np.float32))[:, None, None, None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """A piece of photograph `photo`, `span` of its width to a unit of the layer, from `place` on, turned by `turn`.

    `motions` lead from the layer outwards to the world: the last one is the layer's own, those before it the ones of what
    it hangs on. The camera moves it `nearness` times as far as the ground (0: not at all). `color` (3, 4) is a matrix and
    an offset. `cutout` is the kind and the seed of its outline; None: it fills the picture. `tilt` (2,) is its
    perspective.
    """

    photo: tuple[int, int]
    span: float
    place: tuple[float, float]
    turn: float
    color: np.ndarray
    motions: tuple[Motion, ...]
    nearness: float = 1.0
    cutout: tuple[str, int] | None = None
    opacity: float = 1.0
    tilt: tuple[float, float] = (0.0, 0.0)
    bend: Bend | None = None


Matrices = np.ndarray  # (s or 1, 3, 3): from the picture to the layer's own places
Painter = Callable[[Tensor, Tensor, float, Matrices], tuple[Tensor, Tensor | None]]


def pose(value: np.ndarray) -> np.ndarray:
    """From places of what moves to those of what it moves in: (4,) to (3, 3)."""
    x, y, angle, scale = value.tolist()
    cos, sin = math.exp(scale) * math.cos(angle), math.exp(scale) * math.sin(angle)
    return np.array([[cos, -sin, x], [sin, cos, y], [0, 0, 1]])


def inward(layer: Layer, camera: Motion, seconds: float) -> np.ndarray:
    """From places in the picture to the layer's own at a time: (3, 3)."""
    outward = np.eye(3)
    for motion in layer.motions:
        outward = outward @ pose(motion.at(seconds))
    tilted = np.array([[1, 0, 0], [0, 1, 0], [*layer.tilt, 1]])
    return np.linalg.inv(outward) @ pose(layer.nearness * camera.at(seconds)) @ tilted


def painter(layer: Layer, canvas: int) -> Painter:
    """Prepares a layer for pictures of `canvas` pixels a side: a function of the samples' places x (s, 1, w) and y (s, h,
    1), the time and the matrices that gives colors (3, s * h, w) and coverage (1, s * h, w), None where it covers all."""
    size = math.exp(sum(motion.at(0.5)[3] for motion in layer.motions))
    texture = _ground(layer, canvas) if layer.cutout is None else _piece(layer, round(1.5 * size * canvas))
    fields = layer.bend.enlarged() if layer.bend else None
    cos, sin = layer.span * math.cos(layer.turn), layer.span * math.sin(layer.turn)

    def paint(x: Tensor, y: Tensor, seconds: float, matrices: Matrices) -> tuple[Tensor, Tensor | None]:
        u, v = _placed(x, y, matrices)
        if layer.bend and fields is not None:
            bent = (layer.bend.at(seconds) * fields).sum(0, keepdim=True)
            moved = _sampled(bent, 2 * u, 2 * v, padding="reflection")
            u, v = u + moved[0].view(u.shape), v + moved[1].view(v.shape)
        if layer.cutout is not None:
            seen = _sampled(texture, 2 * u, 2 * v, padding="zeros", corners=False)
            return seen[:3], seen[3:]
        across, down = layer.place[0] + cos * u - sin * v, layer.place[1] + sin * u + cos * v
        across, down = across - across.floor(), down - down.floor()
        return _sampled(texture, 2 * across - 1, 2 * down - 1, padding="border"), None

    return paint


def _placed(x: Tensor, y: Tensor, matrices: Matrices) -> tuple[Tensor, Tensor]:
    (a, b, c), (d, e, f), (g, h, i) = torch.from_numpy(matrices.astype(np.float32)).permute(1, 2, 0)[..., None, None]
    u, v = (a * x + c) + b * y, (d * x + f) + e * y
    if not (g.any() or h.any()):
        return u, v
    depth = ((g * x + i) + h * y).clamp(min=0.2)
    return u / depth, v / depth


def _sampled(texture: Tensor, x: Tensor, y: Tensor, *, padding: str, corners: bool = True) -> Tensor:
    """A texture (1, c, n, n) at places (s, h, w) from -1 to 1: (c, s * h, w)."""
    grid = torch.stack([x, y], dim=-1).view(1, -1, x.shape[-1], 2)
    return functional.grid_sample(texture, grid, mode="bilinear", padding_mode=padding, align_corners=corners)[0]


def _level(layer: Layer, texels: float) -> Tensor:
    """The photograph (1, 3, n + 1, n + 1), wrapped by one texel, at the level that has just over `texels` a unit of the
    layer."""
    number = math.floor(math.log2(max(layer.span * SIDE / texels, 1)))
    picture = torch.from_numpy(photograph(*layer.photo)[min(number, LEVELS - 1)]).permute(2, 0, 1)[None].float() / 255
    return functional.pad(picture, (0, 1, 0, 1), mode="circular")


def _ground(layer: Layer, canvas: int) -> Tensor:
    return _colored(_level(layer, 2 * canvas), layer.color)  # as dense as its samples


def _piece(layer: Layer, texels: int) -> Tensor:
    """The cut out piece: (1, 4, n, n), colors and coverage."""
    assert layer.cutout is not None
    side = min(max(texels, 12), LARGEST)
    coverage, shade = cut(*layer.cutout, side)
    place = (torch.arange(side) + 0.5) / side - 0.5
    cos, sin = layer.span * math.cos(layer.turn), layer.span * math.sin(layer.turn)
    across = layer.place[0] + cos * place[None, None, :] - sin * place[None, :, None]
    down = layer.place[1] + sin * place[None, None, :] + cos * place[None, :, None]
    across, down = across - across.floor(), down - down.floor()
    picture = _sampled(_level(layer, round(1.5 * side)), 2 * across - 1, 2 * down - 1, padding="border")
    colors = _colored(picture[None], layer.color) * torch.from_numpy(shade)
    return torch.cat([colors.clamp(0, 1), layer.opacity * torch.from_numpy(coverage)[None, None]], dim=1)


def _colored(picture: Tensor, color: np.ndarray) -> Tensor:
    matrix = torch.from_numpy(color.astype(np.float32))
    return torch.einsum("ij,njhw->nihw", matrix[:, :3], picture) + matrix[:, 3, None, None]
