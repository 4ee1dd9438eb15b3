"""Finished sources of a dataset in the making: one file each, so that an interrupted run goes on where it stopped.

A piece is found again by its source's path, size and time of change and by the settings that shape its frames; where
one of these differs, the source is simply decoded again. Rejections are kept too.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np

from vidiff_cli.config.prep import PrepSettings
from vidiff_cli.data.cut import Piece
from vidiff_cli.data.scan import Source
from vidiff_cli.data.store import JOURNAL, Shard, write_tensors
from vidiff_cli.errors import VidiffError

PIECE_FORMAT = 1
SHAPING = {"size", "frames", "fps", "stride", "clips_per_source", "decoder"}


class Journal:
    """The finished sources in OUTPUT/.journal. Threads may write different sources at once."""

    def __init__(self, output: Path, settings: PrepSettings) -> None:
        self.folder = output / JOURNAL
        self._shaping = {key: value for key, value in settings.identity().items() if key in SHAPING}

    def read(self, source: Source) -> Piece | None:
        """What became of a source in an earlier run, None where it was not finished."""
        path = self._path(source)
        if not path.is_file():
            return None
        try:
            row = json.loads(Shard(path).metadata["piece"])
            return Piece(**{**row, "starts": tuple(row["starts"])})
        except (VidiffError, KeyError, TypeError, ValueError, RecursionError):  # damaged: decode it again
            return None

    def clips(self, source: Source) -> np.ndarray:
        """The clips of a kept source, uint8 (n t h w c), memory-mapped."""
        return Shard(self._path(source)).tensor("clips")

    def write(self, source: Source, piece: Piece, clips: np.ndarray | None) -> None:
        """Marks a source as finished."""
        tensors = {} if clips is None else {"clips": np.ascontiguousarray(clips)}
        write_tensors(self._path(source), tensors, {"piece": json.dumps(asdict(piece))})

    def remove(self) -> None:
        """Forgets all of it: the dataset is complete, or there is nothing worth keeping."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, source: Source) -> Path:
        key = [PIECE_FORMAT, str(source.path), source.name, source.bytes, source.mtime_ns, self._shaping]
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{digest[:24]}.safetensors"
