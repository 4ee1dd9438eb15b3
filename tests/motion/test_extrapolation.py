"""Frames beyond the last: motion goes on where the past says so, and nothing is lost where it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from vidiff_cli.motion import extrapolate
from vidiff_cli.motion.extrapolation import HORIZONS, USUAL_SHARE, fit_trend

Psnr = Callable[[Tensor, Tensor], float]
PAST, STEPS = 16, (1, 2, 4)


def panning(texture: Any, seed: int, count: int = PAST + max(STEPS)) -> Tensor:
    """(1 c t h w)"""
    return torch.stack([texture(seed).frame((48, 64), (1.3 * step, -0.7 * step)) for step in range(count)], 2)


@pytest.mark.parametrize("seed", range(2))
def test_constant_motion_goes_on(texture: Any, psnr: Psnr, seed: int) -> None:
    film = panning(texture, seed)
    frames, uncertainty = extrapolate(film[:, :, :PAST], STEPS)
    trend = fit_trend(list(film[:, :, :PAST].unbind(2)))
    assert min(trend.shares[:3]) > 0.75 and trend.damping == 1.0
    for number, step in enumerate(STEPS):
        true, frozen = film[:, :, PAST - 1 + step], film[:, :, PAST - 1]
        assert psnr(frames[:, :, number], true) > psnr(frozen, true) + 9
    assert uncertainty.shape == (1, 1, 3, 48, 64) and float(uncertainty.min()) >= 0
    means = uncertainty.mean((0, 1, 3, 4)).tolist()
    assert means == sorted(means)


@pytest.mark.parametrize("seed", range(2))
def test_a_film_that_jumps_back_and_forth_is_no_worse_than_frozen(texture: Any, psnr: Psnr, seed: int) -> None:
    """With noise of its own, or the last frame of the same phase would be the truth."""
    generator = torch.Generator().manual_seed(seed)
    film = torch.cat([panning(texture, seed, 2)] * 10, 2)
    film = (film + 0.02 * torch.randn(film.shape, generator=generator)).clamp(-1, 1)
    frames, _ = extrapolate(film[:, :, :PAST], (1, 2, 3, 4))
    for step in range(1, 5):
        true = film[:, :, PAST - 1 + step]
        assert psnr(frames[:, :, step - 1], true) > psnr(film[:, :, PAST - 1], true) - 0.5


def test_a_film_that_stands_still_stands_still(texture: Any) -> None:
    still = texture(0).frame()[:, :, None].expand(-1, -1, PAST, -1, -1)
    frames, uncertainty = extrapolate(still, STEPS)
    torch.testing.assert_close(frames, still[:, :, :3], atol=1e-5, rtol=0)
    assert not bool(uncertainty.any())


def test_of_one_frame_only_itself_is_known(texture: Any) -> None:
    for size in ((9, 11), (1, 1)):
        one = texture(0, 1).frame(size)[:, :, None]
        frames, uncertainty = extrapolate(one, [0.5, 1, 20])
        assert torch.equal(frames, one.expand(-1, -1, 3, -1, -1)) and bool(uncertainty.isfinite().all())


def test_after_a_cut_nothing_moves_on(texture: Any) -> None:
    two = torch.stack([texture(0).frame(), texture(50).frame()], 2)
    frames, _ = extrapolate(two, [1, 4])
    torch.testing.assert_close(frames, two[:, :, 1:].expand(-1, -1, 2, -1, -1), atol=1e-5, rtol=0)


def test_a_short_past_moves_on_by_half(texture: Any, psnr: Psnr) -> None:
    """Two frames say where all moves, and not whether it goes on."""
    film = panning(texture, 0)
    trend = fit_trend(list(film[:, :, :2].unbind(2)))
    assert set(trend.shares) == {USUAL_SHARE}
    frames, _ = extrapolate(film[:, :, :2], [1])
    assert psnr(frames[:, :, 0], film[:, :, 2]) > psnr(film[:, :, 1], film[:, :, 2]) + 3


def test_shares_lie_on_a_line_between_horizons_and_fall_beyond(texture: Any) -> None:
    trend = fit_trend(list(panning(texture, 0, PAST).unbind(2)))
    for horizon, share in zip(HORIZONS, trend.shares, strict=True):
        assert trend.share(horizon) == pytest.approx(share)
    assert trend.share(3) == pytest.approx((trend.shares[1] + trend.shares[2]) / 2)
    assert trend.share(0.2) == trend.shares[0]
    assert trend.share(4 * HORIZONS[-1]) == pytest.approx(trend.shares[-1] / 4)


def test_a_clip_does_not_depend_on_the_others_and_is_the_same_twice(texture: Any) -> None:
    clips = torch.cat([panning(texture, 0, 8), panning(texture, 1, 8).flip(2)])
    together = extrapolate(clips, STEPS)
    for number in range(2):
        for found, single in zip(together, extrapolate(clips[number, None], STEPS), strict=True):
            assert torch.equal(found[number, None], single)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 3), (5, 5), (37, 51)])
def test_any_size(texture: Any, size: tuple[int, int]) -> None:
    past = torch.stack([texture(0).frame(size, (step, 0)) for step in range(8)], 2)
    for found in extrapolate(past, [0.3, 1, 9]):
        assert found.shape[2:] == (3, *size) and bool(found.isfinite().all())


def test_other_number_formats_agree_with_float32(texture: Any) -> None:
    past = panning(texture, 0, 4)
    wanted = extrapolate(past, [1, 2])[0]
    for kind, tolerance in ((torch.float64, 1e-4), (torch.bfloat16, 0.03)):
        frames, uncertainty = extrapolate(past.to(kind), [1, 2])
        assert frames.dtype == uncertainty.dtype == kind
        assert float((frames - wanted).abs().max()) < tolerance


def test_no_past_and_no_time_are_refused(texture: Any) -> None:
    past = panning(texture, 0, 2)
    for bad in (past[:, :, :0], past[0]):
        with pytest.raises(ValueError, match="past frames of shape"):
            extrapolate(bad, [1])
    for step in (0, -1):
        with pytest.raises(ValueError, match="expected positive"):
            extrapolate(past, [1, step])
