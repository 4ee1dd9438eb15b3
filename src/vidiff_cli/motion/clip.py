"""The estimate of every frame of a window from those of its frames that are observed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from vidiff_cli.motion.extrapolation import Flow, extrapolate
from vidiff_cli.motion.flow import optical_flow
from vidiff_cli.motion.interpolation import interpolate


@dataclass(frozen=True, kw_only=True, slots=True)
class _Gap:
    """Frames of a clip at `places` that follow from two observed ones (or one twice: nothing is known of its motion).

    `moments` are shares of the way between the two, or steps of that way beyond the second.
    """

    clip: int
    first: int
    second: int
    places: tuple[int, ...]
    moments: tuple[float, ...]
    between: bool


def estimate_clip(
    video: Tensor, observed: Tensor, times: Tensor, *, flow: Flow = optical_flow
) -> tuple[Tensor, Tensor]:
    """What the observed frames of a window say of the others.

    Shapes: video (b c t h w), observed (b t) bool, times (b t) in ascending order, in any unit -> estimate (b c t h w),
    uncertainty (b 1 t h w). Observed frames are themselves, with uncertainty 0; what stands in the place of others is
    not looked at. Between two observed frames it is `interpolate`, beyond the outermost `extrapolate` from the two
    nearest, where only one is observed that one repeated; where none is, zeros with uncertainty 0.
    """
    estimate = torch.where(observed[:, None, :, None, None], video, torch.zeros((), dtype=video.dtype))
    uncertainty = torch.zeros_like(video[:, :1])
    gaps = [
        gap
        for clip, (seen, moments) in enumerate(zip(observed.tolist(), times.tolist(), strict=True))
        for gap in _gaps(clip, [place for place, there in enumerate(seen) if there], moments)
    ]
    for gap in (gap for gap in gaps if gap.first == gap.second):
        frame = video[gap.clip, :, gap.first, None]
        estimate[gap.clip, :, gap.places] = frame
        uncertainty[gap.clip, :, gap.places] = frame.float().std().to(video.dtype)  # so far off is any other picture
    moving = [gap for gap in gaps if gap.first != gap.second]
    if not moving:
        return estimate, uncertainty
    clips = torch.tensor([gap.clip for gap in moving])
    first, second = (
        video[clips, :, torch.tensor([getattr(gap, side) for gap in moving])] for side in ("first", "second")
    )
    forward, backward = flow(first, second)
    for members in _alike(moving):
        gap, chosen = moving[members[0]], torch.tensor(members)
        flows = forward[chosen], backward[chosen]
        if gap.between:
            frames, doubt = interpolate(first[chosen], second[chosen], gap.moments, flows=flows)
        else:
            one_by_one = iter(zip(forward[chosen][:, None], backward[chosen][:, None], strict=True))
            past = torch.stack([first[chosen], second[chosen]], 2)
            frames, doubt = extrapolate(past, gap.moments, flow=lambda *pair, flows=one_by_one: next(flows))
        for place, number in enumerate(members):
            estimate[moving[number].clip, :, moving[number].places] = frames[place]
            uncertainty[moving[number].clip, :, moving[number].places] = doubt[place]
    return estimate, uncertainty


def _gaps(clip: int, there: Sequence[int], times: Sequence[float]) -> Iterator[_Gap]:
    """The runs of frames of a clip that are not observed, of those that are at the places `there`."""
    if not there:
        return
    for low, high in pairwise(there):
        if high - low > 1:
            places = tuple(range(low + 1, high))
            shares = tuple((times[place] - times[low]) / (times[high] - times[low]) for place in places)
            yield _Gap(clip=clip, first=low, second=high, places=places, moments=shares, between=True)
    after, before = tuple(range(there[-1] + 1, len(times))), tuple(range(there[0]))
    for places, first, second in ((after, there[-2:][0], there[-1]), (before, there[:2][-1], there[0])):
        if places:
            span = times[second] - times[first] or 1.0
            steps = tuple((times[place] - times[second]) / span for place in places)
            yield _Gap(clip=clip, first=first, second=second, places=places, moments=steps, between=False)


def _alike(gaps: Sequence[_Gap]) -> list[list[int]]:
    """The numbers of gaps that can be computed together: in the same way, at the same moments."""
    groups: dict[tuple[bool, tuple[float, ...]], list[int]] = {}
    for number, gap in enumerate(gaps):
        groups.setdefault((gap.between, gap.moments), []).append(number)
    return list(groups.values())
