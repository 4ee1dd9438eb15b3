"""Accuracy of a clip against a caption of the larger world, word by word, by the oracle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vidiff_cli.worlds.captions import parse_words
from vidiff_cli.worlds.scene_oracle import detect_objects

ATTRIBUTES = ("color", "shape", "size", "motion", "direction", "speed")
ALL = "all words"


def caption_accuracy(caption: str, frames: np.ndarray, seconds: Sequence[float] | np.ndarray) -> dict[str, bool]:
    """For every attribute that the caption names, True if all named objects have it; and ALL, the conjunction.

    frames (t, h, w, 3) uint8, square; seconds (t,). Objects are matched by color, else by order. Attributes that the
    caption omits are absent; a caption without any word of the world gives an empty result.
    """
    said = [thing for thing in parse_words(caption)["things"] if any(thing.values())]
    if not said:
        return {}
    seen = [thing.words for thing in detect_objects(frames, seconds).things]
    by_color = {thing["color"]: thing for thing in seen}
    found: dict[str, bool] = {}
    for number, thing in enumerate(said):
        shown = by_color.get(thing["color"]) or (seen[number] if number < len(seen) else dict.fromkeys(ATTRIBUTES))
        for name in ATTRIBUTES:
            if thing[name] is not None:
                found[name] = found.get(name, True) and shown[name] == thing[name]
    return found | {ALL: all(found.values())}
