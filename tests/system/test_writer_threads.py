"""Threads that write files: all are there before the first job, and none is at work behind the end of the block."""

from __future__ import annotations

import threading

import pytest

from vidiff_cli.system.writer_threads import writer_threads


def test_every_thread_is_there_before_the_first_job_and_gone_after_the_last():
    before = set(threading.enumerate())
    with writer_threads() as (pool, count):
        assert len(set(threading.enumerate()) - before) == count
        assert list(pool.map(abs, [-1, -2, -3])) == [1, 2, 3]
    assert set(threading.enumerate()) <= before


def test_an_interrupt_while_a_thread_starts_leaves_none_at_work(monkeypatch):
    before, go_on, done = set(threading.enumerate()), threading.Event(), []
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt), writer_threads() as (pool, _):
        pool.submit(lambda: (go_on.wait(), done.append("written")))
    go_on.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
    assert done == [] and set(threading.enumerate()) <= before
