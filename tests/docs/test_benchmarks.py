"""Every benchmark can be started: it imports, and the runner knows its name."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_every_benchmark_imports_and_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of the package that a benchmark or an example imports exist; names run by `all` are benchmarks."""
    monkeypatch.syspath_prepend(str(ROOT))
    runner = import_module("benchmarks.__main__")
    known = runner.benchmarks()
    assert {words[0] for words in runner.ALL} <= set(known) and all(known.values())
    for name in known:
        assert callable(import_module(f"benchmarks.{name}").main)
    for name in ("clips_report", "demo", "shapes_report"):
        import_module(f"examples.{name}")


def test_an_unknown_benchmark_is_refused_with_the_known_ones() -> None:
    command = [sys.executable, "-m", "benchmarks", "no-such"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "known: auxiliary" in done.stderr


def test_the_benchmark_of_a_gpu_runs_at_a_small_size_without_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    gpu = import_module("benchmarks.gpu")
    row = gpu.trained("quick", "off", 2, "cpu", tmp_path / "run")
    assert row["compile"] == "off" and row["share_of_data_sheet"] is None and row["parameters"] > 0
    timed = (
        "tflop_per_step",
        "seconds_per_step",
        "estimated_mb",
        "peak_mb",
        "sample_seconds",
        "reconstruction_seconds",
    )
    assert all(row[name] > 0 for name in timed)
