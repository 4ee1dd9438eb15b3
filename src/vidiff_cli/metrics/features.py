"""Features of a set of videos, kept in a file: memory does not grow with the number of videos.

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
    """Rows of float32 in an unnamed temporary file; read in blocks of float64 (rows d).

    VidiffError where the disk fails.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115, it lives as long as this does
        self._rows, self.dimension = 0, 0

    def __len__(self) -> int:
        return self._rows

    def append(self, row: np.ndarray) -> None:
        """Appends the features (d) of a video. ValueError for another d than before, or values that are not finite."""
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
            raise VidiffError("cannot write features to disk", found=found) from error
        self._rows += 1

    def blocks(self) -> Iterator[np.ndarray]:
        """Reads all rows in order, float64, at most 8 MB at a time."""
        several = max(1, BLOCK_BYTES // max(1, 8 * self.dimension))
        for first in range(0, self._rows, several):
            count = min(several, self._rows - first)
            self._file.seek(first * self.dimension * 4)
            data = self._file.read(count * self.dimension * 4)
            yield np.frombuffer(data, np.float32).astype(np.float64).reshape(count, self.dimension)

    def subset(self, mask: np.ndarray) -> Callable[[], Iterator[np.ndarray]]:
        """Makes a reader of the rows where `mask` (n, boolean) is set."""

        def blocks() -> Iterator[np.ndarray]:
            first = 0
            for block in self.blocks():
                yield block[mask[first : first + len(block)]]
                first += len(block)

        return blocks

    def close(self) -> None:
        self._file.close()
