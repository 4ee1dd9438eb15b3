"""The learning rate over the steps."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidiff_cli.config.train import OptimizerSettings
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
