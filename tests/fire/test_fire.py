"""Killed and run again is never killed: a round for each of the long commands. harness.py plays any number."""

from __future__ import annotations

import importlib.util
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest
from forked import Forked

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

    def start(arguments: tuple[str, ...], place: Path, more: Mapping[str, str] | None = None) -> Forked:
        """The harness starts Python for every command; here each is a fork, with the trap set in it."""
        first = module.TRAP / "sitecustomize.py" if more else None
        return Forked(arguments, cwd=place, env=module.environment(place.parent) | dict(more or {}), first=first)

    module.start = start
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def home(fire: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fire").resolve()
    fire.prepare(folder)
    return folder


@pytest.mark.parametrize(
    ("name", "killed", "stopped", "number"),
    [
        ("prep", ("out/.journal/*/.*.part", 3), ("out/.journal/*/.*.part", 1), signal.SIGTERM),
        ("train", ("out/checkpoints/.step-*.tmp-*/.ema.*", 2), ("out/samples/.step-*", 1), signal.SIGINT),
        ("extend", ("out/.*.partial.tmp-*", 3), ("out/.vidiff-*/part", 1), signal.SIGHUP),
        ("roll", ("out/.*.partial.tmp-*", 7), ("out/.vidiff-*/part", 1), signal.SIGINT),
        ("upscale", ("out/.*.partial.tmp-*", 2), ("out/.vidiff-*/part", 1), signal.SIGTERM),
    ],
)
def test_killed_and_run_again(
    fire: ModuleType,
    home: Path,
    name: str,
    killed: tuple[str, int],
    stopped: tuple[str, int],
    number: signal.Signals,
) -> None:
    """kill -9 in the middle of a write, then a signal that can be caught at another write, then to the end."""
    case = next(case for case in fire.CASES if case.name == name)
    whole = fire.uninterrupted(case, home)
    place = fire.fresh(case, home)
    assert fire.trap(case, place, signal.SIGKILL, *killed) == -signal.SIGKILL
    assert any(place.glob(killed[0])), "no half-written file was left"
    assert not (place / "out" / "dataset.json").exists()
    assert fire.trap(case, place, number, *stopped) == fire.CODES[number]
    fire.run(case.arguments, place)
    fire.nothing_runs_on(place)
    fire.compare(fire.files_of(place, home), whole.files)
