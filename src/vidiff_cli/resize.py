"""Smaller and larger videos, in one way everywhere: antialiased down, and up by a cubic.

Both are Keys' cubic convolution (a = -0.5), widened by the factor where a picture shrinks, with pixels as areas: the
edges of the picture stay where they are. So a model of super-resolution is asked what it was trained on, and a
downsampled result is compared with its input by the same filter.

Source: Keys 1981, "Cubic convolution interpolation for digital image processing". Shapes: b clips, c channels, t
frames, h w pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from vidiff_cli.pixels import quantize_8bit

BINOMIAL = (0.0625, 0.25, 0.375, 0.25, 0.0625)
# Of the RMS error of an enlarged pixel: CERTAIN where nothing is fine, and LOST[0] * (scale / 2)^LOST[1] times the fine
# detail of the low-resolution video around it. Fitted to 13 real clips; compared with others by `python -m
# benchmarks upscale uncertainty`.
CERTAIN, LOST = 0.003, (0.75, 0.34)
REACH = 8  # low-resolution pixels around a part of an enlarged picture: 7 that its uncertainty is made of, and one more


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


def padded(video: Tensor, multiple: int) -> Tensor:
    """A video (b c t h w) with its last row and column repeated, so that its sides are multiples."""
    height, width = video.shape[-2:]
    down, right = -height % multiple, -width % multiple
    return functional.pad(video, (0, right, 0, down, 0, 0), mode="replicate") if down or right else video


def with_uncertainty(low: Tensor, scale: int) -> Tensor:
    """A low-resolution video as a network of super-resolution is shown it: b c t h w -> b (2 c + 1) t h*scale w*scale.

    The channels are the enlarged video; its fine detail over its uncertainty; and its uncertainty, the RMS error of
    each pixel. What an enlarged picture lacks is about as strong as the finest detail that the small one has there.
    """
    b = low.shape[0]
    frames = rearrange(low, "b c t h w -> (b t) c h w")
    fine = frames - _blurred(frames)
    energy = _blurred(_blurred(fine.square().mean(dim=1, keepdim=True)))
    size = (scale * low.shape[-2], scale * low.shape[-1])
    lost = LOST[0] * (scale / 2) ** LOST[1]
    spread = (CERTAIN**2 + lost**2 * functional.interpolate(energy, size, mode="bilinear")).sqrt()
    detail = functional.interpolate(fine, size, mode="bicubic", antialias=True) / spread
    enlarged = functional.interpolate(frames, size, mode="bicubic", antialias=True)
    return rearrange(torch.cat([enlarged, detail, spread], dim=1), "(b t) c h w -> b c t h w", b=b)


def in_part(larger: Callable[[Tensor, int], Tensor], low: Tensor, scale: int, rows: slice, columns: slice) -> Tensor:
    """Rows and columns of `larger(low, scale)`, where that is `enlarge` or `with_uncertainty`, from the part of the
    low-resolution video that they depend on: memory is that of the part."""
    top, bottom = _seen(rows, scale, low.shape[-2])
    left, right = _seen(columns, scale, low.shape[-1])
    made = larger(low[..., top:bottom, left:right], scale)
    above, before = scale * top, scale * left
    return made[..., rows.start - above : rows.stop - above, columns.start - before : columns.stop - before]


def _seen(part: slice, scale: int, side: int) -> tuple[int, int]:
    return max(0, part.start // scale - REACH), min(side, -(-part.stop // scale) + REACH)


def _blurred(frames: Tensor) -> Tensor:
    """n c h w -> the same, by a binomial kernel of 5x5."""
    c, kernel = frames.shape[1], _kernel(frames.device, frames.dtype)
    padded = functional.pad(frames, (2, 2, 2, 2), mode="replicate")
    rows = functional.conv2d(padded, kernel.view(1, 1, 1, 5).expand(c, 1, 1, 5), groups=c)
    return functional.conv2d(rows, kernel.view(1, 1, 5, 1).expand(c, 1, 5, 1), groups=c)


@lru_cache(maxsize=8)
def _kernel(device: torch.device, dtype: torch.dtype) -> Tensor:
    """The binomial weights on a device, copied there once: a copy from the host would stop a GPU in every step."""
    return torch.tensor(BINOMIAL, device=device, dtype=dtype)
