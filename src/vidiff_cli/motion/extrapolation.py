"""Frames beyond the last given one: its motion continues, damped as the film's own past suggests.

The damping of motion, the baseline that it is measured over and the weight of the last frame itself are chosen by
hindcast: by how well past frames would have predicted one another. A past that is too short gives default values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vidiff_cli.motion.changes import is_cut
from vidiff_cli.motion.flow import flow_size, optical_flow
from vidiff_cli.motion.interpolation import MISMATCH
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

BASELINES = (1, 2, 3)  # frames back from which the last motion is read
DAMPINGS = (0.7, 0.9, 1.0)  # of the motion from one step to the next
HORIZONS = (1.0, 2.0, 4.0, 8.0)  # steps for which the share is chosen; between them on a line, beyond them falling
USUAL_DAMPING, USUAL_SHARE = 0.9, 0.5  # where the past does not tell
USUAL_COUNTS = 2.0  # hindcasts that the usual share is worth
ORIGINS = (4, 6, 8, 10, 12)  # frames before the last that are hindcast from
FLOOR = 1e-5  # mean square of a change that is noise
ERROR, ERROR_GROWTH = 1.4, 0.6  # of the frame's last change after a step, and its power of steps (benchmarks/films.py)
ERROR_BOX, EVERYWHERE = 9, 0.3  # cells that a change may reach, and its share that is as likely anywhere

Flow = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(first, second: b c h w) -> the flows there and back, as `optical_flow`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trend:
    """The motion of the last frame of a clip, and its continuation.

    `velocity` (1 2 h' w') in pixels per step, `importance`, `agreement` and `change` (1 1 h' w'); `damping` of the
    motion per step; `shares` of the moved frame for each of `HORIZONS`, the rest is the last frame itself.
    """

    velocity: Tensor
    importance: Tensor
    agreement: Tensor
    change: Tensor
    damping: float = USUAL_DAMPING
    shares: tuple[float, ...] = (USUAL_SHARE,) * len(HORIZONS)

    def frame(self, last: Tensor, step: float) -> tuple[Tensor, Tensor]:
        """The frame (1 c h w) at `step` after the last one, at the size of `last`, and its uncertainty (1 1 h w)."""
        moved, seen = self.moved(last, step)
        frame = torch.lerp(last, moved, self.share(step))
        change = box(self.change * (1.5 - seen), ERROR_BOX)
        everywhere = change.mean((2, 3), keepdim=True)
        uncertainty = ERROR * step**ERROR_GROWTH * torch.lerp(change, everywhere, EVERYWHERE)
        return frame, resize(uncertainty, field_size(last))

    def moved(self, last: Tensor, step: float) -> tuple[Tensor, Tensor]:
        """The last frame moved by `step` (1 c h w), and the mask of reliable pixels (1 1 h' w')."""
        damping = self.damping
        way = step if damping == 1 else damping * (1 - damping**step) / (1 - damping)
        flow = -way * fill_holes(*splat(self.velocity, way * self.velocity, self.importance))
        moved = warp(last, resize_flow(flow, field_size(last)), "bicubic").clamp(-1, 1)
        return moved, warp(self.agreement, flow) * inside(flow)

    def share(self, step: float) -> float:
        """Weight of the moved frame after `step`."""
        if step >= HORIZONS[-1]:
            return self.shares[-1] * HORIZONS[-1] / step
        place = max(0, sum(step >= horizon for horizon in HORIZONS) - 1)
        low, high = HORIZONS[place], HORIZONS[place + 1]
        part = max(0.0, (step - low) / (high - low))
        return (1 - part) * self.shares[place] + part * self.shares[place + 1]


def extrapolate(past: Tensor, steps: Sequence[float], *, flow: Flow = optical_flow) -> tuple[Tensor, Tensor]:
    """Predicts the frames at `steps` after the last one, and the expected absolute error of every pixel.

    Shapes: past (b c n h w) in [-1, 1], evenly spaced -> frames (b c t h w), uncertainty (b 1 t h w). `steps` (> 0) are
    in units of the time between past frames. A single frame is repeated. Raises ValueError for an empty past and for
    steps that are not positive.
    """
    if past.ndim != 5 or not past.shape[2]:
        raise ValueError(f"past frames of shape {tuple(past.shape)}, expected b c n h w with n >= 1")
    if any(step <= 0 for step in steps):
        raise ValueError(f"steps {list(steps)}, expected positive ones")
    frames, uncertainty = list[Tensor](), list[Tensor]()
    with torch.no_grad(), torch.autocast(past.device.type, enabled=False):
        for clip in past if past.dtype in (torch.float32, torch.float64) else past.float():
            last = clip[None, :, -1]
            trend = fit_trend([reduced(clip[None, :, place]) for place in range(clip.shape[1])], flow=flow)
            made = [trend.frame(last, step) for step in steps]
            frames.append(torch.stack([frame for frame, _ in made], 2))
            uncertainty.append(torch.stack([doubt for _, doubt in made], 2))
    return torch.cat(frames).to(past.dtype), torch.cat(uncertainty).to(past.dtype)


def reduced(frame: Tensor) -> Tensor:
    """A frame (b c h w) resized to the size at which motion is estimated."""
    return resize(frame, flow_size(*field_size(frame)))


def fit_trend(past: Sequence[Tensor], *, flow: Flow = optical_flow) -> Trend:
    """Chooses the trend of evenly spaced frames (1 c h' w' each, `reduced`) of one scene by hindcast.

    Every combination of `BASELINES` and `DAMPINGS` is tried from each of `ORIGINS`; the one whose best mixtures with
    the starting frame have the smallest residual (mean of logarithms over `HORIZONS`) is chosen, with these mixtures.
    """
    if len(past) == 1:
        nothing = torch.zeros_like(past[0][:, :1])
        return Trend(
            velocity=nothing.expand(-1, 2, -1, -1),
            importance=nothing + 1,
            agreement=nothing,
            change=nothing + past[0].std(correction=0),  # so far off is any other picture
            shares=(0.0,) * len(HORIZONS),
        )
    origins = [origin for origin in ORIGINS if len(past) - 1 - origin >= max(BASELINES)]
    best, least = _trend(past, 1, flow), math.inf
    for back in BASELINES if origins else ():
        from_there = [(_trend(past[:-origin], back, flow), past[-origin - 1 :]) for origin in origins]
        for damping in DAMPINGS:
            shares, score = _hindcast([(replace(trend, damping=damping), onward) for trend, onward in from_there])
            if score < least:
                best, least = replace(_trend(past, back, flow), damping=damping, shares=shares), score
    return best


def _trend(past: Sequence[Tensor], back: int, flow: Flow) -> Trend:
    """The motion measured from `back` frames before the last one."""
    before, last = past[-1 - back], past[-1]
    forward, backward = flow(before, last)
    agreement = consistency(backward, forward)
    left = mean_distance(last, warp(before, backward))
    cut = is_cut(before, last, left, agreement)
    return Trend(
        velocity=torch.where(cut, 0.0, -fill_holes(backward * agreement, agreement)) / back,
        importance=(0.02 + agreement) * torch.exp(-(MISMATCH * left).clamp(max=8)),
        agreement=agreement,
        change=mean_distance(last, past[-2]),
    )


def _hindcast(cases: Sequence[tuple[Trend, Sequence[Tensor]]]) -> tuple[tuple[float, ...], float]:
    """Best weight of the moved frame for each of `HORIZONS`, less a standard error over the cases, and the mean log
    residual.

    A case is a trend, the frame it ends with and the frames that followed.
    """
    shares, scores = [], []
    for horizon in HORIZONS:
        found = []  # of each case: the product of moved and true change, and the square of the former
        for trend, (last, *onward) in cases:
            if horizon > len(onward):
                continue
            true = onward[int(horizon) - 1] - last
            moved = trend.moved(last, horizon)[0] - last
            scale = float(true.square().mean()) + FLOOR
            found.append((float((moved * true).mean()) / scale, float(moved.square().mean()) / scale))
        count, along, energy = len(found), sum(each for each, _ in found), sum(each for _, each in found)
        usual = USUAL_COUNTS * energy / max(1, count)
        share = (along + USUAL_SHARE * usual) / (energy + usual) if energy else USUAL_SHARE
        if count > 1 and energy:
            spread = sum((each - share * own) ** 2 for each, own in found) * count / (count - 1)
            share -= math.sqrt(spread) / (energy + usual)
        shares.append(min(1.0, max(0.0, share)))
        if count:
            scores.append(math.log(max(FLOOR, 1 - (2 * shares[-1] * along - shares[-1] ** 2 * energy) / count)))
    return tuple(shares), sum(scores) / len(scores)
