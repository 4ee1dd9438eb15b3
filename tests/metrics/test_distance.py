"""Frechet and kernel distance against closed forms, and against implementations that go another way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import permutations, product

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidiff_cli.metrics.distance import frechet, frechet_of_gaussians, kernel_distance, merge_moments, moments

Blocks = Callable[[], Iterator[np.ndarray]]


def in_blocks(rows: np.ndarray, size: int = 7) -> Blocks:
    return lambda: (rows[first : first + size] for first in range(0, len(rows), size))


def drawn(count: int, dimension: int, seed: int) -> np.ndarray:
    """Features of uneven scales that depend on one another."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(dimension, dimension)) * np.logspace(0, -2, dimension)
    return rng.normal(size=(count, dimension)) @ mixing + rng.normal(size=dimension)


def by_eigenvalues(mean: np.ndarray, cov: np.ndarray, mean2: np.ndarray, cov2: np.ndarray) -> float:
    """The formula as it stands, with 40 digits: the trace of the root of S S' by the eigenvalues of that product."""
    with mpmath.workdps(40):
        values, _ = mpmath.eig(mpmath.matrix(cov.tolist()) * mpmath.matrix(cov2.tolist()), left=False, right=True)
        shared = sum(mpmath.sqrt(mpmath.re(value)) for value in values if mpmath.re(value) > 0)
        return float(np.square(mean - mean2).sum() + np.trace(cov) + np.trace(cov2) - 2 * shared)


@pytest.mark.parametrize("count", [200, 9, 4])
def test_frechet_agrees_with_the_formula_in_forty_digits(count: int) -> None:
    """Of full rank, and with fewer videos than features."""
    one, other = drawn(count, 8, 1), drawn(count + 3, 8, 2)
    found = frechet(moments(in_blocks(one)), moments(in_blocks(other)))
    wanted = by_eigenvalues(one.mean(0), np.cov(one.T), other.mean(0), np.cov(other.T))
    assert found == pytest.approx(wanted, rel=1e-9)


@given(
    st.lists(st.tuples(st.floats(0, 50), st.floats(0, 50), st.floats(-9, 9)), min_size=1, max_size=12),
    st.integers(0, 99),
)
@settings(max_examples=50, deadline=None)
def test_frechet_of_gaussians_with_the_same_axes_is_the_closed_form(
    axes: Sequence[tuple[float, float, float]], seed: int
) -> None:
    """|m - m'|^2 + sum (sd - sd')^2, however the axes lie; a variance may be 0."""
    sd, sd2, shift = np.array(axes).T
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(axes), len(axes))))
    covs = [turn @ np.diag(each**2) @ turn.T for each in (sd, sd2)]
    found = frechet_of_gaussians(np.zeros(len(axes)), covs[0], turn @ shift, covs[1])
    wanted = np.square(shift).sum() + np.square(sd - sd2).sum()
    assert found == pytest.approx(wanted, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(("count", "dimension"), [(500, 30), (10, 100)])
def test_equal_sets_have_no_distance_and_shifted_ones_the_square_of_the_shift(count: int, dimension: int) -> None:
    rows, shift = drawn(count, dimension, 5), np.full(dimension, 0.25)
    one, scale = moments(in_blocks(rows)), np.square(rows).sum()
    assert frechet(one, moments(in_blocks(rows[::-1]))) == pytest.approx(0, abs=1e-12 * scale)
    assert frechet(one, moments(in_blocks(rows + shift))) == pytest.approx(dimension / 16, rel=1e-9)


@given(st.integers(1, 9), st.integers(0, 40))
@settings(max_examples=30, deadline=None)
def test_moments_do_not_depend_on_the_blocks(size: int, cut: int) -> None:
    """Far from zero, where sums of squares would cancel."""
    rows = drawn(41, 5, 9) * 1e-3 + 1e4
    found = moments(in_blocks(rows, size))
    assert np.allclose(found.mean, rows.mean(0), rtol=1e-14)
    assert np.allclose(found.covariance, np.cov(rows.T), rtol=1e-6, atol=1e-14)
    if 0 < cut < 41:
        both = merge_moments(moments(in_blocks(rows[:cut])), moments(in_blocks(rows[cut:])))
        assert np.allclose(both.scatter, found.scatter, rtol=1e-6, atol=1e-12)


def test_weights_are_repetitions() -> None:
    rows, counts = drawn(12, 4, 10), np.array([0, 3, 1, 0, 0, 2, 1, 1, 0, 0, 4, 0])
    found, wanted = moments(in_blocks(rows, 3), counts), moments(in_blocks(np.repeat(rows, counts, axis=0)))
    assert np.allclose(found.mean, wanted.mean) and np.allclose(found.covariance, wanted.covariance)


def test_one_video_has_no_covariance_and_none_no_mean() -> None:
    with pytest.raises(ValueError, match="two videos"):
        _ = moments(in_blocks(drawn(1, 3, 0))).covariance
    with pytest.raises(ValueError, match="at least one row"):
        moments(in_blocks(np.zeros((0, 3))))
    with pytest.raises(ValueError, match="two videos"):
        kernel_distance(in_blocks(drawn(1, 3, 0)), in_blocks(drawn(4, 3, 0)))


def by_pairs(one: np.ndarray, other: np.ndarray) -> float:
    """The unbiased MMD^2 with four loops."""

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return (float(x @ y) / len(x) + 1) ** 3

    inside = [np.mean([kernel(x, y) for x, y in permutations(rows, 2)]) for rows in (one, other)]
    return float(sum(inside) - 2 * np.mean([kernel(x, y) for x, y in product(one, other)]))


def test_kernel_distance_is_that_of_all_pairs_and_its_error_the_jackknife() -> None:
    one, other = drawn(9, 4, 11), drawn(7, 4, 12) + 0.5
    found = kernel_distance(in_blocks(one, 4), in_blocks(other, 3))
    assert found.value == pytest.approx(by_pairs(one, other), rel=1e-10)
    left = [by_pairs(np.delete(one, row, 0), other) for row in range(9)]
    left2 = [by_pairs(one, np.delete(other, row, 0)) for row in range(7)]
    assert found.error == pytest.approx(np.sqrt(8 * np.var(left) + 6 * np.var(left2)), rel=1e-8)
