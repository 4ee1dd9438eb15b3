"""train with losses beside the diffusion loss: logged, resumed, and refused before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from runs import assert_same_training, rows_of

from vidiff_cli.commands.train import train
from vidiff_cli.errors import VidiffError
from vidiff_cli.runs import metrics_log


def test_the_flow_loss_is_logged_and_a_longer_run_goes_on_with_it(dataset, training, monkeypatch, tmp_path) -> None:
    """Stopped and continued is uninterrupted, bit for bit."""
    monkeypatch.setattr(metrics_log, "LOG_EVERY", 1)
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    with_it = {"objective": {"flow_loss": 5.0}, "diffusion": {"low": 0.0}}  # every second clip passes the gate
    with_it["optimizer"] = {"warmup": 0, "decay": 0.0}
    train(training(dataset, stopped, steps=1, **with_it))
    for folder in (stopped, whole):
        train(training(dataset, folder, steps=2, **with_it))
    assert_same_training(stopped, whole)
    logged = [row["loss_flow"] for row in rows_of(whole)]
    assert rows_of(stopped) == rows_of(whole) and len(logged) == 2 and all(value > 0 for value in logged)
    with pytest.raises(VidiffError, match=r"was trained with another objective.flow_loss: found 1.0, expected 5.0"):
        train(training(dataset, whole, steps=2, **(with_it | {"objective": {"flow_loss": 1.0}})))


def test_a_pickle_as_weights_stops_before_a_folder_is_made(dataset, training, tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "r3d_18.pth")
    objective = {"perceptual_loss": 0.1, "perceptual_weights": tmp_path / "r3d_18.pth"}
    with pytest.raises(VidiffError, match=r"may run code when it is read: expected a safetensors file; convert it"):
        train(training(dataset, tmp_path / "run", objective=objective))
    assert not (tmp_path / "run" / "config.json").exists()
