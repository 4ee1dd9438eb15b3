"""Default steps of sampling: what training measured, what was measured on other models, and what is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import newest, weights_of

from vidiff_cli.checkpoint import read_checkpoint, read_header, write_tensors
from vidiff_cli.commands.train import train
from vidiff_cli.config.generate import GenerationSettings
from vidiff_cli.config.model import DistilledSettings
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.generation.load_model import load_model
from vidiff_cli.generation.sampling_setup import resolve_sampling
from vidiff_cli.models.sample_steps import SampleSteps
from vidiff_cli.models.unet_model import UNetModel
from vidiff_cli.runs import monitor

CPU = torch.device("cpu")


def opened(run: Path) -> UNetModel:
    return load_model(run, CPU, torch.float32)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of any length measure their steps, with two clips."""
    monkeypatch.setattr(monitor, "clips_for_steps", lambda clips: 2)


@pytest.fixture(scope="module")
def plain(dataset: Path, training: Callable[..., TrainSettings], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a network that is shown no motion, and takes more than a step beside given frames."""
    run = tmp_path_factory.mktemp("plain") / "run"
    train(training(dataset, run, motion=False))
    return run


def test_training_measures_them_once_at_its_end(dataset, plain, training, told, tmp_path: Path, measured) -> None:
    """It says so, changes no weight, and every command takes them."""
    _, notes = told(train.events(training(dataset, tmp_path / "run", motion=False, checkpoint_every=2)))
    found = opened(tmp_path / "run").measured_steps
    assert found is not None and found.completion is not None
    said = f"{found.free} steps of sampling, {found.completion} beside given frames, make what more steps make"
    assert [said in note.text for note in notes].count(True) == 1
    entries = {path.parent.name[:11]: read_header(path).get("steps") for path in tmp_path.rglob("ema.safetensors")}
    assert entries.pop("step-000006") == found.as_json() and entries and set(entries.values()) == {None}
    ours, theirs = weights_of(tmp_path / "run"), weights_of(plain)
    assert all(ours[name].equal(value) for name, value in theirs.items()) and opened(plain).measured_steps is None
    train(training(dataset, tmp_path / "run", motion=False, steps=8, checkpoint_every=7))
    entries = {path.parent.name[:11]: read_header(path).get("steps") for path in tmp_path.rglob("ema.safetensors")}
    assert entries["step-000007"] is None and entries["step-000008"] is not None, "of these weights, or none"


@pytest.fixture
def steps_of(plain: Path) -> Callable[..., int]:
    """steps_of(beyond, condition, steps, **changes): the steps of a call, by a model with these changes."""

    def resolve(beyond: bool, condition: str = "auto", steps: int | None = None, **changes: Any) -> int:
        options, own = GenerationSettings(condition=condition, steps=steps), replace(opened(plain), **changes)
        return resolve_sampling(own, options, completes="beyond" if beyond else None).steps

    return resolve


def test_the_default_is_what_was_measured_of_this_model_or_of_others(steps_of, run: Path, plain: Path) -> None:
    own = {"measured_steps": SampleSteps(free=12, completion=5)}
    assert (steps_of(False), steps_of(True)) == (8, 6)
    assert (steps_of(False, **own), steps_of(True, **own)) == (12, 5)
    assert steps_of(True, measured_steps=SampleSteps(free=12, completion=None)) == 6
    assert steps_of(True, "reconstruction") == steps_of(True, "replacement", **own) == 30, "not measured"
    assert steps_of(False, steps=7, **own) == steps_of(True, steps=7, **own) == 7, "as asked"
    shown_motion, options = opened(run), GenerationSettings()
    assert resolve_sampling(shown_motion, options, completes="between").steps == 1
    beyond = resolve_sampling(shown_motion, options, completes="beyond")
    assert beyond.steps == 6, "a mean of what is possible fades from window to window"
    assert beyond.history_guidance == 1.0, "it harms a network that is shown the estimate by motion"
    distilled = opened(plain).settings.model_copy(update={"distilled": DistilledSettings(steps=3, guidance_scale=2.0)})
    assert steps_of(False, settings=distilled, **own) == steps_of(True, settings=distilled, **own) == 3


@pytest.mark.parametrize("entry", [8, {"free": 0}, {"free": 8, "completion": "4"}, {"free": 10**9}])
def test_a_damaged_entry_is_one_sentence(run: Path, tmp_path: Path, entry: object) -> None:
    whole, path = read_checkpoint(newest(run) / "ema.safetensors"), tmp_path / "ema.safetensors"
    write_tensors(path, whole.tensors, whole.header | {"steps": entry})
    with pytest.raises(VidiffError, match="steps = ") as error:
        opened(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
