"""The estimate of a window: what its observed frames say, and nothing else."""

from __future__ import annotations

import pytest
import torch
from textures import Texture
from torch import Tensor

from vidiff_cli.motion import estimate_clip, extrapolate, interpolate, optical_flow

SIZE = (29, 37)
TIMES = torch.arange(8.0)[None] / 8


def panning(seed: int = 0, count: int = 8) -> Tensor:
    """(1 c t h w)"""
    return torch.stack([Texture(seed).frame(SIZE, (1.3 * step, -0.7 * step)) for step in range(count)], 2)


def seen(*places: int, count: int = 8) -> Tensor:
    mask = torch.zeros(1, count, dtype=torch.bool)
    mask[:, list(places)] = True
    return mask


MASKS = [(0, 7), (0, 1, 2), (5, 6, 7), (2, 5), (0, 2, 4, 6), (3,), tuple(range(8)), (0, 3, 4, 7)]


@pytest.mark.parametrize("places", MASKS)
def test_observed_frames_are_themselves_and_the_others_are_not_looked_at(places: tuple[int, ...]) -> None:
    video, mask = panning(), seen(*places)
    estimate, uncertainty = estimate_clip(video, mask, TIMES)
    assert torch.equal(estimate[:, :, mask[0]], video[:, :, mask[0]]) and not bool(uncertainty[:, :, mask[0]].any())
    assert bool(estimate.isfinite().all()) and bool(uncertainty.isfinite().all())
    for other in (torch.nan, 7.0):
        changed = torch.where(mask[:, None, :, None, None], video, torch.tensor(other))
        for found, same in zip(estimate_clip(changed, mask, TIMES), (estimate, uncertainty), strict=True):
            assert torch.equal(found, same)


@pytest.mark.parametrize(
    ("places", "before", "after"),
    [
        ((0, 2, 4, 6), True, True),
        ((1, 2, 4, 6), False, True),
        ((0, 2, 4, 5), True, False),
        ((2, 4), False, False),
        ((1, 2, 4, 7), False, False),
    ],
)
def test_between_it_is_interpolation(places: tuple[int, ...], before: bool, after: bool) -> None:
    """With the motion before and after, where the observed frames are as far away, and without where they are not."""
    video = panning()
    zero, two, four, six = (video[:, :, place] for place in (0, 2, 4, 6))
    wanted = interpolate(
        two,
        four,
        [0.5],
        before=optical_flow(zero, two) if before else None,
        after=optical_flow(four, six) if after else None,
    )
    for found, direct in zip(estimate_clip(video, seen(*places), TIMES), wanted, strict=True):
        assert torch.equal(found[:, :, 3], direct[:, :, 0])


def test_beyond_the_ends_it_is_extrapolation_forwards_and_backwards() -> None:
    """From the evenly spaced frames next to the end, in steps of their distance."""
    video = panning()
    for found, later, earlier in zip(
        estimate_clip(video, seen(1, 2, 4, 6), TIMES),
        extrapolate(video[:, :, [2, 4, 6]], [0.5]),
        extrapolate(video[:, :, [2, 1]], [1.0]),
        strict=True,
    ):
        assert torch.equal(found[:, :, 7], later[:, :, 0]) and torch.equal(found[:, :, 0], earlier[:, :, 0])


def test_one_frame_is_repeated_and_nothing_is_nothing() -> None:
    video = panning()
    assert torch.equal(estimate_clip(video, seen(3), TIMES)[0], video[:, :, 3:4].expand_as(video))
    for found in estimate_clip(video, seen(), TIMES):
        assert not bool(found.any())


def test_times_are_those_of_the_frames() -> None:
    """Not their places, in whatever unit."""
    video, times = panning(count=4), torch.tensor([[0.0, 0.1, 0.7, 1.0]], dtype=torch.float64)
    wanted = interpolate(video[:, :, 0], video[:, :, 3], times[0, 1:3].tolist())[0]
    mask = seen(0, 3, count=4)
    for scale in (1, 16):
        torch.testing.assert_close(estimate_clip(video, mask, scale * times)[0][:, :, 1:3], wanted)
    even = estimate_clip(video, mask, torch.arange(4.0)[None])[0]
    assert not torch.allclose(even[:, :, 1:3], wanted, atol=0.01)


def test_a_flow_of_ones_own_is_asked_once_for_each_pair() -> None:
    """All pairs of all clips in one call, and never with a frame that is not observed."""
    video, sizes = torch.cat([panning(0), panning(1)]), []

    def flow(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        sizes.append(len(first))
        return optical_flow(first, second)

    mask = torch.cat([seen(0, 2, 4, 7), seen(0, 7)])
    found, wanted = (estimate_clip(video, mask, TIMES.expand(2, -1), flow=each)[0] for each in (flow, optical_flow))
    assert torch.equal(found, wanted)
    assert sizes == [4]
