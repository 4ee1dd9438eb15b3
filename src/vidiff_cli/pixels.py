"""Convert between 8-bit pixels and the numbers in [-1, 1] that networks and samplers work on.

The law of rounding: level k of 0..255 stands for x_k = k / 127.5 - 1. A number becomes the nearest level after it is
clamped to [-1, 1]. A level becomes x_k, computed in float64 and rounded once, so that every device and every continued
run reads the same bits (a GPU divides float32 by multiplying by a reciprocal). `from_uint8_fast` computes in float32
instead and may be one rounding (6e-8) off x_k: for training batches, motion and metrics, where no file depends on the
last bit. `to_uint8` inverts both.

Shapes: c channels, n frames, h w pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

LEVELS_PER_UNIT = 127.5  # 8-bit levels in a difference of 1


def to_uint8(x: Tensor) -> Tensor:
    """Round numbers in [-1, 1] to the nearest of 256 levels, on the same device; numbers outside are clamped."""
    return _levels(x).to(torch.uint8)


def from_uint8(pixels: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Convert levels to [-1, 1]: the numbers of `dtype` nearest to the exact ones."""
    return (pixels.double() / LEVELS_PER_UNIT - 1).to(dtype)


def from_uint8_fast(pixels: Tensor) -> Tensor:
    """Convert uint8 levels to [-1, 1] in float32 arithmetic, without a float64 copy."""
    assert pixels.dtype == torch.uint8, "a float tensor would be changed in place"
    return pixels.float().div_(LEVELS_PER_UNIT).sub_(1.0)


def quantize_8bit(x: Tensor) -> Tensor:
    """Round numbers to the 256 values that a file can hold, in their own dtype; NaN stays NaN."""
    return from_uint8(_levels(x), x.dtype)


def clip_to_uint8(video: Tensor) -> np.ndarray:
    """Convert one clip (c n h w) in [-1, 1] to frames (n h w c) uint8, as a file holds them."""
    return to_uint8(video).cpu().permute(1, 2, 3, 0).contiguous().numpy()


def clip_from_uint8(frames: np.ndarray) -> Tensor:
    """Convert frames (n h w c) uint8 to a batch of one clip (1 c n h w) in [-1, 1]."""
    return from_uint8(torch.from_numpy(np.ascontiguousarray(frames))).permute(3, 0, 1, 2)[None].contiguous()


def _levels(x: Tensor) -> Tensor:
    return x.clamp(-1, 1).add_(1).mul_(LEVELS_PER_UNIT).round_()
