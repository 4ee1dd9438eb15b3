"""Frames at the film's own size: the estimate by motion from the given frames, and what a model adds to it.

The given frames are read once, in order; each is kept for as long as a later step needs it. Legend: h w pixels, c = 3
RGB; frames are uint8 (h w c) outside and (1 c h w) in [-1, 1] inside. A rank is a frame's place in a `Timeline`, an
index its number in the source.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from vidiff_cli.errors import VidiffError
from vidiff_cli.motion import interpolate, is_flash, optical_flow
from vidiff_cli.motion.extrapolation import Trend, fit_trend, reduced
from vidiff_cli.pixels import LEVELS_PER_UNIT, from_uint8_fast, to_uint8
from vidiff_cli.timeline import Timeline

PAST = 16  # given frames that tell how the motion goes on
EVEN = 0.01  # share by which two spans of time may differ and still count as equal

Correct = Callable[[int, Tensor, Tensor], Tensor]
"""(rank, estimate: 1 c h w, uncertainty: 1 1 h w) -> frame 1 c h w: adds what a model knows better."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Neighboring ranks of the output that follow from the same given frames.

    `before` and `after` are the ranks of given frames, nearest first, on either side in the same scene; a single given
    frame or a copy of one is in `before` alone, and is `shown` as it is.
    """

    ranks: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    shown: bool = False

    @property
    def needs(self) -> tuple[int, ...]:
        """All given ranks that are looked at."""
        return (*self.before, *self.after)


@dataclass(frozen=True, kw_only=True, slots=True)
class FullFrame:
    """One frame of the output: `uncertainty` (h w, mean absolute error in 8-bit levels) of one that is made."""

    rank: int
    frame: np.ndarray
    uncertainty: np.ndarray | None = None


def plan_steps(timeline: Timeline) -> list[Step]:
    """The steps in which the written frames of a timeline are made, in the order of the output."""
    given = sorted(timeline.given)
    scene_of = {rank: scene for scene in timeline.segments for rank in scene}

    def step_of(rank: int) -> Step:
        if rank in timeline.given or rank in timeline.repeats:
            return Step(ranks=(rank,), before=(timeline.repeats.get(rank, rank),), after=(), shown=True)
        place, scene = bisect_left(given, rank), scene_of[rank]
        before = [each for each in reversed(given[max(0, place - PAST) : place]) if each in scene]
        after = [each for each in given[place : place + PAST] if each in scene]
        if before and after:
            before, after = before[:2], after[:2]
        return Step(ranks=(rank,), before=tuple(before), after=tuple(after))

    singles = [step_of(rank) for rank in dict.fromkeys(timeline.written)]
    steps = []
    for (*_, shown), group in groupby(singles, key=lambda step: (step.before, step.after, step.shown)):
        members = list(group)
        ranks = tuple(rank for step in members for rank in step.ranks)
        steps.append(Step(ranks=ranks, before=members[0].before, after=members[0].after, shown=shown))
    return steps


def full_frames(
    timeline: Timeline,
    source: Iterator[np.ndarray],
    *,
    correct: Correct | None = None,
    device: torch.device | None = None,
) -> Iterator[FullFrame]:
    """Every written frame of a timeline once, in order (a held frame is not repeated).

    `source` has the given frames at the size of the output, all of them, in order. Given frames are handed out as they
    are, and so are copies. Memory: the frames that `plan_steps` asks for at a time, 16 at most where the motion goes on
    beyond the last. VidiffError where the source ends too early.
    """
    steps = plan_steps(timeline)
    frames = _Frames(source, [[timeline.given[rank] for rank in step.needs] for step in steps], device)
    for number, step in enumerate(steps):
        frames.go_to(number)
        if step.shown:
            shown = frames.pixels(timeline.given[step.before[0]])
            yield from (FullFrame(rank=rank, frame=shown) for rank in step.ranks)
            continue
        for rank, (frame, uncertainty) in zip(step.ranks, _made(timeline, step, frames), strict=True):
            frame = frame if correct is None else correct(rank, frame, uncertainty)
            levels = (LEVELS_PER_UNIT * uncertainty[0, 0]).cpu().numpy()
            yield FullFrame(rank=rank, frame=to_bytes(frame), uncertainty=levels)


def _made(timeline: Timeline, step: Step, frames: _Frames) -> Iterator[tuple[Tensor, Tensor]]:
    """The frames of a step (1 c h w) and their uncertainty (1 1 h w), one after the other."""
    times = timeline.times

    def index(rank: int) -> int:
        return timeline.given[rank]

    if step.before and step.after:
        yield from _between(timeline, step, frames)
        return
    known = step.before or step.after
    trend = frames.trend([index(rank) for rank in reversed(known)])
    last = known[0]
    span = abs(times[last] - times[known[1]]) if len(known) > 1 else 1 / timeline.fps
    for rank in step.ranks:
        yield trend.frame(frames.tensor(index(last)), float(abs(times[rank] - times[last]) / span))


def _between(timeline: Timeline, step: Step, frames: _Frames) -> Iterator[tuple[Tensor, Tensor]]:
    times, given = timeline.times, timeline.given
    low, high = step.before[0], step.after[0]
    outer_low, outer_high = step.before[1:2], step.after[1:2]
    # A flash is no step of a motion: what is beside it follows from the frames around it.
    if outer_high and frames.is_flash(given[low], given[high], given[outer_high[0]]):
        high, outer_high = outer_high[0], ()
    elif outer_low and frames.is_flash(given[outer_low[0]], given[low], given[high]):
        low, outer_low = outer_low[0], ()
    span = times[high] - times[low]

    def flows_of(ranks: tuple[int, ...], inner: int, *, earlier: bool) -> tuple[Tensor, Tensor] | None:
        if not ranks or abs(abs(times[ranks[0]] - times[inner]) - span) > EVEN * span:
            return None
        if not timeline.repeats.keys().isdisjoint(range(*sorted((ranks[0], inner)))):
            return None  # a repeat, which is no step of the motion
        pair = (ranks[0], inner) if earlier else (inner, ranks[0])
        return frames.flows(given[pair[0]], given[pair[1]])

    flows = frames.flows(given[low], given[high])
    before, after = flows_of(outer_low, low, earlier=True), flows_of(outer_high, high, earlier=False)
    one, other = frames.tensor(given[low]), frames.tensor(given[high])
    for rank in step.ranks:
        share = float((times[rank] - times[low]) / span)
        made, uncertainty = interpolate(one, other, [share], flows=flows, before=before, after=after)
        yield made[:, :, 0], uncertainty[:, :, 0]


class _Frames:
    """The given frames by index, for as long as they are needed, and what was found out about them."""

    def __init__(self, source: Iterator[np.ndarray], needs: Sequence[Sequence[int]], device: torch.device | None):
        self._source, self._device = source, device
        self._last_use = {index: number for number, step in enumerate(needs) for index in step}
        self._read, self._step = 0, 0
        self._pixels: dict[int, np.ndarray] = {}
        self._tensors: dict[int, Tensor] = {}
        self._small: dict[int, Tensor] = {}
        self._flows: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def go_to(self, step: int) -> None:
        """Forgets what neither this step nor a later one needs."""
        self._step = step
        self._pixels = {index: kept for index, kept in self._pixels.items() if self._last_use[index] >= step}
        self._tensors = {index: kept for index, kept in self._tensors.items() if index in self._pixels}
        self._small = {index: kept for index, kept in self._small.items() if index in self._pixels}
        self._flows = {pair: kept for pair, kept in self._flows.items() if self._pixels.keys() >= {*pair}}

    def pixels(self, index: int) -> np.ndarray:
        """Frame `index` as it is (h w c)."""
        while self._read <= index:
            frame = next(self._source, None)
            if frame is None:
                raise VidiffError("the input ends early", found=f"{self._read} frames", expected=f"{index + 1} or more")
            if self._last_use.get(self._read, -1) >= self._step:
                self._pixels[self._read] = frame
            self._read += 1
        return self._pixels[index]

    def tensor(self, index: int) -> Tensor:
        """Frame `index` as (1 c h w)."""
        if index not in self._tensors:
            pixels = torch.from_numpy(np.ascontiguousarray(self.pixels(index))).to(self._device)
            self._tensors = {key: kept for key, kept in self._tensors.items() if abs(key - index) <= 3}
            self._tensors[index] = from_uint8_fast(pixels.permute(2, 0, 1)[None])
        return self._tensors[index]

    def small(self, index: int) -> Tensor:
        """Frame `index` at the size at which motion is found."""
        if index not in self._small:
            self._small[index] = reduced(self.tensor(index))
        return self._small[index]

    def flows(self, first: int, second: int) -> tuple[Tensor, Tensor]:
        """Those of `optical_flow`, computed once for a pair."""
        if (first, second) not in self._flows:
            self._flows[first, second] = optical_flow(self.small(first), self.small(second))
        return self._flows[first, second]

    def trend(self, past: Sequence[int]) -> Trend:
        """The motion of these frames, in this order."""
        return fit_trend([self.small(index) for index in past])

    def is_flash(self, before: int, frame: int, after: int) -> bool:
        return bool(is_flash(*map(self.small, (before, frame, after))))


def to_bytes(frame: Tensor) -> np.ndarray:
    """(1 c h w) in [-1, 1] -> uint8 (h w c), rounded to the nearest."""
    return to_uint8(frame[0]).permute(1, 2, 0).contiguous().cpu().numpy()
