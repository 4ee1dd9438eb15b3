"""Frames beyond the last given one: its motion goes on, slower and slower."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vidiff_cli.motion.flow import optical_flow
from vidiff_cli.motion.interpolation import MISMATCH, is_cut
from vidiff_cli.motion.warping import consistency, fill_holes, inside, resize, resize_flow, splat, warp

DAMPING = 0.7  # of the motion from one step to the next
FROZEN = 0.5  # share of the last frame itself in what is made: motion that is wrong costs twice what it gains


def extrapolate(
    previous: Tensor, last: Tensor, steps: Sequence[float], *, flows: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """The frames that follow after `steps` (> 0, in units of the time from `previous` to `last`), and the mean absolute
    error to be expected of every pixel.

    Shapes: previous, last (b c h w) in [-1, 1] -> frames (b c t h w), uncertainty (b 1 t h w). `flows` are those of
    `optical_flow(previous, last)` where they are known. After a cut the last frame is repeated. ValueError for frames
    of two shapes and steps that are not positive.
    """
    if previous.shape != last.shape or last.ndim != 4:
        raise ValueError(f"two frames of shapes {tuple(previous.shape)} and {tuple(last.shape)}, expected one b c h w")
    if any(step <= 0 for step in steps):
        raise ValueError(f"steps {list(steps)}, expected positive ones")
    forward, backward = optical_flow(previous, last) if flows is None else flows
    with torch.no_grad(), torch.autocast(last.device.type, enabled=False):
        made = _extrapolate(previous.to(forward.dtype), last.to(forward.dtype), forward, backward, steps)
    frames, uncertainty = (torch.stack(each, 2).to(last.dtype) for each in zip(*made, strict=True))
    return frames, uncertainty


def _extrapolate(
    previous: Tensor, last: Tensor, forward: Tensor, backward: Tensor, steps: Sequence[float]
) -> list[tuple[Tensor, Tensor]]:
    size, small = tuple(last.shape[2:]), tuple(backward.shape[2:])
    before, now = resize(previous, small), resize(last, small)
    agreement = consistency(backward, forward)
    left = (now - warp(before, backward)).abs().mean(1, keepdim=True)
    cut = is_cut(before, now, left, agreement)
    velocity = torch.where(cut, 0.0, -fill_holes(backward * agreement, agreement))
    importance = (0.02 + agreement) * torch.exp(-(MISMATCH * left).clamp(max=8))
    change = (now - before).abs().mean(1, keepdim=True)
    made = []
    for step in steps:
        way = DAMPING * (1 - DAMPING**step) / (1 - DAMPING)
        flow = fill_holes(*splat(velocity, way * velocity, importance))
        moved = warp(last, -way * resize_flow(flow, size), "bicubic").clamp(-1, 1)
        frame = torch.lerp(moved, last, FROZEN)
        seen = warp(agreement, -way * flow) * inside(-way * flow)
        uncertainty = step**0.35 * (change * (1 - 0.5 * seen) + left)
        made.append((frame, resize(uncertainty, size)))
    return made
