"""Killed and run again is never killed: a round for each of the long commands. harness.py plays any number."""

from __future__ import annotations

import importlib.util
import random
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes left behind in /proc"),
]


@pytest.fixture(scope="module")
def fire() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("fire_harness", Path(__file__).with_name("harness.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there for their own module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def home(fire: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fire").resolve()
    fire.prepare(folder)
    return folder


def half_written(place: Path, pattern: str, count: int) -> Callable[[], bool]:
    """True at the instant at which the count-th file or folder of that pattern is there."""
    seen: set[str] = set()

    def look() -> bool:
        seen.update(path.name for path in place.glob(pattern))
        return len(seen) >= count

    return look


@pytest.mark.parametrize(
    ("name", "pattern", "count"),
    [
        ("prep", "out/.journal/.*.part", 3),
        ("train", "out/checkpoints/.step-*.tmp-*", 2),
        ("extend", "out/.*.partial.tmp-*", 3),
    ],
)
def test_killed_and_run_again(fire: ModuleType, home: Path, name: str, pattern: str, count: int) -> None:
    """kill -9 in the middle of a write, then a signal that can be caught at a random moment, then to the end."""
    case = next(case for case in fire.CASES if case.name == name)
    whole = fire.uninterrupted(case, home)
    place, killed, draw = fire.fresh(case, home), None, random.Random(name)
    for attempt in range(6):  # on a busy machine a name may come and go between two looks
        place = fire.fresh(case, home)
        moment, limit = half_written(place, pattern, max(1, count - attempt)), 2 * whole.seconds
        if attempt > 2:
            moment, limit = (lambda: False), draw.uniform(0.4, 0.7) * whole.seconds
        killed = fire.shoot(case, place, signal.SIGKILL, moment, limit)
        if killed is not None:
            break
    assert killed == -signal.SIGKILL and not (place / "out" / "dataset.json").exists()
    number = draw.choice(list(fire.CODES))
    stopped = fire.shoot(case, place, number, lambda: False, draw.uniform(0.5, 0.8) * whole.seconds)
    if stopped is not None:
        fire.run(case.arguments, place)
    fire.nothing_runs_on(place)
    fire.compare(fire.files_of(place, home), whole.files)
