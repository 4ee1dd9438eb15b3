"""Whether a clip shows what a caption of the larger world says, word by word, as the oracle sees it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vidiff_cli.worlds.captions import parse_words
from vidiff_cli.worlds.scene_oracle import read

ATTRIBUTES = ("color", "shape", "size", "motion", "direction", "speed")
ALL = "all words"


def caption_accuracy(caption: str, frames: np.ndarray, seconds: Sequence[float] | np.ndarray) -> dict[str, bool]:
    """For every attribute that the caption names, whether it is so of every thing that it names it of; and ALL at once.

    frames (t, h, w, 3) uint8, square; seconds (t,). Things are told apart by their colors, by their order where none
    has the color. An attribute that the caption leaves out has no mark, and a caption without any word of the world
    none at all.
    """
    said = [thing for thing in parse_words(caption)["things"] if any(thing.values())]
    if not said:
        return {}
    seen = [thing.words for thing in read(frames, seconds).things]
    by_color = {thing["color"]: thing for thing in seen}
    found: dict[str, bool] = {}
    for number, thing in enumerate(said):
        shown = by_color.get(thing["color"]) or (seen[number] if number < len(seen) else dict.fromkeys(ATTRIBUTES))
        for name in ATTRIBUTES:
            if thing[name] is not None:
                found[name] = found.get(name, True) and shown[name] == thing[name]
    return found | {ALL: all(found.values())}
