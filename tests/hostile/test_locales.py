"""File names outside ASCII in every locale: the same names, captions and bytes as in UTF-8."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
POSIX = {"LC_ALL": "POSIX", "LANG": "", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
SMALL = ["--set", "network.base_channels=8", "--set", "network.head_dim=8", "--set", "network.embedding=16"]
SMALL += [
    "--set",
    "network.channel_mult=[1]",
    "--set",
    "network.context_dim=16",
    "--frames",
    "4",
    "--batch-size",
    "2",
    "--precision",
    "fp32",
]
SMALL += ["--sample-every", "0", "--device", "cpu", "--text", "learned"]


def run(folder: Path, locale: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vidiff_cli", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | locale, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    assert "\\udc" not in done.stderr + done.stdout
    return done


@pytest.mark.parametrize("locale", [ASCII, POSIX], ids=["C", "POSIX"])
def test_names_outside_ascii_are_read_in_every_locale(tmp_path: Path, clip, locale: dict[str, str]) -> None:
    (tmp_path / "in").mkdir()
    for name in ("café.mp4", "日本.mp4"):
        (tmp_path / "in" / name).write_bytes(clip().read_bytes())
    (tmp_path / "in" / "metadata.csv").write_text("file_name,text\ncafé.mp4,ein Gruß\n", encoding="utf-8")
    options = ["--size", "16", "--frames", "4", "--min-difference", "0", "--workers", "1", "--val-fraction", "0"]
    run(tmp_path, locale, "prep", "in", "-o", "dät", *options)
    rows = [json.loads(line) for line in (tmp_path / "dät" / "clips.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {row["source"] for row in rows} == {"café.mp4", "日本.mp4"}
    assert {text for row in rows for text in row["captions"]} == {"ein Gruß"}
    assert "café.mp4" in run(tmp_path, locale, "info", "in/café.mp4").stdout
    assert "dät" in run(tmp_path, locale, "info", "dät").stdout


@pytest.mark.slow
def test_a_training_has_names_outside_ascii(tmp_path: Path, clip) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "café.mp4").write_bytes(clip().read_bytes())
    (tmp_path / "in" / "café.txt").write_text("ein Gruß", encoding="utf-8")
    run(tmp_path, ASCII, "prep", "in", "-o", "dät", "--size", "16", "--frames", "4", "--workers", "1")
    assert run(tmp_path, ASCII, "train", "dät", "-o", "rün", "--steps", "1", *SMALL).stdout == "rün\n"
