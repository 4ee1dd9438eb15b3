"""Commands in two processes of a launcher: the files are those of one process, and one of them speaks."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

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
    ((code, paths, _),) = ranked(*command, "one", cwd=tmp_path, world=1)
    both = ranked(*command, "two", cwd=tmp_path)
    assert (code, paths) == (0, "one/a.mp4\none/c.mp4\none/sub/d.mp4\n")
    assert both[0][:2] == (0, paths.replace("one/", "two/")) and both[1] == (0, "", ""), both
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two") and not list(tmp_path.glob(".*"))
    (tmp_path / "two" / "c.mp4").unlink()
    again = ranked(*command, "two", "--json", cwd=tmp_path)
    assert [film["status"] for film in json.loads(again[0][1])["films"]] == ["finished", "made", "finished"]
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")
