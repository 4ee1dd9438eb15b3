"""Clips of each step as a function of (seed, step) alone, also for clips of several shapes.

Every epoch is one permutation of all clips. A batch holds clips of one shape: in the order of the permutation, each
clip joins the queue of its shape, and a queue that has filled a batch is the next batch. What is left in a queue waits
for the next epoch, so that every batch is full and every clip is drawn once per epoch. With one shape this is the
permutation itself, cut into batches.

No step depends on the ones before it: after e epochs a shape of n clips has given floor(e n / size) batches, which
tells the epoch of a step by bisection, and the place within it by counting.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

# The purpose of a random stream is part of its seed: numpy pads with zeros, so [seed, step] equals [seed, step, 0].
EPOCH, BATCH, SAMPLE, IMAGES, DROPOUT, LEVELS = 1, 2, 3, 4, 5, 6


class BucketBatchSampler:
    """The batches of clips whose shapes are numbered by `shapes` (n), for a seed and a batch size."""

    def __init__(self, shapes: np.ndarray, *, size: int, seed: int) -> None:
        if not len(shapes):
            raise ValueError("no clips")
        self._shapes, self._size, self._seed = shapes, size, seed
        self._counts = np.bincount(shapes)
        self._begin = np.concatenate([[0], np.cumsum(self._counts)])
        # epochs are asked for step after step, and by several threads: nearly always the last one or two
        self._places = lru_cache(maxsize=3)(self._draw)
        self._full = lru_cache(maxsize=2)(self._complete)

    def rows(self, step: int) -> list[int]:
        """The clips of a batch, `size` of them (again and again the same where there are fewer of their shape)."""
        epoch = self._epoch(step)
        shape, number = self._full(epoch)[step - self._before(epoch)].tolist()
        count, rows = int(self._counts[shape]), list[int]()
        place = number * self._size
        while len(rows) < self._size:
            epoch, skipped = divmod(place + len(rows), count)
            rows += self._members(epoch, shape)[skipped : skipped + self._size - len(rows)].tolist()
        return rows

    def _draw(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The permutation of an epoch taken apart: the clips of each shape in their order, shape after shape, and the
        place that each has in the permutation."""
        permutation = np.random.default_rng([self._seed, EPOCH, epoch]).permutation(len(self._shapes))
        if len(self._counts) == 1:
            return permutation, np.arange(len(permutation))
        shapes = self._shapes[permutation]
        small = shapes.astype(np.uint16) if len(self._counts) < 2**16 else shapes  # which numpy sorts in linear time
        places = np.argsort(small, kind="stable")
        return permutation[places], places

    def _members(self, epoch: int, shape: int) -> np.ndarray:
        """The clips of a shape in the order of an epoch."""
        return self._places(epoch)[0][self._begin[shape] : self._begin[shape + 1]]

    def _before(self, epoch: int) -> int:
        """Batches that are full before an epoch begins."""
        return int((self._counts * epoch // self._size).sum())

    def _epoch(self, step: int) -> int:
        """The epoch in which the batch of a step becomes full."""
        low, high = 0, 1
        while self._before(high) <= step:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._before(middle) <= step else (low, middle)
        return low

    def _complete(self, epoch: int) -> np.ndarray:
        """(shape, number of its batch) of every batch that an epoch fills, in their order."""
        _, places = self._places(epoch)
        found = []
        for shape, count in enumerate(self._counts.tolist()):
            waiting = count * epoch % self._size
            last = np.arange(self._size - 1 - waiting, count, self._size)  # the clips of this shape that fill a batch
            first = count * epoch // self._size
            number = first + np.arange(len(last))
            found.append(np.stack([places[self._begin[shape] + last], np.full(len(last), shape), number], axis=1))
        together = np.concatenate(found)
        return together[np.argsort(together[:, 0], kind="stable"), 1:]
