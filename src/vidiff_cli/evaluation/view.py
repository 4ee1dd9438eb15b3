"""The view of an evaluation: the frames, size and rate that both sides are brought to.

Legend: h and w pixels, c = 3 RGB; uint8.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from PIL import Image

RESIZING = "Pillow, bicubic with antialiasing, from the frame at its own size; cut from the middle"


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """The first `frames` of a video at `width` x `height` and `fps` (None where no side has a rate)."""

    frames: int
    width: int
    height: int
    fps: Fraction | None

    def crop_and_resize(self, frame: np.ndarray) -> np.ndarray:
        """Brings a frame (h w c) of any size to this view: the largest part of its middle that has the shape."""
        height, width = frame.shape[:2]
        if (height, width) == (self.height, self.width):
            return frame
        scale = max(self.width / width, self.height / height)
        across, down = self.width / scale, self.height / scale
        left, top = (width - across) / 2, (height - down) / 2
        box = (max(0.0, left), max(0.0, top), min(width, left + across), min(height, top + down))
        picture = Image.fromarray(frame).resize((self.width, self.height), Image.Resampling.BICUBIC, box=box)
        return np.asarray(picture)

    def frame_numbers(self, fps: Fraction | None) -> list[int]:
        """Numbers of the frames to show of a video of rate `fps`: output k is the one at time k / rate."""
        if self.fps is None or fps is None:
            return list(range(self.frames))
        return [int(Fraction(number) / self.fps * fps) for number in range(self.frames)]
