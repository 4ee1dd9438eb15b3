"""Residual blocks of the factorized network: convolution in space, convolution in time, and changes of resolution.

Shapes: features are (b t) c h w in channels-last memory, so that norms, 1x1 convolutions and attention read one layout.
Norms act on one frame alone: nothing leaks over time. `embedding` is (b t, d), `temporal_mask` (b, t) marks frames that
may see their neighbors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional


class FrameNorm(nn.GroupNorm):
    """Group norm of one frame, in groups of 8 channels or more (32 groups at most).

    Computed in float32: on a CPU the bf16 kernel is several times slower for few channels in channels-last memory.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(max(1, min(32, channels // 8)), channels)

    def forward(self, input: Tensor) -> Tensor:
        """(b t) c h w -> the same, in the dtype that came in."""
        if input.device.type in ("cpu", "meta"):
            return super().forward(input.float()).to(input.dtype)
        return channels_last_group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


def channels_last_group_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Group norm that reads and writes channels-last memory, where torch's copies to contiguous memory on a GPU.

    n c h w -> the same, in its dtype; statistics are float32.
    """
    n, c, h, w = x.shape
    values = x.permute(0, 2, 3, 1).reshape(n, h * w, groups, c // groups)
    normed = _GroupNorm.apply(values, weight.view(groups, -1), bias.view(groups, -1), eps)
    return normed.reshape(n, h, w, c).permute(0, 3, 1, 2)


class _GroupNorm(torch.autograd.Function):
    """(x - mean) / deviation * weight + bias over places and channels of a group: x (n p g k), weight and bias (g k).

    It keeps its input as it came, and moves half of the bytes that the derivatives of its operations would."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        values = x.float()
        variance, mean = torch.var_mean(values, dim=(1, 3), correction=0, keepdim=True)  # n 1 g 1
        inverse = (variance + eps).rsqrt()
        ctx.save_for_backward(x, weight, mean, inverse)
        return torch.addcmul(bias, values - mean, inverse * weight).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse = ctx.saved_tensors
        grad, size = grads[0], x.shape[1] * x.shape[3]
        centered = x - mean
        shift = grad.sum(1, keepdim=True, dtype=torch.float32)  # n 1 g k
        scale = (grad * centered).sum(1, keepdim=True) * inverse
        by_mean = (shift * weight).sum(3, keepdim=True) * (inverse / -size)  # n 1 g 1
        by_deviation = (scale * weight).sum(3, keepdim=True) * (inverse.square() / -size)
        outer = torch.addcmul(by_mean, centered, by_deviation)
        return torch.addcmul(outer, grad, inverse * weight).to(x.dtype), scale.sum((0, 1)), shift.sum((0, 1)), None


class PixelNorm(nn.Module):
    """Root mean square norm over the channels of each cell (Zhang and Sennrich 2019): nothing is shared over a frame,
    so that a network without attention makes of a tile what it makes of the whole frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.eps = 1e-5

    def forward(self, input: Tensor) -> Tensor:
        """(b t) c h w -> the same, in the dtype that came in."""
        x = input.float()
        scale = (x.square().mean(dim=1, keepdim=True) + self.eps).rsqrt()
        return (x * (scale * self.weight[:, None, None])).to(input.dtype)


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

    def __init__(self, channels: int, embedding: int, *, by_pixel: bool = False) -> None:
        super().__init__()
        self.norm = PixelNorm(channels) if by_pixel else FrameNorm(channels)
        self.modulation = nn.Linear(embedding, 2 * channels)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(b t) c h w, (b t, d) -> (b t) c h w."""
        scale, shift = self.modulation(embedding)[:, :, None, None].unflatten(1, (2, -1)).unbind(1)
        return functional.silu(self.norm(x) * (1 + scale) + shift)


class ClipDropout(nn.Module):
    """Dropout in training: what it drops of a clip follows from the clip's seed and the layer's place in the network.

    So a clip loses the same in any batch, on any number of processes, on any device, and where activations are computed
    twice: a hash of (seed, place, position) says it, and no generator is asked.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.set_place(0)

    def set_place(self, place: int) -> None:
        """Numbers the layer among those of its network."""
        drawn = np.random.SeedSequence([place]).generate_state(1, np.uint64).astype(np.int64)
        self.factor = int(drawn[0]) | 1  # a random odd number of 64 bits

    def forward(self, x: Tensor, seeds: Tensor | None) -> Tensor:
        """(b t) c h w, seeds (b) int64 -> the same, scaled so that its mean stays."""
        if not self.training or not self.p:
            return x
        if seeds is None or len(x) % len(seeds):
            raise ValueError(f"dropout has seeds of {0 if seeds is None else len(seeds)} clips for {len(x)} frames")
        kept = torch.where(self._dropped(x, seeds), 0.0, x)  # not masked_fill, which leaves channels-last memory
        return kept * (1 / (1 - self.p))

    def _dropped(self, x: Tensor, seeds: Tensor) -> Tensor:
        """(b t) c h w bool, channels-last as features are."""
        n, c, h, w = x.shape
        key = (seeds * self.factor >> 32).int()  # b
        position = torch.arange(n // len(seeds) * h * w * c, dtype=torch.int32, device=x.device)
        dropped = _mix(position ^ key[:, None]) < round((self.p - 0.5) * 2**32)
        return dropped.view(n, h, w, c).permute(0, 3, 1, 2)


def _mix(bits: Tensor) -> Tensor:
    """int32 -> int32, whose upper bits depend on all of them. Source: Wellons 2018 (lowbias32), without its last
    shift, which changes lower bits alone."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B - 2**32)):
        bits = (bits ^ ((bits >> shift) & (2 ** (32 - shift) - 1))) * factor
    return bits


class ResidualBlock(nn.Module):
    """Two space convolutions with an adaptive norm between them, then (optionally) a time convolution, all residual."""

    def __init__(
        self, inputs: int, outputs: int, embedding: int, *, over_time: bool, dropout: float, by_pixel: bool = False
    ) -> None:
        super().__init__()
        self.norm = PixelNorm(inputs) if by_pixel else FrameNorm(inputs)
        self.first = SpaceConv(inputs, outputs)
        self.ada_norm = AdaGroupNorm(outputs, embedding, by_pixel=by_pixel)
        self.dropout = ClipDropout(dropout)
        self.second = SpaceConv(outputs, outputs, zero=True)
        self.skip = SpaceConv(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.time_ada_norm = AdaGroupNorm(outputs, embedding, by_pixel=by_pixel) if over_time else None
        self.time = TimeConv(outputs) if over_time else None

    def forward(self, x: Tensor, embedding: Tensor, temporal_mask: Tensor, seeds: Tensor | None) -> Tensor:
        """(b t) c h w, (b t, d), (b, t), seeds of dropout (b) -> (b t) c' h w."""
        inner = self.first(functional.silu(self.norm(x)))
        x = self.skip(x) + self.second(self.dropout(self.ada_norm(inner, embedding), seeds))
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
        return self.conv(space_to_depth(x, 2))


class Up(nn.Module):
    """Twice the resolution: a 1x1 convolution, then depth to space."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = SpaceConv(inputs, 4 * outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """n c h w -> n c' 2h 2w."""
        return depth_to_space(self.conv(x), 2)


def space_to_depth(x: Tensor, side: int) -> Tensor:
    """`pixel_unshuffle` that keeps channels-last memory on a GPU too: n c (h s) (w s) -> n (c s s) h w."""
    if x.device.type == "cpu":
        return functional.pixel_unshuffle(x, side)
    return rearrange(x, "n c (h i) (w j) -> n h w (c i j)", i=side, j=side).permute(0, 3, 1, 2)


def depth_to_space(x: Tensor, side: int) -> Tensor:
    """`pixel_shuffle` that keeps channels-last memory on a GPU too: n (c s s) h w -> n c (h s) (w s)."""
    if x.device.type == "cpu":
        return functional.pixel_shuffle(x, side)
    return rearrange(x, "n (c i j) h w -> n (h i) (w j) c", i=side, j=side).permute(0, 3, 1, 2)
