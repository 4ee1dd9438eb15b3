"""Frames between two given ones, by motion compensation.

The flow at the requested time is projected from both sides, both frames are warped to it and mixed by time and
visibility. Where the warped frames agree less than the unwarped ones, more of their plain blend is used. The frame
before and the frame after, if known, give the acceleration.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vidiff_cli.motion.changes import is_cut
from vidiff_cli.motion.flow import optical_flow
from vidiff_cli.motion.warping import (
    box,
    consistency,
    field_size,
    fill_holes,
    inside,
    mean_distance,
    resize,
    resize_flow,
    splat,
    warp,
)

MISMATCH = 12.5  # how fast a pixel that is not found again loses its say in the projected flow
DISTRUST = 2.3  # of the warped frames by their disagreement, against that of the given ones (benchmarks/films.py)
TRUST_BOX = 9  # cells over which both are averaged
NOISE = 0.002  # disagreement that says nothing
CALIBRATION = 0.6  # of the disagreement, is the mean error on real films (benchmarks/films.py)
HIDDEN = 0.3  # share that a frame keeps where it does not see the place


def interpolate(
    first: Tensor,
    second: Tensor,
    times: Sequence[float],
    *,
    flows: tuple[Tensor, Tensor] | None = None,
    before: tuple[Tensor, Tensor] | None = None,
    after: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Predicts the frames at `times` (0: first, 1: second), and the expected absolute error of every pixel.

    Shapes: first, second (b c h w) in [-1, 1] -> frames (b c t h w), uncertainty (b 1 t h w). Identical frames are
    returned unchanged; across a cut the nearer frame is repeated. No gradient flows.

    Args:
        first: the earlier frame.
        second: the later frame, of the same shape.
        times: in [0, 1].
        flows: those of `optical_flow(first, second)`, if known.
        before: those of `optical_flow(frame, first)`, of a frame as long before the first as the second is after it.
        after: those of `optical_flow(second, frame)`, of a frame as long after the second.

    Raises:
        ValueError: frames of two shapes, or times outside [0, 1].
    """
    frames, uncertainty, _ = interpolate_both(first, second, times, flows=flows, before=before, after=after)
    return frames, uncertainty


def interpolate_both(
    first: Tensor,
    second: Tensor,
    times: Sequence[float],
    *,
    flows: tuple[Tensor, Tensor] | None = None,
    before: tuple[Tensor, Tensor] | None = None,
    after: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """`interpolate`, and by how much the second frame, moved to each time, differs from the first (b c t h w)."""
    if first.shape != second.shape or first.ndim != 4:
        raise ValueError(f"two frames of shapes {tuple(first.shape)} and {tuple(second.shape)}, expected one b c h w")
    if any(not 0 <= time <= 1 for time in times):
        raise ValueError(f"times {list(times)} outside [0, 1]")
    flows = optical_flow(first, second) if flows is None else flows
    with torch.no_grad(), torch.autocast(first.device.type, enabled=False):
        kind = flows[0].dtype
        pair = _Pair(first.to(kind), second.to(kind), flows, before, after)
        made = [pair.at(float(time)) for time in times]
    frames, uncertainty, difference = (torch.stack(each, 2).to(first.dtype) for each in zip(*made, strict=True))
    return frames, uncertainty, difference


class _Pair:
    """Two frames, their flows, and everything that is shared by all times between them."""

    def __init__(
        self,
        first: Tensor,
        second: Tensor,
        flows: tuple[Tensor, Tensor],
        before: tuple[Tensor, Tensor] | None,
        after: tuple[Tensor, Tensor] | None,
    ) -> None:
        self.first, self.second, self.flows = first, second, flows
        forward, backward = flows
        self.size, self.small = field_size(first), field_size(forward)
        a, b = resize(first, self.small), resize(second, self.small)
        self.agreement = consistency(forward, backward), consistency(backward, forward)
        left = mean_distance(a, warp(b, forward)), mean_distance(b, warp(a, backward))
        self.cut = is_cut(a, b, (left[0] + left[1]) / 2, (self.agreement[0] + self.agreement[1]) / 2)
        self.importance = [
            (0.05 + seen) * torch.exp(-(MISMATCH * off).clamp(max=8))
            for seen, off in zip(self.agreement, left, strict=True)
        ]
        self.acceleration = (
            _acceleration(forward, self.agreement[0], None if before is None else (before[1], before[0])),
            _acceleration(backward, self.agreement[1], after),
        )
        self.same = torch.tensor([torch.equal(*each) for each in zip(first, second, strict=True)], device=first.device)
        self.apart = self._apart(first, second)

    def at(self, time: float) -> tuple[Tensor, Tensor, Tensor]:
        """(frame: b c h w, uncertainty: b 1 h w, difference: b c h w)"""
        if time in (0.0, 1.0):
            frame = self.first if time == 0 else self.second
            return frame, torch.zeros_like(frame[:, :1]), torch.zeros_like(frame)
        frame, uncertainty, difference = self._moved(time)
        for clip in torch.nonzero(self.cut[:, 0, 0, 0] | self.same)[:, 0].tolist():
            frame[clip] = self.first[clip] if time <= 0.5 or self.same[clip] else self.second[clip]
            uncertainty[clip] = 0 if self.same[clip] else self.apart[clip]
            difference[clip] = 0
        return frame, resize(uncertainty, self.size), difference

    def _apart(self, one: Tensor, other: Tensor) -> Tensor:
        """Absolute difference of two frames at the size of the flow (b 1 h' w'); of large frames every other row and
        column."""
        step = 2 if self.size[0] >= 2 * self.small[0] else 1
        return box(resize(mean_distance(one[..., ::step, ::step], other[..., ::step, ::step]), self.small))

    def _moved(self, time: float) -> tuple[Tensor, Tensor, Tensor]:
        views = self._views(time)
        visible = [warp(seen, view) * inside(view) for seen, view in zip(self.agreement, views, strict=True)]
        share = time * (visible[1] + HIDDEN)
        share = share / (share + (1 - time) * (visible[0] + HIDDEN))
        from_first, from_second = (
            warp(frame, resize_flow(view, self.size), "bicubic")
            for frame, view in zip((self.first, self.second), views, strict=True)
        )
        disagreement = self._apart(from_first, from_second)
        apart, off = (box(each, TRUST_BOX) + NOISE for each in (self.apart, disagreement))
        trust = apart / (apart + DISTRUST * off)
        moved = torch.lerp(from_first, from_second, resize(share, self.size))
        frame = torch.lerp(torch.lerp(self.first, self.second, time), moved, resize(trust, self.size)).clamp_(-1, 1)
        return frame, CALIBRATION * torch.lerp(self.apart, disagreement, trust), from_second.sub_(from_first)

    def _views(self, time: float) -> tuple[Tensor, Tensor]:
        """Flows (b 2 h' w') from the requested frame to the first and to the second."""
        (forward, backward), bend = self.flows, (time * time - time) / 2
        there = time * forward + bend * self.acceleration[0]
        back = (1 - time) * backward + bend * self.acceleration[1]
        sums, weights = splat(torch.cat([-there, forward - there], 1), there, self.importance[0])
        more_sums, more_weights = splat(torch.cat([backward - back, -back], 1), back, self.importance[1])
        first, second = fill_holes(sums + more_sums, weights + more_weights).chunk(2, 1)
        return first, second


def _acceleration(onward: Tensor, agreement: Tensor, other_way: tuple[Tensor, Tensor] | None) -> Tensor:
    """Difference between the motion after and before a frame, where both are reliable; 0 where the latter is unknown.

    `other_way`: the flows from the same frame away from the pair, and back.
    """
    if other_way is None:
        return torch.zeros_like(onward)
    away, back = other_way
    return consistency(away, back) * agreement * (onward + away)
