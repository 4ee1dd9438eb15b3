"""Random films: speed, camera, objects, light.

The speed of a film is log-uniform, as most real motions are small and some are large; everything in it moves about as
fast. One film in six is nearly still.
"""

from __future__ import annotations

import math

import numpy as np

from vidiff_cli.worlds.films import RATE, SECONDS, FilmScene, WorldFilm
from vidiff_cli.worlds.layers import Bend, Layer, LayerMotion
from vidiff_cli.worlds.textures import POOL

SLOWEST, FASTEST = 0.0015, 0.12  # short sides per frame at RATE
STILL = 1 / 6  # of the films, which are
STILLEST = 0.00003
CUTS, REPEATS, BORDERS, WRITINGS, GRAYS = 0.04, 0.04, 0.04, 0.04, 0.08  # of the films
REPEAT_RATES = (6.0, 8.0, 12.0)
TAU = 2 * math.pi


def draw_film(seed: int, number: int, *, held_out: bool = False) -> WorldFilm:
    """Film `number` of an endless seeded sequence: it depends on its arguments alone.

    Held-out films use other photographs.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(4, int(held_out), number)))
    still = rng.random() < STILL
    low, high = (STILLEST, SLOWEST) if still else (SLOWEST, FASTEST)
    speed = RATE * _log_uniform(rng, low, high)
    photos = range(POOL, POOL * 5 // 4) if held_out else range(POOL)
    cut = rng.random() < CUTS
    scenes = tuple(_scene(rng, speed, seed, photos) for _ in range(1 + cut))
    flickers = rng.random() < 0.12
    return WorldFilm(
        scenes=scenes,
        cut_seconds=float(rng.uniform(0, SECONDS)) if cut else math.inf,
        shutter=float(rng.uniform(0.2, 0.8)) if rng.random() < 0.4 else 0.0,
        repeats=float(rng.choice(REPEAT_RATES)) if rng.random() < REPEATS else 0.0,
        gray=bool(rng.random() < GRAYS),
        contrast=float(rng.uniform(0.75, 1.35)),
        gamma=float(2 ** rng.normal(0, 0.35)),
        drift=float(rng.normal(0, 0.3)) if rng.random() < 0.15 else 0.0,
        flicker=(*_pair(rng.uniform([1, 0], [12, TAU])), float(rng.uniform(0.01, 0.1))) if flickers else (0, 0, 0),
        focus=(float(rng.uniform(0.1, 0.7)), float(rng.uniform(0, TAU))) if rng.random() < 0.04 else None,
        vignette=float(rng.uniform(0.1, 0.5)) if rng.random() < 0.2 else 0.0,
        noise=float(rng.uniform(0.3, 3)) if rng.random() < 0.4 else 0.0,
        noise_seed=int(rng.integers(2**31)),
        borders=float(rng.uniform(0.06, 0.16)) if rng.random() < BORDERS else 0.0,
    )


def _scene(rng: np.random.Generator, speed: float, seed: int, photos: range) -> FilmScene:
    camera, locked = _camera(rng, speed)
    ground = _ground(rng, speed, (seed, int(rng.choice(photos))))
    count = int(rng.choice(5, p=[0.05, 0.25, 0.3, 0.25, 0.15] if locked else [0.3, 0.25, 0.2, 0.15, 0.1]))
    layers = [ground]
    for _ in range(count):
        layers += _things(rng, speed, (seed, int(rng.choice(photos))))
    if rng.random() < WRITINGS:
        layers.append(_caption(rng, (seed, int(rng.choice(photos)))))
    return FilmScene(layers=tuple(layers), camera=camera)


def _camera(rng: np.random.Generator, speed: float) -> tuple[LayerMotion, bool]:
    """The motion of the camera, and True if it stands still."""
    kind = rng.choice(5, p=[0.3, 0.25, 0.2, 0.15, 0.1])  # on a tripod, in a hand; panning, zooming, rolling
    pan, zoom, roll = 0.3 * rng.random(3) * (kind > 1)
    if kind > 1:
        pan, zoom, roll = np.maximum([pan, zoom, roll], np.arange(3) == kind - 2) * rng.uniform(0.5, 1.2, 3)
    direction = rng.uniform(0, TAU) if rng.random() < 0.5 else rng.choice(2) * math.pi + rng.normal(0, 0.1)
    velocity = np.array(
        [
            speed * pan * math.cos(direction),
            speed * pan * math.sin(direction),
            _sign(rng) * min(2.5, 1.5 * speed * roll),
            _sign(rng) * min(1.2, 1.5 * speed * zoom),
        ]
    )
    shake = speed * (0 if kind == 0 else rng.uniform(0.4, 1.2) if kind == 1 else rng.uniform(0, 0.3))
    start = np.array([0, 0, rng.normal(0, 0.05) if rng.random() < 0.3 else 0, 0])
    return _motion(rng, start, velocity, shake * np.array([1, 1, 0.6, 0.3]), lasting=True), bool(kind == 0)


def _ground(rng: np.random.Generator, speed: float, photo: tuple[int, int]) -> Layer:
    bends = rng.random() < 0.25
    span = _log_uniform(rng, 0.17, 0.8)
    return Layer(
        photo=photo,
        span=span,
        place=_pair(rng.random(2)),
        turn=_upright(rng),
        color=_color(rng),
        motions=(_motion(rng, np.zeros(4), np.zeros(4), np.zeros(4)),),
        tilt=_pair(rng.uniform(-0.8, 0.8, 2) * [0.4, 1]) if rng.random() < 0.3 else (0.0, 0.0),
        bend=_bend(rng, speed * rng.uniform(0.2, 1), int(rng.integers(4, 9))) if bends else None,
    )


def _things(rng: np.random.Generator, speed: float, photo: tuple[int, int]) -> list[Layer]:
    """One moving object, with its limbs."""
    kind = str(rng.choice(["body", "group", "smoke", "specks", "bars", "shadow"], p=[0.4, 0.3, 0.1, 0.06, 0.06, 0.08]))
    size = _log_uniform(rng, 0.2, 1.1) if kind in ("body", "group") else _log_uniform(rng, 0.5, 1.6)
    own = speed * 2 ** rng.normal(0, 0.7) * (rng.random() < 0.8)
    middle, when = rng.uniform(-0.45, 0.45, 2), rng.uniform(0, SECONDS)
    direction = rng.uniform(0, TAU) if rng.random() < 0.5 else rng.choice(2) * math.pi + rng.normal(0, 0.2)
    turning = min(3.0, own / size) * rng.normal(0, 0.7) * (rng.random() < 0.5)
    growing = min(1.0, own / size) * rng.normal(0, 0.5) * (rng.random() < 0.35)
    velocity = np.array([own * math.cos(direction), own * math.sin(direction), turning, growing])
    start = np.array([*(middle - when * velocity[:2]), 0.0, math.log(size) - 0.5 * growing])
    motion = _motion(rng, start, velocity, own * rng.uniform(0, 0.6) * np.array([1, 1, 1 / size, 0.3]))
    supple = rng.random() < {"smoke": 1.0, "specks": 0.5}.get(kind, 0.4)
    swing = own / size * rng.uniform(0.3, 1)
    thing = Layer(
        photo=photo,
        span=min(1.0, size * _log_uniform(rng, 0.17, 0.8)),
        place=_pair(rng.random(2)),
        turn=_upright(rng),
        color=_color(rng) if kind != "shadow" else np.zeros((3, 4)),
        motions=(motion,),
        nearness=float(rng.uniform(1, 1.6)) if rng.random() < 0.6 else 1.0,
        cutout=("body" if kind == "shadow" else kind, int(rng.integers(2**31))),
        opacity=float(rng.uniform(0.2, 0.6)) if kind == "shadow" or (kind == "smoke" and rng.random() < 0.5) else 1.0,
        bend=_bend(rng, swing, int(rng.integers(2, 5))) if supple else None,
    )
    if kind not in ("body", "group") or rng.random() < 0.5:
        return [thing]
    return _limbs(rng, thing, own, size)


def _limbs(rng: np.random.Generator, body: Layer, speed: float, size: float) -> list[Layer]:
    """A body with one or two limbs that swing about their joints, some with a joint in their middle."""
    layers = [body]
    for _ in range(int(rng.integers(1, 3))):
        motions, joint, length = body.motions, rng.uniform(-0.3, 0.3, 2), float(rng.uniform(0.8, 1.6))
        for segment in range(int(rng.integers(1, 3))):
            start = np.array([*joint, rng.uniform(0, TAU) if segment == 0 else rng.normal(0, 0.7), math.log(length)])
            swing = np.array([0, 0, min(6.0, rng.uniform(0.5, 2) * speed / (size * length)), 0])
            motions = (*motions, _motion(rng, start, np.zeros(4), swing))
            layers.insert(
                len(layers) if rng.random() < 0.6 else layers.index(body),  # before the body or behind it
                Layer(
                    photo=body.photo,
                    span=min(0.9, body.span * length),
                    place=_pair(rng.random(2)),
                    turn=_upright(rng),
                    color=body.color,
                    motions=motions,
                    nearness=body.nearness,
                    cutout=("limb", int(rng.integers(2**31))),
                ),
            )
            joint, length = np.array([0.38, 0.0]), float(rng.uniform(0.7, 1))
    return layers


def _caption(rng: np.random.Generator, photo: tuple[int, int]) -> Layer:
    """Lettering that stands still in the picture, or a channel logo in its corner."""
    size, corner = (0.25, rng.choice([-0.36, 0.36], 2)) if rng.random() < 0.4 else (0.9, np.array([0, 0.36]))
    level = float(rng.choice([0.0, 1.0], p=[0.2, 0.8]))
    return Layer(
        photo=photo,
        span=0.2,
        place=(0.0, 0.0),
        turn=0.0,
        color=np.array([[0, 0, 0, level]] * 3),
        motions=(_motion(rng, np.array([*corner, 0, math.log(size)]), np.zeros(4), np.zeros(4)),),
        nearness=0.0,
        cutout=("writing", int(rng.integers(2**31))),
        opacity=float(rng.uniform(0.5, 1)),
    )


def _motion(
    rng: np.random.Generator, start: np.ndarray, velocity: np.ndarray, swing: np.ndarray, *, lasting: bool = False
) -> LayerMotion:
    """A path with a smoothly changing mean velocity, and oscillations of speed `swing` (4,).

    One in six stops, starts, bounces or turns, unless it is `lasting`.
    """
    hertz = _log_uniform(rng, 0.3, 1.5) * np.array([1, 2.3, 4.1])
    share = rng.random((3, 4)) * [[1], [0.5], [0.25]]
    turned, kind = np.zeros(4), rng.integers(4)
    if not lasting and rng.random() < 1 / 6:
        normal = np.array([math.cos(angle := rng.uniform(0, TAU)), math.sin(angle)])
        if kind == 0:
            turned = -velocity
        elif kind == 1:
            turned, velocity = velocity, np.zeros(4)
        else:
            turned[:2] = -(1 + rng.uniform(0.3, 1)) * (normal @ velocity[:2]) * normal
    return LayerMotion(
        start=start,
        velocity=velocity,
        acceleration=velocity * rng.normal(0, 0.6, 4),
        waves=math.sqrt(2) * swing * share / (TAU * hertz[:, None]),
        hertz=hertz,
        phase=rng.uniform(0, TAU, (3, 4)),
        turned=turned,
        turning_seconds=float(rng.uniform(0.1, 0.9)) * SECONDS,
        turning_width=0.005 if kind > 1 else float(rng.uniform(0.02, 0.15)),
    )


def _bend(rng: np.random.Generator, speed: float, cells: int) -> Bend:
    """Smooth displacements that oscillate at a speed, as far as their cells allow without folding."""
    hertz = _log_uniform(rng, 0.4, 2.5) * rng.uniform(0.7, 1.4, 3)
    amplitude = np.minimum(2 * speed / (TAU * hertz), 0.4 / cells)[:, None, None, None]
    fields = rng.standard_normal((3, 2, cells + 1, cells + 1)) * amplitude
    return Bend(fields=fields.astype(np.float32), hertz=hertz, phase=rng.uniform(0, TAU, 3))


def _color(rng: np.random.Generator) -> np.ndarray:
    """A change of saturation, hue and brightness: (3, 4)."""
    saturation = rng.uniform(0.5, 1.2)
    matrix = saturation * np.eye(3) + (1 - saturation) / 3 + rng.normal(0, 0.05, (3, 3))
    gain, level = rng.uniform(0.7, 1.2), rng.normal(0.47, 0.1)
    return np.concatenate([gain * matrix, np.full((3, 1), level - 0.45 * gain)], axis=1)


def _upright(rng: np.random.Generator) -> float:
    return float(rng.normal(0, 0.1) if rng.random() < 0.5 else rng.uniform(0, TAU))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))


def _sign(rng: np.random.Generator) -> float:
    return 1.0 if rng.random() < 0.5 else -1.0


def _pair(values: np.ndarray) -> tuple[float, float]:
    return float(values[0]), float(values[1])
