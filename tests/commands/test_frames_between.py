"""Frames between given ones by a model of --task frames: interpolate at the film's own size, and as a stage."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import json_of, sentence_of, vidiff
from tiny_model import tiny_network, tiny_settings, write_model

from vidiff_cli.commands.cascade import cascade
from vidiff_cli.commands.interpolate import interpolate
from vidiff_cli.commands.sample import sample
from vidiff_cli.config.cascade import CascadeSettings
from vidiff_cli.config.generate import GenerationSettings, InterpolateSettings, SampleSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.generation import load_model, made_frames, upscale_budget
from vidiff_cli.generation.cascade import open_stages, pass_frames, with_factor
from vidiff_cli.generation.frames_stage import PlainSampling
from vidiff_cli.video.decode import decode
from vidiff_cli.video.encode import encode
from vidiff_cli.video.probe import probe

PLAIN = {"seed": 5, "dtype": "fp32", "device": "cpu", "lossless": True}
LOCAL = {"patch_size": 2, "temporal": "convolution", "attention_max_size": 0}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained models: a base of 8x8 at 8 and 4 fps, models of the frames between, and an upscaler."""
    folder = tmp_path_factory.mktemp("models")
    base = tiny_settings(tiny_network(), 8, fps="8", frame_strides=(1, 2))
    write_model(folder / "base.safetensors", base)
    for name, channels in (("between", 3), ("gray", 1)):
        network = tiny_network(**LOCAL, between=True, channels=channels)
        write_model(folder / f"{name}.safetensors", tiny_settings(network, 16, frames=5, fps="8"), noise=0.1)
    large = tiny_network(**LOCAL, upscale=2)
    write_model(folder / "large.safetensors", tiny_settings(large, 16, frames=3, augmentation=0.3))
    return folder


@pytest.fixture
def film() -> Path:
    """Nine frames of 37x26 that move, without loss."""
    rng = np.random.default_rng(0)
    canvas = rng.integers(0, 256, (8, 16, 3)).astype(np.uint8).repeat(4, 0).repeat(4, 1)
    frames = np.stack([canvas[3 : 3 + 26, k : k + 37] for k in range(9)])
    encode("film.mkv", frames, Fraction(8), lossless=True)
    return Path("film.mkv")


@pytest.fixture
def asked(models: Path, film: Path) -> Callable[..., InterpolateSettings]:
    def make(**more: Any) -> InterpolateSettings:
        values = {"input": film, "model": models / "between.safetensors", "detail": "model", "hold": False}
        return InterpolateSettings.model_validate(values | PLAIN | more)

    return make


def frames_of(path: Path) -> np.ndarray:
    return decode(path).frames


@pytest.mark.parametrize("detail", ["model", "both"])
@pytest.mark.parametrize("factor", [2, 3])
def test_given_frames_stay_at_the_films_own_size(asked, film: Path, detail: str, factor: int) -> None:
    report = interpolate(asked(detail=detail, factor=factor, output="out.mkv"))
    made, given = frames_of(report.path), frames_of(film)
    assert made.shape == (8 * factor + 1, 26, 37, 3) and report.given_difference == 0
    assert np.array_equal(made[::factor], given)


def test_a_number_is_the_short_side_that_the_model_works_at(asked) -> None:
    assert frames_of(interpolate(asked(size=52, output="large.mkv")).path).shape[1:] == (52, 74, 3)
    assert frames_of(interpolate(asked(size="model", output="own.mkv")).path).shape[1:] == (26, 37, 3)


def test_a_model_that_is_wrong_adds_nothing(asked) -> None:
    """Held-back frames of the film say that the corrections of a network of noise are wrong."""
    estimate = frames_of(interpolate(asked(model=None, detail="estimate", output="estimate.mkv")).path)
    both = frames_of(interpolate(asked(detail="both", output="both.mkv")).path)
    alone = frames_of(interpolate(asked(output="alone.mkv")).path)
    off = np.abs(alone.astype(int) - estimate).max()
    assert off > 20 and np.abs(both.astype(int) - estimate).max() < off / 4


def test_killed_between_windows_the_same_command_gives_the_same_bytes(asked, killed, told) -> None:
    whole = interpolate(asked(output="whole.mkv")).path
    killed(made_frames, "write_made", lambda: interpolate(asked(output="again.mkv")), at=3)
    report, notes = told(interpolate.events(asked(output="again.mkv")))
    assert any("Continuing after window 2 of 4" in note.text for note in notes), notes
    assert report.path.read_bytes() == whole.read_bytes()


def test_nothing_is_made_across_a_cut(models: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 60, (11, 8, 8, 3), np.uint8)
    frames[5:] += 180
    stages = open_stages(SampleSettings.model_validate(PLAIN), [models / "between.safetensors"])
    made = pass_frames(stages, frames, Fraction(8), prompt="", seed=5)
    assert np.array_equal(made[::2], frames)
    assert np.array_equal(made[9], frames[4]), "the last frame before the cut is repeated"


def test_a_stage_is_interpolate_of_what_the_base_made(models: Path) -> None:
    values = {"model": models / "base.safetensors", "steps": 2} | PLAIN
    base = sample(SampleSettings.model_validate(values | {"output": "base.mkv", "fps": 8})).paths[0]
    then = {"then": [models / "between.safetensors"], "output": "more.mkv"}
    report = sample(SampleSettings.model_validate(values | then))
    again = {"input": base, "model": models / "between.safetensors", "detail": "model", "hold": False, "scenes": True}
    whole = interpolate(InterpolateSettings.model_validate(again | PLAIN | {"output": "film.mkv"})).path
    made = frames_of(report.paths[0])
    assert (report.frames, report.fps) == (7, 16) and probe(report.paths[0]).fps == 16
    assert np.array_equal(made, frames_of(whole)) and np.array_equal(made[::2], frames_of(base))


@pytest.mark.parametrize(
    ("fps", "frames", "base_fps", "factor"), [(None, 10, 8, 2), (24, 10, 8, 3), (12, 8, 6, 2), (30, 9, "15/2", 4)]
)
def test_frames_of_the_bases_rate_become_the_wanted_rate(
    models: Path, fps: int | None, frames: int, base_fps: Any, factor: int, told
) -> None:
    values = {"model": models / "base.safetensors", "steps": 1, "num_frames": frames, "fps": fps} | PLAIN
    then = [models / "between.safetensors", models / "large.safetensors"]
    report, notes = told(sample.events(SampleSettings.model_validate(values | {"then": then})))
    assert (report.frames, report.fps, report.width) == (frames, Fraction(fps or 16), 16)
    made = frames_of(report.paths[0])
    assert made.shape == (frames, 16, 16, 3) and probe(report.paths[0]).fps == Fraction(fps or 16)
    between = f"It makes {factor - 1} frame{'s' * (factor > 2)} between two others."
    assert between in [note.text for note in notes]
    count = -(-(frames - 1) // factor) + 1
    plain = {"num_frames": count, "fps": base_fps, "output": "base.mkv"}
    small = frames_of(sample(SampleSettings.model_validate(values | plain)).paths[0])
    stages = with_factor(open_stages(SampleSettings.model_validate(PLAIN), then), factor)
    assert np.array_equal(made, pass_frames(stages, small, Fraction(base_fps), prompt="", seed=5)[:frames])


@pytest.mark.parametrize("at", [2, 4, 6])
def test_killed_in_a_stage_the_same_command_gives_the_same_bytes(models: Path, killed, at: int) -> None:
    then = [models / "between.safetensors", models / "large.safetensors"]
    values = {"model": models / "base.safetensors", "steps": 1, "then": then, "fps": 24} | PLAIN
    whole = sample(SampleSettings.model_validate(values | {"output": "whole.mkv"})).paths[0]
    settings = SampleSettings.model_validate(values | {"output": "again.mkv"})
    killed(made_frames, "write_made", lambda: sample(settings), at=at)
    assert sample(settings).paths[0].read_bytes() == whole.read_bytes() and not list(Path().glob(".*"))


def test_a_folder_is_one_model(models: Path) -> None:
    names = [models / f"{name}.safetensors" for name in ("between", "large")]
    cascade(CascadeSettings(base=models / "base.safetensors", upscalers=tuple(names), output=Path("all")))
    told = vidiff("info", "all")
    assert told.exit_code == 0 and "frames between by between, to 8x8" in told.stdout, told.stderr
    values = {"steps": 1, "num_frames": 6} | PLAIN
    whole = sample(SampleSettings.model_validate(values | {"model": "all", "output": "a.mkv"})).paths[0]
    parts = {"model": models / "base.safetensors", "then": names, "output": "b.mkv"}
    assert whole.read_bytes() == sample(SampleSettings.model_validate(values | parts)).paths[0].read_bytes()
    assert len(json.loads(Path("a.json").read_text())["stages"]) == 2
    again = vidiff("sample", "--from-json", "a.json", "-o", "again.mkv")
    assert again.exit_code == 0 and Path("again.mkv").read_bytes() == whole.read_bytes(), again.stderr


def test_the_newest_run_for_the_task_is_taken(models: Path, film: Path) -> None:
    for name, file in (("frames", "between"), ("base", "base")):
        folder = Path("runs") / name / "checkpoints" / "step-000001"
        folder.mkdir(parents=True)
        (folder / "ema.safetensors").write_bytes((models / f"{file}.safetensors").read_bytes())
        (folder.parent / "latest").write_text("step-000001")
    (Path("runs/frames/checkpoints/latest")).touch()
    assert load_model.newest_run(("video", "frames")) == Path("runs/frames")
    assert load_model.newest_run() == Path("runs/base") and load_model.newest_run(("upscale",)) is None
    done = vidiff("interpolate", film, "--factor", "2", "-o", "out.mp4")
    assert done.exit_code == 0 and "runs/frames" in done.stderr, done.stderr
    assert "runs/base" in vidiff("sample", "-n", "1", "--steps", "1", "-o", "out2.mp4").stderr


def test_info_says_what_it_makes(models: Path) -> None:
    shown = vidiff("info", models / "between.safetensors")
    assert "the frames between given ones, of any size" in shown.stdout, shown.stderr
    assert json_of("info", models / "between.safetensors")["conditioning"] == ["learned"]


@pytest.mark.parametrize("command", [("sample",), ("extend", "film.mkv")])
def test_it_makes_nothing_beyond_given_frames(models: Path, film: Path, command: tuple[str, ...]) -> None:
    said = sentence_of(vidiff(*command, "-m", models / "between.safetensors"))
    assert "makes the frames between given ones" in said and "vidiff interpolate" in said


def test_stages_that_do_not_fit_are_refused_in_a_sentence(models: Path, film: Path) -> None:
    names = {name: models / f"{name}.safetensors" for name in ("base", "between", "gray", "large")}
    said = sentence_of(vidiff("cascade", names["between"], names["large"], "-o", "all"))
    assert "makes the frames between given ones" in said and "as BASE" in said
    two = ("--then", names["between"], "--then", names["between"])
    assert "one stage of the frames between: found 2" in sentence_of(vidiff("sample", "-m", names["base"], *two))
    said = sentence_of(vidiff("sample", "-m", names["base"], "--then", names["gray"]))
    assert "a stage of gray frames" in said
    said = sentence_of(vidiff("upscale", film, "-m", names["between"]))
    assert "does not make videos larger" in said
    assert not list(Path().glob("*.mp4")) and not Path("all").exists()


def test_one_frame_has_nothing_between(models: Path) -> None:
    values = {"model": models / "base.safetensors", "then": [models / "between.safetensors"], "num_frames": 1}
    report = sample(SampleSettings.model_validate(values | PLAIN | {"steps": 1}))
    assert frames_of(report.paths[0]).shape == (1, 8, 8, 3)


def test_a_gray_model_keeps_the_colors(models: Path, asked) -> None:
    gray = models / "gray.safetensors"
    made = frames_of(interpolate(asked(model=gray, detail="both", output="both.mkv")).path)
    assert np.ptp(made.astype(int), axis=-1).max() > 20


def test_a_window_that_does_not_fit_in_memory_is_refused(asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upscale_budget, "available_memory", lambda device: 2**16)
    with pytest.raises(VidiffError, match=r"a window of frames of 37x26 does not fit in memory.*smaller --size"):
        interpolate(asked(output="out.mkv"))
    assert not Path("out.mkv").exists()


def test_a_stage_is_sampled_by_the_defaults_of_the_settings() -> None:
    plain, settings = PlainSampling(), GenerationSettings()
    for field in fields(plain):
        assert getattr(plain, field.name) == getattr(settings, field.name), field.name
