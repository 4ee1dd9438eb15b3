"""Training steps on tiny random clips, for tests of the loop, of its checkpoints and of what is put around it."""

from __future__ import annotations

from typing import Any

import torch
from tiny_source import random_source
from torch import Tensor

from vidiff_cli.config.train import OptimizerSettings, TrainSettings
from vidiff_cli.training.loop import StepReport, train_steps
from vidiff_cli.training.lr_schedule import LRSchedule
from vidiff_cli.training.state import TrainState

CPU = torch.device("cpu")


def settings_of(steps: int, **optimizer: Any) -> TrainSettings:
    chosen = {"warmup": 2, "decay": 0.4, **optimizer}
    return TrainSettings(steps=steps, batch_size=4, seed=5, optimizer=OptimizerSettings(**chosen))


def train(state: TrainState, settings: TrainSettings, *, until: int | None = None, **more: Any) -> list[StepReport]:
    """The reports of all steps of the settings' schedule, or of those to step `until`."""
    schedule, reports = LRSchedule.of_run(settings.steps, settings.optimizer), []
    options = {"reader": state.video_model.caption_reader(), "device": CPU, "dtype": torch.float32} | more
    for report in train_steps(state, random_source(), settings, schedule, **options):
        reports.append(report)
        if report.step == until:
            break
    return reports


def contents(state: TrainState) -> dict[str, Tensor]:
    """Everything that a run is, by name."""
    names = {id(value): name for name, value in state.video_model.named_parameters()}
    found = {f"weight {name}": value for name, value in state.video_model.state_dict().items()}
    for length, average in state.ema.averages.items():
        found |= {f"average {length} {name}": value for name, value in average.items()}
    for title, optimizer in state.optimizers.items():
        for parameter, values in optimizer.state.items():
            found |= {f"{title} {names[id(parameter)]} {key}": torch.as_tensor(value) for key, value in values.items()}
    found["counts"] = torch.tensor([state.step, state.ema.updates, ["stable", "decay"].index(state.phase)])
    return {name: value.detach().clone() for name, value in found.items()}


def same_weights(state: TrainState, before: dict[str, Tensor]) -> bool:
    """Whether weights and averages are those of `contents` before."""
    now = contents(state)
    return all(torch.equal(now[name], before[name]) for name in before if name.startswith(("weight", "average")))


def same(one: TrainState, other: TrainState) -> bool:
    first, second = contents(one), contents(other)
    assert first.keys() == second.keys() and len(first) > 100
    return all(torch.equal(first[name], second[name]) for name in first)
