"""Commands in two processes of a launcher: the files are those of one process, and one of them speaks."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ranked import ranked

from vidiff_cli.video.encode import encode


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three films of six frames that move, and a file that is no film."""
    folder = tmp_path_factory.mktemp("films")
    for number, name in enumerate(("a", "c", "sub/d")):
        still = np.random.default_rng(number).integers(0, 256, (24, 32, 3), np.uint8)
        (folder / name).parent.mkdir(exist_ok=True)
        encode(folder / f"{name}.mp4", [np.roll(still, 2 * step, axis=1) for step in range(6)], Fraction(8))
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file by its name, hidden ones too; of sidecars, which tell of argv, the name alone."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): b"" if path.suffix == ".json" else path.read_bytes() for path in paths}


def test_films(films: Path, tmp_path: Path) -> None:
    command = ("interpolate", films, "--seed", "1", "-o")
    ((code, paths, told),) = ranked(*command, "one", cwd=tmp_path, world=1)
    both = ranked(*command, "two", cwd=tmp_path)
    assert (code, paths) == (0, "one/a.mp4\none/c.mp4\none/sub/d.mp4\n"), told
    assert both[0][:2] == (0, paths.replace("one/", "two/")) and both[1] == (0, "", ""), both
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two") and not list(tmp_path.glob(".*"))
    (tmp_path / "two" / "c.mp4").unlink()
    again = ranked(*command, "two", "--json", cwd=tmp_path)
    assert [film["status"] for film in json.loads(again[0][1])["films"]] == ["finished", "made", "finished"]
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_a_dataset(films: Path, tmp_path: Path) -> None:
    """The sources are divided without --shard, which is refused beside."""
    command = (
        "prep",
        films,
        "--size",
        "16",
        "--frames",
        "4",
        "--fps",
        "8",
        "--min-motion",
        "0",
        "--workers",
        "1",
        "-o",
    )
    ((code, paths, told),) = ranked(*command, "one", cwd=tmp_path, world=1)
    both = ranked(*command, "two", cwd=tmp_path)
    assert (code, paths) == (0, "one\n") and both == [(0, "two\n", both[0][2]), (0, "", "")]
    assert (tmp_path / "one" / "clips.jsonl").read_bytes().count(b"\n") == 3
    one, two = (
        {name: (tmp_path / each / name).read_bytes() for name in files_of(tmp_path / each)} for each in ("one", "two")
    )
    assert one == two and not list(tmp_path.glob(".*"))
    assert "sources: 3/3" in told and "sources: 3/3" in both[0][2]
    again = ranked(*command, "two", cwd=tmp_path)
    assert [code for code, _, _ in again] == [0, 0] and "Nothing to do" in again[0][2]
    refused = ranked(*command, "three", "--shard", "1/2", cwd=tmp_path)
    assert [code for code, _, _ in refused] == [2, 2] and refused[1][2] == ""
    assert "2 processes of torchrun take no part by hand: found --shard 1/2" in refused[0][2]


def measured(folder: Path) -> dict[str, Any]:
    """The content of evaluation.json but for the time, the command and the folder of a run's samples."""
    report = json.loads((folder / "evaluation.json").read_text())
    del report["seconds"], report["protocol"]["argv"]
    return report


def test_an_evaluation_of_files(films: Path, tmp_path: Path) -> None:
    """Distances, paired measures and the hash of all pixels are equal to the last bit."""
    command = ("evaluate", films, films, "--extractor", "random", "--bootstrap", "3", "--no-clip", "-o")
    ((code, table, _),) = ranked(*command, "one", cwd=tmp_path, world=1)
    both = ranked(*command, "two", cwd=tmp_path)
    assert code == 0 and both == [(0, table, both[0][2]), (0, "", "")] and "PSNR" in table
    assert measured(tmp_path / "one") == measured(tmp_path / "two") and not list(tmp_path.glob(".*"))


def test_an_evaluation_of_a_run(run: Path, tmp_path: Path) -> None:
    """Samples are shared out in batches; the measured ones are those of one process."""
    command = (
        "evaluate",
        run,
        "--side",
        "train",
        "-n",
        "5",
        "--steps",
        "1",
        "--dtype",
        "fp32",
        "--extractor",
        "random",
    )
    command += ("--bootstrap", "3", "--no-clip", "-o")
    assert ranked(*command, "one", cwd=tmp_path, world=1)[0][0] == 0
    both = ranked(*command, "two", cwd=tmp_path)
    assert [code for code, _, _ in both] == [0, 0], both
    assert "samples: 5/5" in both[0][2] and both[1][1:] == ("", "")
    assert measured(tmp_path / "one") == measured(tmp_path / "two")
