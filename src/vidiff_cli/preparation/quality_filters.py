"""Quality scores of clips, and limits that reject bad ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from vidiff_cli.video.scene_detection import FrameScores, thumbnails

GRID = 6  # cells of a fingerprint across and down
INSTANTS = 4
BLACK = 32.0  # mean luma: what is flat and darker is called black


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Minimum scores of a clip, on the scale of `clip_scores`; 0 switches a limit off."""

    min_motion: float = 0.8
    min_contrast: float = 2.0
    min_brightness: float = 0.0


def clip_scores(scores: FrameScores, start: int, frames: int, fps: Fraction) -> dict[str, float]:
    """Scores of the clip of `frames` frames from `start` at `fps`, rounded to 3 decimals.

    "motion": what changes in a second, the sum of `change` within the clip over its seconds; "contrast": the largest
    spread of luma in any frame, 0..128; "brightness": mean luma, 0..255. A clip of one frame has no "motion".
    """
    found = {
        "contrast": scores.spread[start : start + frames].max(),
        "brightness": scores.brightness[start : start + frames].mean(),
    }
    if frames > 1:
        change = scores.change[start + 1 : start + frames]
        found = {"motion": change.mean() * float(fps)} | found
    return {name: round(float(value), 3) for name, value in found.items()}


def reject_reason(scores: Mapping[str, float], limits: Limits) -> str | None:
    """Reason to reject a clip of these scores: "black", "flat" (of one color), "static", or None."""
    if scores["contrast"] < limits.min_contrast:
        return "black" if scores["brightness"] < BLACK else "flat"
    if scores["brightness"] < limits.min_brightness:
        return "black"
    return "static" if scores.get("motion", limits.min_motion) < limits.min_motion else None


def fingerprint(frames: np.ndarray) -> bytes:
    """Fingerprint of a clip, uint8 (t h w c), for `near_duplicates`: a byte per channel,
    cell and instant.

    Mean colors over a grid at evenly spaced instants from the first frame to the last: another encoding, another
    resolution or another container of the same material changes them little, another color of one object changes some
    of them much.
    """
    instants = [round(index * (len(frames) - 1) / (INSTANTS - 1)) for index in range(INSTANTS)]
    small = thumbnails(frames[instants])
    for axis in (2, 3):
        length = small.shape[axis]
        edges = [index * length // GRID for index in range(GRID + 1)]
        parts = [small.take(range(low, max(high, low + 1)), axis).mean(axis) for low, high in pairwise(edges)]
        small = np.stack(parts, axis)
    return np.rint(small).astype(np.uint8).tobytes()
