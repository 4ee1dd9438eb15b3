"""Public models by the command line: given frames stay as they are, whatever is made and however it was interrupted."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import json_of, sentence_of, vidiff
from public_models import save_split

from vidiff_cli.generation.resume_journal import WindowJournal
from vidiff_cli.video.decode import decode
from vidiff_cli.video.encode import encode

WIDTH, HEIGHT, GIVEN = 40, 24, 7
SHAPE = {
    "modelscope": ("--model-size", "16x16", "--model-frames", "4"),
    "animatediff": ("--model-size", "16x16", "--model-frames", "4"),
    "wan": ("--model-size", "16x16", "--model-frames", "9"),
    "skyreels": ("--model-size", "16x16", "--model-frames", "9"),
    "cogvideox": ("--model-frames", "9"),
}
GUIDED = ("reconstruction", "replacement")
PER_FRAME = [("modelscope", condition) for condition in GUIDED]  # animatediff has the same frames: a photo, below
GROUPS = [(family, condition) for family in ("wan", "cogvideox", "skyreels") for condition in GUIDED]


def picture(number: int) -> np.ndarray:
    """A frame (h w c) of a moving bar on noise that stays."""
    frame = np.random.default_rng(0).integers(60, 120, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    frame[:, 4 + 2 * number : 10 + 2 * number] = (200, 60, 30)
    return frame


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "in.mkv"
    encode(path, [picture(number) for number in range(GIVEN)], Fraction(8), lossless=True)
    return path


@pytest.fixture
def made(folder_of, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., np.ndarray]:
    """made(command, family, *arguments): the frames of a lossless result, after two steps."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(command: str, family: str, *arguments: Any, of: Path = clip, out: str = "out.mkv") -> np.ndarray:
        common = ("-m", folder_of(family), *SHAPE[family], "--steps", 2, "--seed", 1, "-o", out, "--lossless")
        report = json_of(command, of, *common, "--detail", "model", *arguments)
        assert report["given_difference"] == 0
        return frames_of(Path(out))

    return run


def frames_of(path: Path) -> np.ndarray:
    return np.stack(list(decode(path).frames))


def moved(frames: np.ndarray) -> bool:
    """True if no frame repeats the one before."""
    return all(not np.array_equal(one, other) for one, other in pairwise(frames))


@pytest.mark.slow
@pytest.mark.parametrize(("family", "condition"), PER_FRAME)
def test_given_frames_with_latents_per_frame(made, clip, tmp_path: Path, family: str, condition: str) -> None:
    """extend forwards, backwards, to a loop, from a photo; interpolate; join."""
    given, way = frames_of(clip), ("--condition", condition)
    after = made("extend", family, "--num-frames", 5, "--prompt", "a cat", *way, out="after.mkv")
    assert np.array_equal(after[:GIVEN], given) and len(after) == GIVEN + 5 and moved(after)
    before = made("extend", family, "--num-frames", 5, "--before", *way, out="before.mkv")
    assert np.array_equal(before[-GIVEN:], given) and len(before) == GIVEN + 5
    loop = made("extend", family, "--num-frames", 3, "--loop", *way, out="loop.mkv")
    assert np.array_equal(loop[:GIVEN], given) and len(loop) == GIVEN + 3
    double = made("interpolate", family, "--factor", 2, "--no-hold", *way, out="double.mkv")
    assert np.array_equal(double[::2], given) and len(double) == 2 * GIVEN - 1 and moved(double)
    joined = made("interpolate", family, "--to", clip, "--gap", 2, *way, out="joined.mkv")
    assert np.array_equal(joined[:GIVEN], given) and np.array_equal(joined[-GIVEN:], given)
    assert len(joined) == 2 * GIVEN + 2


@pytest.mark.parametrize(("family", "condition"), [*GROUPS, ("skyreels", "learned")])
def test_given_frames_with_groups(made, clip, family: str, condition: str) -> None:
    """Forwards, in two windows, the last of which is made longer than what is written."""
    arguments = ("--num-frames", 6, "--prompt", "a cat", "--condition", condition, "--overlap", 5)
    after = made("extend", family, *arguments)
    assert np.array_equal(after[:GIVEN], frames_of(clip)) and len(after) == GIVEN + 6 and moved(after)


@pytest.mark.parametrize("family", ["animatediff", "wan"])
def test_a_photo(made, tmp_path: Path, family: str) -> None:
    photo = tmp_path / "photo.png"
    encode(tmp_path / "photos", [picture(0)], Fraction(8))
    next((tmp_path / "photos").glob("*.png")).rename(photo)
    after = made("extend", family, "--num-frames", 6, of=photo)
    assert np.array_equal(after[0], picture(0)) and len(after) == 7


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("interpolate", ("--factor", 2)),
        ("interpolate", ("--to", "IN", "--gap", 2)),
        ("extend", ("--num-frames", 4, "--before")),
        ("extend", ("--num-frames", 4, "--loop")),
        ("extend", ("--num-frames", 4, "--scheme", "hierarchical")),
        ("extend", ("--num-frames", 4, "--scheme", "rolling")),
    ],
)
def test_what_groups_cannot_do(folder_of, clip: Path, command: str, arguments: tuple[Any, ...]) -> None:
    arguments = tuple(clip if each == "IN" else each for each in arguments)
    result = vidiff(command, clip, "-m", folder_of("wan"), *SHAPE["wan"], *arguments, "-o", clip.with_name("no.mkv"))
    assert "encodes 4 frames as one" in sentence_of(result) and not clip.with_name("no.mkv").exists()


def test_samples_of_groups_do_not_roll(folder_of, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    common = ("-m", folder_of("skyreels"), *SHAPE["skyreels"], "--num-frames", 13, "-o", "no.mkv")
    said = sentence_of(vidiff("sample", "a cat", *common, "--scheme", "rolling"))
    assert "encodes 4 frames as one" in said and not Path("no.mkv").exists()


def test_history_guides_a_family_that_is_shown_given_frames(made, folder_of, clip: Path) -> None:
    """With levels by frame, and never by itself; others say so."""
    common = ("--num-frames", 6, "--overlap", 5)
    plain = made("extend", "skyreels", *common, out="plain.mkv")
    assert np.array_equal(plain, made("extend", "skyreels", *common, "--history-guidance", 1, out="one.mkv"))
    guided = made("extend", "skyreels", *common, "--history-guidance", 3, out="guided.mkv")
    assert np.array_equal(guided[:GIVEN], plain[:GIVEN]) and not np.array_equal(guided, plain)
    arguments = ("-m", folder_of("modelscope"), *SHAPE["modelscope"], *common, "--history-guidance", 1.5)
    said = sentence_of(vidiff("extend", clip, *arguments, "-o", clip.with_name("no.mkv")))
    assert "is for given frames that the network is shown: found the condition reconstruction" in said


@pytest.mark.parametrize(("family", "new"), [("modelscope", 8), ("wan", 12)])
def test_killed_and_run_again(folder_of, clip: Path, tmp_path: Path, monkeypatch, family: str, new: int) -> None:
    """kill -9 after the first window: the same command goes on, and the file is that of an uninterrupted call."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    common = ("-m", folder_of(family), *SHAPE[family], "--num-frames", new, "--steps", 2, "--seed", 1, "--lossless")

    def extend(folder: Path, *more: Any) -> Any:
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        return vidiff("extend", clip, *common, "--detail", "model", "-o", "out.mkv", *more)

    assert extend(tmp_path / "whole").exit_code == 0
    child = os.fork()
    if child == 0:
        save = WindowJournal.save

        def killed(self: WindowJournal, done: int, checksum: int, *, of: int) -> None:
            save(self, done, checksum, of=of)
            if done == 1:
                os.kill(os.getpid(), signal.SIGKILL)

        WindowJournal.save = killed  # type: ignore[method-assign]
        try:
            extend(tmp_path / "killed")
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert not (tmp_path / "killed" / "out.mkv").exists()
    again = extend(tmp_path / "killed")
    assert again.exit_code == 0 and "Continuing after window 1" in again.stderr
    assert (tmp_path / "killed" / "out.mkv").read_bytes() == (tmp_path / "whole" / "out.mkv").read_bytes()
    assert {path.name for path in (tmp_path / "killed").iterdir()} == {"out.mkv", "out.json"}


def sampled(folder: Path, family: str, *arguments: Any, out: str = "out.mkv") -> None:
    shape = SHAPE[family]
    result = vidiff("sample", *arguments, "-m", folder, *shape, "--steps", 2, "--lossless", "-o", out)
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize("family", ["modelscope", "wan"])
def test_videos_of_one_call_are_those_made_alone(folder_of, tmp_path: Path, monkeypatch, family: str) -> None:
    monkeypatch.chdir(tmp_path)
    folder = folder_of(family)
    sampled(folder, family, "a cat", "a red dog", "--seed", 4, "--batch-size", 1, out="both.mkv")
    sampled(folder, family, "a cat", "--seed", 4, out="one.mkv")
    sampled(folder, family, "a red dog", "--seed", 5, out="other.mkv")
    sampled(folder, family, "a red dog", "--seed", 4, out="third.mkv")
    one, other, third = (frames_of(Path(name)) for name in ("one.mkv", "other.mkv", "third.mkv"))
    assert np.array_equal(frames_of(Path("both_s4.mkv")), one) and np.array_equal(frames_of(Path("both_s5.mkv")), other)
    assert not np.array_equal(other, third) and not np.array_equal(one, third)  # the seed and the prompt count


@pytest.mark.parametrize("family", ["animatediff", "cogvideox"])
def test_offload_changes_nothing_on_a_cpu(folder_of, tmp_path: Path, monkeypatch, family: str) -> None:
    monkeypatch.chdir(tmp_path)
    sampled(folder_of(family), family, "a cat", "--seed", 4, out="one.mkv")
    sampled(folder_of(family), family, "a cat", "--seed", 4, "--offload", out="other.mkv")
    assert Path("one.mkv").read_bytes() == Path("other.mkv").read_bytes()
    record = json.loads(Path("one.json").read_text())["checkpoint"]
    assert record["family"] and len(record["sha256"]) == 64 and len(record["weights"]) == 3


@pytest.mark.slow
def test_an_image_model_and_an_adapter_are_the_joined_model(tmp_path: Path, monkeypatch, clip: Path) -> None:
    monkeypatch.chdir(tmp_path)
    image, adapter, joined = save_split(tmp_path)
    sampled(Path(f"{image}+{adapter}"), "animatediff", "a cat", "--seed", 4, out="split.mkv")
    sampled(joined, "animatediff", "a cat", "--seed", 4, out="joined.mkv")
    assert Path("split.mkv").read_bytes() == Path("joined.mkv").read_bytes()
    common = ("--num-frames", 3, "--steps", 1, "--seed", 1, "-m", f"{image}+{adapter}", *SHAPE["animatediff"])
    assert vidiff("extend", clip, *common, "-o", "on.mkv").exit_code == 0
    assert "cannot be opened as MotionAdapter" in sentence_of(
        vidiff("sample", "a cat", "-m", f"{image}+{wrong_adapter(adapter, tmp_path)}")
    )
    assert "it makes pictures: add a motion adapter" in sentence_of(vidiff("sample", "a cat", "-m", image))


def wrong_adapter(adapter: Path, folder: Path) -> Path:
    wrong = shutil.copytree(adapter, folder / "wrong")
    next(wrong.glob("*.safetensors")).write_bytes(b"")
    return wrong


@pytest.mark.parametrize(
    "arguments",
    [
        ("--start-noise", "freenoise"),
        ("--start-noise", "previous"),
        ("--freeinit", 2),
        ("--sampler", "ddpm"),
        ("--negative-prompt", "no blur", "-g", 3),
    ],
    ids=lambda each: "-".join(map(str, each)).replace("--", ""),
)
@pytest.mark.parametrize("family", ["modelscope", "wan"])
def test_ways_to_sample(folder_of, tmp_path: Path, monkeypatch, family: str, arguments: tuple[Any, ...]) -> None:
    monkeypatch.chdir(tmp_path)
    common = ("-m", folder_of(family), *SHAPE[family], "--num-frames", 9, "--steps", 2, "--seed", 1)
    result = vidiff("sample", "a cat", *common, *arguments, "-o", "out.mkv")
    if "freenoise" in arguments and family != "modelscope":
        assert "makes frames in groups, which have no noise of their own" in sentence_of(result)
        return
    assert result.exit_code == 0, result.stderr
    assert len(frames_of(Path("out.mkv"))) == 9
