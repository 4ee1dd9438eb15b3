"""train with losses beside the diffusion loss: logged, resumed, and refused before anything is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from vidiff_cli.commands.train import train
from vidiff_cli.errors import VidiffError
from vidiff_cli.runs import metrics_log


@pytest.fixture(autouse=True)
def no_plots_and_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_log.TrainingLog, "plot", lambda self, **_: None)
    monkeypatch.setattr(metrics_log, "LOG_EVERY", 1)


def logged(run: Path) -> list[Any]:
    return [json.loads(line).get("loss_flow") for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_the_flow_loss_is_logged_and_a_longer_run_goes_on_with_it(dataset, training, tmp_path: Path) -> None:
    """Stopped and continued is uninterrupted, bit for bit."""
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    with_it = {"objective": {"flow_loss": 5.0}, "diffusion": {"low": 0.0}}  # every second clip passes the gate
    with_it["optimizer"] = {"warmup": 0, "decay": 0.0}
    train(training(dataset, stopped, steps=1, **with_it))
    report, other = (train(training(dataset, folder, steps=2, **with_it)) for folder in (stopped, whole))
    ours, theirs = (load_file(each.checkpoint / "model.safetensors") for each in (report, other))
    assert [name for name in ours if not ours[name].equal(theirs[name])] == []
    assert logged(stopped) == logged(whole) and len(logged(whole)) == 2 and all(value > 0 for value in logged(whole))
    with pytest.raises(VidiffError, match=r"was trained with another objective.flow_loss: found 1.0, expected 5.0"):
        train(training(dataset, whole, steps=2, **(with_it | {"objective": {"flow_loss": 1.0}})))


def test_a_pickle_as_weights_stops_before_a_folder_is_made(dataset, training, tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "r3d_18.pth")
    objective = {"perceptual_loss": 0.1, "perceptual_weights": tmp_path / "r3d_18.pth"}
    with pytest.raises(VidiffError, match=r"may run code when it is read: expected a safetensors file; convert it"):
        train(training(dataset, tmp_path / "run", objective=objective))
    assert not (tmp_path / "run" / "config.json").exists()
