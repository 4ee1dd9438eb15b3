"""Autoencoders of public models as codecs.

Shapes: frames b 3 n h w in [-1, 1]; z b c m h/s w/s, of about unit variance. Means of the posterior are taken, never
draws: the values of a frame are always the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class FrameCodec:
    """AutoencoderKL: an image autoencoder, frame by frame. z = scaling_factor * (mean - shift_factor)."""

    temporal = 1
    is_identity = False

    def __init__(self, vae: Any) -> None:
        config = vae.config
        self.vae, self.channels = vae, int(config.latent_channels)
        self.spatial = 2 ** (len(config.block_out_channels) - 1)
        self._scale = float(config.scaling_factor)
        self._shift = float(getattr(config, "shift_factor", None) or 0.0)
        _check_scale(torch.tensor(self._scale))

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """z of frames."""
        mean = self.vae.encode(_fold(frames).to(self.vae.dtype)).latent_dist.mode().float()
        return _unfold((mean - self._shift) * self._scale, len(frames))

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Frames of z."""
        values = (_fold(z.float()) / self._scale + self._shift).to(self.vae.dtype)
        return _unfold(self.vae.decode(values).sample.float(), len(z))


class GroupCodec:
    """An autoencoder that compresses time: the first frame alone, then groups of `temporal` frames.

    Of AutoencoderKLWan z is standardized by `latents_mean` and `latents_std`; of AutoencoderKLCogVideoX it is
    multiplied by `scaling_factor`. The decoder of the latter takes an odd number of values along time, and makes 4
    frames of the first one of an even number: the last value is repeated then, and its frames are left out.
    """

    is_identity = False

    def __init__(self, vae: Any) -> None:
        config = vae.config
        self.vae = vae
        if type(vae).__name__ == "AutoencoderKLWan":
            self.channels = int(config.z_dim)
            self.spatial = int(getattr(config, "scale_factor_spatial", None) or 2 ** len(config.temperal_downsample))
            self.temporal = int(
                getattr(config, "scale_factor_temporal", None) or 2 ** sum(map(bool, config.temperal_downsample))
            )
            self._mean, self._deviation = _by_channel(config.latents_mean), _by_channel(config.latents_std)
        else:
            self.channels = int(config.latent_channels)
            self.spatial = 2 ** (len(config.block_out_channels) - 1)
            self.temporal = int(config.temporal_compression_ratio)
            self._mean, self._deviation = torch.zeros(1), torch.full((1,), 1.0 / float(config.scaling_factor))
        _check_scale(self._deviation)
        self._odd = type(vae).__name__ == "AutoencoderKLCogVideoX"

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """z of frames."""
        mean = self.vae.encode(frames.to(self.vae.dtype)).latent_dist.mode().float()
        return (mean - self._mean.to(mean.device)) / self._deviation.to(mean.device)

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Frames of z."""
        values = z.float() * self._deviation.to(z.device) + self._mean.to(z.device)
        if self._odd and z.shape[2] % 2 == 0:
            values = torch.cat([values, values[:, :, -1:]], dim=2)
        frames = self.vae.decode(values.to(self.vae.dtype)).sample.float()
        return frames[:, :, : 1 + (z.shape[2] - 1) * self.temporal].clamp(-1, 1)


def codec_of(vae: nn.Module) -> FrameCodec | GroupCodec:
    """The codec of an autoencoder."""
    return FrameCodec(vae) if type(vae).__name__ == "AutoencoderKL" else GroupCodec(vae)


def save_decoder_memory(vae: Any) -> None:
    """Decode in tiles and slices, where the autoencoder can: large frames then fit."""
    for enable in ("enable_tiling", "enable_slicing"):
        getattr(vae, enable, lambda: None)()


def _check_scale(scale: Tensor) -> None:
    """ValueError for a scale of values that is not a positive number."""
    if not bool((scale > 0).all() and scale.isfinite().all()):
        raise ValueError(f"a scale of {scale.flatten()[0]:g}")


def _by_channel(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1, 1)


def _fold(video: Tensor) -> Tensor:
    """(b c n h w) -> (b n) c h w."""
    return video.transpose(1, 2).flatten(0, 1)


def _unfold(images: Tensor, clips: int) -> Tensor:
    """(b n) c h w -> b c n h w."""
    return images.unflatten(0, (clips, -1)).transpose(1, 2)
