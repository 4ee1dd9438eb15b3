"""Smaller and larger videos, in one way everywhere: antialiased down, and up by a cubic.

Both are Keys' cubic convolution (a = -0.5), widened by the factor where a picture shrinks, with pixels as areas: the
edges of the picture stay where they are. So a model of super-resolution is asked what it was trained on, and a
downsampled result is compared with its input by the same filter.

Source: Keys 1981, "Cubic convolution interpolation for digital image processing". Shapes: b clips, c channels, t
frames, h w pixels.
"""

from __future__ import annotations

from einops import rearrange
from torch import Tensor
from torch.nn import functional

from vidiff_cli.pixels import quantize_8bit


def resize(video: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize every frame to (h, w): b c t h w -> b c t h' w', differentiable; a cubic overshoots beside edges."""
    b = video.shape[0]
    frames = rearrange(video, "b c t h w -> (b t) c h w")
    resized = functional.interpolate(frames, size, mode="bicubic", antialias=True)
    return rearrange(resized, "(b t) c h w -> b c t h w", b=b)


def shrink(video: Tensor, scale: int) -> Tensor:
    """Downsample by `scale` (b c t h w -> b c t h/scale w/scale). ValueError for sides that are no multiples of it."""
    h, w = video.shape[-2:]
    if h % scale or w % scale:
        raise ValueError(f"frames are {w}x{h}, expected multiples of {scale}")
    return resize(video, (h // scale, w // scale))


def low_resolution(video: Tensor, scale: int) -> Tensor:
    """The low-resolution video of a video in [-1, 1], as an 8-bit file holds it: b c t h w -> b c t h/scale
    w/scale."""
    return quantize_8bit(shrink(video, scale))


def enlarge(video: Tensor, scale: int) -> Tensor:
    """Upsample by `scale` (b c t h w -> b c t h*scale w*scale)."""
    h, w = video.shape[-2:]
    return resize(video, (h * scale, w * scale))
