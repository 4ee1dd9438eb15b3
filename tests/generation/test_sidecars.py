"""Results with one stem: each has files of its own beside it."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from vidiff_cli.commands.extend import extend
from vidiff_cli.config.generate import ExtendSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.generation.output_files import compare_path, sheet_path
from vidiff_cli.generation.sidecar import made_by, sidecar_path
from vidiff_cli.video.encode import encode


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """make("o.mkv", seed=1): a result of that name."""
    monkeypatch.chdir(tmp_path)
    encode("in.mkv", np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8), Fraction(8), lossless=True)

    def run(name: str, *, seed: int = 1, **more):
        more = {"num_frames": 1, "detail": "estimate"} | more
        return extend(ExtendSettings(input=Path("in.mkv"), output=Path(name), seed=seed, **more))

    return run


@pytest.mark.parametrize(("one", "other"), [("o.mkv", "o.mp4"), ("o.mp4", "o.gif"), ("o.webm", "o"), ("o", "o.mkv")])
def test_two_results_of_one_stem(make, one: str, other: str) -> None:
    make(one, seed=1, compare=True)
    make(other, seed=2, compare=True)
    assert sidecar_path(Path(one)).name == "o.json" != sidecar_path(Path(other)).name
    for name, seed in ((one, 1), (other, 2)):
        made = made_by(Path(name))
        assert made is not None and made.seed == seed and made.sidecar.is_file()
        assert json.loads(made.sidecar.read_text())["file"] == name
        assert sheet_path(Path(name)).is_file() and compare_path(Path(name)).is_file()
    with pytest.raises(VidiffError, match="exists"):
        make(other, seed=3)
    make(other, seed=3, overwrite=True)
    seeds = [made.seed for name in (one, other) if (made := made_by(Path(name)))]
    assert seeds == [1, 3]


def test_a_renamed_result_keeps_its_sidecar(make) -> None:
    make("o.mkv")
    Path("o.mkv").rename("p.mkv")
    Path("o.json").rename("p.json")
    made = made_by(Path("p.mkv"))
    assert made is not None and made.sidecar == Path("p.json")


@pytest.mark.parametrize("content", ["[1, 2]", "{}", "nonsense", '{"file": "../in.mkv"}'])
def test_a_file_of_somebody_else_is_not_replaced(make, content: str) -> None:
    Path("o.json").write_text(content)
    with pytest.raises(VidiffError, match=r"o\.json exists"):
        make("o.mkv")
    assert Path("o.json").read_text() == content
