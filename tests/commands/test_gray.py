"""Gray datasets: trained on in one channel; what a gray model makes is gray, whatever it is shown."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import assert_same_training, config_of, rows_of
from safetensors import safe_open

from vidiff_cli.commands.evaluate import evaluate
from vidiff_cli.commands.extend import extend
from vidiff_cli.commands.info import info
from vidiff_cli.commands.interpolate import interpolate
from vidiff_cli.commands.prep import prep
from vidiff_cli.commands.sample import sample
from vidiff_cli.commands.train import train
from vidiff_cli.config.evaluate import EvaluateSettings
from vidiff_cli.config.prep import PrepSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.generation import complete_video
from vidiff_cli.generation.calibrate import Gains
from vidiff_cli.generation.load_model import find_checkpoint
from vidiff_cli.luma import to_gray, to_rgb
from vidiff_cli.sampling.merge import FULL_GAIN
from vidiff_cli.video.encode import encode

SIDE = 16  # of clips and of the model


@pytest.fixture(scope="module")
def gray_dataset(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world of `dataset` in luma."""
    output = tmp_path_factory.mktemp("gray") / "dataset"
    source = str(dataset.parent / "clips")
    prep(PrepSettings(sources=(source,), output=output, size=SIDE, frames=8, preview=0, workers=1, gray=True))
    return output


@pytest.fixture(scope="module")
def gray_run(gray_dataset: Path, training: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("gray-run") / "run"
    train(training(gray_dataset, run, steps=24, sample_every=24, validate_every=24))
    return run


def is_gray(frames: np.ndarray) -> bool:
    return frames.shape[-1] == 3 and int(np.ptp(frames, axis=-1).max()) == 0


def film(count: int, name: str, *, gray: bool, width: int = 40, height: int = 24) -> Path:
    """A lossless file of a colored square that moves over colors."""
    rng = np.random.default_rng(5)
    coarse = rng.integers(60, 190, (height // 8, width // 8, 3), np.uint8)
    frames = np.repeat(coarse.repeat(8, 0).repeat(8, 1)[None], count, axis=0)
    for number in range(count):
        frames[number, 6:14, 4 + 2 * number : 12 + 2 * number] = (190, 70, 60)
    encode(name, to_rgb(to_gray(frames)) if gray else frames, Fraction(8), lossless=True)
    return Path(name)


def test_the_network_has_the_channels_of_the_dataset_and_learns(gray_run: Path) -> None:
    assert config_of(gray_run)["model"]["network"]["channels"] == 1
    with safe_open(find_checkpoint(gray_run), "pt") as weights:  # type: ignore[no-untyped-call]
        shapes = {name: weights.get_slice(name).get_shape() for name in weights.offset_keys()}
    assert shapes["denoiser.network.stem_estimate.conv.weight"][1] == (1 + 2) * 2**2  # patches of 2x2
    losses = [row["validation_loss"] for row in rows_of(gray_run) if "validation_loss" in row]
    assert len(losses) == 2 and losses[-1] < losses[0]  # of the same clips in the same noise
    assert (gray_run / "samples" / "progress.png").is_file()
    assert info(gray_run).model.network["channels"] == 1  # type: ignore[union-attr]


def test_a_training_that_is_continued_is_the_same(gray_dataset, training, tmp_path) -> None:
    train(training(gray_dataset, tmp_path / "whole", steps=4))
    for steps in (2, 4):
        train(training(gray_dataset, tmp_path / "parts", steps=steps))
    assert_same_training(tmp_path / "whole", tmp_path / "parts")


def test_samples_are_gray(settings, gray_run: Path, frames_of) -> None:
    """Longer than a window too, where frames of before are observed."""
    (path,) = sample(settings("sample", model=gray_run, num_frames=6, lossless=True)).paths
    frames = frames_of(path)
    assert frames.shape == (6, SIDE, SIDE, 3) and is_gray(frames) and np.ptp(frames) > 0


@pytest.mark.parametrize("command", [extend, interpolate])
@pytest.mark.parametrize("size", ["model", "film"])
@pytest.mark.parametrize("detail", ["both", "model"])
def test_a_gray_film_stays_gray(command, size, detail, gray_run, frames_of, monkeypatch) -> None:
    monkeypatch.setattr(complete_video, "calibrate", full_gain)
    path = film(6, "gray.mkv", gray=True)
    report = run_on(command, path, gray_run, size=size, detail=detail)
    frames = frames_of(report.path)
    assert is_gray(frames) and report.made > 0


@pytest.mark.parametrize("command", [extend, interpolate])
def test_a_color_film_keeps_its_colors_but_for_luma(command, gray_run, frames_of, monkeypatch) -> None:
    """What the model adds is the same in all colors: color is that of the estimate. Given frames are not touched."""
    monkeypatch.setattr(complete_video, "calibrate", full_gain)
    path = film(6, "color.mkv", gray=False)
    both = frames_of(run_on(command, path, gray_run, size="film", detail="both").path).astype(int)
    alone = frames_of(run_on(command, path, gray_run, size="film", detail="estimate").path).astype(int)
    added = both - alone
    unclamped = ((both > 0) & (both < 255)).all(axis=-1)
    assert np.abs(added).max() > 8, "the model adds nothing"
    assert np.ptp(added, axis=-1)[unclamped].max() <= 1  # rounding
    given = frames_of(path)
    kept = both[: len(given)] if command is extend else both[::2]
    assert np.array_equal(kept, given)


@pytest.mark.parametrize("size", ["model", "film"])
def test_frames_of_the_model_alone_are_gray_in_a_color_film(size, gray_run, frames_of) -> None:
    path = film(6, "color.mkv", gray=False)
    options = {"size": size, "detail": "model", "drift_control": "first"}
    report, notes = follow(extend.events(settings_of(extend, path, gray_run, **options)))
    frames = frames_of(report.path)
    assert any("its frames are gray" in text for text in notes)
    assert is_gray(frames[6:]) and not is_gray(frames[:6])
    if size == "film":
        assert np.array_equal(frames[:6], frames_of(path))


def test_calibration_compares_luma(gray_run: Path, frames_of) -> None:
    """A gray film and its color version are of one luma: the weights are the same, and so is what is added."""
    made = []
    for gray in (False, True):
        path = film(8, f"gray-{gray}.mkv", gray=gray)
        _, notes = follow(extend.events(settings_of(extend, path, gray_run, size="film", detail="both")))
        made.append([text for text in notes if text.startswith("Held-back frames")])
    assert made[0] == made[1] != []


def test_gray_clips_and_samples_are_evaluated(gray_dataset: Path, gray_run: Path) -> None:
    values = {"real": gray_dataset, "generated": gray_run, "extractors": ("random",), "bootstrap": 5, "clip": False}
    more = {"side": "all", "count": 4, "sampling": {"steps": 1, "dtype": "fp32"}}
    assert evaluate(EvaluateSettings.model_validate(values | more)).results


def test_an_autoencoder_is_shown_gray_clips_as_rgb(gray_dataset: Path, training, tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    pytest.importorskip("transformers")
    from public_models import save_model

    public = save_model("modelscope", tmp_path / "public")
    train(training(gray_dataset, tmp_path / "run", steps=1, autoencoder=str(public), validate_every=1))
    assert config_of(tmp_path / "run")["model"]["network"]["channels"] == 4


@pytest.mark.parametrize("gray", [False, True])
def test_weights_of_other_channels_are_refused(gray, dataset, run, gray_dataset, gray_run, training, tmp_path) -> None:
    data, start, fix = (dataset, gray_run, "with --gray") if gray else (gray_dataset, run, "without --gray")
    with pytest.raises(
        VidiffError, match=f"was trained on .*: found a dataset of .*; prepare the dataset {fix}"
    ) as error:
        train(training(data, tmp_path / "tuned", start_from=start))
    assert "\n" not in str(error.value) and not (tmp_path / "tuned" / "config.json").exists()


def full_gain(*_: Any) -> Any:
    """In the place of a calibration: all that the model corrects is right."""
    yield from ()
    return Gains(small=lambda rank: FULL_GAIN)


def settings_of(command: Any, path: Path, run: Path, **more: Any) -> Any:
    from vidiff_cli.config.generate import ExtendSettings, InterpolateSettings

    kind, count = (ExtendSettings, {"num_frames": 5}) if command is extend else (InterpolateSettings, {"factor": 2})
    values = {"input": path, "model": run, "steps": 2, "seed": 3, "dtype": "fp32", "lossless": True, "overwrite": True}
    return kind.model_validate(values | count | more)


def run_on(command: Any, path: Path, run: Path, **more: Any) -> Any:
    return command(settings_of(command, path, run, **more))


def follow(events: Any) -> tuple[Any, list[str]]:
    notes = []
    while True:
        try:
            event = next(events)
        except StopIteration as done:
            return done.value, notes
        notes.append(getattr(event, "text", ""))
