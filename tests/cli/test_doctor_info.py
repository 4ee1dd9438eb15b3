"""`vidiff doctor` and `vidiff info` as a person types them: what goes to stdout, and the exit codes."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import json_of, vidiff

from vidiff_cli.cli.console import print_rows
from vidiff_cli.commands import doctor
from vidiff_cli.commands.doctor.check import Check, Finding

SMALL = ["--set", "network.base_channels=8", "--set", "network.head_dim=8", "--set", "network.embedding=16"]
SMALL += ["--set", "network.context_dim=16", "--frames", "4", "--batch-size", "4", "--precision", "fp32"]


@pytest.fixture
def findings(monkeypatch: pytest.MonkeyPatch) -> Any:
    """findings(finding, ...): what the checks "a", "b", ... find."""

    def make(*found: Finding) -> None:
        checks = [Check(name=chr(97 + n), probe=lambda f=f: f, fix="-") for n, f in enumerate(found)]
        monkeypatch.setattr(doctor, "CHECKS", tuple(checks))

    return make


GOOD, DOUBTFUL = Finding("ok", "all well"), Finding("warning", "no [b]weights[/b]", "get some")
BAD = Finding("fault", "ffmpeg was not found", "pip install imageio-ffmpeg")


def test_doctor_prints_a_row_a_check(findings: Any) -> None:
    findings(GOOD, DOUBTFUL)
    result = vidiff("doctor")
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["a", "ok", "all", "well"],
        ["b", "warning", "no", "[b]weights[/b]"],
        ["fix:", "get", "some"],
    ]
    assert "0 faults, 1 warnings" in result.stderr and "checks: 2/2" in result.stderr
    assert vidiff("doctor", "--quiet").stderr == ""


def test_doctor_fails_on_a_fault(findings: Any) -> None:
    findings(GOOD, BAD)
    found = json_of("doctor", code=1)
    assert found.pop("seconds") >= 0
    assert found == {
        "ok": False,
        "faults": 1,
        "warnings": 0,
        "checks": [
            {"name": "a", "status": "ok", "found": "all well", "fix": None},
            {"name": "b", "status": "fault", "found": BAD.found, "fix": BAD.fix},
        ],
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with clips, a dataset, and a run of four steps, made by the commands."""
    folder = tmp_path_factory.mktemp("home")
    with contextlib.chdir(folder):
        assert vidiff("world", "shapes", "clips", "-n", "8", "--num-frames", "8", "--seed", "1").exit_code == 0
        assert vidiff("prep", "clips", "--size", "16", "--frames", "8", "--preview", "0").exit_code == 0
        asked = ["--preset", "tiny", "--steps", "4", "--checkpoint-every", "2", "--sample-every", "0", "--lr", "0.002"]
        result = vidiff("train", "-o", "runs/my run", *asked, *SMALL)
        assert result.exit_code == 0, result.stderr
    return folder


@pytest.fixture
def at_home(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory is a copy of it."""
    monkeypatch.chdir(shutil.copytree(home, tmp_path / "home"))


def test_info_of_every_kind(at_home: None) -> None:
    newest = Path("runs/my run/checkpoints") / "step-000004-of-000004"
    paths = {
        "run": "runs/my run",
        "checkpoint": newest,
        "dataset": "dataset",
        "video": "clips/clip-00000.mp4",
        "folder": "clips",
    }
    for kind, path in paths.items():
        assert json_of("info", path)["kind"] == kind
        result = vidiff("info", path)
        assert result.exit_code == 0
        assert result.stdout.split()[0] == kind and len(result.stdout.splitlines()) >= 3
        assert "hardly trained" in result.stderr or kind not in ("run", "checkpoint")


@pytest.mark.parametrize("finished", [True, False])
def test_the_command_that_goes_on_goes_on(at_home: None, finished: bool) -> None:
    run = Path("runs/my run")
    if not finished:
        shutil.rmtree(run / "checkpoints" / "step-000004-of-000004")
        (run / "checkpoints" / "latest").write_text("step-000002\n")
    before = json_of("info", run)
    assert (before["state"], before["steps"]) == (("finished", 4) if finished else ("unfinished", 2))
    words = shlex.split(before["go_on"])
    assert words[:2] == ["vidiff", "train"]
    result = vidiff(*words[1:])
    assert result.exit_code == 0 and f"Continuing {run} at step " in result.stderr, result.stderr
    after = json_of("info", run)
    assert (after["state"], after["steps"]) == ("finished", 8 if finished else 4)


def test_the_command_that_repeats_repeats(at_home: None) -> None:
    made = ["sample", "a red square", "-o", "out.mkv", "--lossless", "--steps", "2", "--seed", "5", "-m", "runs/my run"]
    assert vidiff(*made, "--dtype", "fp32").exit_code == 0
    found = json_of("info", "out.mkv")["made_by"]
    assert (found["command"], found["seed"]) == ("sample", 5)
    assert found["repeat"] in vidiff("info", "out.mkv").stdout
    assert vidiff(*shlex.split(found["repeat"])[1:]).exit_code == 0
    assert Path("again.mkv").read_bytes() == Path("out.mkv").read_bytes()


def test_rows_are_aligned_and_never_cut(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    sys.stdout.flush()
    with open(1, "w", closefd=False) as out, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        print_rows([("a", "x" * 300), ("long", os.fsdecode(b"\xff")), ("", "")], colors={"a": "red"})
    assert capfdbinary.readouterr().out == b"a     " + b"x" * 300 + b"\nlong  \\udcff\n\n"
