"""Residual blocks of the factorized network: convolution in space, convolution in time, and changes of resolution.

Shapes: features are (b t) c h w in channels-last memory, so that norms, 1x1 convolutions and attention read one layout.
Norms act on one frame alone: nothing leaks over time. `embedding` is (b t, d), `temporal_mask` (b, t) marks frames that
may see their neighbors.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from vidiff_cli.diffusion.noise import seeded


class FrameNorm(nn.GroupNorm):
    """Group norm of one frame, in groups of 8 channels or more (32 groups at most).

    Computed in float32: on a CPU the bf16 kernel is several times slower for few channels in channels-last memory.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(max(1, min(32, channels // 8)), channels)

    def forward(self, input: Tensor) -> Tensor:
        """(b t) c h w -> the same, in the dtype that came in."""
        return super().forward(input.float()).to(input.dtype)


class SpaceConv(nn.Conv2d):
    """A convolution of each frame alone: Conv3d with a (1, k, k) kernel, on frames folded into the batch."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, *, zero: bool = False) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2)
        if zero:
            nn.init.zeros_(self.weight)
            nn.init.zeros_(self.bias)  # type: ignore[arg-type]


class ZeroConv(nn.Conv2d):
    """A convolution of each frame alone that starts at zero and draws no random numbers for it: all other weights are
    those of a network without it."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, *, bias: bool = True) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2, bias=bias)

    def reset_parameters(self) -> None:
        for parameter in self.parameters():
            nn.init.zeros_(parameter)


class TimeConv(nn.Module):
    """A 3x1x1 convolution: each frame and its two neighbors, cell by cell; nothing for an image (Imagen Video, section
    2.2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, (3, 1), padding=(1, 0))
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, temporal_mask: Tensor) -> Tensor:
        """(b t) c h w, temporal_mask (b, t) bool -> (b t) c h w, zero for frames outside temporal_mask."""
        b, t = temporal_mask.shape
        _, c, h, w = x.shape
        mask = temporal_mask[:, None, :, None].to(x.dtype)
        # (b t) c h w channels-last is the memory of (b, c, t, h w) channels-last: no copy.
        rows = x.permute(0, 2, 3, 1).reshape(b, t, h * w, c).permute(0, 3, 1, 2)
        mixed = self.conv(rows * mask) * mask
        return mixed.permute(0, 2, 3, 1).reshape(b * t, h, w, c).permute(0, 3, 1, 2)


class AdaGroupNorm(nn.Module):
    """Norm, then scale and shift by the embedding of the frame, then SiLU."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.norm = FrameNorm(channels)
        self.modulation = nn.Linear(embedding, 2 * channels)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(b t) c h w, (b t, d) -> (b t) c h w."""
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        return functional.silu(self.norm(x) * (1 + scale) + shift)


class ClipDropout(nn.Module):
    """Dropout in training: what it drops of a clip follows from the clip's seed and the layer's place in the network.

    So a clip loses the same in any batch, on any number of processes, and where activations are computed twice.
    `seed_dropout` hands out seeds and places before every pass.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p, self.place = p, 0
        self.seeds: Sequence[int] = ()

    def forward(self, x: Tensor) -> Tensor:
        """(b t) c h w -> the same, scaled so that its mean stays."""
        if not self.training or not self.p:
            return x
        return x.masked_fill(self._dropped(x), 0.0) * (1 / (1 - self.p))

    def _dropped(self, x: Tensor) -> Tensor:
        """(b t) c h w bool, channels-last as features are."""
        n, c, h, w = x.shape
        dropped = torch.empty(n, h, w, c, dtype=torch.bool, device=x.device)
        if not x.is_meta:  # a meta tensor has no values to draw
            if not self.seeds or n % len(self.seeds):
                raise ValueError(f"dropout has seeds of {len(self.seeds)} clips for {n} frames")
            for clip, seed in zip(dropped.chunk(len(self.seeds)), self.seeds, strict=True):
                clip.bernoulli_(self.p, generator=seeded(seed, self.place, device=x.device))
        return dropped.permute(0, 3, 1, 2)


def seed_dropout(network: nn.Module, seeds: Sequence[int]) -> None:
    """Sets the dropout of the next training pass: a seed for each clip of its batch."""
    layers = (module for module in network.modules() if isinstance(module, ClipDropout))
    for place, layer in enumerate(layers):
        layer.place, layer.seeds = place, seeds


class ResidualBlock(nn.Module):
    """Two space convolutions with an adaptive norm between them, then (optionally) a time convolution, all residual."""

    def __init__(self, inputs: int, outputs: int, embedding: int, *, over_time: bool, dropout: float) -> None:
        super().__init__()
        self.norm = FrameNorm(inputs)
        self.first = SpaceConv(inputs, outputs)
        self.ada_norm = AdaGroupNorm(outputs, embedding)
        self.dropout = ClipDropout(dropout)
        self.second = SpaceConv(outputs, outputs, zero=True)
        self.skip = SpaceConv(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.time_ada_norm = AdaGroupNorm(outputs, embedding) if over_time else None
        self.time = TimeConv(outputs) if over_time else None

    def forward(self, x: Tensor, embedding: Tensor, temporal_mask: Tensor) -> Tensor:
        """(b t) c h w, (b t, d), (b, t) -> (b t) c' h w."""
        inner = self.first(functional.silu(self.norm(x)))
        x = self.skip(x) + self.second(self.dropout(self.ada_norm(inner, embedding)))
        if self.time is None or self.time_ada_norm is None:
            return x
        return x + self.time(self.time_ada_norm(x, embedding), temporal_mask)


class Down(nn.Module):
    """Half the resolution: space to depth, then a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = SpaceConv(4 * inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """n c h w -> n c' h/2 w/2."""
        return self.conv(functional.pixel_unshuffle(x, 2))


class Up(nn.Module):
    """Twice the resolution: a 1x1 convolution, then depth to space."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = SpaceConv(inputs, 4 * outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """n c h w -> n c' 2h 2w."""
        return functional.pixel_shuffle(self.conv(x), 2)
