"""Reading and writing beside computing: all items in order, all errors, and no thread that is left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from vidiff_cli.video.background_io import AHEAD, Abandoned, Consumer, read_ahead


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


class Source:
    """Counts up to `count`, then fails with `error` if there is one; knows how far it was read and that it closed."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.count, self.error, self.taken, self.closed = count, error, 0, False

    def items(self) -> Iterator[int]:
        try:
            for number in range(self.count):
                self.taken += 1
                yield number
            if self.error is not None:
                raise self.error
        finally:
            self.closed = True


@pytest.mark.parametrize("count", [0, 1, AHEAD, 50])
def test_what_is_read_ahead_comes_in_order(count: int) -> None:
    source = Source(count)
    assert list(read_ahead(source.items())) == list(range(count))
    assert source.closed
    assert list(read_ahead(iter([None] * count))) == [None] * count  # any value, any iterator


def test_no_more_is_read_ahead_than_asked_for() -> None:
    source = Source(100)
    items = read_ahead(source.items(), most=3)
    for number in range(20):
        assert next(items) == number
        assert source.taken <= number + 1 + 3 + 1  # taken, ready, and one in the hand of the thread
    items.close()


def test_an_error_of_the_source_comes_after_its_items() -> None:
    source, found = Source(6, OSError("the disk is gone")), []
    with pytest.raises(OSError, match="the disk is gone"):
        for item in read_ahead(source.items()):
            found.append(item)
    assert found == list(range(6)) and source.closed


def test_a_reader_that_stops_closes_the_source() -> None:
    source = Source(10**9)
    opened = source.items()  # held here: nothing but `close` ends it
    items = read_ahead(opened)
    next(items)
    items.close()
    assert source.closed and source.taken < 10


@pytest.mark.parametrize("count", [0, 1, AHEAD, 50])
def test_a_consumer_gets_all_in_order_and_is_done_at_the_end(count: int) -> None:
    found: list[int] = []
    with Consumer(found.extend) as consumer:
        for number in range(count):
            consumer.give(number)
    assert found == list(range(count))


def test_no_more_waits_for_a_consumer_than_asked_for() -> None:
    given, lead = [], []

    def consume(items: Iterator[int]) -> None:
        for number in items:
            lead.append(len(given) - number)

    with Consumer(consume, most=3) as consumer:
        for number in range(30):
            consumer.give(number)
            given.append(number)
    assert max(lead) <= 3 + 1


@pytest.mark.parametrize("after", [0, 3])
def test_what_a_consumer_fails_with_is_raised_where_it_is_given(after: int) -> None:
    """However many are given, and at the end of the block if nothing more is given."""

    def consume(items: Iterator[int]) -> None:
        for _ in range(after):
            next(items)
        raise OSError("no space left")

    for count in (after, 10**6):
        with pytest.raises(OSError, match="no space left"), Consumer(consume) as consumer:
            for number in range(count):
                consumer.give(number)


def test_who_stops_giving_lets_the_consumer_tidy_up_and_his_error_counts() -> None:
    seen: list[object] = []

    def consume(items: Iterator[int]) -> None:
        try:
            for number in items:
                seen.append(number)
        except Abandoned:
            seen.append("tidied up")
            raise

    with pytest.raises(KeyboardInterrupt), Consumer(consume) as consumer:
        consumer.give(1)
        consumer.give(2)
        raise KeyboardInterrupt
    assert seen == [1, 2, "tidied up"]


def test_a_consumer_that_has_enough_is_not_waited_for() -> None:
    """One that returns early takes nothing more, and nobody hangs."""
    found: list[int] = []
    with Consumer(lambda items: found.append(next(items))) as consumer:
        for number in range(10 * AHEAD):
            consumer.give(number)
    assert found == [0]
