"""Commands in two processes of a launcher: the files are those of one process, one of them speaks, and what a killed
one leaves undone is done by the same command."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import vidiff
from files import content
from ranked import ranked
from tiny_model import tiny_network, tiny_settings, write_model

from vidiff_cli.video.encode import encode

LARGE = {"patch_size": 2, "temporal": "convolution", "attention_max_size": 0, "upscale": 2}
LOST = "process 2 of 2 does not answer: found no sign of it for 5 seconds; the same command goes on where it was."


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three films of six frames that move, and a file that is no film."""
    folder = tmp_path_factory.mktemp("films")
    for number, name in enumerate(("a", "c", "sub/d")):
        still = np.random.default_rng(number).integers(0, 256, (24, 32, 3), np.uint8)
        (folder / name).parent.mkdir(exist_ok=True)
        encode(folder / f"{name}.mp4", [np.roll(still, 2 * step, axis=1) for step in range(6)], Fraction(8))
    return folder


@pytest.fixture
def patched(tmp_path: Path) -> Callable[..., dict[int, Path]]:
    """patched("module.name", 2, "raise ..."): in rank 1 the second call of a function ends so."""

    def make(name: str, at: int, how: str) -> dict[int, Path]:
        module, _, attribute = name.rpartition(".")
        path = tmp_path / "patch.py"
        path.write_text(f"""
import os, signal
from vidiff_cli.system import rank_files
rank_files.BEAT_SECONDS = 0.3
from vidiff_cli.errors import VidiffError
import {module} as module
calls, original = [], module.{attribute}
def patch(*given, **more):
    calls.append(1)
    if len(calls) == {at}:
        {how}
    return original(*given, **more)
module.{attribute} = patch
""")
        impatient = tmp_path / "impatient.py"
        impatient.write_text("from vidiff_cli.system import rank_files; rank_files.SILENT_SECONDS = 5.0")
        return {0: impatient, 1: path}

    return make


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file by its name, hidden ones too; of sidecars, which tell of argv, the name alone."""
    return {name: b"" if name.endswith(".json") else data for name, data in content(folder).items()}


def test_films(films: Path, tmp_path: Path, patched: Callable[..., dict[int, Path]]) -> None:
    command = ("interpolate", films, "--seed", "1", "-o")
    one = vidiff(*command, "one")
    assert one.stdout == "one/a.mp4\none/c.mp4\none/sub/d.mp4\n"
    die = patched("vidiff_cli.generation.output_files.write_sidecar", 1, "os.kill(os.getpid(), signal.SIGKILL)")
    killed = ranked(*command, "two", cwd=tmp_path, first=die)
    assert [code for code, _, _ in killed] == [1, -signal.SIGKILL] and killed[0][2].endswith(f"Error: {LOST}\n")
    assert files_of(Path("two")).keys() >= {"a.mp4", "a.json", "sub/d.mp4", "sub/d.json"}  # the other one went on
    assert not Path("two/c.json").exists()
    made = Path("two/a.mp4").stat().st_mtime_ns
    both = ranked(*command, "two", cwd=tmp_path)
    assert both == [(0, "two/c.mp4\n", both[0][2]), (0, "", "")] and Path("two/a.mp4").stat().st_mtime_ns == made
    assert files_of(Path("one")) == files_of(Path("two")) and not list(tmp_path.glob(".*"))


def test_a_film_that_fails_and_a_process_that_fails(
    films: Path, tmp_path: Path, patched: Callable[..., dict[int, Path]]
) -> None:
    """The first leaves the others alone; the second ends all. Either is told once, and the exit code is 1."""
    command = ("interpolate", films, "--seed", "1", "-o")
    for name in ("one", "two"):
        Path(name).mkdir()
        Path(name, "c.mp4").write_bytes(b"mine")
    one, both = vidiff(*command, "one"), ranked(*command, "two", cwd=tmp_path)
    assert one.exit_code == 1 and both == [(1, one.stdout.replace("one", "two"), both[0][2]), (0, "", "")]
    assert one.stderr.count("c.mp4 exists") == both[0][2].count("c.mp4 exists") == 2  # in a note and in the table
    assert files_of(Path("one")) == files_of(Path("two")) and Path("two/c.mp4").read_bytes() == b"mine"
    fail = patched("vidiff_cli.commands.many._open_model", 1, "raise VidiffError('rank 1 has read rubbish')")
    failed = ranked(*command, "three", cwd=tmp_path, first=fail)
    assert [code for code, _, _ in failed] == [1, 1] and failed[1][1:] == ("", "")
    assert failed[0][2].count("rank 1 has read rubbish") == 1 and failed[0][1] == ""
    end = patched("vidiff_cli.commands.many._open_model", 1, "os.kill(os.getpid(), signal.SIGTERM)")
    ended = ranked(*command, "three", "--overwrite", cwd=tmp_path, first=end)
    assert [code for code, _, _ in ended] == [143, 143] and ended[1][1:] == ("", "")
    assert ended[0][2].endswith("Terminated.\n") and not list(tmp_path.rglob(".ranks*"))


def test_samples(run: Path, tmp_path: Path, patched: Callable[..., dict[int, Path]]) -> None:
    """Killed in its second batch of a random seed; one process goes on with that seed, and with what is done."""
    command = ("sample", "a red wall", "blue", "-n", "2", "-m", run, "--steps", "2", "--num-frames", "8")
    command += ("--dtype", "fp32", "--lossless", "--compare", "-o")
    die = patched("vidiff_cli.generation.sample_batches.encode", 2, "os.kill(os.getpid(), signal.SIGKILL)")
    killed = ranked(*command, "two", "--batch-size", "1", cwd=tmp_path, first=die)
    assert [code for code, _, _ in killed] == [1, -signal.SIGKILL] and killed[0][2].endswith(f"Error: {LOST}\n")
    made = {path: path.stat().st_mtime_ns for path in Path("two").glob("*.mkv")}
    assert len(made) == 3 and list(tmp_path.glob(".*"))
    again = vidiff(*command, "two", "--batch-size", "1")
    assert again.exit_code == 0 and all(path.stat().st_mtime_ns == then for path, then in made.items())
    seed = json.loads(Path(again.stdout.splitlines()[0]).with_suffix(".json").read_text())["seed"]
    both = ranked(*command, "three", "--seed", str(seed), cwd=tmp_path)
    one = vidiff(*command, "one", "--seed", str(seed))
    assert both == [(0, one.stdout.replace("one/", "three/"), both[0][2]), (0, "", "")]
    assert files_of(Path("one")) == files_of(Path("two")) == files_of(Path("three")) and len(files_of(Path("one"))) == 9
    assert not list(tmp_path.glob(".*"))


def test_stages_of_samples(run: Path, tmp_path: Path, patched: Callable[..., dict[int, Path]]) -> None:
    """Killed in the second window of a stage, the fifth in all: one process goes on there."""
    write_model(Path("large.safetensors"), tiny_settings(tiny_network(**LARGE), 32, frames=3, augmentation=0.3))
    command = ("sample", "a red wall", "blue", "-m", run, "--then", "large.safetensors", "--steps", "2", "--seed", "7")
    command += ("--num-frames", "8", "--batch-size", "1", "--dtype", "fp32", "--lossless", "--compare", "-o")
    die = patched("vidiff_cli.generation.made_frames.write_made", 5, "os.kill(os.getpid(), signal.SIGKILL)")
    killed = ranked(*command, "two", cwd=tmp_path, first=die)
    assert [code for code, _, _ in killed] == [1, -signal.SIGKILL] and len(list(Path("two").glob("*.mkv"))) == 1
    again = vidiff(*command, "two")
    assert [again.stderr.count(f"Continuing after window {done} of") for done in (1, 3)] == [1, 1], again.stderr
    assert vidiff(*command, "one").exit_code == 0
    assert files_of(Path("one")) == files_of(Path("two")) and not list(tmp_path.glob(".*"))


def test_nothing_to_share(run: Path, films: Path, tmp_path: Path) -> None:
    for command in (
        ("sample", "blue", "-m", run, "--steps", "1", "-o", "out.mp4"),
        ("interpolate", films / "a.mp4", "-o", "film.mp4"),
    ):
        both = ranked(*command, cwd=tmp_path)
        assert both == [(0, f"{command[-1]}\n", both[0][2]), (0, "", "")], both
        assert both[0][2].count("1 of 2 processes have nothing to do.") == 1


def test_a_dataset(films: Path, tmp_path: Path, patched: Callable[..., dict[int, Path]]) -> None:
    """The sources are divided without --shard, which is refused beside. What a killed process decoded is kept."""
    command = ("prep", films, "--size", "16", "--frames", "4", "--fps", "8", "--min-motion", "0", "--workers", "1")
    command += ("-o",)
    die = patched("vidiff_cli.preparation.decode._keep_failure", 1, "os.kill(os.getpid(), signal.SIGKILL)")
    killed = ranked(*command, "two", cwd=tmp_path, first=die)
    assert [code for code, _, _ in killed] == [1, -signal.SIGKILL] and killed[0][2].endswith(f"Error: {LOST}\n")
    one, both = vidiff(*command, "one"), ranked(*command, "two", cwd=tmp_path)
    assert one.exit_code == 0 and both == [(0, "two\n", both[0][2]), (0, "", "")]
    assert "Continuing: 3 of 3 sources were finished before." in both[0][2]
    assert Path("one/clips.jsonl").read_bytes().count(b"\n") == 3
    assert content(Path("one")) == content(Path("two")) and not list(tmp_path.glob(".*"))
    assert "sources: 3/3" in both[0][2]
    refused = ranked(*command, "three", "--shard", "1/2", cwd=tmp_path)
    assert [code for code, _, _ in refused] == [2, 2] and refused[1][2] == ""
    assert "2 processes of torchrun take no part by hand: found --shard 1/2" in refused[0][2]


def measured(folder: str) -> dict[str, Any]:
    """The content of evaluation.json but for the time and the command."""
    report = json.loads(Path(folder, "evaluation.json").read_text())
    del report["seconds"], report["protocol"]["argv"]
    return report


def test_an_evaluation_of_files(films: Path, tmp_path: Path) -> None:
    """Distances, paired measures and the hash of all pixels are equal to the last bit."""
    command = ("evaluate", films, films, "--extractor", "random", "--bootstrap", "3", "--no-clip", "-o")
    one, both = vidiff(*command, "one"), ranked(*command, "two", cwd=tmp_path)
    assert one.exit_code == 0 and both == [(0, one.stdout, both[0][2]), (0, "", "")] and "PSNR" in one.stdout
    assert measured("one") == measured("two") and not list(tmp_path.glob(".*"))


def test_an_evaluation_of_a_run(run: Path, tmp_path: Path) -> None:
    """Samples are shared out in batches; the measured ones are those of one process."""
    command = ("evaluate", run, "--side", "train", "-n", "5", "--steps", "1", "--dtype", "fp32")
    command += ("--extractor", "random", "--bootstrap", "3", "--no-clip", "-o")
    assert vidiff(*command, "one").exit_code == 0
    both = ranked(*command, "two", cwd=tmp_path)
    assert [code for code, _, _ in both] == [0, 0] and both[1][1:] == ("", ""), both
    assert "samples: 5/5" in both[0][2] and measured("one") == measured("two")
