"""Frames of one clip of a store, as the next stage of a cascade reads them, and their scenes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from vidiff_cli.generation.frame_store import FrameStore
from vidiff_cli.generation.source_clip import LEAST_FOR_CUTS
from vidiff_cli.video.scene_detection import SceneScorer, scene_starts

BLOCK = 32  # frames that are read at a time for their scenes


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipFrames:
    """Frames of one clip of a store, and their rate."""

    store: FrameStore
    clip: int
    fps: Fraction

    @property
    def frames(self) -> ClipFrames:
        return self

    def read(self, numbers: Sequence[int], /) -> np.ndarray:
        """Frames (n h w c)."""
        return self.store.read(numbers)[:, self.clip]

    def in_order(self, numbers: Sequence[int], /) -> Iterator[np.ndarray]:
        """The frames (h w c) of these numbers, one after the other."""
        return self.store.in_order(numbers, self.clip)


def scene_ranges(source: ClipFrames, count: int) -> list[range]:
    """The frames of a clip of so many, scene by scene."""
    scorer = SceneScorer()
    for first in range(0, count, BLOCK):
        scorer.add(source.read(range(first, min(first + BLOCK, count))))
    cuts = scene_starts(scorer.scores()) if count >= LEAST_FOR_CUTS else ()
    return [range(low, high) for low, high in pairwise(sorted({0, *cuts, count}))]
