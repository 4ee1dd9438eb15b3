"""`vidiff preview` as a person types it: what goes to stdout and to the terminal, and the exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import vidiff

from vidiff_cli.video.encode import encode
from vidiff_cli.viz.terminal import HALF, SHADES

HOSTILE = "a caption\x1b]0;owned\x07 [bold]here[/bold] \u202e"


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    for number in range(3):
        frames = np.random.default_rng(number).integers(0, 256, (6, 16, 16, 3)).astype(np.uint8)
        encode(folder / f"{number}.mp4", frames, Fraction(8))
    (folder / "1.txt").write_text(HOSTILE, encoding="utf-8")
    return folder


def test_a_path_that_was_written_is_all_of_stdout(clips: Path, tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    result = vidiff("preview", clips, "-o", path)
    assert (result.exit_code, result.stdout) == (0, f"{path}\n") and path.read_bytes().startswith(b"\x89PNG")
    assert vidiff("preview", clips, "-o", path).exit_code == 1
    assert vidiff("preview", clips, "-o", path, "--overwrite", "--quiet").stderr == ""


def test_json_lists_the_entries_without_pixels(clips: Path) -> None:
    result = vidiff("preview", clips, "--json", "-n", "2", "--quiet")
    report = json.loads(result.stdout)
    assert (result.exit_code, result.stderr, report["total"], report["output"]) == (0, "", 3, None)
    assert [entry["name"] for entry in report["entries"]] == ["0.mp4", "1.mp4"] and "strips" not in report
    assert [report["entries"][0][key] for key in ("width", "height", "frames", "fps")] == [16, 16, 6, "8"]


def test_without_a_terminal_there_are_words_and_no_pictures(clips: Path) -> None:
    result = vidiff("preview", clips)
    assert result.exit_code == 0 and result.stdout == ""
    assert "1.mp4" in result.stderr and "[bold]here[/bold]" in result.stderr
    assert not {"\x1b", "\x07", HALF} & set(result.stderr)
    assert "-o sheet.png" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere"], 1, "nowhere does not exist"),
        ([".", "-n", "0"], 2, "--count: found 0"),
    ],
)
def test_errors_are_a_sentence(tmp_path: Path, monkeypatch, arguments, code, said) -> None:
    monkeypatch.chdir(tmp_path)
    result = vidiff("preview", *arguments)
    assert (result.exit_code, result.stdout) == (code, "") and said in result.stderr
    assert "Traceback" not in result.stderr and list(tmp_path.iterdir()) == []


pty = pytest.importorskip("pty")


@pytest.fixture
def on_terminal(clips: Path) -> Callable[..., str]:
    """on_terminal(columns, variables): what a terminal gets on stderr; stdout must stay empty."""

    def run(columns: int, variables: Mapping[str, str]) -> str:
        ours, theirs = pty.openpty()
        plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "TERM")}
        plain |= {"TERM": "xterm-256color", "COLORTERM": "truecolor", "PYTHONIOENCODING": "utf-8", "LINES": "50"}
        command = [sys.executable, "-m", "vidiff_cli", "preview", str(clips), "-n", "2", "--quiet"]
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=theirs,
            env={**plain, "COLUMNS": str(columns), **variables},
        ) as process:
            os.close(theirs)
            said = b""
            while True:
                try:
                    part = os.read(ours, 65536)
                except OSError:  # the other end was closed
                    break
                if not part:
                    break
                said += part
            assert process.stdout is not None and process.stdout.read() == b""
        os.close(ours)
        assert process.returncode == 0, said
        return said.decode()

    return run


def test_a_terminal_gets_half_blocks_in_its_width(on_terminal: Callable[..., str]) -> None:
    said = on_terminal(60, {})
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in said.splitlines()]
    drawn = [line for line in lines if HALF in line]
    assert {line.count(HALF) for line in drawn} == {32} and len(drawn) == 2 * 8  # two frames of 16x16 for each clip
    assert max(map(len, drawn)) <= 60 and re.search(r"\x1b\[38;2;\d+;\d+;\d+;48;2;\d+;\d+;\d+m▀", said)
    assert "\x1b]" not in said and "[bold]here[/bold]" in said


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"PYTHONIOENCODING": "ascii"}])
def test_a_terminal_without_colors_gets_plain_signs(on_terminal: Callable[..., str], variables: Any) -> None:
    said = on_terminal(60, variables)
    assert HALF not in said and "38;2" not in said
    shades = [line.rstrip() for line in said.splitlines() if len(line) > 20 and set(line.rstrip()) <= set(SHADES)]
    assert len(shades) == 2 * 8
