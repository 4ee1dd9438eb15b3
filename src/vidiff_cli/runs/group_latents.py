"""Latents of autoencoders that encode groups of frames, as clips of a training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Protocol

import numpy as np

from vidiff_cli.models.codec import Codec, floor_length, z_length
from vidiff_cli.training.clip_sampling import ClipRows
from vidiff_cli.training.latent_cache import CodecShape
from vidiff_cli.training.loader import ClipSource


class ReadLatents(Protocol):
    """The part of a `LatentCache` that a training needs."""

    def read(self, number: int, frames: range) -> np.ndarray:
        """Values (m h w c) of frames of a clip."""
        ...


def latent_reader(cache: ReadLatents, codec: CodecShape, frames: int) -> Callable[[int, range], np.ndarray]:
    """Reads what a model with windows of `frames` frames works on in the place of pixels."""
    return cache.read if codec.temporal == 1 else GroupLatents(cache, codec, frames)


class GroupLatents:
    """Reads latents of groups of frames. Only those from the first frame of a clip on are what the autoencoder makes of
    these frames alone, so that the window of a clip is its beginning, up to `frames` frames."""

    def __init__(self, cache: ReadLatents, codec: CodecShape, frames: int) -> None:
        self._cache, self._codec, self._frames = cache, codec, frames

    def __call__(self, number: int, frames: range) -> np.ndarray:
        """Values (m h w c) of the first values `frames` of a clip."""
        return self._cache.read(number, range(1 + self._codec.temporal * (len(frames) - 1)))

    def in_groups(self, source: ClipSource) -> ClipSource:
        """A source of clips whose frames are groups."""
        rows = _GroupRows(source.rows, self._codec, self._frames)
        shapes = source.shapes
        if shapes is not None:
            shapes = shapes.copy()
            shapes[:, 0] = [rows.count(frames) for frames in shapes[:, 0].tolist()]
        return replace(source, rows=rows, shapes=shapes)


@dataclass(frozen=True, kw_only=True, slots=True)
class _GroupRow:
    """A clip in groups: their number, and how many of them make a second."""

    frames: int
    fps: str
    captions: Sequence[str]


class _GroupRows:
    """Clips in groups, by number."""

    def __init__(self, rows: ClipRows, codec: CodecShape, most: int) -> None:
        self._rows, self._codec, self._most = rows, codec, most

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> _GroupRow:
        row = self._rows[index]
        fps = str(Fraction(row.fps) / self._codec.temporal)
        return _GroupRow(frames=self.count(row.frames), fps=fps, captions=row.captions)

    def count(self, frames: int) -> int:
        """The groups of a clip that are trained on."""
        codec: Codec = self._codec  # type: ignore[assignment]
        return z_length(codec, floor_length(codec, min(frames, self._most)))
