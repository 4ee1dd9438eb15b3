"""train --estimate, --batch-size auto, gradient checkpointing and out of memory: what the memory of a step decides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import json_of, vidiff
from runs import config_of, newest

from vidiff_cli.commands import estimate as module
from vidiff_cli.commands.estimate import as_rows, estimate_cost
from vidiff_cli.commands.train import train
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.runs import memory
from vidiff_cli.training import loop
from vidiff_cli.training.distributed import SingleProcess

Training = Callable[..., TrainSettings]
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
GIB = 2**30
# of the fixture `run`
NETWORK = {"base_channels": 8, "channel_mult": [1], "head_dim": 8, "embedding": 16, "context_dim": 16}


def test_a_plan_measures_real_steps_and_writes_nothing(training: Training, dataset: Path, tmp_path: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in dataset.rglob("*"))
    settings = training(dataset, tmp_path / "run", steps=1000)
    found = estimate_cost(settings)
    assert not (tmp_path / "run").exists() and not list(tmp_path.iterdir())
    assert sorted((path, path.stat().st_mtime_ns) for path in dataset.rglob("*")) == before
    assert found.fits and found.change is None and found.memory_is == "measured"
    assert found.seconds_per_step is not None and 0 < found.seconds_per_step < 60
    assert found.seconds_to_finish == pytest.approx(1000 * found.seconds_per_step)
    assert 2**26 < found.memory_bytes < found.memory_available_bytes and found.flops_per_step > 1e6
    report = train(settings.model_copy(update={"steps": 1}))
    assert report is not None and report.parameters == found.parameters
    size = sum(path.stat().st_size for path in report.checkpoint.iterdir())
    assert found.checkpoint_bytes == pytest.approx(size, rel=0.5), "of a network of few weights, headers count"
    names = [name for name, _ in as_rows(found)]
    assert names == ["device", "batch", "parameters", "operations", "memory", "step", "to finish", "disk", "fits"]


def test_a_plan_that_does_not_fit_takes_no_step_and_names_a_change_that_does(
    training, dataset, tmp_path, monkeypatch
) -> None:
    settings = training(dataset, tmp_path / "run", batch_size=64)
    monkeypatch.setattr(module, "available_memory", lambda device: 2 * 2**20)
    monkeypatch.setattr(module, "_measure_steps", lambda *_: pytest.fail("a step was made"))
    found = estimate_cost(settings)
    assert not found.fits and found.memory_is == "estimated" and found.seconds_per_step is None
    assert found.change is not None and "--accumulate" in found.change
    assert dict(as_rows(found))["fits"] == f"no: the cheapest change is {found.change}"


def test_a_run_keeps_the_batch_that_auto_has_chosen(training, dataset, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(memory, "CPU_MAX_CLIPS", 4)
    settings = training(dataset, tmp_path / "run", batch_size="auto", steps=1)
    train(settings)
    config = config_of(tmp_path / "run")
    assert config["train"]["batch_size"] == 4
    monkeypatch.setattr(memory, "CPU_MAX_CLIPS", 2)  # as on another machine
    report = train(settings.model_copy(update={"steps": 2}))
    assert report is not None and report.clips_seen == 8


class Full(SingleProcess):
    """Memory ends at a step."""

    def __init__(self, after: int, error: Exception) -> None:
        self.left, self.error = after, error

    def loss(self, video_model: Any, batch: Any, objective: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise self.error
        return super().loss(video_model, batch, objective)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory. Tried to..."), MemoryError()], ids=repr)
def test_out_of_memory_is_one_sentence_and_loses_nothing(training, dataset, tmp_path, monkeypatch, error) -> None:
    settings = training(dataset, tmp_path / "run", steps=5)
    steps = loop.train_steps
    with monkeypatch.context() as patch:
        full = Full(3, error)
        patch.setattr("vidiff_cli.runs.train_run.train_steps", lambda *a, **k: steps(*a, **k | {"parallel": full}))
        with pytest.raises(VidiffError) as caught:
            train(settings)
    text = str(caught.value)
    assert text.startswith("out of memory at step 4: found a step of about") and "\n" not in text and len(text) < 400
    for way in ("--accumulate 2", "--batch-size 2", "--gradient-checkpointing on", "--frames", "--preset", "saved"):
        assert way in text
    assert newest(tmp_path / "run").name == "step-000003" and train(settings).steps == 5


def test_the_command_prints_a_table_or_json_and_takes_auto(dataset: Path, tmp_path: Path) -> None:
    network = [f"--set=network.{name}={value}" for name, value in NETWORK.items()]
    command = ["train", dataset, "--estimate", "--batch-size", "auto", "--frames", "4", *network, "-q"]
    found = json_of(*command)
    assert found["batch_size"] == memory.CPU_MAX_CLIPS and found["fits"] and found["clip"] == "4 frames of 16x16"
    table = vidiff(*command, "--preset", "tiny")
    assert table.exit_code == 0 and "parameters" in table.stdout and "fits        yes" in table.stdout
    assert not list(tmp_path.iterdir())


def test_from_takes_the_network_of_the_checkpoint_unless_a_preset_is_named(dataset: Path, run: Path) -> None:
    settings = json_of("train", dataset, "--from", run, "--dry-run")
    assert settings["network"]["base_channels"] == NETWORK["base_channels"] and settings["start_from"] == str(run)
    named = vidiff("train", dataset, "--from", run, "--preset", "small", "-q")
    assert named.exit_code == 2 and "--preset small has another network" in named.stderr
