"""Standard streams that the caller has closed, and signals that come before a command has begun."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from vidiff_cli.video.encode import encode

ROOT = Path(__file__).parents[2]
MODULE = [sys.executable, "-m", "vidiff_cli"]
SCRIPT = [sys.executable, "-c", "import sys; from vidiff_cli.__main__ import start; sys.exit(start())"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    frames = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    encode(path, frames, Fraction(8), lossless=True)
    return path


def run_closed(command: list[str], *numbers: int, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a command without some of its standard streams."""
    closing = " ".join(f"{number}>&-" if number else "<&-" for number in numbers)
    return subprocess.run(["sh", "-c", f'exec "$@" {closing}', "sh", *command], cwd=cwd, capture_output=True)


PREP = ["--size", "16", "--frames", "2", "--preview", "0", "--workers", "1"]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def prepared(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the command writes with all its streams."""
    folder = tmp_path_factory.mktemp("prepared")
    subprocess.run([*MODULE, "prep", str(clip), "-o", "out", *PREP], cwd=folder, check=True, capture_output=True)
    return contents(folder / "out")


@pytest.mark.parametrize("numbers", [(1,), (2,), (0,), (1, 2), (0, 1, 2)])
def test_a_closed_stream_is_like_a_closed_pipe(
    clip: Path, prepared: dict[str, bytes], tmp_path: Path, numbers: tuple[int, ...]
) -> None:
    """Nothing that is printed goes into a file that gets the number of a stream."""
    done = run_closed([*SCRIPT, "prep", str(clip), "-o", "out", *PREP], *numbers, cwd=tmp_path)
    assert done.returncode == 0, done
    assert done.stdout == (b"" if 1 in numbers else b"out\n")
    assert (done.stderr == b"") is (2 in numbers) and b"Traceback" not in done.stderr
    assert contents(tmp_path / "out") == prepared


def test_a_clip_is_extended_without_streams(clip: Path, tmp_path: Path) -> None:
    options = ["--seconds", "0.3", "--detail", "estimate", "-o", "out.mkv"]
    done = run_closed([*SCRIPT, "extend", str(clip), *options], 0, 1, 2, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert json.loads((tmp_path / "out.json").read_text())["made"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "out.mkv"]


@pytest.mark.parametrize(
    ("arguments", "code"), [(["info", "clip.mkv"], 0), (["--version"], 0), (["info", "none.mp4"], 1), (["nonsense"], 2)]
)
def test_exit_codes_without_streams(clip: Path, arguments: list[str], code: int) -> None:
    assert run_closed([*MODULE, *arguments], 1, 2, cwd=clip.parent).returncode == code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("module", ["typer", "pydantic", "vidiff_cli.cli.console", "rich.console"])
def test_a_signal_during_the_imports(tmp_path: Path, number: signal.Signals, module: str) -> None:
    """The signal comes exactly while a module is imported."""
    code = f"""
import os, sys
class Signals:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), {int(number)})
sys.meta_path.insert(0, Signals())
from vidiff_cli.__main__ import start
start()
"""
    done = subprocess.run([sys.executable, "-c", code, "info", "x"], cwd=tmp_path, capture_output=True)
    assert (done.returncode, done.stderr, done.stdout) == (128 + number, b"", b"")


def test_the_installed_script_starts_where_the_module_does() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"vidiff": "vidiff_cli.__main__:start"}


def test_the_package_imports_nothing_slow() -> None:
    """Until `start` has its handlers, Ctrl-C shows a traceback: little may be imported before."""
    code = "import sys; before = {*sys.modules}; import vidiff_cli.__main__; print(*({*sys.modules} - before))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path[1:])}
    loaded = subprocess.run(
        [sys.executable, "-S", "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert "typing" not in loaded.stdout.split() and len(loaded.stdout.split()) < 30
