"""Guidance against closed forms: the Jacobian form of reconstruction, what each wrapper shows and returns, and its
errors.

Shapes: z (b c t h w), level and observed (b t).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import draws
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from vidiff_cli.diffusion.guidance import (
    clamp_known,
    classifier_free,
    guide_from_each,
    hold_known,
    project_known,
    reconstruct,
    show_known,
    snr_weight,
    threshold,
)
from vidiff_cli.diffusion.levels import alpha_sigma
from vidiff_cli.diffusion.noise import PRIORS, Prior
from vidiff_cli.diffusion.samplers import Denoise
from vidiff_cli.errors import BrokenGraphError, VidiffError

B, C, T, H, W = 2, 2, 5, 2, 4
SIZE = C * T * H * W


randn = partial(draws.randn, dtype=torch.float64)


Z, KNOWN = randn(B, C, T, H, W, seed=1), randn(B, C, T, H, W, seed=2)
LEVEL = torch.tensor([[0.7], [-2.1]], dtype=torch.float64).expand(B, T)
OBSERVED = torch.tensor([[True, True, False, False, False], [False, True, False, True, False]])
MATRIX = randn(SIZE, SIZE, seed=3) / SIZE**0.5


def linear(z: Tensor, level: Tensor) -> Tensor:
    """x_hat = M z, clip by clip; every frame depends on every other."""
    return (z.flatten(1) @ MATRIX.T).reshape(z.shape)


def curved(z: Tensor, level: Tensor) -> Tensor:
    """A denoiser that is not linear, and knows the level."""
    return torch.tanh(linear(z, level) + 0.1 * level[:, None, :, None, None]) * linear(z.square(), level)


def frames(observed: Tensor) -> Tensor:
    """(b t) -> (b c t h w)."""
    return observed[:, None, :, None, None].expand(len(observed), C, T, H, W)


def alpha(level: Tensor) -> Tensor:
    return alpha_sigma(level[:, 0])[0]


def jacobian(denoise: Denoise, clip: int) -> Tensor:
    """d x_hat / d z of one clip: (size, size)."""
    level = LEVEL[clip : clip + 1]
    full = torch.autograd.functional.jacobian(lambda z: denoise(z, level), Z[clip : clip + 1])
    return full.reshape(SIZE, SIZE)  # pyright: ignore


def by_jacobian(denoise: Denoise, known: Tensor, observed: Tensor, weight: float) -> Tensor:
    """x_tilde^b = x_hat^b + w alpha J^T (x^a - x_hat^a), J = d x_hat^a / d z^b: a plus (math: 2.2)."""
    x = denoise(Z, LEVEL)
    moved = x.clone().flatten(1)
    for clip in range(B):
        a = frames(observed)[clip].flatten()
        j = jacobian(denoise, clip)[a][:, ~a]
        moved[clip, ~a] += weight * alpha(LEVEL)[clip] * j.T @ (known[clip].flatten()[a] - x[clip].flatten()[a])
    return moved.reshape(x.shape)


def same(a: Tensor, b: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(a, b, atol=tolerance, rtol=0)


@pytest.mark.parametrize("denoise", [linear, curved, classifier_free(linear, curved, 3.0)])
@pytest.mark.parametrize("weight", [0.5, 9.0])
def test_reconstruction_is_its_jacobian_form(denoise: Denoise, weight: float) -> None:
    """Sign, sum, factor, alpha, and the derivative through the denoiser, at once; under no_grad too."""
    with torch.no_grad():
        made = reconstruct(denoise, KNOWN, OBSERVED, weight)(Z, LEVEL)
    same(made, by_jacobian(denoise, KNOWN, OBSERVED, weight))
    assert not torch.allclose(made, denoise(Z, LEVEL))
    assert not made.requires_grad and not Z.requires_grad and Z.grad is None


def test_a_weight_may_depend_on_the_level_and_the_clip() -> None:
    """Clip by clip, as the number of its level or its own would do; a constant function is that number, bit for bit."""
    weights = torch.tensor([[2.0], [7.0]], dtype=torch.float64)
    functions: list[tuple[Callable[[Tensor], Tensor], Callable[[int], Any]]] = [
        (lambda level: 2.0 + level.square(), lambda clip: 2.0 + float(LEVEL[clip, 0]) ** 2),
        (lambda level: weights, lambda clip: float(weights[clip])),
        (snr_weight(weights), lambda clip: snr_weight(float(weights[clip]))),
    ]
    for function, of_clip in functions:
        made = reconstruct(curved, KNOWN, OBSERVED, function)(Z, LEVEL)
        for clip in range(B):
            same(made[clip], reconstruct(curved, KNOWN, OBSERVED, of_clip(clip))(Z, LEVEL)[clip], 1e-12)
    constant = reconstruct(curved, KNOWN, OBSERVED, lambda level: torch.full_like(level, 2.0))(Z, LEVEL)
    assert torch.equal(constant, reconstruct(curved, KNOWN, OBSERVED, 2.0)(Z, LEVEL))


@pytest.mark.parametrize("variance", [0.2, 1.0, 3.0])
def test_the_weight_by_level_is_exact_for_one_gaussian_number(variance: float) -> None:
    """x ~ N(0, v) is guided to its observed value at every level; at noise the weight is capped, at the end it is 1."""
    level = torch.linspace(-12, 12, 49, dtype=torch.float64)[:, None]
    a, s = alpha_sigma(level)
    weight = snr_weight(1e9, variance=variance)(level)
    slope = a * variance / (a**2 * variance + s**2)  # J, of x_hat = J z
    torch.testing.assert_close(weight * a * slope, torch.ones_like(level), rtol=1e-9, atol=0)
    capped = snr_weight(5.0, variance=variance)(level)
    torch.testing.assert_close(capped, weight.clamp(max=5.0))
    assert float(capped[0]) == 5.0 and float(capped[-1]) == pytest.approx(1.0, abs=1e-4)
    for wrong in ((-1.0, 1.0), (2.0, 0.0)):
        with pytest.raises(ValueError, match="expected positive"):
            snr_weight(wrong[0], variance=wrong[1])


def test_known_frames_matter_where_they_are_observed_only() -> None:
    elsewhere = torch.where(frames(OBSERVED), KNOWN, torch.full_like(KNOWN, math.nan))
    clamped = clamp_known(curved, elsewhere, OBSERVED)(Z, LEVEL)
    assert torch.equal(clamped, torch.where(frames(OBSERVED), KNOWN, curved(Z, LEVEL)))
    guided, wanted = (reconstruct(curved, known, OBSERVED, 2.0)(Z, LEVEL) for known in (elsewhere, KNOWN))
    assert torch.equal(guided, wanted)


def test_a_linear_observation_covers_all_of_z() -> None:
    """x_tilde = x_hat + w alpha J^T D^T (x^a - D x_hat), for a downsampling D (VDM section 3.1)."""

    def downsample(x: Tensor) -> Tensor:
        return functional.avg_pool3d(x, (1, 2, 2))

    known, weight = randn(B, C, T, H // 2, W // 2, seed=4), 2.0
    made = reconstruct(curved, known, downsample, weight)(Z, LEVEL)
    x = curved(Z, LEVEL)
    d = torch.autograd.functional.jacobian(downsample, x[:1]).reshape(-1, SIZE)  # pyright: ignore
    expected = x.clone().flatten(1)
    for clip in range(B):
        residual = known[clip].flatten() - d @ x[clip].flatten()
        expected[clip] += weight * alpha(LEVEL)[clip] * jacobian(curved, clip).T @ d.T @ residual
    same(made, expected.reshape(x.shape))


def test_the_replacement_of_a_linear_observation_keeps_what_it_does_not_see() -> None:
    def smaller(x: Tensor) -> Tensor:
        return functional.avg_pool3d(x, (1, 2, 2))

    def larger(x: Tensor) -> Tensor:
        return 0.9 * x.repeat_interleave(2, dim=3).repeat_interleave(2, dim=4)  # nearly its inverse

    known = randn(B, C, T, H // 2, W // 2, seed=4)
    made = project_known(lambda z, level: z.sin(), known, smaller, larger)(Z, torch.zeros(B, T))
    assert torch.allclose(smaller(made) - known, 0.01 * (smaller(Z.sin()) - known))
    unseen = [x - larger(smaller(x)) / 0.9 for x in (made, Z.sin())]
    assert torch.allclose(*unseen)


def test_several_observations_are_summed_into_one_gradient() -> None:
    def mean_over_time(x: Tensor) -> Tensor:
        return x.mean(dim=2)

    known, x = randn(B, C, H, W, seed=5), curved(Z, LEVEL)
    of_frames = reconstruct(curved, KNOWN, OBSERVED, 2.0)(Z, LEVEL) - x
    of_mean = reconstruct(curved, known, mean_over_time, 2.0)(Z, LEVEL) - x
    both = reconstruct(curved, [KNOWN, known], [OBSERVED, mean_over_time], 2.0)(Z, LEVEL) - x
    same(both, torch.where(frames(OBSERVED), torch.zeros_like(x), of_frames + of_mean))
    first, second = OBSERVED & (torch.arange(T) < 2), OBSERVED & (torch.arange(T) >= 2)
    apart = reconstruct(curved, (KNOWN, KNOWN), (first, second), 2.0)(Z, LEVEL)
    same(apart, reconstruct(curved, KNOWN, OBSERVED, 2.0)(Z, LEVEL), 1e-12)


BROKEN: dict[str, Denoise] = {
    "no_grad": torch.no_grad()(linear),
    "inference mode": torch.inference_mode()(linear),
    "detached": lambda z, level: linear(z, level).detach(),
    "a graph that does not lead to z": lambda z, level: linear(z.detach(), level) * torch.ones(1, requires_grad=True),
    "nested": reconstruct(curved, KNOWN, OBSERVED, 2.0),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_graph_is_one_clear_error(name: str) -> None:
    with pytest.raises(BrokenGraphError, match="cannot differentiate the denoiser") as error:
        reconstruct(BROKEN[name], KNOWN, OBSERVED, 2.0)(Z, LEVEL)
    assert isinstance(error.value, VidiffError) and "detach or a second reconstruct" in str(error.value)


@pytest.mark.parametrize("wrap", [clamp_known, hold_known, lambda *a: reconstruct(*a, 2.0)])
def test_a_mask_that_does_not_fit_is_refused(wrap: Callable[..., Denoise]) -> None:
    for observed in (OBSERVED.double(), OBSERVED[:1], OBSERVED[:, :3], OBSERVED[0]):
        with pytest.raises(ValueError, match="boolean mask"):
            wrap(curved, KNOWN, observed)(Z, LEVEL)


def test_unequal_levels_numbers_of_observations_and_percentages_are_refused() -> None:
    level = LEVEL.clone()
    level[1, 3] += 0.1
    with pytest.raises(ValueError, match="one level for all frames"):
        reconstruct(curved, KNOWN, OBSERVED, 2.0)(Z, level)
    with pytest.raises(ValueError, match="1 known tensors for 2 observations"):
        reconstruct(curved, [KNOWN], [OBSERVED, OBSERVED], 2.0)
    for percentile in (0.0, -0.5, 1.5, 99.5):
        with pytest.raises(ValueError, match=r"\(0, 1\]"):
            threshold(linear, percentile=percentile)


@pytest.mark.parametrize("level", [20.0, 3.0])
@pytest.mark.parametrize("drawn_by", ["nothing", "a generator", "a function"])
def test_hold_known_shows_the_known_frames_at_their_own_level(level: float, drawn_by: str) -> None:
    """With the same noise every time, and as their own estimate."""
    seen: list[tuple[Tensor, Tensor]] = []

    def spy(z: Tensor, level: Tensor) -> Tensor:
        seen.append((z, level))
        return curved(z, level)

    xi = randn(*KNOWN.shape)
    options: dict[str, dict[str, Any]] = {
        "nothing": {},
        "a generator": {"generator": torch.Generator().manual_seed(0)},
        "a function": {"noise": lambda like, _: xi},
    }
    held = hold_known(spy, KNOWN, OBSERVED, level=level, **options[drawn_by])
    a, s = alpha_sigma(torch.tensor(level, dtype=torch.float64))
    known = a * KNOWN if drawn_by == "nothing" else a * KNOWN + s * xi
    for z, at in ((Z, LEVEL), (Z + 1, LEVEL + 1)):
        made = held(z, at)
        shown, told = seen[-1]
        same(shown, torch.where(frames(OBSERVED), known, z), 1e-12)
        assert torch.equal(told, torch.where(OBSERVED, level, at))
        assert torch.equal(made, torch.where(frames(OBSERVED), KNOWN, curved(shown, told)))


def test_guidance_is_void_without_a_weight_and_on_top_of_hold_known() -> None:
    """Bit for bit. Held frames are their own estimate: the loss is zero."""
    held = hold_known(linear, KNOWN, OBSERVED)
    for denoise, weight in ((curved, 0.0), (held, 2.0)):
        assert torch.equal(reconstruct(denoise, KNOWN, OBSERVED, weight)(Z, LEVEL), denoise(Z, LEVEL))


def test_classifier_free_goes_from_one_estimate_past_the_other() -> None:
    calls: list[str] = []

    def spy(name: str, denoise: Denoise) -> Denoise:
        def called(z: Tensor, level: Tensor) -> Tensor:
            calls.append(name)
            return denoise(z, level)

        return called

    conditional, unconditional = spy("c", linear), spy("u", curved)
    c, u = linear(Z, LEVEL), curved(Z, LEVEL)
    assert torch.equal(classifier_free(conditional, unconditional, 1.0)(Z, LEVEL), c)
    assert calls == ["c"], "scale 1 makes no second pass"
    for scale in (0.0, 0.5, 1.5, 7.0):
        w = scale - 1
        same(classifier_free(conditional, unconditional, scale)(Z, LEVEL), (1 + w) * c - w * u, 1e-12)


def test_guidance_by_several_conditions_makes_a_pass_for_each_and_one_more() -> None:
    """Each condition moves by (scale - 1) times what its absence changes; scale 1 makes no pass."""
    calls: list[str] = []

    def spy(name: str, factor: float) -> Denoise:
        def called(z: Tensor, level: Tensor) -> Tensor:
            calls.append(name)
            return factor * linear(z, level)

        return called

    c, u, f = spy("c", 1.0), spy("u", 0.7), spy("f", -0.4)
    x = linear(Z, LEVEL)
    for scales, factor, passes in (
        ((3.0, 1.5), 1 + 2 * (1 - 0.7) + 0.5 * (1 + 0.4), "cuf"),
        ((0.0, 1.5), 1 - (1 - 0.7) + 0.5 * (1 + 0.4), "cuf"),
        ((1.0, 1.0), 1.0, "c"),
    ):
        calls.clear()
        same(guide_from_each(c, [(u, scales[0]), (f, scales[1])])(Z, LEVEL), factor * x, 1e-12)
        assert "".join(sorted(calls)) == "".join(sorted(passes))
    for alone in ([(u, 2.5)], [(f, 1.0), (u, 2.5)]):
        assert torch.equal(guide_from_each(c, alone)(Z, LEVEL), classifier_free(c, u, 2.5)(Z, LEVEL))


def test_show_known_hides_what_is_held_and_leaves_the_estimate() -> None:
    """Inside of `hold_known` the network sees the frames as `show_known` has them; their estimate is its own."""
    seen: list[tuple[Tensor, Tensor]] = []

    def spy(z: Tensor, level: Tensor) -> Tensor:
        seen.append((z, level))
        return curved(z, level)

    xi = randn(*KNOWN.shape, seed=5)
    noisy = show_known(spy, KNOWN, OBSERVED, level=-20.0, noise=lambda like, _: xi)
    made = noisy(Z, LEVEL)
    assert torch.equal(made, curved(*seen[-1]))
    a, s = alpha_sigma(torch.tensor(-20.0, dtype=torch.float64))
    same(seen[-1][0], torch.where(frames(OBSERVED), a * KNOWN + s * xi, Z), 1e-12)
    assert torch.equal(seen[-1][1], torch.where(OBSERVED, -20.0, LEVEL))
    held = hold_known(noisy, KNOWN, OBSERVED)(Z, LEVEL)
    assert all(torch.equal(one, other) for one, other in zip(seen[-1], seen[-2], strict=True))
    assert torch.equal(held, torch.where(frames(OBSERVED), KNOWN, made))


def test_the_threshold_clips_after_the_loss() -> None:
    """threshold(clamp_known(reconstruct(...))): the loss sees the unclipped estimate."""
    known = KNOWN.clamp(-1, 1)
    made = threshold(clamp_known(reconstruct(linear, known, OBSERVED, 2.0), known, OBSERVED))(Z, LEVEL)
    moved = by_jacobian(linear, known, OBSERVED, 2.0)
    same(made, torch.where(frames(OBSERVED), known, moved).clamp(-1, 1))


def test_the_dynamic_threshold_has_one_bound_per_clip() -> None:
    """s = max(1, quantile of |x_hat| over the clip); clip to [-s, s] and divide by s."""
    x = torch.cat([3 * randn(1, C, T, H, W, seed=6), 0.2 * randn(1, C, T, H, W, seed=7)])
    made = threshold(lambda z, level: x, percentile=0.9)(Z, LEVEL)
    assert made.abs().max() <= 1
    assert torch.equal(made[1], x[1]), "what is inside already stays"
    ordered = x[0].abs().flatten().sort().values
    bound = ordered[round(0.9 * SIZE) - 1]
    same(made[0], x[0].clamp(-bound, bound) / bound, 1e-12)
    alone = threshold(lambda z, level: x[:1], percentile=0.9)(Z[:1], LEVEL[:1])
    assert torch.equal(alone, made[:1]), "a clip depends on its neighbors"
    same(threshold(lambda z, level: x, percentile=1.0)(Z, LEVEL)[0], x[0] / x[0].abs().max(), 1e-12)


def test_the_static_threshold_clips_and_hides_no_nan() -> None:
    x = 3 * randn(B, C, T, H, W, seed=8)
    assert torch.equal(threshold(lambda z, level: x)(Z, LEVEL), x.clamp(-1, 1))
    assert threshold(lambda z, level: x * math.nan)(Z, LEVEL).isnan().all()


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize(("level", "variance"), [(-4.0, 1.0), (3.0, 0.1)])
def test_with_correlated_noise_guidance_is_bayes_rule_where_it_can_be(name: str, level: float, variance: float) -> None:
    """Data and noise of one covariance over frames: with the exact weight the result is E[x^b | z, x^a]."""
    s = Prior(name=name, strength=0.0 if name == "independent" else 0.7).covariance(T)
    at = torch.full((B, T), level, dtype=torch.float64)
    a, sigma = (float(scale[0, 0]) for scale in alpha_sigma(at))
    gain = a * variance / (a**2 * variance + sigma**2)

    def ideal(z: Tensor, level: Tensor) -> Tensor:
        return gain * z

    weight = 1 + sigma**2 / (a**2 * variance)
    made = reconstruct(ideal, KNOWN, OBSERVED, weight, covariance=s)(Z, at)
    spread = (1 - a * gain) * variance * s  # Cov(x | z)
    wrong = reconstruct(ideal, KNOWN, OBSERVED, weight)(Z, at)
    for clip in range(B):
        seen = OBSERVED[clip]
        x = ideal(Z, at)[clip].transpose(0, 1).flatten(1)  # t, pixels
        known = KNOWN[clip].transpose(0, 1).flatten(1)
        more = spread[:, seen] @ torch.linalg.solve(spread[seen][:, seen], known[seen] - x[seen])
        same(made[clip].transpose(0, 1).flatten(1)[~seen], (x + more)[~seen], 1e-9)
        assert name == "independent" or not torch.allclose(wrong[clip], made[clip], atol=1e-3)


@pytest.mark.parametrize("view", ["mask", "halved"])
def test_independent_noise_needs_no_covariance(view: str) -> None:
    observed = OBSERVED if view == "mask" else lambda x: functional.avg_pool3d(x, (1, 2, 2))
    known = KNOWN if view == "mask" else functional.avg_pool3d(KNOWN, (1, 2, 2))
    plain = reconstruct(curved, known, observed, 2.0)(Z, LEVEL)  # type: ignore[arg-type]
    eye = torch.eye(T, dtype=torch.float64)
    same(reconstruct(curved, known, observed, 2.0, covariance=eye)(Z, LEVEL), plain)  # type: ignore[arg-type]
    other = Prior(name="mixed", strength=0.5).covariance(T)
    assert not torch.allclose(reconstruct(curved, known, observed, 2.0, covariance=other)(Z, LEVEL), plain, atol=1e-2)  # type: ignore[arg-type]
