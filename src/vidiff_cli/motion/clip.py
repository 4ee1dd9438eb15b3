"""Estimates of all frames of a window from its observed frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from vidiff_cli.motion.extrapolation import Flow, extrapolate
from vidiff_cli.motion.flow import optical_flow
from vidiff_cli.motion.interpolation import interpolate_both

EVEN = 0.01  # share by which two spans of time may differ and still count as equal
LEAST, RMS_OF_MEAN = 0.02, 1.6  # RMS error that nobody sees; RMS over mean absolute error of an estimated pixel

Pair = tuple[int, int, int]  # clip, and the places of two of its observed frames


@dataclass(frozen=True, kw_only=True, slots=True)
class _Gap:
    """Frames of a clip at `places` between two observed ones, at the fractions `moments` of the gap.

    `before` and `after` are the observed frames next to these, if their distances equal that of the two.
    """

    clip: int
    first: int
    second: int
    places: tuple[int, ...]
    moments: tuple[float, ...]
    before: int | None
    after: int | None

    @property
    def pairs(self) -> tuple[Pair | None, Pair | None, Pair | None]:
        """The pairs of frames whose flows are needed: before, between, after."""
        before = None if self.before is None else (self.clip, self.before, self.first)
        after = None if self.after is None else (self.clip, self.second, self.after)
        return before, (self.clip, self.first, self.second), after


@dataclass(frozen=True, kw_only=True, slots=True)
class _ClipEnd:
    """Frames of a clip at `places` beyond the last observed one of `past`, which is evenly spaced.

    `moments` are their distances in steps of the past; the past may run backwards in time.
    """

    clip: int
    past: tuple[int, ...]
    places: tuple[int, ...]
    moments: tuple[float, ...]


def estimate_clip(
    video: Tensor, observed: Tensor, times: Tensor, *, flow: Flow = optical_flow
) -> tuple[Tensor, Tensor]:
    """Estimates the frames of a window that are not observed.

    Shapes: video (b c t h w), observed (b t) bool, times (b t) in ascending order, in any unit -> estimate (b c t h w),
    uncertainty (b 1 t h w). Observed frames are returned unchanged with uncertainty 0; the values of others are not
    read. Frames between two observed ones come from `interpolate`, frames beyond the outermost from `extrapolate` and
    the evenly spaced frames next to the end. A single observed frame is repeated; without one the result is zeros with
    uncertainty 0.
    """
    estimate, uncertainty, _ = _estimate(video, observed, times, flow)
    return estimate, uncertainty


def estimate_around(video: Tensor, observed: Tensor, times: Tensor, *, flow: Flow = optical_flow) -> Tensor:
    """The input of a network that predicts around the estimate by motion: (b c t h w) -> (b 2c+1 t h w).

    The channels are the estimate of `estimate_clip`; by how much the later given frame, moved to each time, differs
    from the earlier one, over the spread; and the spread, the RMS error of each pixel (LEAST for observed frames). So
    the network knows both moved frames, and where one of them does not see what the other shows.
    """
    estimate, uncertainty, difference = _estimate(video, observed, times, flow)
    spread = (LEAST**2 + (RMS_OF_MEAN * uncertainty).square()).sqrt()
    return torch.cat([estimate, difference / spread, spread], dim=1)


def _estimate(video: Tensor, observed: Tensor, times: Tensor, flow: Flow) -> tuple[Tensor, Tensor, Tensor]:
    """`estimate_clip`, and the difference of the later given frame, moved, and the earlier one (b c t h w): 0 where
    there are not both."""
    estimate = torch.where(observed[:, None, :, None, None], video, torch.zeros((), dtype=video.dtype))
    uncertainty, difference = torch.zeros_like(video[:, :1]), torch.zeros_like(video)
    gaps, ends = list[_Gap](), list[_ClipEnd]()
    for clip, (seen, moments) in enumerate(zip(observed.tolist(), times.tolist(), strict=True)):
        there = [place for place, is_there in enumerate(seen) if is_there]
        gaps += _gaps(clip, there, moments)
        ends += _ends(clip, there, moments)
    flows = _flows(video, gaps, flow)
    for alike in _grouped(gaps):
        first, second = (
            torch.stack([video[gap.clip, :, getattr(gap, side)] for gap in alike]) for side in ("first", "second")
        )
        before, between, after = (_stacked(flows, pairs) for pairs in zip(*(gap.pairs for gap in alike), strict=True))
        made = interpolate_both(first, second, alike[0].moments, flows=between, before=before, after=after)
        for number, gap in enumerate(alike):
            for whole, part in zip((estimate, uncertainty, difference), made, strict=True):
                whole[gap.clip, :, gap.places] = part[number]
    for end in ends:
        frames, doubt = extrapolate(video[end.clip, None][:, :, list(end.past)], end.moments, flow=flow)
        estimate[end.clip, :, end.places], uncertainty[end.clip, :, end.places] = frames[0], doubt[0]
    return estimate, uncertainty, difference


def _gaps(clip: int, there: Sequence[int], times: Sequence[float]) -> Iterator[_Gap]:
    """Runs of frames between two observed ones, which are at `there`."""
    for number, (low, high) in enumerate(pairwise(there)):
        if high - low == 1:
            continue
        span = times[high] - times[low]
        places = tuple(range(low + 1, high))
        before, after = there[number - 1] if number else None, there[number + 2] if number + 2 < len(there) else None
        yield _Gap(
            clip=clip,
            first=low,
            second=high,
            places=places,
            moments=tuple((times[place] - times[low]) / span for place in places),
            before=before if before is not None and _equal(times[low] - times[before], span) else None,
            after=after if after is not None and _equal(times[after] - times[high], span) else None,
        )


def _ends(clip: int, there: Sequence[int], times: Sequence[float]) -> Iterator[_ClipEnd]:
    """Frames after the last observed one, and frames before the first."""
    if not there:
        return
    after, before = tuple(range(there[-1] + 1, len(times))), tuple(range(there[0]))
    for places, nearest_first in ((after, there[::-1]), (before, there)):
        if not places:
            continue
        nearest = nearest_first[0]
        span = abs(times[nearest] - times[nearest_first[1]]) if len(there) > 1 else 1.0
        past = [nearest]
        for place in nearest_first[1:]:
            if not _equal(abs(times[place] - times[past[-1]]), span):
                break
            past.append(place)
        steps = tuple(abs(times[place] - times[nearest]) / (span or 1.0) for place in places)
        yield _ClipEnd(clip=clip, past=tuple(reversed(past)), places=places, moments=steps)


def _equal(one: float, other: float) -> bool:
    return abs(one - other) <= EVEN * abs(other)


def _grouped(gaps: Sequence[_Gap]) -> list[list[_Gap]]:
    """Groups gaps that can be computed together: equal moments, the same neighbors known."""
    groups: dict[tuple, list[_Gap]] = {}
    for gap in gaps:
        groups.setdefault((gap.moments, gap.before is None, gap.after is None), []).append(gap)
    return list(groups.values())


def _flows(video: Tensor, gaps: Sequence[_Gap], flow: Flow) -> dict[Pair, tuple[Tensor, Tensor]]:
    """Flows of all pairs that gaps need, computed together: (2 h' w') forward and backward."""
    pairs = list(dict.fromkeys(pair for gap in gaps for pair in gap.pairs if pair is not None))
    if not pairs:
        return {}
    first, second = (torch.stack([video[pair[0], :, pair[side]] for pair in pairs]) for side in (1, 2))
    return dict(zip(pairs, zip(*flow(first, second), strict=True), strict=True))


def _stacked(flows: dict[Pair, tuple[Tensor, Tensor]], pairs: Sequence[Pair | None]) -> tuple[Tensor, Tensor] | None:
    """Flows of pairs as a batch; None if they are not known."""
    found = [flows[pair] for pair in pairs if pair is not None]
    if not found:
        return None
    there, back = (torch.stack(each) for each in zip(*found, strict=True))
    return there, back
