"""Accuracy of a clip against a caption of the larger world, word by word, by the oracle."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vidiff_cli.worlds.captions import parse_words
from vidiff_cli.worlds.scene_oracle import Detection, detect_objects

ATTRIBUTES = ("color", "shape", "size", "motion", "direction", "speed")
ALL = "all words"


def caption_accuracy(caption: str, frames: np.ndarray, seconds: Sequence[float] | np.ndarray) -> dict[str, bool]:
    """For every attribute that the caption names, True if all named objects have it; and ALL, the conjunction.

    frames (t, h, w, 3) uint8, square; seconds (t,). Objects are matched by color, else by order. Attributes that the
    caption omits are absent; a caption without any word of the world gives an empty result.
    """
    return words_right(caption, detect_objects(frames, seconds)) if _named(caption) else {}


def words_right(caption: str, detection: Detection) -> dict[str, bool]:
    """As `caption_accuracy`, of a clip that has been read."""
    if not (named := _named(caption)):
        return {}
    detected = [thing.words for thing in detection.things]
    by_color = {thing["color"]: thing for thing in detected}
    correct: dict[str, bool] = {}
    for number, thing in enumerate(named):
        same_place = detected[number] if number < len(detected) else dict.fromkeys(ATTRIBUTES)
        shown = by_color.get(thing["color"]) or same_place
        for name in ATTRIBUTES:
            if thing[name] is not None:
                correct[name] = correct.get(name, True) and shown[name] == thing[name]
    return correct | {ALL: all(correct.values())}


def distance_from_middle(detection: Detection) -> float:
    """The distance of an object's mean place from the middle of the frame, in sides of it: the mean over the objects;
    nan without any. Samples that are drawn towards the mean of all clips have a smaller one than real clips."""
    places = [np.nanmean(thing.centers, axis=0) for thing in detection.things]
    return float(np.mean([np.linalg.norm(place - 0.5) for place in places])) if places else np.nan


def _named(caption: str) -> list[dict[str, str | None]]:
    """The objects that a caption names, by their attributes."""
    return [thing for thing in parse_words(caption)["things"] if any(thing.values())]
