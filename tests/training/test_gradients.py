"""Gradients are limited and unscaled by lists of tensors as they are one by one."""

import pytest
import torch
from torch import nn

from vidiff_cli.training.gradients import clip_gradients
from vidiff_cli.training.step_guard import LossScale

SHAPES = [(3, 4), (5,), (2, 3, 3, 3), (1,)]


def gradients() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for shape in SHAPES]


@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_a_norm_and_its_limit_are_those_of_torch(max_norm: float) -> None:
    parameters = [nn.Parameter(torch.zeros(shape)) for shape in SHAPES]
    for parameter, gradient in zip(parameters, gradients(), strict=True):
        parameter.grad = gradient
    wanted = nn.utils.clip_grad_norm_(parameters, max_norm)
    found = gradients()
    norm = clip_gradients(found, max_norm)
    assert isinstance(norm, torch.Tensor) and torch.equal(norm, wanted)
    for parameter, gradient in zip(parameters, found, strict=True):
        assert parameter.grad is not None and torch.equal(parameter.grad, gradient)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_has_no_finite_norm(wrong: float) -> None:
    broken = gradients()
    broken[1][2] = wrong
    assert not torch.isfinite(clip_gradients(broken, 1.0))


def test_a_loss_scale_is_divided_out_of_every_gradient() -> None:
    scaled = [1024.0 * each for each in gradients()]
    LossScale(1024.0).unscale(scaled)
    assert all(torch.equal(one, other) for one, other in zip(scaled, gradients(), strict=True))
