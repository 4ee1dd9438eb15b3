"""The features of a set of videos in a file: as many videos as there are, in the memory of a few.

Legend: n videos, d features of each.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from vidiff_cli.errors import VidiffError

BLOCK_BYTES = 8 * 2**20


class Features:
    """Rows of float32 in a file without a name, which is gone with the process; read in blocks of float64 (rows d).

    VidiffError where the disk fails.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115, it lives as long as this does
        self._rows, self.dimension = 0, 0

    def __len__(self) -> int:
        return self._rows

    def append(self, row: np.ndarray) -> None:
        """The features (d) of the next video. ValueError for another d than before, and for what is not finite."""
        row = np.ascontiguousarray(row, np.float32)
        if row.ndim != 1 or (self._rows and len(row) != self.dimension):
            raise ValueError(f"expected {self.dimension or 'any number of'} features, found {row.shape}")
        if not np.isfinite(row).all():
            raise ValueError("features that are not finite")
        self.dimension = len(row)
        try:
            self._file.seek(self._rows * row.nbytes)
            self._file.write(row.tobytes())
        except OSError as error:
            found = (error.strerror or str(error)).lower()
            raise VidiffError("the features cannot be kept on disk", found=found) from error
        self._rows += 1

    def blocks(self) -> Iterator[np.ndarray]:
        """All rows in order, float64, at most 8 MB at a time."""
        several = max(1, BLOCK_BYTES // max(1, 8 * self.dimension))
        for first in range(0, self._rows, several):
            count = min(several, self._rows - first)
            self._file.seek(first * self.dimension * 4)
            data = self._file.read(count * self.dimension * 4)
            yield np.frombuffer(data, np.float32).astype(np.float64).reshape(count, self.dimension)

    def chosen(self, wanted: np.ndarray) -> Callable[[], Iterator[np.ndarray]]:
        """The blocks of the rows that are `wanted` (n, boolean) alone."""

        def blocks() -> Iterator[np.ndarray]:
            first = 0
            for block in self.blocks():
                yield block[wanted[first : first + len(block)]]
                first += len(block)

        return blocks

    def close(self) -> None:
        self._file.close()
