"""Threads that write files by encoder processes: none is at work any more when the block ends, however it ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier


@contextmanager
def writer_threads() -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """Yields a pool of threads and their number; jobs that have not begun are cancelled at the end.

    All threads are started before any job: an interrupt in the middle of a start leaves a thread that the pool does not
    know and does not wait for, and its job would write into a folder that is being removed.
    """
    count = min(4, os.cpu_count() or 1)
    pool, started = ThreadPoolExecutor(max_workers=count), Barrier(count + 1)
    try:
        for _ in range(count):
            pool.submit(started.wait)
        started.wait()
        yield pool, count
    finally:
        started.abort()
        pool.shutdown(cancel_futures=True)
