"""Identities of levels (log-SNR), the cosine schedule and its sampling grid, in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vidiff_cli.diffusion.levels import add_noise, alpha_sigma, cosine, grid, levels_from, per_frame
from vidiff_cli.diffusion.targets import target, x_from

LEVELS = st.floats(-20.0, 20.0)
# (low, high, shift): the default, shifted both ways, and other end points
SCHEDULES = [(-20.0, 20.0, 0.0), (-20.0, 20.0, -2.5), (-20.0, 20.0, 3.0), (-15.0, 12.0, 0.0), (-9.3, 13.7, -4.1)]


def scales(level: float) -> tuple[float, float]:
    alpha, sigma = alpha_sigma(torch.tensor(level, dtype=torch.float64))
    return float(alpha), float(sigma)


def same(a: Tensor | float, b: Tensor | float, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(
        torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64), atol=tolerance, rtol=tolerance
    )


@settings(deadline=None)
@given(level=LEVELS)
def test_the_level_is_the_log_of_the_ratio_and_no_scale_loses_digits(level: float) -> None:
    alpha, sigma = scales(level)
    assert math.isclose(alpha, (1 + math.exp(-level)) ** -0.5, rel_tol=1e-12)
    assert math.isclose(sigma, (1 + math.exp(level)) ** -0.5, rel_tol=1e-12)


@settings(deadline=None)
@given(levels=st.lists(LEVELS, min_size=3, max_size=3).map(sorted))
def test_forward_kernels_compose(levels: list[float]) -> None:
    """q(z_r | x) = q(z_r | z_t) q(z_t | z_s) q(z_s | x), each step a scale and a variance (math: 1.1)."""
    (alpha_r, sigma_r), (alpha_t, sigma_t), (alpha_s, sigma_s) = (scales(level) for level in levels)
    r, t, s = levels
    from_s, from_t = -math.expm1(t - s) * sigma_t**2, -math.expm1(r - t) * sigma_r**2
    same(from_s, sigma_t**2 - (alpha_t / alpha_s) ** 2 * sigma_s**2)
    same((alpha_t / alpha_s) ** 2 * sigma_s**2 + from_s, sigma_t**2)
    same((alpha_r / alpha_t) ** 2 * from_s + from_t, -math.expm1(r - s) * sigma_r**2)


@pytest.mark.parametrize(("low", "high", "shift"), SCHEDULES)
def test_the_cosine_schedule_meets_its_ends_exactly_and_falls(low: float, high: float, shift: float) -> None:
    for dtype in (torch.float32, torch.float64):
        level = cosine(torch.linspace(0, 1, 1001, dtype=dtype), low=low, high=high, shift=shift)
        assert level.dtype == dtype
        assert level[0] == torch.tensor(high, dtype=dtype) and level[-1] == torch.tensor(low, dtype=dtype)
        assert (level[1:] < level[:-1]).all()


@pytest.mark.parametrize(("low", "high", "shift"), SCHEDULES)
def test_a_shift_is_the_schedule_of_shifted_ends_moved_back(low: float, high: float, shift: float) -> None:
    u = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    same(cosine(u, low=low, high=high, shift=shift), cosine(u, low=low - shift, high=high - shift) + shift, 1e-9)


def test_levels_have_the_density_of_the_cosine_schedule() -> None:
    """For u ~ U(0, 1) the level has density sech(level / 2) / (2 pi): its distribution function gives u back."""
    u = torch.linspace(0, 1, 501, dtype=torch.float64)
    same(2 / math.pi * torch.atan(torch.exp(-0.5 * cosine(u))), u, 1e-4)


@pytest.mark.parametrize(("low", "high", "shift"), SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 37, 1000])
def test_the_grid_runs_from_noise_to_clean_in_float64(steps: int, low: float, high: float, shift: float) -> None:
    levels = grid(steps, low=low, high=high, shift=shift)
    assert levels.shape == (steps + 1,) and levels.dtype == torch.float64
    assert levels[0] == low and levels[-1] == high
    assert (levels[1:] > levels[:-1]).all()
    with pytest.raises(ValueError, match="at least 1 step"):
        grid(0)
    middle = 1 - torch.arange(1, steps, dtype=torch.float64) / steps
    same(levels[1:-1], cosine(middle, low=low, high=high, shift=shift), 1e-9)


def test_diffuse_scales_each_frame_by_its_own_level() -> None:
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, 2, 3, 4, 5, 2, generator=generator, dtype=torch.float64)
    level = torch.tensor([[-20.0, 0.0, 20.0, 3.0], [1.0, -5.0, 8.0, 0.5]], dtype=torch.float64)
    z = add_noise(x, noise, level)
    for clip in range(2):
        for frame in range(4):
            alpha, sigma = scales(float(level[clip, frame]))
            same(z[clip, :, frame], alpha * x[clip, :, frame] + sigma * noise[clip, :, frame])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("level", [-19.3, -9.7, 9.7, 19.3])
def test_scales_keep_their_digits_in_half_precision(level: float, dtype: torch.dtype) -> None:
    """They are computed from float64 levels: e^19.3 is no float16, and 19.3 no bfloat16."""
    at, one = torch.full((1, 1), level), torch.ones(1, 1, 1, 1, 1, dtype=dtype)
    alpha, sigma = scales(level)
    assert float(add_noise(one, 0 * one, at)) == pytest.approx(alpha, rel=0.005)
    assert float(add_noise(0 * one, one, at)) == pytest.approx(sigma, rel=0.005)
    assert float(target("v", 0 * one, one, at)) == pytest.approx(alpha, rel=0.005)
    assert float(x_from("v", one, 0 * one, at)) == pytest.approx(-sigma, rel=0.005)


def test_levels_of_the_wrong_shape_are_refused() -> None:
    for shape in ((4,), (2, 3), (4, 2), (2, 4, 1)):
        with pytest.raises(ValueError, match="one per clip and frame"):
            per_frame(torch.zeros(shape), torch.zeros(2, 3, 4, 5, 5))


def test_sampling_can_go_on_from_any_level() -> None:
    levels = grid(16)
    assert torch.equal(levels_from(levels, -20.0), levels)
    assert torch.equal(levels_from(levels, float(levels[5])), levels[5:])
    between = 0.5 * float(levels[5] + levels[6])
    later = levels_from(levels, between)
    assert later.dtype == levels.dtype and float(later[0]) == between and torch.equal(later[1:], levels[6:])
    for outside in (-20.1, 20.0, 21.0):
        with pytest.raises(ValueError, match="lies outside"):
            levels_from(levels, outside)
