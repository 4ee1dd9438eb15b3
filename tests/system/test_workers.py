"""Jobs in worker processes: each has an outcome whatever it does, and no process is left behind, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import pytest

from vidiff_cli.errors import VidiffError
from vidiff_cli.system.worker_pool import CRASHED, TOO_LONG, TOO_MUCH, announce, run
from vidiff_cli.video import ffmpeg

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
MB = 2**20

# What the workers do. It must stand in a module that a fresh interpreter finds.
JOBS = '''
import ctypes, mmap, os, signal, subprocess, sys, threading, time
from pathlib import Path
from vidiff_cli.system.worker_pool import announce
from vidiff_cli.video import ffmpeg

HANG = 600  # seconds
SLEEP = ["-re", "-f", "lavfi", "-i", "color=black:s=16x16:r=1:d=1000", "-f", "null", "-"]

def work(job):
    what, value = job
    return globals()[what](value)

def double(value):
    return value * 2

def hang(_):
    time.sleep(HANG)

def eat(megabytes):
    data = bytearray(os.urandom(2**20) * megabytes)
    time.sleep(HANG)

def map_file(path):
    data = Path(path).open("rb")
    pages = mmap.mmap(data.fileno(), 0, access=mmap.ACCESS_READ)
    read = sum(pages[place] for place in range(0, len(pages), 4096))
    time.sleep(0.5)
    return read

def keep(megabytes):
    global kept
    kept = os.urandom(2**20) * megabytes
    return os.getpid()

def refuse(_):
    raise ValueError("no\\nthank you")

def no_memory(_):
    raise MemoryError

def leave(status):
    os._exit(status)

def stop(status):
    sys.exit(status)

def fault(number):
    os.kill(os.getpid(), number)
    time.sleep(HANG)

def pid(_):
    return os.getpid()

def sleeping(folder):
    """An ffmpeg that sleeps; tells its pid and that of the worker."""
    started = ffmpeg.Ffmpeg(SLEEP)
    Path(folder, "child").write_text(str(started.process.pid))
    Path(folder, "worker").write_text(str(os.getpid()))
    return started

def child(folder):
    with sleeping(folder):
        announce(1.0)
        time.sleep(HANG)

def child_then_fault(folder):
    with sleeping(folder):
        os.kill(os.getpid(), 11)

def hungry_child(megabytes):
    code = f"import os, time; data = os.urandom(2**20) * {megabytes}; time.sleep({HANG})"
    subprocess.run([sys.executable, "-c", code])

def held_lock(_):
    """Hangs in C without letting go of the interpreter: no thread of the worker can do anything."""
    ctypes.PyDLL(None).sleep(HANG)

def held_lock_with_child(folder):
    with sleeping(folder):
        held_lock(None)

def asks(seconds):
    announce(seconds)
    time.sleep(HANG)

def prints(value):
    print("noise")
    sys.stdout.flush()
    os.write(1, b"more noise")
    sys.stdin.read()
    return value

def unpicklable(_):
    return lambda: None

def torch_is_there(_):
    return "torch" in sys.modules

def interrupts(_):
    os.kill(os.getpid(), 2)
    return "unmoved"
'''


@pytest.fixture(scope="session")
def jobs_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("modules")
    (folder / "vidiff_test_jobs.py").write_text(JOBS, encoding="utf-8")
    return folder


@pytest.fixture
def work(jobs_folder, monkeypatch):
    monkeypatch.syspath_prepend(jobs_folder)
    import vidiff_test_jobs  # type: ignore[import-not-found]

    return vidiff_test_jobs.work


def start(work, jobs, *, workers=1, timeout_seconds: float | None = 60.0, memory_mb=1000):
    return run(
        work,
        jobs,
        workers=workers,
        timeout_seconds=timeout_seconds,
        memory_bytes=memory_mb * MB,
        initializer=ffmpeg.keep_in_group,
    )


def outcomes(work, jobs, **limits):
    return list(start(work, jobs, **limits))


def test_every_job_has_its_result(work):
    got = outcomes(work, [("double", value) for value in range(20)], workers=2)
    assert sorted(outcome.result for outcome in got) == [2 * value for value in range(20)]
    assert all(outcome.result == 2 * outcome.job[1] and outcome[2:] == (None, "") for outcome in got)
    assert outcomes(work, []) == []


def test_a_worker_lives_for_many_jobs_and_knows_no_torch(work):
    import torch  # so that the parent does  # noqa: F401

    got = outcomes(work, [("pid", None), ("torch_is_there", None), ("pid", None), ("refuse", None), ("pid", None)])
    assert len({outcome.result for outcome in got[::2]}) == 1
    assert got[1].result is False
    assert got[0].result != os.getpid()


def test_results_come_as_they_finish_and_jobs_are_taken_as_needed(work):
    taken = []

    def jobs():
        for number in count():
            taken.append(number)
            yield ("hang", None) if number == 0 else ("double", number)

    results = start(work, jobs(), workers=2, timeout_seconds=60)
    assert [next(results).job[1] for _ in range(5)] == [1, 2, 3, 4, 5]
    assert len(taken) <= 7
    results.close()


@pytest.mark.parametrize(
    ("job", "kind", "sentence"),
    [
        (("hang", None), TOO_LONG, "takes too long: no end after 3 s"),
        (("held_lock", None), TOO_LONG, "takes too long: no end after 3 s"),
        (("refuse", None), CRASHED, "crashed: ValueError: no thank you"),
        (("unpicklable", None), CRASHED, "crashed: "),
        (("no_memory", None), TOO_MUCH, "too much memory: no more could be had"),
        (("leave", 3), CRASHED, "crashed: the process ended with status 3"),
        (("stop", 4), CRASHED, "crashed: the process ended with status 4"),
        (("fault", 11), CRASHED, "crashed: the process was killed by signal 11 (SIGSEGV)"),
        (("fault", 9), CRASHED, "crashed: the process was killed by signal 9 (SIGKILL, the system may be out"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_bad_job_is_an_outcome_and_the_next_goes_on(work, job, kind, sentence):
    bad, good = outcomes(work, [job, ("double", 4)], timeout_seconds=3.0 if kind == TOO_LONG else 60.0)
    assert (bad.job, bad.result, bad.kind) == (job, None, kind)
    assert bad.problem.startswith(sentence) and "\n" not in bad.problem
    assert (good.result, good.kind) == (8, "")


@LINUX
@pytest.mark.parametrize("job", [("eat", 400), ("hungry_child", 400)], ids=lambda job: job[0])
def test_memory_of_a_worker_and_its_children_is_bounded(work, job):
    bad, good = outcomes(work, [job, ("double", 4)], memory_mb=300)
    assert bad.kind == TOO_MUCH
    assert bad.problem.startswith("too much memory: ") and bad.problem.endswith(" MiB, 300 MiB are allowed")
    assert good.result == 8


@LINUX
def test_pages_of_a_file_are_no_memory_of_a_worker(work, tmp_path):
    """The system takes them back when it needs them: a source of any length may be read back."""
    (tmp_path / "long").write_bytes(b"\1" * (400 * MB))
    (good,) = outcomes(work, [("map_file", str(tmp_path / "long"))], memory_mb=300)
    assert (good.kind, good.result) == ("", 400 * MB // 4096)


@LINUX
def test_what_a_job_keeps_does_not_count_against_the_next(work):
    first, second, third = outcomes(work, [("keep", 150), ("pid", None), ("pid", None)], memory_mb=300)
    assert first.result != second.result == third.result


def test_a_job_may_ask_for_its_time(work, monkeypatch):
    got = outcomes(work, [("asks", 0.4)], timeout_seconds=None)
    assert (got[0].kind, got[0].problem[:14]) == (TOO_LONG, "takes too long")
    assert outcomes(work, [("asks", 1000)], timeout_seconds=0.4)[0].kind == TOO_LONG
    monkeypatch.setattr("vidiff_cli.system.worker_pool.FIRST_SECONDS", 2.0)
    assert outcomes(work, [("hang", None)], timeout_seconds=None)[0].kind == TOO_LONG
    announce(5)  # in no worker


def test_what_a_decoder_prints_is_not_an_answer(work):
    assert outcomes(work, [("prints", 1), ("interrupts", None)])[0].result == 1
    assert outcomes(work, [("interrupts", None)])[0].result == "unmoved"


def test_a_slow_consumer_costs_no_job_its_time(work):
    results = start(work, [("double", 1), ("double", 2)], workers=2, timeout_seconds=3.0)
    first = next(results)
    time.sleep(3.5)
    assert {first.result, next(results).result} == {2, 4}


def test_a_function_that_is_not_there_is_an_error(work):
    def inner(job):
        return job

    with pytest.raises(VidiffError, match=r"a worker process cannot be started: found \w+Error"):
        outcomes(inner, [1])


@LINUX
@pytest.mark.parametrize("what", ["child", "child_then_fault"])
def test_a_sleeping_ffmpeg_ends_with_its_worker_while_the_consumer_is_busy(work, tmp_path, what):
    results = start(work, [("double", 1), (what, str(tmp_path))], workers=2, timeout_seconds=None)
    first = next(results)  # either: a crash may be told before the other worker has begun
    assert gone(int(waited(tmp_path / "worker")), zombies=True) and gone(int(waited(tmp_path / "child")))
    assert {first.kind, next(results).kind} == {"", TOO_LONG if what == "child" else CRASHED}


@LINUX
def test_abandoning_the_outcomes_ends_the_workers(work, tmp_path):
    results = start(work, [("double", 1), ("child", str(tmp_path))], workers=2, timeout_seconds=60)
    next(results)
    worker, child = int(waited(tmp_path / "worker")), int(waited(tmp_path / "child"))
    results.close()
    assert not Path(f"/proc/{worker}").exists()  # not even as a zombie
    assert gone(child)


PARENT = """
import sys
sys.path.insert(0, sys.argv[1])
import vidiff_test_jobs
from vidiff_cli.system.worker_pool import run
from vidiff_cli.video import ffmpeg
try:
    jobs = [(sys.argv[3], sys.argv[2])]
    limits = {"workers": 1, "timeout_seconds": 60, "memory_bytes": 10**9, "initializer": ffmpeg.keep_in_group}
    for _ in run(vidiff_test_jobs.work, jobs, **limits):
        pass
except KeyboardInterrupt:
    print("interrupted")
"""


@LINUX
@pytest.mark.parametrize("what", ["child", "held_lock_with_child"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_nothing_outlives_the_parent(jobs_folder, tmp_path, number, what):
    command = [sys.executable, "-c", PARENT, str(jobs_folder), str(tmp_path), what]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as parent:
        worker, child = int(waited(tmp_path / "worker")), int(waited(tmp_path / "child"))
        os.killpg(parent.pid, number)
        out, errors = parent.communicate(timeout=60)
    assert errors == b""
    assert out == (b"interrupted\n" if number == signal.SIGINT else b"")
    assert gone(worker) and gone(child)


def waited(path: Path) -> str:
    """The text of a file that another process writes."""
    give_up = time.monotonic() + 60
    while not (path.is_file() and path.read_text()):
        assert time.monotonic() < give_up, f"{path} is not written"
        time.sleep(0.02)
    return path.read_text()


def gone(pid: int, *, zombies: bool = False) -> bool:
    """Whether a process ends within moments; `zombies`: one that only waits to be waited for counts as ended."""
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if zombies and state == "Z":
            return True
        time.sleep(0.02)
    return False
