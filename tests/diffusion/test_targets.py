"""eps, x, v and flow are views of one estimate; a weighting means the same whatever the network predicts."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vidiff_cli.config.model import suits
from vidiff_cli.diffusion.levels import add_noise, alpha_sigma, per_frame
from vidiff_cli.diffusion.targets import (
    WEIGHTINGS,
    PredictionType,
    eps_from_x,
    error_scale,
    loss_weight,
    target,
    v_from_x,
    x_from,
)

KINDS: tuple[PredictionType, ...] = ("eps", "x", "v", "flow")
LEVELS = st.lists(st.floats(-20.0, 20.0), min_size=6, max_size=6)


def example(levels: list[float]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, noise, z (b c t h w) and level (b t), float64."""
    generator = torch.Generator().manual_seed(len(levels))
    x, noise = torch.randn(2, 2, 2, 3, 2, 2, generator=generator, dtype=torch.float64)
    level = torch.tensor(levels, dtype=torch.float64).reshape(2, 3)
    return x, noise, add_noise(x, noise, level), level


def same(a: Tensor, b: Tensor, scale: Tensor | float = 1.0) -> None:
    """Equal to 1e-12 of `scale`, which is how much the arithmetic itself amplifies rounding."""
    assert bool(((a - b).abs() <= 1e-12 * torch.as_tensor(scale).clamp(min=1)).all())


@settings(deadline=None)
@given(levels=LEVELS)
def test_every_view_gives_the_others_back(levels: list[float]) -> None:
    x, noise, z, level = example(levels)
    alpha, sigma = alpha_sigma(per_frame(level, z))
    for kind in KINDS:
        same(x_from(kind, target(kind, x, noise, level), z, level), x, 10 / alpha if kind == "eps" else 10)
    same(eps_from_x(x, z, level), noise, 10 / sigma)
    same(v_from_x(x, z, level), target("v", x, noise, level), 10 / sigma)


@settings(deadline=None)
@given(levels=LEVELS)
def test_v_turns_x_and_noise_by_the_angle(levels: list[float]) -> None:
    """phi = atan(sigma / alpha): z = cos x + sin noise and v = cos noise - sin x (math: 1.3, 1.4)."""
    x, noise, z, level = example(levels)
    alpha, sigma = alpha_sigma(per_frame(level, z))
    phi = torch.atan2(sigma, alpha)
    v = target("v", x, noise, level)
    same(v, phi.cos() * noise - phi.sin() * x, 10)
    same(x, phi.cos() * z - phi.sin() * v, 10)
    same(noise, phi.sin() * z + phi.cos() * v, 10)


@settings(deadline=None)
@given(levels=LEVELS)
def test_an_error_of_the_prediction_is_a_scaled_error_of_x(levels: list[float]) -> None:
    x, noise, z, level = example(levels)
    for kind in KINDS:
        wrong = target(kind, x, noise, level) + 1.0
        squared = (x_from(kind, wrong, z, level) - x).square()
        torch.testing.assert_close(squared, per_frame(error_scale(kind, level), z).expand_as(z), rtol=1e-3, atol=1e-8)


@settings(deadline=None)
@given(level=st.floats(-20.0, 20.0))
def test_a_weighting_is_one_weight_on_x_whatever_is_predicted(level: float) -> None:
    at = torch.tensor([[level]], dtype=torch.float64)
    for name, weight in WEIGHTINGS.items():
        for kind in KINDS:
            torch.testing.assert_close(
                loss_weight(name, kind, at), weight(at) * error_scale(kind, at), rtol=1e-12, atol=0
            )


def test_weightings_are_what_they_say() -> None:
    """On the squared error of x_hat: SNR (eps), 1 + SNR (v), 1 / s^2 (flow), min(SNR, 5), min(1 + SNR, 4)."""
    for level in (-10.0, 0.0, 1.0, 5.0):
        at, snr = torch.tensor(level, dtype=torch.float64), math.exp(level)
        expected = {"eps": snr, "x": 1.0, "v": 1 + snr, "min-snr": min(snr, 5.0), "truncated": min(1 + snr, 4.0)}
        expected["flow"] = 1 / (1 / (1 + math.exp(level / 2))) ** 2
        assert {name: float(weight(at)) for name, weight in WEIGHTINGS.items()} == pytest.approx(expected, rel=1e-12)


def test_unknown_names_are_refused() -> None:
    x, noise, z, level = example([0.0] * 6)
    for refused in (
        lambda: x_from("score", z, z, level),  # type: ignore[arg-type]
        lambda: target("score", x, noise, level),  # type: ignore[arg-type]
        lambda: error_scale("score", level),  # type: ignore[arg-type]
        lambda: loss_weight("v", "score", level),  # type: ignore[arg-type]
    ):
        with pytest.raises(ValueError, match="known: eps, x, v, flow"):
            refused()
    with pytest.raises(ValueError, match="unknown weighting 'heavy'"):
        loss_weight("heavy", "v", level)


def test_a_weighting_suits_a_target_where_its_factor_is_bounded() -> None:
    """From pure noise to a clean frame, the factor on the squared error of the prediction."""
    level = torch.linspace(-20, 20, 401, dtype=torch.float64)
    for name in WEIGHTINGS:
        for kind in KINDS:
            assert suits(name, kind) == (float(loss_weight(name, kind, level).max()) < 10), (name, kind)
