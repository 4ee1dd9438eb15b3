"""Clips kept in memory, for a dataset on a slow or distant disk.

On a local disk the system's own cache does this already: frames are read from memory-mapped shards.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import numpy as np


class ClipCache:
    """`read(index, frames)` of clips that are read whole once and kept, up to `limit` bytes in all.

    The clips that were read first stay: every clip is read once per epoch, so that a cache of the newest ones would
    hold those that are needed last. Safe to share between threads.
    """

    def __init__(self, whole: Callable[[int], np.ndarray], limit: int) -> None:
        self._whole, self._limit = whole, limit
        self._clips: dict[int, np.ndarray] = {}
        self._kept: set[int] = set()  # and those that a thread is about to keep
        self._lock = Lock()
        self.held = 0

    def read(self, index: int, frames: range) -> np.ndarray:
        """Frames (t h w c) of a clip, uint8: a view, which must not be written to."""
        clip = self._clips.get(index)
        if clip is None:
            clip = self._whole(index)
            if self._reserve(index, clip.nbytes):
                self._clips[index] = clip = clip.copy()
        return clip[frames.start : frames.stop : frames.step]

    def _reserve(self, index: int, count: int) -> bool:
        with self._lock:
            fits = index not in self._kept and self.held + count <= self._limit
            if fits:
                self._kept.add(index)
                self.held += count
        return fits
