"""Samplers: identities of one step, the measured order of convergence, marginals, and laws of levels per frame.

The closed form: for data N(m, s^2) the ideal denoiser is linear, and the probability flow scales z - alpha m with the
standard deviation of z. Shapes: z (b c t h w).
"""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import draws
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from vidiff_cli.diffusion.levels import alpha_sigma, grid, per_frame
from vidiff_cli.diffusion.samplers import SAMPLERS, Denoise, Sampler, ddim, ddpm, dpmpp_2m

MEAN, DEVIATION = 0.7, 0.3
LEVELS = st.floats(-20.0, 20.0)
NAMES = sorted(SAMPLERS)


def ddpm_with_langevin(denoise: Denoise, z: Tensor, levels: Tensor, *, generator: Generator | None = None) -> Tensor:
    return ddpm(denoise, z, levels, generator=generator, correct=0.1)


EVERY: dict[str, Sampler] = {**SAMPLERS, "ddpm with Langevin": ddpm_with_langevin}


def gaussian(z: Tensor, level: Tensor) -> Tensor:
    """E[x | z] for x ~ N(MEAN, DEVIATION^2)."""
    alpha, sigma = (scale.to(z.dtype) for scale in alpha_sigma(per_frame(level.double(), z)))
    gain = DEVIATION**2 * alpha / (DEVIATION**2 * alpha**2 + sigma**2)
    return MEAN + gain * (z - alpha * MEAN)


def spread(level: float) -> tuple[float, float]:
    """alpha and the standard deviation of z at a level."""
    alpha, sigma = (float(scale) for scale in alpha_sigma(torch.tensor(level, dtype=torch.float64)))
    return alpha, math.hypot(alpha * DEVIATION, sigma)


randn = partial(draws.randn, dtype=torch.float64)


def first_step(t: float, s: float, x: float, z: float, noise: float, gamma: float = 0.0) -> float:
    """z_s that ddpm makes of z_t, for an estimate and a noise that are given: what its next step is handed."""
    seen: list[Tensor] = []

    def denoise(z: Tensor, level: Tensor) -> Tensor:
        seen.append(z)
        return torch.full_like(z, x)

    start = torch.full((1, 1, 1, 1, 1), z, dtype=torch.float64)
    ddpm(denoise, start, torch.tensor([t, s, 20.5]), gamma=gamma, noise=lambda like, _: torch.full_like(like, noise))
    return float(seen[1])


@settings(deadline=None)
@given(levels=st.tuples(LEVELS, LEVELS).map(sorted), x=st.floats(-1, 1), z=st.floats(-3, 3))
def test_an_ancestral_step_has_the_moments_of_the_posterior(levels: list[float], x: float, z: float) -> None:
    """Both forms of math 1.1: in differences of levels, and the classic one in alpha_{t|s} and sigma^2_{t|s}."""
    t, s = (float(torch.tensor(level)) for level in levels)
    (alpha_t, sigma_t), (alpha_s, sigma_s) = (
        tuple(float(scale) for scale in alpha_sigma(torch.tensor(level, dtype=torch.float64))) for level in (t, s)
    )
    fresh, ratio = -math.expm1(t - s), alpha_t / alpha_s
    mean = first_step(t, s, x, z, 0.0)
    exact = {"abs": 1e-12 * max(1.0, abs(z) * alpha_s / alpha_t), "rel": 1e-12}
    assert mean == pytest.approx(math.exp(t - s) * (alpha_s / alpha_t) * z + fresh * alpha_s * x, **exact)
    classic = ratio * sigma_s**2 / sigma_t**2 * z + alpha_s * fresh * sigma_t**2 / sigma_t**2 * x
    assert mean == pytest.approx(classic, **exact)
    small = first_step(t, s, 0.0, 0.0, 1.0)
    large = first_step(t, s, 0.0, 0.0, 1.0, gamma=1.0)
    between = first_step(t, s, 0.0, 0.0, 1.0, gamma=0.3)
    assert small**2 == pytest.approx(fresh * sigma_s**2, abs=1e-12)
    assert large**2 == pytest.approx(sigma_t**2 - ratio**2 * sigma_s**2, abs=1e-12)
    assert between == pytest.approx(small**0.7 * large**0.3, abs=1e-12)
    # Seen together: the step turns the marginal of z_t into that of z_s.
    of_z, of_x = first_step(t, s, 0.0, 1.0, 0.0), first_step(t, s, 1.0, 0.0, 0.0)
    assert of_z * alpha_t + of_x == pytest.approx(alpha_s, abs=1e-12)
    assert (of_z * sigma_t) ** 2 + small**2 == pytest.approx(sigma_s**2, abs=1e-12)


@settings(deadline=None)
@given(levels=st.tuples(LEVELS, LEVELS).map(sorted))
def test_a_ddim_step_is_a_turn_by_an_angle(levels: list[float]) -> None:
    """z_s = cos(phi_s - phi_t) z_t + sin(phi_s - phi_t) v_hat, with tan phi = sigma / alpha (math: 1.4, 1.5)."""
    at = torch.tensor(levels, dtype=torch.float64)
    alpha, sigma = alpha_sigma(at)
    phi = torch.atan2(sigma, alpha)
    z, x = randn(1, 1, 1, 4, 4), randn(1, 1, 1, 4, 4, seed=1)
    eps = (z - alpha[0] * x) / sigma[0]
    v = (alpha[0] * z - x) / sigma[0]
    turned = (phi[1] - phi[0]).cos() * z + (phi[1] - phi[0]).sin() * v
    for sampler in (ddim, dpmpp_2m):  # one step of either is first order
        made = sampler(lambda z, level: x, z, at)
        scale = 10 * float(1 / sigma[0]) if levels[0] > 0 else 10.0  # what v and eps lose to rounding
        torch.testing.assert_close(made, turned, atol=1e-12 * scale, rtol=0)
        torch.testing.assert_close(made, alpha[1] * x + sigma[1] * eps, atol=1e-12 * scale, rtol=0)


@pytest.mark.parametrize("uneven", [0.0, 0.4])
@pytest.mark.parametrize(("sampler", "order"), [(ddim, 1), (dpmpp_2m, 2)])
def test_the_measured_order_of_a_solver(sampler: Sampler, order: int, uneven: float) -> None:
    """On levels that are evenly spaced, and on levels whose steps are short and long in turn."""
    low, high = -8.0, 8.0
    (alpha_t, wide), (alpha_s, narrow) = spread(low), spread(high)
    z = randn(1, 1, 2, 8, 8)
    exact = alpha_s * MEAN + narrow / wide * (z - alpha_t * MEAN)
    errors = []
    for steps in (64, 128, 256):
        levels = torch.linspace(low, high, steps + 1, dtype=torch.float64)
        levels[1::2] += uneven * (high - low) / steps
        made = sampler(gaussian, z, levels)
        errors.append(float((made - exact).abs().max()))
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize(("gamma", "correct"), [(0.0, 0.0), (0.3, 0.1), (1.0, 0.0)])
def test_ancestral_sampling_has_the_right_mean_and_deviation(gamma: float, correct: float) -> None:
    low, high, count = -8.0, 8.0, 20_000
    alpha_t, wide = spread(low)
    alpha_s, narrow = spread(high)
    z = alpha_t * MEAN + wide * randn(1, 1, 1, count, 1)
    levels = torch.linspace(low, high, 513, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    made = ddpm(gaussian, z, levels, generator=generator, gamma=gamma, correct=correct)
    assert float(made.mean()) == pytest.approx(alpha_s * MEAN, abs=4 * narrow / count**0.5)
    # 4 standard errors, and what 512 steps leave of the discretisation (it halves with twice the steps)
    assert float(made.std()) == pytest.approx(narrow, rel=4 / (2 * count) ** 0.5 + 0.01)


@pytest.mark.parametrize("name", sorted(EVERY))
def test_the_denoiser_is_always_handed_a_level_per_clip_and_frame(name: str) -> None:
    seen: list[Tensor] = []

    def denoise(z: Tensor, level: Tensor) -> Tensor:
        seen.append(level)
        return gaussian(z, level)

    z, levels = randn(2, 3, 4, 2, 2), grid(5)
    one = EVERY[name](denoise, z, levels, generator=torch.Generator().manual_seed(2))
    assert seen and all(level.shape == (2, 4) and level.dtype == torch.float64 for level in seen)
    assert seen[0].eq(levels[0]).all() and all(level.unique().numel() == 1 for level in seen)
    many = EVERY[name](denoise, z, levels[:, None, None].expand(-1, 2, 4), generator=torch.Generator().manual_seed(2))
    assert torch.equal(one, many)


@pytest.mark.parametrize("name", sorted(EVERY))
def test_a_frame_whose_level_stays_keeps_its_bits(name: str) -> None:
    """Frame 0 stays clean, frame 1 waits as noise for half of the steps, frame 2 arrives early, frame 3 always
    moves."""
    levels = grid(8)[:, None, None].repeat(1, 2, 4)
    levels[:, :, 0] = 20.0
    levels[:5, :, 1] = -20.0
    levels[4:, :, 2] = 20.0
    seen: list[tuple[Tensor, Tensor]] = []

    def denoise(z: Tensor, level: Tensor) -> Tensor:
        seen.append((z.clone(), level))
        x = gaussian(z, level) + z.mean()
        return torch.where(torch.arange(4)[:, None, None] == 0, math.nan, x)  # a clean frame's estimate may be anything

    z = randn(2, 1, 4, 3, 3).float()
    made = EVERY[name](denoise, z, levels, generator=torch.Generator().manual_seed(3))
    assert torch.equal(made[:, :, 0], z[:, :, 0])
    waiting = [seen_z for seen_z, level in seen if level[0, 1] == -20.0]
    assert len(waiting) > 4 and all(torch.equal(seen_z[:, :, 1], z[:, :, 1]) for seen_z in waiting)
    arrived = [seen_z for seen_z, level in seen if level[0, 2] == 20.0 and level[0, 3] >= levels[5, 0, 3]]
    assert len(arrived) >= 2 and all(torch.equal(seen_z[:, :, 2], made[:, :, 2]) for seen_z in arrived)
    assert made.isfinite().all() and not torch.equal(made[:, :, 3], z[:, :, 3])


@pytest.mark.parametrize("name", sorted(EVERY))
def test_a_frame_with_its_own_levels_goes_its_own_way(name: str) -> None:
    """For a denoiser of each frame alone, a frame beside others ends as it does among its like."""
    steep, gentle = grid(12, shift=-3.0), grid(12, shift=2.0)
    both = torch.stack([steep, gentle], dim=1)[:, None, :].expand(-1, 1, 2)
    z = randn(1, 2, 2, 3, 3)

    def run(levels: Tensor) -> Tensor:
        return EVERY[name](gaussian, z, levels, generator=torch.Generator().manual_seed(4))

    torch.testing.assert_close(run(both)[:, :, 0], run(steep)[:, :, 0], rtol=0, atol=1e-12)
    torch.testing.assert_close(run(both)[:, :, 1], run(gentle)[:, :, 1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("correct", [0.0, 0.1])
def test_the_last_step_draws_nothing_and_is_not_corrected(correct: float) -> None:
    steps, levels = 6, grid(6)
    draws: list[Tensor] = []
    seen: list[tuple[Tensor, Tensor]] = []

    def noise(like: Tensor, generator: Generator | None) -> Tensor:
        draws.append(randn(*like.shape, seed=len(draws)))
        return draws[-1]

    def denoise(z: Tensor, level: Tensor) -> Tensor:
        seen.append((z, gaussian(z, level)))
        return seen[-1][1]

    made = ddpm(denoise, randn(1, 1, 3, 2, 2), levels, correct=correct, noise=noise)
    per_step = 2 if correct else 1
    assert len(draws) == per_step * (steps - 1) and len(seen) == per_step * (steps - 1) + 1
    z, x = seen[-1]
    (alpha_t, _), (alpha_s, _) = alpha_sigma(levels[-2]), alpha_sigma(levels[-1])
    kept = float(torch.exp(levels[-2] - levels[-1]))
    torch.testing.assert_close(made, kept * (alpha_s / alpha_t) * z + (1 - kept) * alpha_s * x, rtol=0, atol=1e-12)


def test_a_langevin_step_is_vdm_s() -> None:
    """z_s <- z_s - (delta / 2) sigma_s eps_hat(z_s) + sqrt(delta) sigma_s xi."""
    delta, levels = 0.37, torch.tensor([-3.0, 1.5, 8.0], dtype=torch.float64)
    seen: list[Tensor] = []

    def denoise(z: Tensor, level: Tensor) -> Tensor:
        seen.append(z)
        return gaussian(z, level)

    xi = randn(1, 1, 1, 3, 3, seed=5)
    ddpm(denoise, randn(1, 1, 1, 3, 3), levels, correct=delta, noise=lambda like, _: xi)
    alpha, sigma = alpha_sigma(levels[1])
    before, after = seen[1], seen[2]
    eps = (before - alpha * gaussian(before, levels[1].expand(1, 1))) / sigma
    torch.testing.assert_close(after, before - delta / 2 * sigma * eps + delta**0.5 * sigma * xi, rtol=0, atol=1e-12)


@pytest.mark.parametrize("correct", [0.0, 0.1])
def test_every_noise_of_ddpm_comes_from_its_prior(correct: float) -> None:
    """A prior with one noise for all frames, and equal frames to begin with: the frames stay equal."""

    def shared(like: Tensor, generator: Generator | None) -> Tensor:
        return torch.randn(like[:, :, :1].shape, generator=generator, dtype=like.dtype).expand_as(like)

    z = randn(2, 1, 1, 3, 3).expand(2, 1, 5, 3, 3)
    generator = torch.Generator().manual_seed(6)
    made = ddpm(gaussian, z, grid(10), generator=generator, gamma=0.3, correct=correct, noise=shared)
    assert torch.equal(made, made[:, :, :1].expand_as(made)) and not torch.equal(made[0], made[1])


def test_noise_follows_from_the_generator_and_the_others_draw_none() -> None:
    z = randn(1, 1, 2, 3, 3)

    def run(sampler: Sampler, seed: int) -> tuple[Tensor, bool]:
        generator = torch.Generator().manual_seed(seed)
        before = generator.get_state()
        return sampler(gaussian, z, grid(6), generator=generator), torch.equal(generator.get_state(), before)

    for sampler in (ddpm, ddpm_with_langevin):
        assert torch.equal(run(sampler, 0)[0], run(sampler, 0)[0])
        assert not torch.equal(run(sampler, 0)[0], run(sampler, 1)[0]) and not run(sampler, 0)[1]
    for sampler in (ddim, dpmpp_2m):
        assert torch.equal(run(sampler, 0)[0], run(sampler, 1)[0]) and run(sampler, 0)[1]


@pytest.mark.parametrize("name", NAMES)
def test_evaluations_and_type(name: str) -> None:
    """One evaluation a step, the result in the type of z, z itself left alone."""
    calls: list[int] = []

    def denoise(z: Tensor, level: Tensor) -> Tensor:
        calls.append(1)
        return gaussian(z, level)

    z = randn(1, 1, 2, 3, 3).float()
    before = z.clone()
    made = SAMPLERS[name](denoise, z, grid(9).float())
    assert made.dtype == torch.float32 and made.isfinite().all() and torch.equal(z, before)
    assert len(calls) == 9


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("levels", "message"),
    [
        (lambda: grid(4).flip(0), "fall"),
        (lambda: torch.zeros(1), "shape"),
        (lambda: torch.zeros(5, 2, 3), "shape"),
        (lambda: torch.zeros(5, 3, 4), "shape"),
        (lambda: torch.zeros(5, 2), "shape"),
        (lambda: torch.tensor([0.0, 1.0, 2.0])[:, None, None] * torch.tensor([[[1.0, 1.0, 1.0, -1.0]] * 2]), "fall"),
    ],
)
def test_levels_that_do_not_fit_are_refused(name: str, levels: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SAMPLERS[name](gaussian, torch.zeros(2, 1, 4, 2, 2), levels())


@pytest.mark.parametrize("name", NAMES)
def test_every_frame_ends_at_its_own_last_estimate(name: str) -> None:
    """Frames that come to the clean end at different steps: none is extrapolated in its last one."""
    last: dict[int, Tensor] = {}
    places = (torch.arange(9)[:, None] - torch.tensor([0, 1, 3])).clamp(0, 5)
    levels = grid(5)[places][:, None].expand(-1, 2, -1)

    def denoise(z: Tensor, level: Tensor) -> Tensor:
        x = gaussian(z, level) + 0.1 * level[:, None, :, None, None]  # changes from step to step
        for frame in range(3):
            if float(level[0, frame]) < 20:
                last[frame] = x[:, :, frame]
        return x

    z = SAMPLERS[name](denoise, randn(2, 1, 3, 2, 2), levels, generator=torch.Generator().manual_seed(0))
    for frame, x in last.items():
        torch.testing.assert_close(z[:, :, frame], x, rtol=0, atol=1e-3)
