"""The smallest sources of clips that a training reads."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vidiff_cli.training.loader import ClipSource


@dataclass(frozen=True)
class Row:
    frames: int
    fps: str = "8"
    captions: Sequence[str] = ("a caption",)


def make_source(rows: Sequence[Row]) -> ClipSource:
    """4x4 clips whose pixel values are (row, frame, 0), so that a frame says where it is from."""

    def read(number: int, frames: Sequence[int]) -> np.ndarray:
        assert all(0 <= frame < rows[number].frames for frame in frames)
        video = np.zeros((len(frames), 4, 4, 3), dtype=np.uint8)
        video[..., 0], video[..., 1] = number, np.array(frames)[:, None, None]
        return video

    return ClipSource(rows=rows, read=read)


def random_source(clips: int = 5) -> ClipSource:
    """Clips of eight frames of noise, some of them without a caption."""
    pixels = np.random.default_rng(0).integers(0, 256, (clips, 8, 4, 4, 3), dtype=np.uint8)
    captions = ("a red square moving left", "a blue circle", "")
    rows = [Row(frames=8, captions=captions)] * clips
    return ClipSource(rows=rows, read=lambda number, frames: pixels[number][list(frames)])
