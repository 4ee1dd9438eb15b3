"""interpolate and extend of many films: names, what is finished, what fails, one film or several at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import vidiff

from vidiff_cli.commands.extend import extend
from vidiff_cli.commands.interpolate import interpolate
from vidiff_cli.commands.many import ManyReport, many
from vidiff_cli.config.generate import ExtendSettings, InterpolateSettings
from vidiff_cli.errors import UsageError, VidiffError
from vidiff_cli.generation import completion, load_model, output_files
from vidiff_cli.video.decode import decode
from vidiff_cli.video.encode import encode


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """films/a.mkv and films/sub/b.mov, of six frames that move; and a photo, which is no film."""
    folder = tmp_path / "films"
    for number, name in enumerate(("a.mkv", "sub/b.mp4")):
        still = np.random.default_rng(number).integers(0, 256, (24, 32, 3), np.uint8)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        encode(folder / name, [np.roll(still, 2 * step, axis=1) for step in range(6)], Fraction(8))
    (folder / "sub" / "b.mp4").rename(folder / "sub" / "b.mov")
    encode(folder / "photos", [np.zeros((24, 32, 3), np.uint8)], Fraction(8))
    return folder


def asked(**more: Any) -> InterpolateSettings:
    return InterpolateSettings.model_validate({"input": "films", "output": "out", "seed": 1} | more)


def complete_all(settings: ExtendSettings | InterpolateSettings, inputs: list[Path]) -> ManyReport:
    return many(extend if isinstance(settings, ExtendSettings) else interpolate, settings, inputs)


def statuses(report: ManyReport) -> dict[str, str]:
    return {film.name: film.status for film in report.films}


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file by its name, hidden ones too; of sidecars, which tell of processes and threads, the name alone."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): b"" if path.suffix == ".json" else path.read_bytes() for path in paths}


def test_every_film_is_what_it_is_by_itself(films: Path) -> None:
    result = vidiff("interpolate", films, "-o", "out", "--seed", "1")
    assert result.exit_code == 0 and result.stdout.split() == ["out/a.mp4", "out/sub/b.mp4"]
    assert list(files_of(Path("out"))) == ["a.json", "a.mp4", "sub/b.json", "sub/b.mp4"]
    alone = vidiff("interpolate", films / "sub/b.mov", "-o", "alone.mp4", "--seed", "1")
    assert alone.stdout == "alone.mp4\n" and Path("alone.mp4").read_bytes() == Path("out/sub/b.mp4").read_bytes()
    frames = vidiff("interpolate", films / "a.mkv", "-o", "frames")  # one input: -o is what it was
    assert frames.stdout == "frames\n" and len(list(Path("frames").glob("*.png"))) == 12


def test_a_second_call_makes_what_is_missing(films: Path) -> None:
    assert statuses(complete_all(asked(), [films])) == {"a.mkv": "made", "sub/b.mov": "made"}
    before = files_of(Path("out"))
    Path("out/a.mp4").unlink()
    kept = Path("out/sub/b.mp4").stat().st_mtime_ns
    assert statuses(complete_all(asked(seed=None), [films])) == {"a.mkv": "made", "sub/b.mov": "finished"}
    assert files_of(Path("out")) == before and Path("out/sub/b.mp4").stat().st_mtime_ns == kept
    (films / "a.mkv").rename(films / "a.avi")  # the same film by another name
    assert statuses(complete_all(asked(seed=None), [films]))["a.avi"] == "finished"


@pytest.mark.parametrize("change", ["settings", "seed", "input", "command", "sidecar"])
def test_a_result_made_otherwise_is_replaced_only_when_asked(films: Path, change: str) -> None:
    complete_all(asked(), [films / "a.mkv"])
    before = Path("out/a.mp4").read_bytes()
    settings: Any = asked(**{"settings": {"factor": 3}, "seed": {"seed": 2}}.get(change, {}))
    if change == "input":
        encode(films / "a.mkv", decode(films / "a.mkv").frames[::-1], Fraction(8), overwrite=True)
    if change == "command":
        settings = ExtendSettings(input=films, output=Path("out"), seed=1, num_frames=1)
    if change == "sidecar":
        Path("out/a.json").unlink()
    (refused,) = complete_all(settings, [films / "a.mkv"]).films
    assert refused.status == "failed"
    assert "out/a.mp4 exists" in str(refused.reason) and "--overwrite" in str(refused.reason)
    assert Path("out/a.mp4").read_bytes() == before
    forced = settings.model_copy(update={"overwrite": True})
    assert [statuses(complete_all(forced, [films / "a.mkv"]))["a.mkv"] for _ in range(2)] == ["made", "finished"]


@pytest.fixture
def bad_films(films: Path) -> Path:
    """The same folder with a damaged film and one of a single frame."""
    (films / "Broken.mp4").write_bytes(b"not a film")
    encode(films / "one.mkv", np.zeros((1, 24, 32, 3), np.uint8), Fraction(8))
    return films


def test_a_damaged_film_does_not_stop_the_rest(bad_films: Path) -> None:
    result = vidiff("interpolate", bad_films, "-o", "out", "--json")
    assert result.exit_code == 1
    found = {film["name"]: film for film in json.loads(result.stdout)["films"]}
    failed = [name for name, film in found.items() if film["status"] == "failed"]
    assert failed == ["Broken.mp4", "one.mkv"] and "has a single frame" in found["one.mkv"]["reason"]
    assert found["a.mkv"]["report"]["made"] == 5 and found["sub/b.mov"]["path"] == "out/sub/b.mp4"
    table = result.stderr.splitlines()[-5:]
    assert table[0].split()[:4] == ["film", "given", "made", "seconds"] and table[2].split()[:3] == ["a.mkv", "6", "5"]
    assert "cannot be opened" in table[1] and not list(Path("out").rglob(".*"))


def test_several_at_a_time_make_the_same_bytes(bad_films: Path) -> None:
    one, two = (complete_all(asked(output=name, jobs=jobs), [bad_films]) for name, jobs in (("one", 1), ("two", 2)))
    assert statuses(one) == statuses(two) and list(statuses(two).values()) == ["failed", "made", "failed", "made"]
    assert [film.reason for film in one.films] == [film.reason for film in two.films]
    assert files_of(Path("one")) == files_of(Path("two"))


@pytest.mark.parametrize(("module", "moment"), [(output_files, "write_sidecar"), (completion, "check_files")])
def test_interrupted_it_goes_on(films: Path, killed, module: Any, moment: str) -> None:
    """Before a film, or when its video is written and its sidecar is not: the same command ends with the same files."""
    complete_all(asked(output="whole"), [films])
    killed(module, moment, lambda: complete_all(asked(), [films]), at=2)
    assert "sub/b.json" not in files_of(Path("out"))
    assert statuses(complete_all(asked(), [films])) == {"a.mkv": "finished", "sub/b.mov": "made"}
    assert files_of(Path("out")) == files_of(Path("whole"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are looked up in /proc")
def test_killed_it_leaves_no_process_and_goes_on(films: Path) -> None:
    """A film that is a pipe would be refused; a slow one is simply long."""
    complete_all(asked(output="whole"), [films])
    command = [sys.executable, "-m", "vidiff_cli", "interpolate", "films", "-o", "out", "--seed", "1", "--jobs", "2"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | {"VIDIFF_MARK": str(films)}) as process:
        while process.poll() is None and not Path("out").exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    give_up = time.monotonic() + 60
    while marked(str(films)) and time.monotonic() < give_up:
        time.sleep(0.01)
    assert not marked(str(films))
    assert set(statuses(complete_all(asked(), [films])).values()) <= {"made", "finished"}
    assert files_of(Path("out")) == files_of(Path("whole"))


def marked(value: str) -> list[Path]:
    """The processes that have VIDIFF_MARK=value in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"VIDIFF_MARK={value}".encode() in path.read_bytes().split(b"\0"):
                found.append(path)
        except OSError:
            continue
    return found


def test_names(films: Path) -> None:
    """A suffix stays in the names of those that would have one name; results are never inputs."""
    (films / "sub" / "b.mp4").write_bytes((films / "sub" / "b.mov").read_bytes())
    report = complete_all(asked(dry_run=True), [films])
    assert [str(film.path) for film in report.films] == ["out/a.mp4", "out/sub/b.mov.mp4", "out/sub/b.mp4.mp4"]
    assert {film.status for film in report.films} == {"planned"} and not Path("out").exists()
    lossless = complete_all(asked(dry_run=True, lossless=True), [films / "a.mkv", films / "sub" / "b.mov"])
    assert [str(film.path) for film in lossless.films] == ["out/a.mkv", "out/sub/b.mkv"]
    (films / "sub" / "b.mov.webm").write_bytes(b"x")
    for output, inputs, sentence in (
        (films, [films / "a.mkv", films / "sub" / "b.mp4"], "is an input itself"),
        ("out", [films], r"would both become out/sub/b\.mov\.mp4"),
        ("out", [films / "photos"], "no video in .*photos: found 1 images"),
        ("out", [films, Path("missing")], "missing does not exist"),
    ):
        with pytest.raises(VidiffError, match=sentence):
            complete_all(asked(output=output, dry_run=True), inputs)


def test_wrong_usage(films: Path) -> None:
    for more in ({"output": None}, {"output": "out.mp4"}, {"output": "films"}):
        with pytest.raises(UsageError):
            complete_all(asked(**more), [Path("films")])
    with pytest.raises(UsageError):
        complete_all(asked(to="films/a.mkv"), [films / "a.mkv", films / "a.mkv"])


def test_dry_run_and_progress(films: Path) -> None:
    (films / "bad.mp4").write_bytes(b"x")
    planned = vidiff("interpolate", films, "-o", "out", "--dry-run")
    assert [line.split()[:2] for line in planned.stdout.splitlines()] == [
        ["a.mkv", "planned"],
        ["bad.mp4", "failed"],
        ["sub/b.mov", "planned"],
    ]
    assert planned.exit_code == 1 and not Path("out").exists()
    (films / "bad.mp4").unlink()
    told = vidiff("interpolate", films, "-o", "out", "--verbose").stderr
    assert "frames of all films: 0/12" in told and "frames of all films: 12/12" in told
    assert "1/2 films" in told and "sub/b.mov: frames 6/12" in told


def test_extend_and_the_model_is_opened_once(films: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, original = list[Path](), load_model.load_model
    monkeypatch.setattr(
        load_model, "load_model", lambda *given, **more: opened.append(given[0]) or original(*given, **more)
    )
    wanted = {"input": films, "output": "out", "model": run, "steps": 2, "num_frames": 2, "seed": 3, "dtype": "fp32"}
    settings = ExtendSettings.model_validate(wanted)
    report = complete_all(settings, [films])
    assert [film.report and film.report.made for film in report.films] == [2, 2] and opened == [run]
    assert set(statuses(complete_all(settings, [films])).values()) == {"finished"}
    estimate = settings.model_copy(update={"model": None, "detail": "estimate"})
    assert [film.status for film in complete_all(estimate, [films]).films] == ["failed", "failed"]
