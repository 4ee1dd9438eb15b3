"""What both sides are brought to: how many frames, of which size, at which rate.

Legend: t frames, h and w pixels, c = 3 RGB; uint8.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from vidiff_cli.config.evaluate import EvaluateSettings
from vidiff_cli.errors import VidiffError

if TYPE_CHECKING:
    from vidiff_cli.evaluation.video_sets import Item

MOST_FRAMES = 64  # of a video, where nobody says how many
RESIZING = "Pillow, bicubic with antialiasing, from the frame at its own size; cut from the middle"


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """`frames` of `width` x `height` from the first one on. `fps`: None where no side knows a rate."""

    frames: int
    width: int
    height: int
    fps: Fraction | None

    def framed(self, frame: np.ndarray) -> np.ndarray:
        """A frame (h w c) of any size as one of this view: the largest part of its middle that has the shape."""
        height, width = frame.shape[:2]
        if (height, width) == (self.height, self.width):
            return frame
        scale = max(self.width / width, self.height / height)
        across, down = self.width / scale, self.height / scale
        left, top = (width - across) / 2, (height - down) / 2
        box = (max(0.0, left), max(0.0, top), min(width, left + across), min(height, top + down))
        picture = Image.fromarray(frame).resize((self.width, self.height), Image.Resampling.BICUBIC, box=box)
        return np.asarray(picture)

    def numbers(self, fps: Fraction | None) -> list[int]:
        """The frames of a video of rate `fps` that are shown: output k is the one at time k / rate."""
        if self.fps is None or fps is None:
            return list(range(self.frames))
        return [int(Fraction(number) / self.fps * fps) for number in range(self.frames)]


def choose_view(settings: EvaluateSettings, sides: Sequence[tuple[str, Sequence[Item]]]) -> View:
    """The view of all videos of both sides (a name for errors, its items): as asked, else what they have in common.

    VidiffError where sizes or rates differ and none was asked for, and where a video is too short or too slow.
    """
    items = [item for _, side in sides for item in side]
    fps = _rate(settings, items)
    frames = settings.num_frames or min(MOST_FRAMES, min(_shown(item, fps) for item in items))
    for item in items:
        if (there := _shown(item, fps)) < frames:
            fix = f"pass --num-frames {max(1, min(map(lambda each: _shown(each, fps), items)))}, or leave it out"
            raise VidiffError(f"{item.name} is too short", found=f"{there} frames", expected=frames, fix=fix)
    width, height = settings.width_height or _common_size(items)
    return View(frames=frames, width=width, height=height, fps=fps)


def _common_size(items: Sequence[Item]) -> tuple[int, int]:
    first = items[0]
    for item in items:
        if (item.width, item.height) != (first.width, first.height):
            raise VidiffError(
                "the videos are not of one size",
                found=f"{first.width}x{first.height} ({first.name}) and {item.width}x{item.height} ({item.name})",
                fix="pass --size, such as --size 64 or --size 128x72",
            )
    return first.width, first.height


def _rate(settings: EvaluateSettings, items: Iterable[Item]) -> Fraction | None:
    known = [item for item in items if item.fps is not None]
    if settings.fps is None:
        for item in known:
            if item.fps != known[0].fps:
                found = f"{_text(known[0].fps)} fps ({known[0].name}) and {_text(item.fps)} fps ({item.name})"
                slowest = min(known, key=lambda each: each.fps or 0).fps
                fix = f"pass --fps, such as --fps {slowest}"
                raise VidiffError("the videos are not of one rate", found=found, fix=fix)
        return known[0].fps if known else None
    for item in known:
        if item.fps is not None and item.fps < settings.fps:
            found = f"{_text(item.fps)} fps"
            raise VidiffError(f"{item.name} has fewer frames a second", found=found, expected=f"--fps {settings.fps}")
    return settings.fps


def _shown(item: Item, fps: Fraction | None) -> int:
    """Frames that a video has at a rate: those k with a frame at k / fps."""
    if fps is None or item.fps is None:
        return item.frames
    return -int(-item.frames * fps // item.fps)


def _text(rate: Fraction | None) -> str:
    return f"{float(rate or 0):.6g}"
