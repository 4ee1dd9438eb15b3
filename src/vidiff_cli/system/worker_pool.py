"""A function run in worker processes, each job under a deadline and a memory ceiling.

A decoder that hangs, crashes or eats the memory takes its worker with it, never the run: the job gets an outcome that
says so and a fresh worker goes on. Workers are new interpreters (nothing of the parent's threads or memory), live for
many jobs and talk over two pipes of their own. They end with their parent, however that ends, and so do their children.

Deadlines hold everywhere; memory and descendants are looked up in /proc, which only Linux has.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any, Generic, NamedTuple, TypeVar

from vidiff_cli.errors import VidiffError
from vidiff_cli.system import process_tree
from vidiff_cli.system.worker_process import ANNOUNCE, FAILED, MEMORY, READY, RESULT, announce, receive

__all__ = ["CRASHED", "TOO_LONG", "TOO_MUCH", "Outcome", "announce", "run"]

J = TypeVar("J")
R = TypeVar("R")

TOO_LONG, TOO_MUCH, CRASHED = "takes too long", "too much memory", "crashed"  # kinds of a problem
FIRST_SECONDS = 60.0  # for starting a worker, and for a job that has not announced how long it may take
POLL_SECONDS = 0.1
POLL_SHARE = 0.02  # of the time, at most, goes into looking at processes: a machine may run thousands
SERVE = "from vidiff_cli.system.worker_process import serve; serve()"
# one thread each: the workers share the cores, and every thread of a pool costs memory
SINGLE_THREADED = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
END, IDLE = "end", object()


class Outcome(NamedTuple, Generic[J, R]):
    """Outcome of a job: its result, or a sentence about the problem and its kind ("" without a problem)."""

    job: J
    result: R | None
    problem: str | None
    kind: str


def run(
    function: Callable[[J], R],
    jobs: Iterable[J],
    *,
    workers: int,
    timeout_seconds: float | None,
    memory_bytes: int,
    initializer: Callable[[], object] | None = None,
) -> Generator[Outcome[J, R]]:
    """Yields the outcome of `function` for each of `jobs`, as they finish; `jobs` is consumed as workers come free.

    Abandoning the iterator, or an interrupt, ends all workers at once.

    Args:
        function: stands at the top of a module that a fresh interpreter can import.
        jobs: arguments; they and the results are small and can be pickled.
        workers: the number of processes.
        timeout_seconds: the time of one job; None: 60 s, or what the job asks for with `announce`.
        memory_bytes: the memory of one worker and its child processes together.
        initializer: called once in each worker before `function` is imported; importable as `function`.

    Raises:
        VidiffError: a worker cannot be started.
    """
    team = _Team(function, initializer, timeout_seconds, memory_bytes)
    waiting = iter(jobs)
    try:
        while True:
            for job in islice(waiting, workers - team.busy):
                team.assign(job)
            if not team.busy:
                return
            yield team.next_outcome()
    finally:
        team.end()


class _Worker:
    """One worker process as its parent sees it; a thread listens to it and puts (worker, kind, content) in `news`."""

    def __init__(
        self,
        function: Callable,
        initializer: Callable | None,
        timeout_seconds: float | None,
        news: queue.SimpleQueue,
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | SINGLE_THREADED,
            start_new_session=True,  # Ctrl-C in the terminal reaches the parent alone
        )
        self.job: Any = IDLE
        self.ready, self.ended = False, False
        self.breach: tuple[str, str] | None = None  # why it was killed: the problem and its kind
        self.started, self.deadline = time.monotonic(), math.inf
        self._timeout_seconds, self._news = timeout_seconds, news
        assert self.process.stdin is not None and self.process.stdout is not None
        self._jobs = Connection(os.dup(self.process.stdin.fileno()), readable=False)
        self._answers = Connection(os.dup(self.process.stdout.fileno()), writable=False)
        self.process.stdin.close()
        self.process.stdout.close()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        # Death with the parent is death with the thread that started it; the main thread alone surely outlives it.
        tied = os.getpid() if threading.current_thread() is threading.main_thread() else None
        self._tell((tied, [path for path in sys.path if path], _name(function), initializer and _name(initializer)))

    def give(self, job: object) -> None:
        self.job = job
        self._start_clock()
        self._tell((job,))

    def kill(self) -> None:
        """Ends the worker and all that it started; returns when it is gone."""
        if self.ended:
            process_tree.await_end(self.process.pid, 1.0)  # so that its own status is the one that is told
        process_tree.kill_family(self.process.pid)
        self.process.wait()
        self._listener.join(1)
        self._jobs.close()
        self._answers.close()

    def _start_clock(self) -> None:
        allowed = FIRST_SECONDS if self._timeout_seconds is None or not self.ready else self._timeout_seconds
        self.started = time.monotonic()
        self.deadline = self.started + allowed

    def _tell(self, message: object) -> None:
        with contextlib.suppress(OSError):  # it died: the end of its own pipe says so
            self._jobs.send(message)

    def _listen(self) -> None:
        while (message := receive(self._answers)) is not None:
            kind, content = message
            if kind == READY:
                self.ready = True
                self._start_clock()
            elif kind != ANNOUNCE:
                self.deadline = math.inf  # it is idle, however long the consumer takes to ask for its answer
                self._news.put((self, kind, content))
            elif self._timeout_seconds is None:
                self.deadline = time.monotonic() + content
        self.ended = True
        self._news.put((self, END, None))


class _Team(Generic[J, R]):
    """The workers of one run, and a thread that watches them, also while the consumer is busy elsewhere."""

    def __init__(
        self,
        function: Callable[[J], R],
        initializer: Callable | None,
        timeout_seconds: float | None,
        memory_bytes: int,
    ) -> None:
        self._function, self._initializer = function, initializer
        self._timeout_seconds, self._memory_bytes = timeout_seconds, memory_bytes
        self._news: queue.SimpleQueue[tuple[_Worker, str, Any]] = queue.SimpleQueue()
        self._workers: list[_Worker] = []
        self._ended, self._lock = threading.Event(), threading.Lock()  # a process that was waited for is not killed
        self._families = process_tree.Families()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    @property
    def busy(self) -> int:
        return sum(worker.job is not IDLE for worker in self._workers)

    def assign(self, job: J) -> None:
        """Gives the job to a free worker; starts one if all are busy."""
        worker = next((worker for worker in self._workers if worker.job is IDLE), None)
        if worker is None:
            worker = _Worker(self._function, self._initializer, self._timeout_seconds, self._news)
            with self._lock:
                self._workers.append(worker)
        worker.give(job)

    def next_outcome(self) -> Outcome[J, R]:
        while True:
            worker, kind, content = self._news.get()
            if worker not in self._workers:
                continue  # the end of one that was let go
            job, worker.job = worker.job, IDLE
            # One that ended, is about to be killed, or keeps much memory of its last job: the next gets a fresh one.
            if (
                kind == END
                or worker.breach
                or self._families.resident_bytes(worker.process.pid) * 2 > self._memory_bytes
            ):
                self._workers.remove(worker)
                worker.kill()
            if kind == FAILED or (kind == END and not worker.ready and not worker.breach):
                found = content if kind == FAILED else _ending(worker.process)
                raise VidiffError("a worker process cannot be started", found=found)
            if kind == RESULT:
                return Outcome(job, content, None, "")
            if job is not IDLE:
                return Outcome(job, None, *_problem(worker, kind, content))

    def end(self) -> None:
        """Kills all workers; nothing of them is left when this returns."""
        self._ended.set()
        self._watcher.join()
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    def _watch(self) -> None:
        pause = POLL_SECONDS
        while not self._ended.wait(pause):
            began = time.thread_time()
            self._families.look()
            with self._lock:
                for worker in self._workers:
                    worker.breach = worker.breach or self._breach(worker)
                    if worker.breach:
                        process_tree.kill_family(worker.process.pid)
            pause = max(POLL_SECONDS, (time.thread_time() - began) / POLL_SHARE)

    def _breach(self, worker: _Worker) -> tuple[str, str] | None:
        deadline = worker.deadline
        if deadline == math.inf:
            return None
        if time.monotonic() > deadline:
            return f"{TOO_LONG}: no end after {deadline - worker.started:.3g} s", TOO_LONG
        held = self._held(worker)
        if held > self._memory_bytes:
            found, allowed = held / 2**20, self._memory_bytes / 2**20
            return f"{TOO_MUCH}: {found:,.0f} MiB, {allowed:,.0f} MiB are allowed", TOO_MUCH
        return None

    def _held(self, worker: _Worker) -> int:
        return self._families.resident_bytes(worker.process.pid)


def _name(function: Callable) -> tuple[str, str]:
    return function.__module__, function.__qualname__


def _problem(worker: _Worker, kind: str, content: str) -> tuple[str, str]:
    """The sentence about a job that has no result, and its kind."""
    if kind == MEMORY:
        return f"{TOO_MUCH}: {content}", TOO_MUCH
    if kind == END:
        return worker.breach or (f"{CRASHED}: {_ending(worker.process)}", CRASHED)
    return f"{CRASHED}: {content}", CRASHED


def _ending(process: subprocess.Popen) -> str:
    """Describes how a process ended by itself."""
    code = process.wait()
    if code >= 0:
        return f"the process ended with status {code}"
    name = next((each.name for each in signal.Signals if each == -code), "unknown")
    memory = ", the system may be out of memory" if name == "SIGKILL" else ""
    return f"the process was killed by signal {-code} ({name}{memory})"
