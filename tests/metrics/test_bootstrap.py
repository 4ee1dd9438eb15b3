"""Intervals: they cover, they shrink as they should, and the same seed gives the same."""

from __future__ import annotations

import numpy as np
import pytest

from vidiff_cli.metrics.bootstrap import around, bootstrap_mean, drawn_counts, normal


def test_the_interval_of_a_mean_holds_the_truth_nineteen_times_of_twenty() -> None:
    rng = np.random.default_rng(0)
    trials = [bootstrap_mean(rng.exponential(2.0, 60).tolist(), seed=number) for number in range(100)]
    held = sum(each.low <= 2.0 <= each.high for each in trials if each.low is not None and each.high is not None)
    assert 85 <= held <= 99


def test_what_is_missing_is_left_out_and_what_is_infinite_has_no_interval() -> None:
    found = bootstrap_mean([1.0, np.nan, 3.0], seed=0)
    assert (found.value, found.videos) == (2.0, 2)
    assert bootstrap_mean([np.inf, 1.0], seed=0).low is None
    assert bootstrap_mean([np.nan], seed=0).value is None
    assert bootstrap_mean([4.0], seed=0).low is None
    same = bootstrap_mean([7.0] * 9, seed=0)
    assert (same.low, same.value, same.high) == (7.0, 7.0, 7.0)


def test_draws_repeat_with_their_seed_and_are_others_for_each_set_and_replicate() -> None:
    first, again = (list(drawn_counts(30, 4, seed=3, which=0)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    others = [*first, *drawn_counts(30, 4, seed=3, which=1), *drawn_counts(30, 4, seed=4, which=0)]
    assert len({each.tobytes() for each in others}) == 12
    assert all(each.sum() == 30 for each in others)


def test_the_spread_of_a_distance_lies_around_it_and_not_below_zero() -> None:
    found = around(5.0, np.linspace(10, 14, 101).tolist(), 8)
    assert found.low == pytest.approx(5 - 1.9) and found.high == pytest.approx(5 + 1.9)
    assert around(0.5, np.linspace(10, 14, 101).tolist(), 8).low == 0.0
    assert around(5.0, [], 8).low is None


def test_a_standard_error_reaches_either_way() -> None:
    found = normal(1.0, 0.5, 3)
    assert (found.low, found.high) == (pytest.approx(0.02, abs=1e-3), pytest.approx(1.98, abs=1e-3))
    assert normal(1.0, np.nan, 2).low is None
