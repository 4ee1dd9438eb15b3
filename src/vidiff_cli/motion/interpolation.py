"""Frames between two given ones, by motion compensation.

The flow of the wanted time is projected from both sides, both frames are warped to it, and mixed by time and by what is
visible. Where the warped frames agree less than the unwarped ones, the blend is taken instead.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vidiff_cli.motion.flow import optical_flow
from vidiff_cli.motion.warping import box, consistency, fill_holes, inside, resize, resize_flow, splat, warp

DISTRUST = 2.0  # how much faster than the blend's the disagreement of the warped frames counts
MISMATCH = 12.5  # how fast a pixel that is not found again loses its say in the projected flow
CUT_CHANGE, CUT_LEFT, CUT_AGREEMENT = 0.12, 0.4, 0.15  # see `is_cut`


def interpolate(
    first: Tensor, second: Tensor, times: Sequence[float], *, flows: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """The frames at `times` (0: first, 1: second), and the mean absolute error to be expected of every pixel.

    Shapes: first, second (b c h w) in [-1, 1] -> frames (b c t h w), uncertainty (b 1 t h w). `flows` are those of
    `optical_flow` where they are known. Across a cut the nearer frame is repeated. ValueError for frames of two shapes
    and times outside [0, 1].
    """
    if first.shape != second.shape or first.ndim != 4:
        raise ValueError(f"two frames of shapes {tuple(first.shape)} and {tuple(second.shape)}, expected one b c h w")
    if any(not 0 <= time <= 1 for time in times):
        raise ValueError(f"times {list(times)} outside [0, 1]")
    forward, backward = optical_flow(first, second) if flows is None else flows
    with torch.no_grad(), torch.autocast(first.device.type, enabled=False):
        pair = _Pair(first.to(forward.dtype), second.to(forward.dtype), forward, backward)
        made = [pair.at(float(time)) for time in times]
    frames, uncertainty = (torch.stack(each, 2).to(first.dtype) for each in zip(*made, strict=True))
    return frames, uncertainty


class _Pair:
    """Two frames, their flows, and what all times between them share."""

    def __init__(self, first: Tensor, second: Tensor, forward: Tensor, backward: Tensor) -> None:
        self.first, self.second, self.forward, self.backward = first, second, forward, backward
        self.size, self.small = tuple(first.shape[2:]), tuple(forward.shape[2:])
        a, b = resize(first, self.small), resize(second, self.small)
        self.agreement = consistency(forward, backward), consistency(backward, forward)
        left = _distance(a, warp(b, forward)), _distance(b, warp(a, backward))
        self.cut = is_cut(a, b, left[0], self.agreement[0])
        self.importance = [
            (0.05 + seen) * torch.exp(-(MISMATCH * off).clamp(max=8))
            for seen, off in zip(self.agreement, left, strict=True)
        ]
        self.same = (first == second).flatten(1).all(1)[:, None, None, None]
        self.apart = box(resize(_distance(first, second), self.small))

    def at(self, time: float) -> tuple[Tensor, Tensor]:
        """(frame: b c h w, uncertainty: b 1 h w)"""
        if time in (0.0, 1.0):
            frame = self.first if time == 0 else self.second
            return frame, torch.zeros_like(frame[:, :1])
        frame, uncertainty = self._moved(time)
        nearer = self.first if time <= 0.5 else self.second
        frame = torch.where(self.same, self.first, torch.where(self.cut, nearer, frame))
        uncertainty = torch.where(self.same, 0.0, torch.where(self.cut, 1.0, uncertainty))
        return frame, resize(uncertainty, self.size)

    def _moved(self, time: float) -> tuple[Tensor, Tensor]:
        there, there_weight = splat(self.forward, time * self.forward, self.importance[0])
        back, back_weight = splat(self.backward, (1 - time) * self.backward, self.importance[1])
        flow = fill_holes(there - back, there_weight + back_weight)  # of the whole way, at the wanted time
        views = -time * flow, (1 - time) * flow
        visible = [warp(seen, view) * inside(view) for seen, view in zip(self.agreement, views, strict=True)]
        share = time * (visible[1] + 0.02)
        share = share / (share + (1 - time) * (visible[0] + 0.02))
        full = resize_flow(flow, self.size)
        from_first = warp(self.first, -time * full, "bicubic")
        from_second = warp(self.second, (1 - time) * full, "bicubic")
        apart = box(resize(_distance(from_first, from_second), self.small))
        disagreement = apart * box(4 * share * (1 - share))
        trust = self.apart.square() / (self.apart.square() + DISTRUST * disagreement.square() + 1e-7)
        moved = torch.lerp(from_first, from_second, resize(share, self.size))
        frame = torch.lerp(torch.lerp(self.first, self.second, time), moved, resize(trust, self.size)).clamp(-1, 1)
        uncertainty = torch.lerp(self.apart, disagreement, trust) + (1 - visible[0]) * (1 - visible[1]) * apart
        return frame, uncertainty


def is_cut(first: Tensor, second: Tensor, left: Tensor, agreement: Tensor) -> Tensor:
    """Whether two small frames (b c h w) belong to two scenes: they differ, motion leaves much of the difference
    (`left`, b 1 h w), and the flows there and back hardly agree anywhere. (b 1 1 1) bool."""
    change = (first - second).abs().mean((1, 2, 3))
    unexplained = left.mean((1, 2, 3)) > CUT_LEFT * change
    cut = (change > CUT_CHANGE) & unexplained & (agreement.mean((1, 2, 3)) < CUT_AGREEMENT)
    return cut[:, None, None, None]


def _distance(one: Tensor, other: Tensor) -> Tensor:
    return (one - other).abs().mean(1, keepdim=True)
