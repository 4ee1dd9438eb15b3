"""Pictures whose motion is known exactly: sums of waves, which can be looked up at any place."""

from __future__ import annotations

import math

import torch
from torch import Tensor

WAVES, FINEST, COARSEST = 24, 7.0, 40.0  # pixels per period


class Texture:
    """A picture (1 c h w) in [-1, 1] of waves no finer than `FINEST` pixels, at any place of an endless plane."""

    def __init__(self, seed: int = 0, channels: int = 3) -> None:
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, dtype=torch.float64)

        length, angle = FINEST * (COARSEST / FINEST) ** draw(WAVES), 2 * math.pi * draw(WAVES)
        self._phase = 2 * math.pi * draw(1, WAVES) + 1.2 * math.pi * draw(channels, WAVES)  # colors are alike
        self._x, self._y = (2 * math.pi / length * turn(angle) for turn in (torch.cos, torch.sin))
        self._strength = (0.5 + draw(WAVES)) / math.sqrt(WAVES) * 0.5

    def at(self, x: Tensor, y: Tensor) -> Tensor:
        """Its values at places (h w): (1 c h w) float32."""
        angle = x[..., None] * self._x + y[..., None] * self._y
        waves = torch.sin(angle[None] + self._phase[:, None, None]) * self._strength
        return waves.sum(-1).clamp(-1, 1).float()[None]

    def frame(self, size: tuple[int, int] = (64, 64), shift: tuple[float, float] = (0.0, 0.0)) -> Tensor:
        """The picture moved by `shift` (x, y) pixels."""
        y, x = torch.meshgrid(*(torch.arange(side, dtype=torch.float64) for side in size), indexing="ij")
        return self.at(x - shift[0], y - shift[1])


def psnr(one: Tensor, other: Tensor) -> float:
    """In dB, of frames in [-1, 1]."""
    return -10 * math.log10(float((one.double() - other.double()).square().mean()) / 4 + 1e-12)
