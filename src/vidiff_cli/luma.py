"""Luma of RGB frames, and gray frames as RGB: the one place with the weights.

The weights are those of BT.601, 0.299 R + 0.587 G + 0.114 B, whatever the tags of a file: frames are RGB when they get
here. In 8 bits luma is rounded to the nearest level in whole numbers, so that it is the same on every machine and a
frame with R = G = B keeps its levels.
"""

from __future__ import annotations

import numpy as np

LUMA = (0.299, 0.587, 0.114)
THOUSANDTHS = (299, 587, 114)


def to_gray(frames: np.ndarray) -> np.ndarray:
    """Luma of frames, uint8 (... h w 3) -> uint8 (... h w 1)."""
    red, green, blue = (np.uint32(weight) * frames[..., color] for color, weight in enumerate(THOUSANDTHS))
    return ((red + green + blue + np.uint32(500)) // np.uint32(1000)).astype(np.uint8)[..., None]


def to_rgb(frames: np.ndarray) -> np.ndarray:
    """Frames of one channel (... h w 1) with the channel repeated to three; RGB frames as they are."""
    return frames if frames.shape[-1] == 3 else np.repeat(frames, 3, axis=-1)
