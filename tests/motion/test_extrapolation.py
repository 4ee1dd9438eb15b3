"""Frames beyond the last: motion goes on where the past says so, and nothing is lost where it does not."""

from __future__ import annotations

import pytest
import torch
from textures import Texture, psnr
from torch import Tensor

from vidiff_cli.motion import extrapolate
from vidiff_cli.motion.extrapolation import HORIZONS, USUAL_SHARE, fit_trend

PAST, STEPS = 16, (1, 2, 4)


def panning(seed: int, count: int = PAST + max(STEPS)) -> Tensor:
    """(1 c t h w)"""
    return torch.stack([Texture(seed).frame((48, 64), (1.3 * step, -0.7 * step)) for step in range(count)], 2)


@pytest.mark.parametrize("seed", range(2))
def test_constant_motion_goes_on(seed: int) -> None:
    film = panning(seed)
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
def test_a_film_that_jumps_back_and_forth_is_no_worse_than_frozen(seed: int) -> None:
    """With noise of its own, or the last frame of the same phase would be the truth."""
    generator = torch.Generator().manual_seed(seed)
    film = torch.cat([panning(seed, 2)] * 10, 2)
    film = (film + 0.02 * torch.randn(film.shape, generator=generator)).clamp(-1, 1)
    frames, _ = extrapolate(film[:, :, :PAST], (1, 2, 3, 4))
    for step in range(1, 5):
        true = film[:, :, PAST - 1 + step]
        assert psnr(frames[:, :, step - 1], true) > psnr(film[:, :, PAST - 1], true) - 0.5


def test_a_film_that_stands_still_stands_still() -> None:
    still = Texture(0).frame()[:, :, None].expand(-1, -1, PAST, -1, -1)
    frames, uncertainty = extrapolate(still, STEPS)
    torch.testing.assert_close(frames, still[:, :, :3], atol=1e-5, rtol=0)
    assert not bool(uncertainty.any())


def test_of_one_frame_only_itself_is_known() -> None:
    for size in ((9, 11), (1, 1)):
        one = Texture(0, 1).frame(size)[:, :, None]
        frames, uncertainty = extrapolate(one, [0.5, 1, 20])
        assert torch.equal(frames, one.expand(-1, -1, 3, -1, -1)) and bool(uncertainty.isfinite().all())


def test_after_a_cut_nothing_moves_on() -> None:
    two = torch.stack([Texture(0).frame(), Texture(50).frame()], 2)
    frames, _ = extrapolate(two, [1, 4])
    torch.testing.assert_close(frames, two[:, :, 1:].expand(-1, -1, 2, -1, -1), atol=1e-5, rtol=0)


def test_a_short_past_moves_on_by_half() -> None:
    """Two frames say where all moves, and not whether it goes on."""
    film = panning(0)
    trend = fit_trend(list(film[:, :, :2].unbind(2)))
    assert set(trend.shares) == {USUAL_SHARE}
    frames, _ = extrapolate(film[:, :, :2], [1])
    assert psnr(frames[:, :, 0], film[:, :, 2]) > psnr(film[:, :, 1], film[:, :, 2]) + 3


def test_shares_lie_on_a_line_between_horizons_and_fall_beyond() -> None:
    trend = fit_trend(list(panning(0, PAST).unbind(2)))
    for horizon, share in zip(HORIZONS, trend.shares, strict=True):
        assert trend.share(horizon) == pytest.approx(share)
    assert trend.share(3) == pytest.approx((trend.shares[1] + trend.shares[2]) / 2)
    assert trend.share(0.2) == trend.shares[0]
    assert trend.share(4 * HORIZONS[-1]) == pytest.approx(trend.shares[-1] / 4)


def test_no_past_and_no_time_are_refused() -> None:
    past = panning(0, 2)
    for bad in (past[:, :, :0], past[0]):
        with pytest.raises(ValueError, match="past frames of shape"):
            extrapolate(bad, [1])
    for step in (0, -1):
        with pytest.raises(ValueError, match="expected positive"):
            extrapolate(past, [1, step])
