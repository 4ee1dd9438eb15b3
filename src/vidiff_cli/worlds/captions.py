"""Natural captions of the larger world, and their parser: synonyms, word order, omitted attributes."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from vidiff_cli.worlds.scenes import Background, SceneObject

# The first word is the usual one: it is taken in half of the captions.
SYNONYMS: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "color": {
            "red": ("red",),
            "yellow": ("yellow",),
            "green": ("green",),
            "cyan": ("cyan", "turquoise"),
            "blue": ("blue",),
            "purple": ("purple", "violet"),
        },
        "shape": {
            "square": ("square", "box"),
            "circle": ("circle", "disc", "ball"),
            "triangle": ("triangle",),
            "plus": ("plus", "cross"),
        },
        "size": {"small": ("small", "little", "tiny"), "large": ("large", "big", "huge")},
        "speed": {"slowly": ("slowly", "at a low speed"), "quickly": ("quickly", "fast")},
        "direction": {
            "left": ("left", "to the left", "leftwards"),
            "right": ("right", "to the right", "rightwards"),
            "up": ("up", "upwards"),
            "down": ("down", "downwards"),
            "up left": ("up left", "up and to the left", "diagonally up and left", "to the upper left"),
            "up right": ("up right", "up and to the right", "diagonally up and right", "to the upper right"),
            "down left": ("down left", "down and to the left", "diagonally down and left", "to the lower left"),
            "down right": ("down right", "down and to the right", "diagonally down and right", "to the lower right"),
        },
        "motion": {
            "moving": ("moving", "sliding", "going", "travelling"),
            "bouncing": ("bouncing", "bouncing around", "bouncing off the walls"),
            "circling": ("circling", "going around in a circle", "running in circles"),
            "growing": ("growing", "getting larger"),
            "shrinking": ("shrinking", "getting smaller"),
            "turning": ("turning", "rotating", "spinning"),
            "still": ("standing still", "not moving", "at rest"),
        },
        "ground": {
            "plain": ("on a plain background",),
            "gradient": ("on a gradient", "before a gradient"),
            "textured": ("on a textured background", "on a texture"),
        },
    }
)
OMIT_PROBABILITY = {"size": 0.1, "speed": 0.3, "plain": 0.8}  # how often a caption leaves it out
MOTION_FIRST_PROBABILITY = 0.1  # how often what it does is said before what it is
_BETWEEN = re.compile(r",? (?:and|beside) (?=an? )")


def caption(things: Sequence[SceneObject], ground: Background, rng: np.random.Generator) -> str:
    """One of many captions of a scene; "a small red circle moving left slowly" is the plainest."""
    said = [_thing(thing, rng, alone=len(things) == 1) for thing in things]
    sentence = (" and ", ", and ", " beside ")[int(rng.integers(3))].join(said) if len(said) > 1 else said[0]
    if ground.kind == "plain" and rng.random() < OMIT_PROBABILITY["plain"]:
        return sentence
    return f"{sentence} {_word('ground', ground.kind, rng)}"


def phrases(**names: Collection[str]) -> tuple[str, ...]:
    """All phrases of captions, or those of some names of an attribute, and the words between them.

    phrases(color=("red",)) contains no other color.
    """
    chosen = [
        phrase
        for attribute, options in SYNONYMS.items()
        for name, synonyms in options.items()
        if name in names.get(attribute, options)
        for phrase in synonyms
    ]
    return (*chosen, "a ,")


def parse_words(text: str) -> dict[str, Any]:
    """Attributes that a caption names, in the words of a scene; omitted ones are None (of a ground: plain).

    "a little disc going to the upper left" -> {"ground": "plain", "things": [{"color": None, "shape": "circle", "size":
    "small", "motion": "moving", "direction": "up left", "speed": None}]}
    """
    said = " ".join(text.lower().split())
    ground = _find("ground", said) or "plain"
    return {"ground": ground, "things": [_parse(part) for part in _BETWEEN.split(said)]}


def _thing(thing: SceneObject, rng: np.random.Generator, *, alone: bool) -> str:
    size = None if thing.size is None or rng.random() < OMIT_PROBABILITY["size"] else _word("size", thing.size, rng)
    color, shape = _word("color", thing.color, rng), _word("shape", thing.shape, rng)
    adjectives = [word for word in (size, color) if word]
    what = " ".join(["a", *(adjectives if rng.random() < 0.85 else adjectives[::-1]), shape])
    does = _doing(thing, rng)
    return f"{does}, {what}" if alone and rng.random() < MOTION_FIRST_PROBABILITY else f"{what} {does}"


def _doing(thing: SceneObject, rng: np.random.Generator) -> str:
    verb = _word("motion", thing.motion, rng)
    if thing.direction is None or thing.speed is None:
        return verb
    where = _word("direction", thing.direction, rng)
    if rng.random() < OMIT_PROBABILITY["speed"]:
        return f"{verb} {where}"
    speed = _word("speed", thing.speed, rng)
    if speed.endswith("ly") and rng.random() < 0.5:
        return f"{verb} {speed} {where}" if rng.random() < 0.5 else f"{speed} {verb} {where}"
    return f"{verb} {where} {speed}"


def _word(attribute: str, name: str, rng: np.random.Generator) -> str:
    options = SYNONYMS[attribute][name]
    return options[0] if len(options) == 1 or rng.random() < 0.5 else options[int(rng.integers(1, len(options)))]


def _parse(part: str) -> dict[str, str | None]:
    motion = _find("motion", part)
    for phrase in SYNONYMS["motion"].get(motion or "", ()):
        part = part.replace(phrase, "") if motion != "moving" else part  # who goes around in a circle need not be one
    found: dict[str, str | None] = {name: _find(name, part) for name in ("color", "shape", "size", "speed")}
    found["motion"] = motion
    across = re.search(r"\b(left|right)(?:wards)?\b", part)
    along = re.search(r"\b(upper|lower|up|down)(?:wards)?\b", part)
    vertical = {"upper": "up", "lower": "down"}.get(along[1], along[1]) if along else ""
    direction = f"{vertical} {across[1] if across else ''}".strip() or None
    if found["motion"] in (None, "moving"):
        found["motion"] = "moving" if direction else found["motion"]
        return found | {"direction": direction}
    return found | {"direction": None, "speed": None}


def _find(attribute: str, part: str) -> str | None:
    """The name of the longest phrase that occurs, so that "not moving" is not read as "moving"."""
    places = [
        (len(phrase), name)
        for name, options in SYNONYMS[attribute].items()
        for phrase in options
        if re.search(rf"\b{re.escape(phrase)}\b", part)
    ]
    return max(places)[1] if places else None
