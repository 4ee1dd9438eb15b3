"""Tiles of large frames: a denoiser that sees a part at a time, with so much around it that nothing changes.

A network without attention, whose norms act on each cell, computes a pixel from those within its receptive field. A
tile with that border gives the same numbers as the whole frame, so that tiles need no blending and one field of noise
is denoised, with any sampler and any number of steps. Memory is that of a tile. Shapes: b clips, c channels, t frames,
h w pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vidiff_cli.diffusion.samplers import Denoise

TILE = 512  # pixels: the side of a tile, where no other is asked for

DenoisePart = Callable[[Tensor, Tensor, slice, slice], Tensor]
"""(z of a part: b c t h w, level: b t, its rows, its columns) -> x_hat of the part."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """Rows and columns that a tile makes, and those that it sees."""

    rows: slice
    columns: slice
    seen_rows: slice
    seen_columns: slice


def plan_tiles(height: int, width: int, *, tile: int, border: int) -> Iterator[Tile]:
    """Cover a frame by tiles of at most `tile` pixels a side, evenly, with a border where there is more of the frame.

    The sides, `tile` and `border` are multiples of the network's, and so are all edges of tiles.
    """
    for rows in _cut(height, tile):
        for columns in _cut(width, tile):
            yield Tile(
                rows=rows,
                columns=columns,
                seen_rows=slice(max(0, rows.start - border), min(height, rows.stop + border)),
                seen_columns=slice(max(0, columns.start - border), min(width, columns.stop + border)),
            )


def seen_pixels(height: int, width: int, tile: int, border: int) -> int:
    """Pixels of all tiles of a frame, with their borders."""
    tiles = plan_tiles(height, width, tile=tile, border=border)
    return sum(_length(part.seen_rows) * _length(part.seen_columns) for part in tiles)


def denoise_in_tiles(denoise: DenoisePart, *, tile: int, border: int) -> Denoise:
    """A denoiser of whole frames that sees them tile by tile."""

    def whole(z: Tensor, level: Tensor) -> Tensor:
        result = torch.empty_like(z)
        for part in plan_tiles(*z.shape[-2:], tile=tile, border=border):
            rows, columns = part.seen_rows, part.seen_columns
            made = denoise(z[..., rows, columns], level, rows, columns)
            top, left = part.rows.start - rows.start, part.columns.start - columns.start
            inner = made[..., top : top + _length(part.rows), left : left + _length(part.columns)]
            result[..., part.rows, part.columns] = inner
        return result

    return whole


def _cut(length: int, tile: int) -> Iterator[slice]:
    yield from (slice(start, min(start + tile, length)) for start in range(0, length, tile))


def _length(part: slice) -> int:
    return part.stop - part.start
