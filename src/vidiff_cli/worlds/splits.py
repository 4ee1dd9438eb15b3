"""Scenes drawn from parts of the larger world, each a function of (part, seed, number), and the held-out combinations.

Some combinations of color, shape and move are never drawn for training, though each pair of the three is: success on
them shows that a model has learned the words and not the sentences.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np

from vidiff_cli.worlds import scenes
from vidiff_cli.worlds.captions import caption, phrases
from vidiff_cli.worlds.scenes import SECONDS, Background, Scene, SceneObject

MOVES = (*scenes.DIRECTIONS, *(motion for motion in scenes.MOTIONS if motion != "moving"))
APART = 1 / 32  # of the canvas: so much ground stays between two things
TRIES = 10_000
HoldOut = Literal["train", "held-out", "any"]


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldSplit:
    """Content of the scenes of a part. `max_gray` is the lightest gray of a background."""

    colors: tuple[str, ...] = tuple(scenes.COLORS)
    shapes: tuple[str, ...] = scenes.SHAPES
    moves: tuple[str, ...] = MOVES
    grounds: tuple[str, ...] = scenes.GROUNDS
    max_objects: int = 2
    max_gray: float = 110.0


PARTS: Mapping[str, WorldSplit] = MappingProxyType(
    {
        "whole": WorldSplit(),
        "one": WorldSplit(max_objects=1),
        "straight": WorldSplit(
            shapes=("square", "circle", "triangle"),
            moves=(*scenes.DIRECTIONS, "still"),
            grounds=("plain",),
            max_objects=1,
            max_gray=0.0,
        ),
        "lasting": WorldSplit(
            colors=("red", "green", "blue", "yellow"),
            shapes=("square", "circle", "triangle"),
            moves=("bouncing", "circling", "still"),
            grounds=("plain",),
            max_objects=1,
            max_gray=0.0,
        ),
    }
)


def split_phrases(part: str) -> tuple[str, ...]:
    """Phrases that together contain every word of the captions of a part."""
    chosen = PARTS[part]
    directions = [move for move in chosen.moves if move in scenes.DIRECTIONS]
    motions = [move for move in chosen.moves if move not in scenes.DIRECTIONS] + ["moving"] * bool(directions)
    said = phrases(
        color=chosen.colors, shape=chosen.shapes, motion=motions, direction=directions, ground=chosen.grounds
    )
    return said if chosen.max_objects == 1 else (*said, "and beside")


def held_out(color: str, shape: str, move: str) -> bool:
    """True for a combination that is held out from training: one of nine, so that every pair of its words still
    occurs."""
    numbers = tuple(scenes.COLORS).index(color), scenes.SHAPES.index(shape), MOVES.index(move)
    return (numbers[0] + 2 * numbers[1] + 4 * numbers[2]) % 9 == 4


def draw_scene(part: str, seed: int, number: int, *, side: HoldOut = "train") -> Scene:
    """Scene `number` of an endless seeded sequence: it depends on its arguments alone.

    On the side "train" no object has a held-out combination, on "held-out" every object has one; "any" allows both.
    """
    sides = ("train", "held-out", "any")
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2, sides.index(side), number)))
    return _draw(PARTS[part], rng, side)


def _draw(part: WorldSplit, rng: np.random.Generator, side: HoldOut) -> Scene:
    count = int(rng.integers(1, part.max_objects + 1))
    for _ in range(TRIES):
        things = tuple(_thing(part, rng, side) for _ in range(count))
        if count == 1 or (things[0].color != things[1].color and _apart(*things)):
            ground = _ground(part, rng)
            return Scene(things=things, ground=ground, caption=caption(things, ground, rng))
    raise AssertionError(f"no two things of {part} have room beside one another")


def _thing(part: WorldSplit, rng: np.random.Generator, side: HoldOut) -> SceneObject:
    for _ in range(TRIES):
        color, shape, move = _one(part.colors, rng), _one(part.shapes, rng), _one(part.moves, rng)
        if shape == "circle" and move == "turning":  # nobody could see it
            continue
        if side == "any" or held_out(color, shape, move) == (side == "held-out"):
            return _placed(color, shape, move, rng)
    raise AssertionError(f"nothing of {part} is {side}")


def _placed(color: str, shape: str, move: str, rng: np.random.Generator) -> SceneObject:
    """An object with the given words and a random start from which it stays inside the canvas for all of the clip."""
    motion = move if move in scenes.MOTIONS else "moving"
    size = None if motion in ("growing", "shrinking") else _one(tuple(scenes.SIZES), rng)
    side = max(scenes.GROWN) if size is None else scenes.SIZES[size]
    edge = side * (scenes.RADIUS if motion == "turning" else scenes.REACH)[shape]
    if motion == "moving":
        speed = _one(tuple(scenes.SPEEDS), rng)
        velocity = scenes.SPEEDS[speed] * np.asarray(scenes.DIRECTIONS[move])
        path = SECONDS * velocity
        low, high = edge + np.maximum(-path, 0), 1 - edge - np.maximum(path, 0)
        start = rng.uniform(low, np.maximum(high, low))
        return SceneObject(
            color=color,
            shape=shape,
            motion=motion,
            size=size,
            direction=move,
            speed=speed,
            start=_pair(start),
            velocity=_pair(velocity),
        )
    if motion == "bouncing":
        start, velocity = _towards_a_wall(edge, rng)
        return SceneObject(
            color=color, shape=shape, motion=motion, size=size, start=_pair(start), velocity=_pair(velocity)
        )
    sense = 1.0 if rng.random() < 0.5 else -1.0
    radius = float(rng.uniform(0.15, min(0.25, 0.5 - edge))) if motion == "circling" else 0.0
    start = rng.uniform(edge + radius, 1 - edge - radius, 2)
    turn = {"circling": scenes.CIRCLING, "turning": scenes.TURNING}.get(motion, 0.0) * sense
    phase = float(rng.uniform(0, 2 * math.pi)) if motion == "circling" else 0.0
    return SceneObject(
        color=color,
        shape=shape,
        motion=motion,
        size=size,
        start=_pair(start),
        radius=radius,
        phase=phase,
        turn=turn,
    )


def _towards_a_wall(edge: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A start and a velocity that hit a wall, not too obliquely, in the middle half of the clip."""
    for _ in range(TRIES):
        angle = rng.uniform(0, 2 * math.pi)
        velocity = scenes.BOUNCING * np.array([math.cos(angle), math.sin(angle)])
        start = rng.uniform(edge, 1 - edge, 2)
        meets = np.where(velocity > 0, 1 - edge - start, start - edge) / np.maximum(np.abs(velocity), 1e-9)
        first = int(meets.argmin())
        if SECONDS / 4 <= meets[first] <= SECONDS * 3 / 4 and abs(velocity[first]) >= scenes.BOUNCING / 2:
            return start, velocity
    raise AssertionError("no path meets a wall")


def _apart(one: SceneObject, other: SceneObject) -> bool:
    """True if two objects never touch."""
    seconds = np.linspace(0, SECONDS, 31)
    reach = [thing.sides(seconds) * scenes.RADIUS[thing.shape] for thing in (one, other)]
    distance = np.hypot(*(one.centers(seconds) - other.centers(seconds)).T)
    return bool((distance >= reach[0] + reach[1] + APART).all())


def _ground(part: WorldSplit, rng: np.random.Generator) -> Background:
    kind = _one(part.grounds, rng)
    if kind == "plain":
        return Background(dark=float(rng.uniform(0, 0.6 * part.max_gray)))
    dark = float(rng.uniform(0, 0.25 * part.max_gray))
    light = float(rng.uniform(0.75 * part.max_gray, part.max_gray))
    return Background(
        kind=kind,
        dark=dark,
        light=light,
        angle=float(rng.uniform(0, 2 * math.pi)) if kind == "gradient" else 0.0,
        seed=int(rng.integers(2**31)) if kind == "textured" else 0,
    )


def _one(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _pair(values: np.ndarray) -> tuple[float, float]:
    return float(values[0]), float(values[1])
