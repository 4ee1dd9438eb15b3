"""Commands that are given what no one should give them, and a network so small that a command takes a moment."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from files import content, real_data
from pictures import noise
from typer.testing import CliRunner

from vidiff_cli.checkpoint import write_tensors
from vidiff_cli.cli.app import app
from vidiff_cli.config.model import ModelSettings
from vidiff_cli.models.video_model import new_video_model
from vidiff_cli.video import ffmpeg
from vidiff_cli.video.encode import encode

NETWORK = {"base_channels": 8, "channel_mult": [1], "head_dim": 8, "embedding": 16, "context_dim": 16}
# one sampling step on the CPU; a small network, four frames, two clips a step
QUICK = ("--steps", "1", "--seed", "1", "--device", "cpu", "--quiet")
SMALL = [f"--set=network.{name}={value}" for name, value in NETWORK.items()]
TRAIN = (*SMALL, "--batch-size", "2", "--frames", "4", "--sample-every", "0", "--device", "cpu", "--text", "learned")


@dataclass(frozen=True)
class Result:
    """What became of a command."""

    code: int
    out: str
    err: str


def run(*arguments: str | Path) -> Result:
    """A command in this process."""
    result = CliRunner().invoke(app, [os.fspath(each) for each in arguments], prog_name="vidiff")
    return Result(code=result.exit_code, out=result.stdout, err=result.stderr)


def run_apart(*arguments: str | Path, cwd: Path, setup: str = "") -> Result:
    """A command in a process of its own, `setup` (Python) done before: a limit stays there."""
    code = f"import sys; {setup}\nfrom vidiff_cli.cli.app import app\napp(prog_name='vidiff')"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *map(os.fspath, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=100)
    return Result(code=done.returncode, out=done.stdout, err=done.stderr)


def is_one_sentence(result: Result) -> bool:
    """An error that says what is wrong, and no more: one line, exit code 1 (2 for wrong usage), foreseen."""
    lines = [line for line in result.err.splitlines() if not line.startswith("Warning: ")]
    foreseen = "unexpected" not in result.err and "Traceback" not in result.err
    usage = result.code == 2 and "Usage:" in result.err  # Typer's own box
    one = len(lines) == 1 and lines[0].startswith("Error: ") and lines[0].rstrip().endswith(".")
    return result.code in (1, 2) and foreseen and (one or usage) and not result.out


def is_free_of_control(text: str) -> bool:
    """Whether there is nothing in a text that a terminal would obey."""
    return not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


def left_behind(folder: Path) -> list[str]:
    """Hidden files and folders: nothing unfinished may stay."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.name.startswith("."))


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Outputs without a name go to the working directory."""
    monkeypatch.chdir(tmp_path)


vidiff = pytest.fixture(lambda: run)
apart = pytest.fixture(lambda: run_apart)
sentence = pytest.fixture(lambda: is_one_sentence)
quick = pytest.fixture(lambda: QUICK)
training = pytest.fixture(lambda: TRAIN)
hidden = pytest.fixture(lambda: left_behind)
files = pytest.fixture(lambda: content)
rewrite = pytest.fixture(lambda: with_header)
no_control = pytest.fixture(lambda: is_free_of_control)


@pytest.fixture
def refused():
    """refused("extend", ...): the command must end with one sentence, which is returned."""

    def check(*arguments: str | Path) -> str:
        result = run(*arguments)
        assert is_one_sentence(result), (result, arguments)
        return result.err

    return check


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """An untrained network of 16x16 pixels and four frames as a checkpoint file."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    values = {"width": 16, "height": 16, "frames": 4, "fps": "8", "network": NETWORK, "text": {"vocabulary": (5, 6)}}
    settings = ModelSettings.model_validate(values)
    header = {
        "model": settings.model_dump(mode="json"),
        "step": 1,
        "phase": "stable",
        "clips_seen": 4,
        "weights": "ema",
    }
    write_tensors(path, new_video_model(settings, 0).state_dict(), header)
    return path


def make_clip(path: Path, *, side: int = 32) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    encode(path, noise(8, side, seed=1), Fraction(8), lossless=path.suffix == ".mkv")
    return path


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """clip(".mp4"): a sound file of eight frames of 32x32, 8 a second; never to be changed."""
    folder, made = tmp_path_factory.mktemp("clip"), dict[str, Path]()

    def of(suffix: str = ".mp4") -> Path:
        if suffix not in made:
            made[suffix] = make_clip(folder / f"clip{suffix}")
        return made[suffix]

    return of


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A folder with clips/, dataset/ (clips of four frames of 16x16) and run/ (one step); copy it before a change."""
    home = tmp_path_factory.mktemp("made")
    for number in range(3):
        make_clip(home / "clips" / f"clip{number}.mkv", side=16).with_suffix(".txt").write_text("a red ball\n")
    prep = ("prep", home / "clips", "-o", home / "dataset", "--size", "16", "--frames", "4", "--quiet")
    for command in (prep, ("train", home / "dataset", "-o", home / "run", "--steps", "1", *TRAIN, "--quiet")):
        result = run(*command)
        assert result.code == 0, result
    return home


def with_header(path: Path, change: Callable[[dict[str, Any]], object], target: Path) -> Path:
    """A safetensors file with its JSON table changed and its tensors as they were."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    table = json.loads(raw[8 : 8 + length])
    change(table)
    text = json.dumps(table).encode()
    target.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])
    return target


@pytest.fixture
def make():
    """Runs ffmpeg on files of our own: make(target, *arguments)."""

    def of(target: Path, *arguments: str) -> Path:
        code, log, _ = ffmpeg.run([*arguments, ffmpeg.file_url(target)])
        assert code == 0, log
        return target

    return of


@pytest.fixture(scope="session")
def real_clips():
    return [path for name in ("clips", "derived") for path in sorted((real_data() / name).glob("*"))]
