"""`vidiff evaluate` as a person types it."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from command_line import vidiff

from vidiff_cli.video.encode import encode


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("sides")
    rng = np.random.default_rng(0)
    for side in ("real", "made"):
        (folder / side).mkdir()
        for number in range(3):
            frames = np.repeat(rng.integers(0, 256, (5, 1, 16, 3), np.uint8), 12, axis=1)
            encode(folder / side / f"{number}.mkv", frames, Fraction(8), lossless=True)
    return folder / "real", folder / "made"


def test_the_table_goes_to_stdout_and_talk_to_stderr(sides: tuple[Path, Path], tmp_path: Path) -> None:
    found = vidiff("evaluate", *sides, "-o", tmp_path / "out", "--extractor", "random", "--bootstrap", "3", "--no-clip")
    assert found.exit_code == 0, found.stderr
    lines = found.stdout.splitlines()
    assert lines[0].split()[:2] == ["measure", "generated"]
    assert lines[1].startswith("Frechet distance (random extractor, proxy)") and "FVD" not in found.stdout
    assert any(line.startswith("PSNR ") for line in lines)
    assert "Warning: 3 videos are few" in found.stderr and "Comparing 5 frames of 16x12 at 8 fps" in found.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "evaluation.json",
        "evaluation.md",
        "evaluation.png",
    ]
    again = vidiff("evaluate", *sides, "-o", tmp_path / "out", "--extractor", "random")
    assert again.exit_code == 1 and "exists" in again.stderr and again.stdout == ""


def test_json_is_one_object_and_nan_free(sides: tuple[Path, Path], tmp_path: Path) -> None:
    options = ["--json", "-q", "--given", "2", "--no-temporal", "--bootstrap", "2", "--num_frames", "4", "--seed", "5"]
    found = vidiff("evaluate", sides[0], sides[0], "-o", tmp_path / "out", *options)
    report = json.loads(found.stdout)
    assert report["protocol"]["given_frames"] == [0, 1] and report["protocol"]["frames"] == 4
    assert [each["name"] for each in report["protocol"]["extractors"]] == ["random", "shapes"]
    assert report["by_frame"]["SSIM"] == [None, None, 1.0, 1.0] and report["protocol"]["seed"] == 5
    assert {each["kind"] for each in report["results"]} == {"distance", "fidelity"}


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (["--size", "7x"], 2, "--size: found '7x', expected one number for a square, such as 64, or WIDTHxHEIGHT"),
        (["--extractor", "fvd"], 2, "--extractor: found ['fvd'], expected random, shapes or i3d:FILE"),
        (["--num-frames", "6"], 1, "is too short: found 5 frames, expected 6; pass --num-frames 5"),
    ],
)
def test_mistakes_are_one_sentence(sides, tmp_path: Path, options, code, sentence) -> None:
    more = [] if "--extractor" in options else ["--extractor", "random"]
    found = vidiff("evaluate", *sides, "-o", tmp_path / "out", *options, *more)
    assert found.exit_code == code and sentence in found.stderr and not (tmp_path / "out").exists()
