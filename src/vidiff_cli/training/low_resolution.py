"""Low-resolution clips of a batch for a training of super-resolution, and the noise on them.

A video is downsampled on its device and enlarged again; in between, a share of the clips has noise, each at a level of
its own that the network is told (conditioning augmentation: Ho et al. 2022, "Cascaded diffusion models", section 4.2).
Noise is drawn from (seed, step, number of the clip), so that neither ranks nor a resume change a batch. Shapes: b
clips, c channels, t frames, h w pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vidiff_cli.diffusion.noise import seeded
from vidiff_cli.models.denoiser import noise_ratio
from vidiff_cli.resize import low_resolution, with_uncertainty

LOW = 1  # after (seed, step, number): the noise of low-resolution clips, not of the video


def low_clips(video: Tensor, scale: int, augmentation: Tensor, seeds: Sequence[tuple[int, ...]]) -> Tensor:
    """The low-resolution clips of videos in [-1, 1], with noise, as a network is shown them: b c t h w -> b 2c+1 t h w.

    Args:
        video: The videos (b c t h w).
        scale: How much smaller the low-resolution clips are.
        augmentation: Noise of each as a place on the schedule, 0 for none (b).
        seeds: Of the noise of each clip (b).

    Returns:
        What `resize.with_uncertainty` makes of them.
    """
    low = low_resolution(video, scale)
    noise = torch.empty_like(low)
    for place, seed in enumerate(seeds):
        torch.randn(low.shape[1:], generator=seeded(*seed, LOW, device=low.device), out=noise[place])
    return with_uncertainty(low + noise_ratio(augmentation).view(-1, 1, 1, 1, 1) * noise, scale)
