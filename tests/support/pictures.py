"""Frames and pictures of tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def noise(frames: int, height: int, width: int | None = None, *, seed: int = 0) -> np.ndarray:
    """Random frames (t h w 3); square without a width."""
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width or height, 3), np.uint8)


def pixels(path: Path) -> np.ndarray:
    """A picture file (h w 3), as numbers that can be negative."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)
