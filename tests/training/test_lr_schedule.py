"""The learning rate over the steps, and the moving average of the weights."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vidiff_cli.config.train import OptimizerSettings
from vidiff_cli.training.ema import Ema
from vidiff_cli.training.lr_schedule import LRSchedule


@settings(deadline=None)
@given(steps=st.integers(1, 400), decay=st.floats(0, 0.99), warmup=st.integers(0, 60))
def test_a_schedule_rises_stays_and_falls_to_more_than_zero(steps: int, decay: float, warmup: int) -> None:
    schedule = LRSchedule.of_run(steps, OptimizerSettings(decay=decay, warmup=warmup))
    assert 0 < schedule.stable <= steps and abs(steps - schedule.stable - decay * steps) <= 1
    factors = [schedule.factor(step) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    for step in range(schedule.stable):
        assert factors[step] == (min(1.0, (step + 1) / warmup) if warmup else 1.0)
    if warmup <= schedule.stable < steps:
        branch = factors[schedule.stable :]
        assert branch[0] == 1.0 and branch[-1] == pytest.approx(1 / len(branch))
        falls = [early - late for early, late in pairwise(branch)]
        assert falls == pytest.approx([1 / len(branch)] * len(falls), abs=1e-9)


@settings(deadline=None)
@given(short=st.integers(1, 300), more=st.integers(0, 300), decay=st.floats(0, 0.99), warmup=st.integers(0, 60))
def test_the_trunk_does_not_know_how_long_the_run_will_be(short: int, more: int, decay: float, warmup: int) -> None:
    chosen = OptimizerSettings(decay=decay, warmup=warmup)
    one, other = LRSchedule.of_run(short, chosen), LRSchedule.of_run(short + more, chosen)
    assert one.stable <= other.stable
    assert [one.factor(step) for step in range(one.stable)] == [other.factor(step) for step in range(one.stable)]


def test_the_average_warms_up_and_then_keeps_its_decay() -> None:
    """After n updates the decay is min(decay, (1 + n) / (10 + n))."""
    layer = nn.Linear(1, 1, bias=False).double()
    ema = Ema(layer, decay=0.75)
    expected = float(layer.weight.detach())
    for n in range(1, 60):
        with torch.no_grad():
            layer.weight.fill_(n**0.5)
        ema.update(layer)
        decay = min(0.75, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * n**0.5
        assert ema.updates == n and float(ema.shadow["weight"]) == pytest.approx(expected, rel=1e-12)
    assert (1 + 1) / (10 + 1) < 0.75 < (1 + 59) / (10 + 59), "both sides were seen"


def test_the_average_is_apart_from_the_module_and_takes_buffers() -> None:
    norm = nn.BatchNorm1d(3)
    ema = Ema(norm, decay=0.5)
    with torch.no_grad():
        norm.weight.fill_(3.0)
        norm.running_mean.fill_(1.0)  # type: ignore[union-attr]
        norm.num_batches_tracked.fill_(7)  # type: ignore[union-attr]
    assert float(ema.shadow["weight"][0]) == 1.0
    ema.update(norm)
    assert int(ema.shadow["num_batches_tracked"]) == 7, "a count is taken over, not averaged"
    assert float(ema.shadow["weight"][0]) == pytest.approx(1 + 2 * 9 / 11)
    assert float(ema.shadow["running_mean"][0]) == pytest.approx(9 / 11)
    assert set(ema.shadow) == set(norm.state_dict()) and not any(value.requires_grad for value in ema.shadow.values())


@settings(deadline=None)
@given(steps=st.integers(1, 400), warmup=st.integers(0, 60))
def test_a_cosine_rises_and_falls_to_nearly_nothing(steps: int, warmup: int) -> None:
    schedule = LRSchedule.of_run(steps, OptimizerSettings(schedule="cosine", warmup=warmup))
    factors = [schedule.factor(step) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[:warmup] == [(step + 1) / warmup for step in range(min(warmup, steps))]
    fall = factors[warmup:]
    assert all(late < early for early, late in pairwise(fall))
    # the other half of the cosine is the first one turned round
    for place, factor in enumerate(fall[1:], start=1):
        assert factor + fall[-place] == pytest.approx(1, abs=1e-9)
