"""Which clips a step sees: every clip once per epoch, one shape per batch, from (seed, step) alone."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidiff_cli.training.bucket_sampler import EPOCH, BucketBatchSampler

counts = st.lists(st.integers(1, 12), min_size=1, max_size=4)
sizes = st.integers(1, 9)


def mixed(numbers: list[int], seed: int = 0) -> np.ndarray:
    """So many clips of each shape, in any order."""
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(numbers)), numbers))


@settings(max_examples=40, deadline=None)
@given(counts, sizes, st.integers(0, 5))
def test_every_clip_is_drawn_once_per_epoch_and_none_is_lost(numbers: list[int], size: int, seed: int) -> None:
    """After `size` epochs each clip has come `size` times, in full batches of one shape, and never far ahead."""
    shapes = mixed(numbers, seed)
    order = BucketBatchSampler(shapes, size=size, seed=seed)
    seen: Counter[int] = Counter(dict.fromkeys(range(len(shapes)), 0))
    for step in range(len(shapes)):  # size epochs of len(shapes) clips, `size` a step
        rows = order.rows(step)
        assert len(rows) == size and len(set(shapes[rows])) == 1
        seen.update(rows)
        for shape in set(shapes):
            of_shape = [seen[row] for row in np.flatnonzero(shapes == shape).tolist()]
            assert max(of_shape) - min(of_shape) <= 1
    assert set(seen.values()) == {size}


@settings(max_examples=30, deadline=None)
@given(counts, sizes, st.integers(0, 40))
def test_shapes_take_turns_as_their_clips_do(numbers: list[int], size: int, steps: int) -> None:
    """No shape falls behind its share: a clip waits for less than a batch of its shape, and an epoch."""
    shapes = mixed(numbers)
    order = BucketBatchSampler(shapes, size=size, seed=1)
    drawn = Counter(int(shapes[order.rows(step)[0]]) for step in range(steps))
    epochs = steps * size / len(shapes)  # of all queues together, but for what waits in them
    for shape, count in enumerate(numbers):
        behind = epochs + len(numbers) * size / len(shapes)
        assert epochs * count / size - count / size - 1 <= drawn[shape] <= (behind + 1) * count / size


@settings(max_examples=30, deadline=None)
@given(counts, sizes, st.lists(st.integers(0, 300), min_size=1, max_size=8))
def test_a_step_can_be_asked_for_in_any_order(numbers: list[int], size: int, steps: list[int]) -> None:
    shapes = mixed(numbers)
    known = BucketBatchSampler(shapes, size=size, seed=3)
    in_turn = [known.rows(step) for step in range(max(steps) + 1)]
    anew = BucketBatchSampler(shapes, size=size, seed=3)
    assert [anew.rows(step) for step in steps] == [in_turn[step] for step in steps]


@pytest.mark.parametrize(("count", "size"), [(12, 5), (3, 8), (1, 4), (7, 7)])
def test_with_one_shape_it_is_the_permutation_cut_into_batches(count: int, size: int) -> None:
    order = BucketBatchSampler(np.zeros(count, dtype=int), size=size, seed=2)
    rows = [row for step in range(6) for row in order.rows(step)]
    epochs = len(rows) // count + 1
    drawn = [np.random.default_rng([2, EPOCH, epoch]).permutation(count) for epoch in range(epochs)]
    assert rows == np.concatenate(drawn)[: len(rows)].tolist()


def test_a_late_step_of_many_clips_is_found_at_once() -> None:
    shapes = mixed([50_000, 30_000, 1])
    order = BucketBatchSampler(shapes, size=32, seed=0)
    step = 10**6
    assert order.rows(step) == BucketBatchSampler(shapes, size=32, seed=0).rows(step)
    assert order.rows(step) != order.rows(step + 1)
