"""`vidiff train --task upscale`: a run of super-resolution, resumed, continued from and distilled."""

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
from vidiff_cli.errors import VidiffError
from vidiff_cli.generation.load_model import load_model

Training = Callable[..., TrainSettings]
TASK = {
    "task": "upscale",
    "scale": 2,
    "network": {"base_channels": 8, "patch_size": 2, "channel_mult": [1, 2], "embedding": 16},
    "loader": {"crop": 16, "flip": True},
    "text": {"kind": "auto"},
    "steps": 4,
    "batch_size": 4,
    "frames": 3,
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = {"frames": 4, "height": 24, "width": 32, "fps": "8"}
    return write_dataset(tmp_path_factory.mktemp("clips"), [shape] * 6)


@pytest.fixture
def upscaling(training: Training, clips: Path, tmp_path: Path) -> Callable[..., TrainSettings]:
    return lambda name="run", **more: training(clips, tmp_path / name, **(TASK | more))


def test_a_run_has_everything_that_upscaling_needs(upscaling: Callable[..., TrainSettings], tmp_path: Path) -> None:
    train(upscaling(sample_every=4, validate_every=2))
    model = config_of(tmp_path / "run")["model"]
    network = model["network"]
    assert (network["upscale"], network["temporal"], network["attention_max_size"]) == (2, "convolution", 0)
    assert (model["width"], model["height"]) == (16, 16)
    assert (model["diffusion"]["target"], model["text"]["kind"]) == ("v", "none")
    assert model["augmentation"] == 0.3 and not network["motion"]
    assert model["diffusion"]["shift"] == pytest.approx(5.73)
    assert load_model(tmp_path / "run", torch.device("cpu"), torch.float32).scale == 2
    assert (tmp_path / "run" / "samples" / "step-000004.png").is_file()


def test_an_interrupted_run_has_the_weights_of_one_that_was_not(upscaling: Callable[..., Any], tmp_path: Path) -> None:
    train(upscaling("whole"))
    for _ in train.events(upscaling("parts")):
        if newest_step(tmp_path / "parts") >= 2:
            break
    train(upscaling("parts"))
    parts, whole = (weights_of(tmp_path / name) for name in ("parts", "whole"))
    assert all(torch.equal(parts[name], whole[name]) for name in whole)


def newest_step(run: Path) -> int:
    found = [int(path.name[5:11]) for path in (run / "checkpoints").glob("step-*")] if run.is_dir() else []
    return max(found, default=0)


def test_it_is_continued_from_and_distilled(upscaling: Callable[..., Any], tmp_path: Path) -> None:
    train(upscaling())
    more = {name: TASK[name] for name in ("task", "scale", "network")}
    assert train(upscaling("more", start_from=tmp_path / "run", steps=1, **more)).steps == 1
    asked = {"teacher": tmp_path / "run", "output": tmp_path / "student", "train_steps": 2, "batch_size": 4}
    distill(DistillSettings.model_validate(asked | {"steps": 2, "teacher_steps": 4, "sample_every": 0}))
    student = load_model(tmp_path / "student", torch.device("cpu"), torch.float32)
    assert student.scale == 2 and student.steps == 2
    assert load_model(tmp_path / "run", torch.device("cpu"), torch.float32).steps == 1
    assert newest(tmp_path / "student").is_dir()


def test_what_cannot_be_trained_is_one_sentence(upscaling: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(VidiffError, match=r"--task upscale is of pixels: found --autoencoder"):
        train(upscaling(autoencoder="hf:some/one", loader={}))
    with pytest.raises(VidiffError, match=r"loader\.crop does not fit the network: found 16, expected a multiple of 6"):
        train(upscaling(scale=3, network={"base_channels": 8, "embedding": 16}))
    assert not (tmp_path / "run").exists()


def test_a_gray_model_has_its_sheet(training: Training, tmp_path: Path) -> None:
    shape = {"frames": 4, "height": 24, "width": 32, "fps": "8"}
    folder = write_dataset(tmp_path / "gray", [shape] * 4, channels=1)
    train(training(folder, tmp_path / "run", **(TASK | {"steps": 1, "sample_every": 1})))
    assert config_of(tmp_path / "run")["model"]["network"]["channels"] == 1
    assert (tmp_path / "run" / "samples" / "step-000001.png").is_file()
