"""Procedural films: cutouts of photographs in layers, moving before a moving camera.

A film is a function of (seed, number), its frames one of the time in seconds, at any rate and size. Films have no
captions: they are for learning motion. Lengths and angles as in `layers.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vidiff_cli.worlds.layers import SAMPLES, Layer, LayerMotion, inward, painter

SECONDS = 1.0  # in which what moves through a film is in the picture
RATE = 24.0  # frames per second that speeds and shutters are drawn for


@dataclass(frozen=True, kw_only=True, slots=True)
class FilmScene:
    """Layers from back to front, and the motion of the camera: place, angle and log of the visible width."""

    layers: tuple[Layer, ...]
    camera: LayerMotion


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldFilm:
    """One scene, or two with a cut at `cut_seconds`, and the properties of camera and print.

    `shutter` is the fraction of a frame's time for which it is open. `repeats` is the rate of new frames (0: all are
    new). The log brightness changes by `drift` per second and by a sine, `flicker` (hertz, phase, amplitude). The
    `focus` changes by a sine (hertz, phase). `noise` is a standard deviation, of 255. `borders` is the fraction of the
    height of each of two black bars.
    """

    scenes: tuple[FilmScene, ...]
    cut_seconds: float = math.inf
    shutter: float = 0.0
    repeats: float = 0.0
    gray: bool = False
    contrast: float = 1.0
    gamma: float = 1.0
    drift: float = 0.0
    flicker: tuple[float, float, float] = (0.0, 0.0, 0.0)
    focus: tuple[float, float] | None = None
    vignette: float = 0.0
    noise: float = 0.0
    noise_seed: int = 0
    borders: float = 0.0


def render(film: WorldFilm, seconds: Sequence[float] | np.ndarray, *, canvas: int) -> np.ndarray:
    """The frames of a film at some times: (t, h, w, 3) uint8 RGB, each a function of its own time alone."""
    times = np.asarray(seconds, float)
    if film.repeats:
        times = np.floor(times * film.repeats + 1e-6) / film.repeats
    frames = np.empty((len(times), canvas, canvas, 3), np.uint8)
    for number, scene in enumerate(film.scenes):
        places = np.flatnonzero((times >= film.cut_seconds) == number)
        for place, picture in zip(places, _pictures(scene, film.shutter, times[places], canvas), strict=True):
            frames[place] = _printed(film, picture, float(times[place]))
    return frames


def _pictures(scene: FilmScene, shutter: float, times: np.ndarray, canvas: int) -> Iterator[Tensor]:
    """Pictures of a scene at times (t,): (3, h, w) each, RGB about [0, 1]."""
    if not len(times):
        return
    count = len(SAMPLES)
    lags = (np.arange(count) / count - 0.375) * shutter / RATE if shutter else np.zeros(1)
    moments = (times[:, None] + lags).reshape(-1)
    camera = scene.camera.at(moments)
    layers = [
        (painter(layer, canvas), inward(layer, camera, moments).reshape(len(times), len(lags), 3, 3))
        for layer in scene.layers
    ]
    for number, when in enumerate(times.tolist()):
        picture = torch.empty(3, count, canvas, canvas)
        for paint, matrices in layers:
            paint(picture, when, matrices[number])
        yield picture.mean(1)


def _printed(film: WorldFilm, picture: Tensor, seconds: float) -> np.ndarray:
    """The finished frame of a picture (3, h, w): (h, w, 3) uint8."""
    canvas = picture.shape[-1]
    if film.focus is not None:
        share = 0.5 + 0.5 * math.sin(2 * math.pi * film.focus[0] * seconds + film.focus[1])
        small = functional.interpolate(picture[None], scale_factor=0.25, mode="bilinear", antialias=True)
        picture = picture + share * (functional.interpolate(small, (canvas, canvas), mode="bicubic")[0] - picture)
    if film.gray:
        picture = picture.mean(0, keepdim=True).expand(3, -1, -1)
    hertz, phase, amplitude = film.flicker
    brighter = film.drift * (seconds - 0.5) + amplitude * math.sin(2 * math.pi * hertz * seconds + phase)
    picture = (math.exp(brighter) * (0.5 + film.contrast * (picture - 0.5))).clamp(0, 1)
    if film.gamma != 1:
        picture = picture**film.gamma
    if film.vignette:
        place = torch.linspace(-1, 1, canvas).square()
        picture = picture * (1 - film.vignette * (place[:, None] + place[None, :]) / 2)
    frame = 255 * picture.permute(1, 2, 0).numpy()
    if film.noise:
        rng = np.random.default_rng([film.noise_seed, round(seconds * 1e6) % 2**32])
        shape = (canvas, canvas, 1 if film.gray else 3)
        frame = frame + film.noise * rng.standard_normal(shape, np.float32)
    bar = round(film.borders * canvas)
    frame[:bar], frame[canvas - bar :] = 0, 0
    return np.rint(frame.clip(0, 255)).astype(np.uint8)
