"""`vidiff train --task frames`: a run of the frames between given ones, resumed, continued from and distilled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import write_dataset
from runs import config_of, newest, weights_of

from vidiff_cli.commands.distill import distill
from vidiff_cli.commands.train import train
from vidiff_cli.config.distill import DistillSettings
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.errors import UsageError, VidiffError
from vidiff_cli.generation.load_model import load_model

Training = Callable[..., TrainSettings]
TASK = {
    "task": "frames",
    "network": {"base_channels": 8, "patch_size": 2, "channel_mult": [1, 2], "embedding": 16},
    "loader": {"crop": 16, "flip": True},
    "text": {"kind": "auto"},
    "steps": 4,
    "batch_size": 4,
    "frames": 5,
}
SHAPE = {"frames": 6, "height": 24, "width": 32, "fps": "8"}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips, and two that are too short to have a frame between two others."""
    return write_dataset(tmp_path_factory.mktemp("clips"), [SHAPE] * 6 + [SHAPE | {"frames": 2}] * 2)


@pytest.fixture
def filling(training: Training, clips: Path, tmp_path: Path) -> Callable[..., TrainSettings]:
    return lambda name="run", **more: training(clips, tmp_path / name, **(TASK | more))


def test_a_run_has_everything_that_interpolation_needs(filling: Callable[..., TrainSettings], tmp_path: Path) -> None:
    train(filling(sample_every=4, validate_every=2))
    model = config_of(tmp_path / "run")["model"]
    network = model["network"]
    assert (network["between"], network["temporal"], network["attention_max_size"]) == (True, "convolution", 0)
    assert (model["width"], model["height"], model["conditioning"]) == (16, 16, "mixed")
    assert (model["diffusion"]["target"], model["text"]["kind"]) == ("v", "none") and not network["motion"]
    loaded = load_model(tmp_path / "run", torch.device("cpu"), torch.float32)
    assert loaded.only_between and loaded.errors is not None
    assert set(loaded.errors.between) == {1, 3} and not loaded.errors.beyond
    for model_error, estimate in loaded.errors.between.values():
        assert model_error == pytest.approx(estimate, rel=0.3), "a network at its start gives the estimate"
    assert (tmp_path / "run" / "samples" / "step-000004.png").is_file()


def test_an_interrupted_run_has_the_weights_of_one_that_was_not(filling: Callable[..., Any], tmp_path: Path) -> None:
    train(filling("whole"))
    for _ in train.events(filling("parts")):
        if newest_step(tmp_path / "parts") >= 2:
            break
    train(filling("parts"))
    parts, whole = (weights_of(tmp_path / name) for name in ("parts", "whole"))
    assert all(torch.equal(parts[name], whole[name]) for name in whole)


def newest_step(run: Path) -> int:
    found = [int(path.name[5:11]) for path in (run / "checkpoints").glob("step-*")] if run.is_dir() else []
    return max(found, default=0)


def test_it_is_continued_from_and_distilled(filling: Callable[..., Any], clips: Path, tmp_path: Path) -> None:
    train(filling())
    more = {name: TASK[name] for name in ("task", "network")}
    assert train(filling("more", start_from=tmp_path / "run", steps=1, **more)).steps == 1
    # from its file alone, which does not tell how it was cropped
    teacher = newest(tmp_path / "run") / "ema.safetensors"
    asked = {"teacher": teacher, "dataset": clips, "output": tmp_path / "student", "train_steps": 2, "batch_size": 4}
    distill(DistillSettings.model_validate(asked | {"steps": 2, "teacher_steps": 4, "sample_every": 0}))
    student = load_model(tmp_path / "student", torch.device("cpu"), torch.float32)
    assert student.only_between and student.steps == 2


def test_what_cannot_be_trained_is_one_sentence(
    filling: Callable[..., Any], training: Training, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"--task frames is of pixels: found --autoencoder"):
        train(filling(autoencoder="hf:some/one", loader={}))
    with pytest.raises(UsageError, match=r"frames between given ones: found --image-fraction"):
        train(filling(objective={"image_fraction": 0.2}))
    with pytest.raises(VidiffError, match=r"frames between two others: found windows of 2 frames, expected 3 or more"):
        train(filling(frames=2))
    short = write_dataset(tmp_path / "short", [SHAPE | {"frames": 2}] * 4)
    with pytest.raises(VidiffError, match=r"expected 3 or more; prepare longer clips"):
        train(training(short, tmp_path / "run", **TASK))
    assert not (tmp_path / "run").exists()


def test_a_gray_model_has_its_sheet(training: Training, tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "gray", [SHAPE] * 4, channels=1)
    train(training(folder, tmp_path / "run", **(TASK | {"steps": 1, "sample_every": 1})))
    assert config_of(tmp_path / "run")["model"]["network"]["channels"] == 1
    assert (tmp_path / "run" / "samples" / "step-000001.png").is_file()
