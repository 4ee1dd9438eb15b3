"""The commands as a person types them: the way from nothing to video, and the wrong turns on it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import sentence_of, vidiff

from vidiff_cli.generation import generate
from vidiff_cli.video.decode import decode
from vidiff_cli.video.encode import encode
from vidiff_cli.video.probe import probe

SMALL = ["--set", "network.base_channels=16", "--set", "network.embedding=32", "--set", "network.context_dim=16"]
SMALL += ["--set", "network.channel_mult=[1]"]
FAST = ["--steps", "2"]


def paths_of(*arguments: str | Path) -> list[Path]:
    """The paths that a command prints: it must end well, and stdout hold nothing else."""
    result = vidiff(*arguments)
    assert result.exit_code == 0, result.stderr
    return [Path(line) for line in result.stdout.splitlines()]


def path_of(*arguments: str | Path) -> Path:
    (path,) = paths_of(*arguments)
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh folder in which clips, dataset/ and runs/ were made by the commands without further flags."""
    folder = tmp_path_factory.mktemp("home")
    with contextlib.chdir(folder):
        assert path_of("world", "shapes", "clips", "-n", "12", "--seed", "1") == Path("clips")
        assert path_of("prep", "clips") == Path("dataset")
        run = path_of("train", "--steps", "6", "--batch-size", "4", *SMALL)
        assert run == Path("runs/dataset-small") and (run / "samples" / "step-000006.png").is_file()
        shutil.copy("clips/clip-00000.mp4", "clip.mp4")
    return folder


@pytest.fixture
def here(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of its own with that run and clip.mp4."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "runs").symlink_to(home / "runs")
    shutil.copy(home / "clip.mp4", tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def check_sidecar(path: Path, home: Path, command: str) -> dict[str, Any]:
    content = json.loads(path.with_suffix(".json").read_text())
    checkpoint = home / content["checkpoint"]["path"]
    assert content["command"] == command and content["argv"]
    assert content["seed"] == content["settings"]["seed"] >= 0
    assert content["checkpoint"]["sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert content["checkpoint"]["path"] == content["settings"]["model"]
    assert content["versions"].keys() >= {"vidiff", "torch"} and content["device"] and content["dtype"]
    return content


def listing(folder: Path) -> dict[Path, int]:
    """Every file and folder below, with its size (0 for a folder)."""
    return {path: 0 if path.is_dir() else path.lstat().st_size for path in folder.rglob("*")}


def nearest(made: np.ndarray, given: np.ndarray) -> list[int]:
    """The given frame that each made one is most like."""
    return [int(np.abs(given - frame.astype(int)).mean(axis=(1, 2, 3)).argmin()) for frame in made]


# The card: each command in a fresh folder, without further flags.


def test_sample(home: Path, here: Path) -> None:
    result = vidiff("sample", "a red square moving right")
    path = Path(result.stdout.strip())
    seed = check_sidecar(path, home, "sample")["seed"]
    assert result.stdout == f"a-red-square-moving-right_s{seed}_8f_64x64.mp4\n"
    assert f"seed {seed}" in result.stderr and "hardly trained" in result.stderr
    made = decode(path)
    assert made.frames.shape == (8, 64, 64, 3) and made.fps == 8
    assert set(here.iterdir()) == {here / name for name in ("runs", "clip.mp4", str(path), path.stem + ".json")}


@pytest.mark.parametrize(
    ("command", "flags", "name", "rate", "count"),
    [("extend", [], "clip-extended", 8, 32), ("interpolate", ["--fps", "24"], "clip-24fps", 24, 48)],
)
def test_extend_and_interpolate(home: Path, here: Path, command, flags, name, rate, count) -> None:
    """Two seconds more, or three times the rate, in order: the given frames are the input's, but for the codec."""
    path = path_of(command, "clip.mp4", *flags)
    content = check_sidecar(path, home, command)
    made, given = decode(path), decode(home / "clip.mp4").frames
    height, width = given.shape[1:3]
    assert path == Path(f"{name}_s{content['seed']}_{count}f_{width}x{height}.mp4")
    assert made.frames.shape == (count, height, width, 3) and made.fps == probe(path).fps == rate
    assert made.times == tuple(Fraction(number, rate) for number in range(count))
    assert nearest(made.frames[:16] if command == "extend" else made.frames[::3], given) == list(range(16))
    if command == "extend":
        assert (content["given"], content["made"], len(content["drift"]["windows"])) == (16, 16, 4)


# Repeating, reporting, refusing to overwrite.

COMMANDS = {
    "sample": ["a red square", *FAST],
    "extend": ["clip.mp4", "--num-frames", "3", "--detail", "model", *FAST],
    "interpolate": ["clip.mp4", "--detail", "model", *FAST],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_again(home: Path, here: Path, command: str) -> None:
    """--from-json gives the same frames, other settings other ones; --json prints one object."""
    result = vidiff(command, *COMMANDS[command], "-o", "one.mkv", "--lossless", "--json")
    report = json.loads(result.stdout)
    assert (report.get("path") or report["paths"][0]) == "one.mkv" and report["seconds"] > 0
    check_sidecar(Path("one.mkv"), home, command)
    again = path_of(command, "--from-json", "one.json", "-o", "folder/two.mkv")
    assert np.array_equal(decode("one.mkv").frames, decode(again).frames)
    settings = [json.loads(Path(name).read_text())["settings"] for name in ("one.json", "folder/two.json")]
    assert settings[0] == settings[1]
    other = path_of(command, "--from-json", "one.json", "--seed", "123456", "-o", "three.mkv", "--no-sidecar")
    assert not np.array_equal(decode("one.mkv").frames, decode(other).frames) and not Path("three.json").exists()


def test_nothing_is_overwritten_unless_asked(here: Path) -> None:
    arguments = ("sample", *COMMANDS["sample"], "-o", "one.mkv", "--lossless")
    path_of(*arguments)
    before = listing(here)
    assert sentence_of(vidiff(*arguments)) == "one.mkv exists; choose another name, or pass --overwrite."
    assert listing(here) == before
    Path("one.mkv").unlink()
    taken = "one.json exists; choose another name for the result, or pass --overwrite."
    assert sentence_of(vidiff(*arguments)) == taken
    assert path_of(*arguments, "--overwrite") == Path("one.mkv")


def test_a_sidecar_names_its_checkpoint(home: Path, here: Path) -> None:
    """A newer run does not change what --from-json repeats; a sidecar of another command is one sentence."""
    path_of("sample", *FAST, "-o", "one.mkv", "--lossless")
    (here / "runs").unlink()
    shutil.copytree(home / "runs", here / "runs")
    shutil.copytree(here / "runs" / "dataset-small", here / "runs" / "newer")
    (here / "runs" / "newer" / "checkpoints" / "latest").write_text("step-000004\n")
    again = path_of("sample", "--from-json", "one.json", "-o", "two.mkv")
    newer = path_of("sample", "--from-json", "one.json", "-m", "runs/newer", "-o", "three.mkv")
    frames = [decode(path).frames for path in ("one.mkv", again, newer)]
    assert np.array_equal(frames[0], frames[1]) and not np.array_equal(frames[0], frames[2])
    sentence = sentence_of(vidiff("extend", "--from-json", "one.json", "clip.mp4"))
    assert "belongs to vidiff sample: expected a sidecar of vidiff extend" in sentence


def test_several_prompts_on_stdout(here: Path) -> None:
    Path("my prompts.txt").write_text("a red square\na blue plus\n")
    paths = paths_of("sample", "--prompts", "my prompts.txt", "-n", "2", "--seed", "5", *FAST, "-o", "out", "--quiet")
    names = [("a-red-square", 5), ("a-red-square", 6), ("a-blue-plus", 7), ("a-blue-plus", 8)]
    assert paths == [Path("out") / f"{name}_s{seed}_8f_64x64.mp4" for name, seed in names]
    assert all(path.is_file() for path in paths)


def test_quiet_and_strict(here: Path) -> None:
    result = vidiff("sample", "a purple dragon", *FAST, "--quiet")
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 1
    assert all(line.startswith("Warning: ") for line in result.stderr.splitlines())
    assert "The model has never seen: purple, dragon (in 'a purple dragon')." in result.stderr
    before = listing(here)
    assert "purple, dragon" in sentence_of(vidiff("sample", "a purple dragon", "--strict-prompt"))
    assert listing(here) == before


def test_photo_to_frames_and_back(here: Path) -> None:
    encode(here / "photos", decode("clip.mp4").frames[:1], Fraction(8))
    photo = (here / "photos" / "000000.png").rename(here / "my photo.png")
    folder = path_of("extend", photo.name, "--num-frames", "2", *FAST, "-o", "frames/")
    assert sorted(path.name for path in folder.iterdir()) == ["000000.png", "000001.png", "000002.png"]
    assert Path("frames.json").is_file()
    gif = path_of("extend", photo, "--seconds", "0.5", *FAST, "-o", "x.gif")
    assert len(decode(gif).frames) == 5
    path_of("interpolate", gif, *FAST, "-o", "x.webp")
    assert Path("x.json").is_file() and Path("x.webp.json").is_file()  # the GIF's sidecar is not replaced
    loop = path_of("interpolate", gif, *FAST, "-o", "y.webm")
    assert probe(loop).fps == 16 and len(decode(loop).frames) == 10


def test_a_continued_command(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C: exit code 130, no output; the same command again gives what an uninterrupted one gives."""

    def stopping(*arguments, **more):
        yield next(original(*arguments, **more))
        raise KeyboardInterrupt

    original = generate.sample_windows
    command = ("extend", "clip.mp4", "--num-frames", "8", "--detail", "model", *FAST, "--lossless")
    with monkeypatch.context() as patch:
        patch.setattr(generate, "sample_windows", stopping)
        result = vidiff(*command)
    assert result.exit_code == 130 and result.stderr.splitlines()[-1] == "Interrupted." and result.stdout == ""
    result = vidiff(*command)
    assert "Continuing after window 1 of 2." in result.stderr
    path = Path(result.stdout.strip())
    seed = json.loads(path.with_suffix(".json").read_text())["seed"]
    whole = path_of(*command, "--seed", str(seed), "-o", "whole.mkv")
    assert np.array_equal(decode(path).frames, decode(whole).frames) and not list(here.glob(".*"))


def test_train_again_and_further(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dataset").symlink_to(home / "dataset")
    shutil.copytree(home / "runs", "runs")
    train = ("train", "--batch-size", "4", "--sample-every", "0", "--validate-every", "0", *SMALL)
    result = vidiff(*train, "--steps", "6", "--json")
    assert "nothing to do" in result.stderr and json.loads(result.stdout)["steps"] == 6
    never = sentence_of(vidiff(*train, "--steps", "6", "--resume", "never"))
    assert never.startswith("runs/dataset-small already exists")
    assert "another batch_size: found 5, expected 4" in sentence_of(vidiff(*train, "--steps", "6", "--batch-size", "5"))
    result = vidiff(*train, "--steps", "7")
    assert "Continuing runs/dataset-small at step 4 of 7." in result.stderr and result.stdout == "runs/dataset-small\n"


# Bad input: one sentence, exit code 1 (2 for wrong usage), nothing written. Bad files: tests/hostile.

OUT = ["-o", "new/out.mp4"]
SAMPLE, EXTEND = ["sample", *COMMANDS["sample"]], ["extend", *COMMANDS["extend"]]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([*SAMPLE, "--lossless", "-o", "out.mp4"], 1, ".mp4 cannot be lossless"),
        ([*SAMPLE, "-o", "text.txt/out.mp4"], 1, "cannot be written"),
        ([*SAMPLE, "-o", "out.png"], 1, "expected .gif, .mkv, .mp4"),
        ([*SAMPLE, "-o", "taken"], 1, "taken exists; choose"),
        ([*SAMPLE, "-o", "taken", "--overwrite"], 1, "found mine.txt"),
        ([*SAMPLE, *OUT, "--sampler", "euler"], 2, "'dpmpp-2m', 'ddim' or 'ddpm'"),
        ([*EXTEND, *OUT, "--langevin", "0.1"], 2, "--langevin works with --sampler ddpm only, not with dpmpp-2m"),
        ([*EXTEND, *OUT, "--threshold", "2"], 2, "--threshold is 2.0"),
        ([*EXTEND, *OUT, "--seed", "-1"], 2, "--seed: found -1"),
        ([*EXTEND, *OUT, "--device", "quantum"], 1, "expected auto, cpu, cuda, cuda:1 or mps"),
        ([*EXTEND, *OUT, "--model", "missing"], 1, "found no such file or folder, expected a run folder"),
        (["extend"], 2, "the setting 'input' is missing"),
        (["extend", "clip.mp4", "--seconds", "1", "--num-frames", "3"], 2, "only one of --seconds and --num-frames"),
        (["extend", "clip.mp4", "--seconds", "0"], 2, "--seconds: found 0.0, expected greater than 0"),
        (["extend", "clip.mp4", "--overlap", "8"], 1, "expected less than the window of 8"),
        (["interpolate", "clip.mp4", "--fps", "24", "--factor", "2"], 2, "only one of --fps, --factor and"),
        (["interpolate", "clip.mp4", "--factor", "1"], 2, "--factor: found 1"),
        (["sample", "--overlap", "8"], 1, "--overlap leaves nothing to make"),
        (["sample", "--fps", "60", "-o", "x.gif"], 1, "a GIF cannot be that fast"),
        (["train", "missing"], 1, "missing is not a dataset: found no such folder"),
        (
            ["train", "--preset", "huge"],
            2,
            "unknown --preset: found 'huge', expected base, frames, kinetics, latent, lora, small, temporal, tiny",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_turns(here: Path, arguments: list[str], code: int, words: str) -> None:
    Path("text.txt").write_text("text")
    Path("taken").mkdir()
    Path("taken/mine.txt").write_text("mine")
    before = listing(here)
    assert words in sentence_of(vidiff(*arguments), code)
    assert listing(here) == before
