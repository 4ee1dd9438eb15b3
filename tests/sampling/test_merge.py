"""What a model adds to the estimate: all where it is right, nothing where it is noise, never much for the worse."""

from __future__ import annotations

import pytest
import torch
from draws import randn as noise
from torch import Tensor

from vidiff_cli.motion.warping import resize
from vidiff_cli.sampling.merge import (
    CLASSES,
    FULL_GAIN,
    NO_GAIN,
    Gain,
    add_correction,
    constant_gain,
    fit_gain,
    gain_by_step,
)

SHAPE = (4, 3, 5, 16, 24)  # b c t h w


def smooth(*size: int, seed: int = 0) -> Tensor:
    """(1 3 h w) in [-.6, .6], without detail that a reduction by two would lose much of."""
    coarse = torch.rand(1, 3, *(-(-side // 8) for side in size), generator=torch.Generator().manual_seed(seed))
    return 1.2 * torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 1) - 0.6


def clips() -> tuple[Tensor, Tensor, Tensor]:
    """Truth, estimate and uncertainty (of which the error of the estimate is that many times a normal one)."""
    truth = 0.3 * noise(*SHAPE)
    uncertainty = 0.02 + 0.1 * torch.rand(4, 1, *SHAPE[2:], generator=torch.Generator().manual_seed(1))
    return truth, truth + uncertainty * noise(*SHAPE, seed=2), uncertainty


def test_the_weight_is_that_of_least_squares_in_each_class() -> None:
    """A model with an error of its own, independent of the estimate's: weights d^2 / (d^2 + s^2), by class."""
    truth, estimate, uncertainty = clips()
    model = truth + 0.05 * noise(*SHAPE, seed=3)
    gain = fit_gain(model, estimate, truth, uncertainty)
    assert list(gain.values) == sorted(gain.values) and list(gain.edges) == sorted(gain.edges)
    number = torch.bucketize(uncertainty, torch.tensor(gain.edges))
    for each, value in enumerate(gain.values):
        of_class = (number == each).expand_as(truth)
        doubt = float((estimate - truth)[of_class].square().mean())
        assert value == pytest.approx(doubt / (doubt + 0.05**2) / 1.1, abs=0.03)  # .1 for the usual one, 0
    assert torch.equal(gain.weight(uncertainty), torch.tensor(gain.values)[number])


def test_the_weights_of_models_that_are_right_wrong_or_of_no_use() -> None:
    truth, estimate, uncertainty = clips()
    right = fit_gain(truth, estimate, truth, uncertainty, usual=1.0)
    assert len(right.values) == CLASSES and right.values == pytest.approx((1.0,) * CLASSES, abs=1e-6)
    assert min(fit_gain(truth, estimate, truth, uncertainty).values) > 0.9, "but for the share of the usual weight"
    for strength in (0.02, 0.1, 1.0):
        noisy = fit_gain(estimate + strength * noise(*SHAPE, seed=3), estimate, truth, uncertainty)
        assert max(noisy.values) < 0.1 and min(noisy.values) >= 0
    assert max(fit_gain(estimate, truth, truth, uncertainty).values) == 0, "the estimate is the truth"
    assert all(0 <= value <= 1 for value in fit_gain(estimate, estimate, truth, uncertainty, usual=0.5).values)
    single = fit_gain(truth, estimate, truth, torch.full_like(uncertainty, 0.1), usual=1.0)
    assert float(single.weight(torch.tensor(0.1))) == pytest.approx(1.0)


def test_with_all_the_weight_the_reduced_frame_is_the_models() -> None:
    """Exactly where both are of one size (to rounding); nearly where the correction is enlarged."""
    estimate, doubt = smooth(32, 48), torch.full((1, 1, 32, 48), 0.05)
    same = smooth(32, 48, seed=1)
    torch.testing.assert_close(add_correction(estimate, doubt, same, FULL_GAIN), same, atol=1e-6, rtol=0)
    small = smooth(16, 24, seed=1)
    made = add_correction(estimate, doubt, small, FULL_GAIN)
    assert made.shape == estimate.shape and float((resize(made, (16, 24)) - small).abs().mean()) < 0.01
    assert float(add_correction(estimate, doubt, 5 * small, FULL_GAIN).abs().max()) <= 1, "the result is a picture"


def test_without_weight_the_estimate_stays_bit_for_bit() -> None:
    estimate, doubt = smooth(32, 48), torch.full((1, 1, 32, 48), 0.05)
    assert torch.equal(add_correction(estimate, doubt, noise(1, 3, 16, 24), NO_GAIN), estimate)
    left = doubt.clone()
    left[..., 24:] = 0.5
    made = add_correction(estimate, left, noise(1, 3, 32, 48), Gain(edges=(0.2,), values=(0.0, 1.0)))
    assert torch.equal(made[..., :24], estimate[..., :24]) and not torch.equal(made, estimate)


def test_a_correction_counts_against_what_the_model_was_shown() -> None:
    """A model that gives back what it was shown changes nothing, whatever the reduced estimate is."""
    estimate, doubt, shown = smooth(32, 48), torch.full((1, 1, 32, 48), 0.05), smooth(16, 24, seed=3)
    assert torch.equal(add_correction(estimate, doubt, shown, FULL_GAIN, shown=shown), estimate)
    lit = add_correction(estimate, doubt, shown + 0.1, constant_gain(0.5), shown=shown)
    torch.testing.assert_close(lit, estimate + 0.05, atol=1e-5, rtol=0)


def test_the_gain_of_a_step_is_that_of_the_last_one_begun() -> None:
    gains = [(step, constant_gain(step / 10)) for step in (1.0, 2.0, 4.0)]
    for step, value in ((0.5, 0.1), (1, 0.1), (1.9, 0.1), (2, 0.2), (3, 0.2), (4, 0.4), (99, 0.4)):
        assert gain_by_step(gains, step).values == (value,)
