"""A codec whose values are fewer than the pixels, and of which one can see how much it encodes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


class LossyCodec:
    """Means of 2x2 pixels; what is decoded is darker, so that encoding it again gives other values."""

    channels, spatial, is_identity = 3, 2, False

    def __init__(self, temporal: int = 1) -> None:
        self.temporal, self.encoded = temporal, 0

    def encode(self, frames: Tensor) -> Tensor:
        self.encoded += frames.shape[2]
        means = functional.avg_pool3d(frames, (1, 2, 2))
        return means[:, :, :: self.temporal]

    def decode(self, z: Tensor) -> Tensor:
        frames = torch.cat([z[:, :, :1], z[:, :, 1:].repeat_interleave(self.temporal, dim=2)], dim=2)
        return functional.interpolate(frames, scale_factor=(1, 2, 2)) * 0.5
