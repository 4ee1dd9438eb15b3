"""Motion-compensated estimates of a batch, computed in the loader on the CPU from the observed frames alone.

The same numbers as in generation, whatever else is in the batch and however many threads read: bit for bit where the
sides of frames are multiples of 16, else but for the rounding of a vector's last numbers. On a CPU for every device,
for there they can be made ahead of the step, and a GPU adds what arrives at one pixel in no certain order. Shapes: b
clips, c channels, t frames, h w pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from vidiff_cli.motion import estimate_around, estimate_clip, optical_flow
from vidiff_cli.motion.flow import SMALLEST_SIDE
from vidiff_cli.pixels import from_uint8


def estimate_frames(frames: np.ndarray, observed: np.ndarray, times: np.ndarray) -> tuple[Tensor, Tensor]:
    """The estimate (b c t h w) of frames uint8 (b t h w c) from the observed ones (b t), and its uncertainty (b 1 t h
    w), both in [-1, 1]; zeros for clips of which none is observed. Times (b t) in seconds."""
    b, t, h, w, c = frames.shape
    estimate, uncertainty = torch.zeros(b, c, t, h, w), torch.zeros(b, 1, t, h, w)
    chosen = np.flatnonzero(observed.any(axis=1))
    if len(chosen):
        video = from_uint8(torch.from_numpy(frames[chosen])).permute(0, 4, 1, 2, 3).contiguous()
        known, moments = torch.from_numpy(observed[chosen]), torch.from_numpy(times[chosen]).float()
        estimate[chosen], uncertainty[chosen] = estimate_clip(video, known, moments)
    return estimate, uncertainty


def estimate_between(
    frames: np.ndarray, observed: np.ndarray, times: np.ndarray, motion_shares: Sequence[float]
) -> Tensor:
    """`estimate_around` of frames uint8 (b t h w c) from the observed ones (b t): b 2c+1 t h w. Times (b t) in seconds;
    motion is found at `motion_shares` (b) of the frames' size."""
    short, shown = min(frames.shape[2:4]), []
    for clip, seen, moments, share in zip(frames, observed, times, motion_shares, strict=True):
        video = from_uint8(torch.from_numpy(clip)).permute(3, 0, 1, 2)[None].contiguous()
        flow = partial(optical_flow, short_side=max(SMALLEST_SIDE, round(share * short)))
        known, at = torch.from_numpy(seen)[None], torch.from_numpy(moments)[None].float()
        shown.append(estimate_around(video, known, at, flow=flow))
    return torch.cat(shown)
