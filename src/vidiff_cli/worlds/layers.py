"""Layers of a film: pieces of photographs that move, turn, grow and bend, seen through a camera.

Lengths are in short sides of the picture, places (x, y) from its center with y pointing down, angles in radians,
clockwise on the screen. A layer's own coordinates run from -0.5 to 0.5. Legend: t times; h = w pixels; s samples of a
pixel, each at its own place and, while the shutter is open, at its own time.
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


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LayerMotion:
    """A smooth path of (x, y, angle, log of the scale), defined for all times.

    velocity and acceleration (4,) per second, the latter about time 0.5; waves (k, 4) are amplitudes of sines of
    `hertz` (k,) and `phase` (k, 4). At `turning_seconds` the velocity changes by `turned`, within about `turning_width`
    seconds: a stop, a start or a bounce.
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

    def at(self, seconds: np.ndarray) -> np.ndarray:
        """(x, y, angle, log of the scale) at times (t,): (t, 4)."""
        when = seconds[:, None]
        turning = self.turning_width * np.logaddexp(0, (when - self.turning_seconds) / self.turning_width)
        waves = self.waves * np.sin(2 * math.pi * self.hertz[:, None] * when[..., None] + self.phase)
        path = self.start + self.velocity * when + self.acceleration * ((when - 0.5) ** 2 / 2)
        return path + waves.sum(1) + self.turned * turning


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Bend:
    """An oscillating deformation: fields (k, 2, n, n) of displacement in half units of the layer.

    `hertz` and `phase` (k,) are those of the sines that weigh the fields.
    """

    fields: np.ndarray
    hertz: np.ndarray
    phase: np.ndarray

    def enlarged(self) -> Tensor:
        """The fields at a finer resolution: (k, 2, m, m)."""
        side = FINER * self.fields.shape[-1]
        return functional.interpolate(torch.from_numpy(self.fields), (side, side), mode="bicubic", align_corners=True)

    def at(self, seconds: float) -> Tensor:
        """Weight of every field at a time: (k, 1, 1, 1)."""
        swing = np.sin(2 * math.pi * self.hertz * seconds + self.phase)
        return torch.from_numpy(swing.astype(np.float32))[:, None, None, None]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Layer:
    """A piece of photograph `photo`, `span` of its width per unit of the layer, from `place` on, rotated by `turn`.

    `motions` begin with those of the parents and end with its own. The camera moves it `nearness` times as far as the
    ground (0: not at all). `color` (3, 4) is a matrix and an offset. `cutout` is the kind and the seed of its outline;
    None: it fills the picture. `tilt` (2,) is its perspective.
    """

    photo: tuple[int, int]
    span: float
    place: tuple[float, float]
    turn: float
    color: np.ndarray
    motions: tuple[LayerMotion, ...]
    nearness: float = 1.0
    cutout: tuple[str, int] | None = None
    opacity: float = 1.0
    tilt: tuple[float, float] = (0.0, 0.0)
    bend: Bend | None = None


Painter = Callable[[Tensor, float, np.ndarray], None]


def pose(value: np.ndarray) -> np.ndarray:
    """Matrices from coordinates of a moving object to those of its parent: (t, 4) to (t, 3, 3)."""
    x, y, angle, scale = value.T
    cos, sin, zero = np.exp(scale) * np.cos(angle), np.exp(scale) * np.sin(angle), np.zeros(len(value))
    return np.array([[cos, -sin, x], [sin, cos, y], [zero, zero, zero + 1]]).transpose(2, 0, 1)


def inward(layer: Layer, camera: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Matrices from places in the picture to coordinates of the layer at times (t,), for camera poses (t, 4): (t, 3,
    3)."""
    outward = pose(layer.motions[0].at(seconds))
    for motion in layer.motions[1:]:
        outward = outward @ pose(motion.at(seconds))
    near = layer.nearness
    matrices = np.linalg.inv(outward) @ pose(camera * [near, near, min(near, 1), near])
    return matrices @ np.array([[1, 0, 0], [0, 1, 0], [*layer.tilt, 1]]) if any(layer.tilt) else matrices


def painter(layer: Layer, canvas: int) -> Painter:
    """Prepares a layer for pictures of `canvas` pixels a side: returns a function that paints it at a time.

    The function paints on samples (3, s, h, w) of a picture, with matrices (s or 1, 3, 3) to the layer's coordinates.
    """
    size = math.exp(sum(motion.at(np.array([0.5]))[0, 3] for motion in layer.motions))
    texture = _ground(layer, canvas) if layer.cutout is None else _piece(layer, round(1.25 * size * canvas))
    fields = layer.bend.enlarged() if layer.bend else None
    reach = 0.5 + (float(fields.abs().sum(0).max()) if fields is not None else 0.0)
    onto = _onto_photograph(layer)

    def paint(picture: Tensor, seconds: float, matrices: np.ndarray) -> None:
        rows, columns = (slice(0, canvas),) * 2 if layer.cutout is None else _box(matrices, reach, canvas)
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return
        places = _places(matrices, rows, columns, canvas)
        if layer.bend and fields is not None:
            bent = (layer.bend.at(seconds) * fields).sum(0, keepdim=True)
            places += torch.complex(*_sampled(bent, places, padding="reflection"))
        if layer.cutout is None:
            picture.copy_(_sampled(texture, _wrapped(places * onto[0] + onto[1]), padding="border"))
            return
        seen = _sampled(texture, places, padding="zeros", corners=False)
        part = picture[:, :, rows, columns]
        part += seen[3:] * (seen[:3] - part)

    return paint


def _box(matrices: np.ndarray, reach: float, canvas: int) -> tuple[slice, slice]:
    """Rows and columns of the picture that a piece with this reach around its center can cover."""
    corners = reach * np.array([[-1, -1, 1, 1], [-1, 1, -1, 1], [1 / reach] * 4])
    seen = (np.linalg.inv(matrices) @ corners)[:, :2] * canvas + canvas / 2
    low, high = np.floor(seen.min((0, 2))) - 1, np.ceil(seen.max((0, 2))) + 1
    (left, top), (right, bottom) = np.clip([low, high], 0, canvas).astype(int).tolist()
    return slice(top, bottom), slice(left, right)


def _onto_photograph(layer: Layer) -> tuple[complex, complex]:
    """Factor and offset from twice the layer's coordinates to those of its photograph, both from -1 to 1."""
    return layer.span * complex(math.cos(layer.turn), math.sin(layer.turn)), 2 * complex(*layer.place) - 1 - 1j


def _places(matrices: np.ndarray, rows: slice, columns: slice, canvas: int) -> Tensor:
    """Twice the layer's coordinates of the samples of some pixels, x + iy: (s, h, w) complex."""
    offsets = np.array(SAMPLES) / canvas
    x = ((np.arange(columns.start, columns.stop) + 0.5) / canvas - 0.5 + offsets[:, :1])[:, None, :]
    y = ((np.arange(rows.start, rows.stop) + 0.5) / canvas - 0.5 + offsets[:, 1:])[:, :, None]
    by_x, by_y, shift = np.moveaxis(2 * (matrices[:, 0] + 1j * matrices[:, 1]), 1, 0)[..., None, None]
    across, down = (torch.from_numpy(part.astype(np.complex64)) for part in (x * by_x + shift, y * by_y))
    places = across + down
    if not matrices[:, 2, :2].any():
        return places
    by_x, by_y, shift = np.moveaxis(matrices[:, 2], 1, 0)[..., None, None]
    near, far = (torch.from_numpy(part.astype(np.float32)) for part in (x * by_x + shift, y * by_y))
    return places / (near + far).clamp(min=0.2)


def _wrapped(places: Tensor) -> Tensor:
    """Coordinates of a picture that repeats beyond its borders, which are at -1 and 1."""
    pairs = torch.view_as_real(places)
    return torch.view_as_complex(pairs - 2 * ((pairs + 1) / 2).floor())


def _sampled(texture: Tensor, places: Tensor, *, padding: str, corners: bool = True) -> Tensor:
    """A texture (1, c, n, n) at places (s, h, w), x + iy, from -1 to 1: (c, s, h, w)."""
    grid = torch.view_as_real(places).view(1, -1, places.shape[-1], 2)
    seen = functional.grid_sample(texture, grid, mode="bilinear", padding_mode=padding, align_corners=corners)
    return seen.view(-1, *places.shape)


def _level(layer: Layer, texels: float) -> Tensor:
    """The photograph (1, 3, n, n) at the level with just over `texels` per unit of the layer."""
    number = math.floor(math.log2(max(layer.span * SIDE / texels, 1)))
    return torch.from_numpy(photograph(*layer.photo)[min(number, LEVELS - 1)]).permute(2, 0, 1)[None].float() / 255


def _ground(layer: Layer, canvas: int) -> Tensor:
    return _colored(_level(layer, 2 * canvas), layer.color)  # as dense as its samples


def _piece(layer: Layer, texels: int) -> Tensor:
    """The cut out piece: (1, 4, n, n), colors and coverage."""
    assert layer.cutout is not None
    side = min(max(texels, 12), LARGEST)
    coverage, shade = cut(*layer.cutout, side)
    place = (torch.arange(side) + 0.5) * 2 / side - 1
    factor, summand = _onto_photograph(layer)
    places = _wrapped(torch.complex(place.expand(side, side), place[:, None].expand(side, side)) * factor + summand)
    picture = _sampled(_level(layer, round(1.5 * side)), places[None], padding="border")
    colors = _colored(picture.transpose(0, 1), layer.color) * torch.from_numpy(shade)
    return torch.cat([colors.clamp(0, 1), layer.opacity * torch.from_numpy(coverage)[None, None]], dim=1)


def _colored(picture: Tensor, color: np.ndarray) -> Tensor:
    matrix = torch.from_numpy(color.astype(np.float32))
    return torch.einsum("ij,njhw->nihw", matrix[:, :3], picture) + matrix[:, 3, None, None]
