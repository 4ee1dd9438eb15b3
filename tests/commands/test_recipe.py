"""train with images, a noise prior and noisy given frames: what the run holds, and what sampling makes of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from runs import assert_same_training, rows_of

from vidiff_cli.commands.extend import extend
from vidiff_cli.commands.sample import sample
from vidiff_cli.commands.train import train
from vidiff_cli.errors import VidiffError
from vidiff_cli.generation.load_model import find_checkpoint
from vidiff_cli.models.video_model import open_video_model

RECIPE = {
    "diffusion": {"noise": "progressive"},
    "objective": {"image_fraction": 0.34, "context_noise": 0.5, "levels": {"observed": 0.5}},
    "checkpoint_every": 2,
}


@pytest.fixture(scope="module")
def recipe(dataset: Path, training, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four steps with all of it."""
    folder = tmp_path_factory.mktemp("recipe") / "run"
    train(training(dataset, folder, steps=4, **RECIPE))
    return folder


def test_the_checkpoint_says_how_it_was_trained(recipe: Path) -> None:
    settings = open_video_model(find_checkpoint(recipe))[0].settings
    assert (settings.diffusion.noise, settings.diffusion.noise_strength) == ("progressive", 0.894)
    assert settings.context_noise == 0.5
    assert all(row["loss"] > 0 for row in rows_of(recipe))


def test_a_continued_run_is_the_uninterrupted_one(dataset: Path, training, tmp_path: Path) -> None:
    """Images, their places and the noise of given frames follow from the seed and the step. From step 2 on, which ends
    no stable."""
    whole = training(dataset, tmp_path / "whole", steps=4, optimizer={"decay": 0}, **RECIPE)
    train(whole)
    shutil.copytree(tmp_path / "whole", tmp_path / "part")
    for folder in (tmp_path / "part" / "checkpoints").glob("step-000004*"):
        shutil.rmtree(folder)
    (tmp_path / "part" / "checkpoints" / "latest").write_text("step-000002\n")
    train(whole.model_copy(update={"output": tmp_path / "part"}))
    assert_same_training(tmp_path / "whole", tmp_path / "part")


def test_another_noise_than_the_models_is_one_error(settings, recipe: Path, run: Path) -> None:
    refusal = "was trained with another noise: found --noise mixed, expected independent; leave it out"
    with pytest.raises(VidiffError, match=refusal):
        sample(settings("sample", noise="mixed"))
    with pytest.raises(VidiffError, match="found --noise independent, expected progressive"):
        sample(settings("sample", model=recipe, noise="independent"))
    for noise in (None, "progressive"):
        report = sample(settings("sample", model=recipe, noise=noise, output=f"{noise}.mkv", lossless=True))
        assert report.paths[0].is_file()
    assert Path("None.mkv").read_bytes() == Path("progressive.mkv").read_bytes()


def test_context_noise_is_in_the_sidecar(settings, recipe: Path, clip) -> None:
    common = {"input": clip(3), "model": recipe, "num_frames": 3, "lossless": True}
    for name, noise in (("clean", 0.0), ("noisy", 0.3), ("again", 0.3)):
        extend(settings("extend", output=f"{name}.mkv", context_noise=noise, **common))
        assert json.loads(Path(f"{name}.json").read_text())["settings"]["context_noise"] == noise
    assert Path("noisy.mkv").read_bytes() == Path("again.mkv").read_bytes()
