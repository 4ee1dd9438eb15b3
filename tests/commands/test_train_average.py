"""The averaged weights of a result: their length is chosen at the end, and another one can be asked for afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from runs import assert_same_training, newest, rows_of
from safetensors.torch import load_file

from vidiff_cli.checkpoint import read_header
from vidiff_cli.commands.train import train
from vidiff_cli.runs import averages, train_run


@pytest.fixture(scope="module", autouse=True)
def early_snapshots() -> None:
    """One after every step of these short trainings."""
    averages.save_snapshot.__kwdefaults__["every"] = 1
    yield
    averages.save_snapshot.__kwdefaults__["every"] = averages.EVERY


def header_of(run: Path) -> dict:
    return read_header(newest(run) / "ema.safetensors")


def test_the_length_is_chosen_by_the_held_out_loss(dataset, training, told, signal_at, killed, tmp_path: Path) -> None:
    """Said once, in the header, and the loss of the last validation is that of the chosen average; interrupted and
    killed trainings choose the same."""
    asked = training(dataset, tmp_path / "whole", validate_every=6)
    report, notes = told(train.events(asked))
    header = header_of(report.run)
    assert {"0.03", "0.05", "0.075"} <= set(header["losses"]) <= {f"{length:g}" for length in averages.TRIED}
    best = min(header["losses"], key=header["losses"].__getitem__)
    assert header["length"] == float(best) and report.ema_length == float(best)
    (note,) = [note.text for note in notes if "lowest held-out loss" in note.text]
    assert f"of length {best}" in note
    *_, row = [row for row in rows_of(report.run) if "validation_loss" in row]
    assert row["validation_loss"] == pytest.approx(header["losses"][best], rel=1e-6)
    folder = newest(report.run)
    own = [load_file(folder / f"ema-{length}.safetensors") for length in ("0.05", "0.1")]
    chosen = load_file(folder / "ema.safetensors")
    assert all(value.isfinite().all() for value in chosen.values())
    exact = [all(torch.equal(each[name], chosen[name]) for name in chosen) for each in own]
    assert exact == [best == "0.05", best == "0.1"]
    stopped = training(dataset, tmp_path / "stopped", validate_every=6)
    signal_at(3, stopped)
    killed(train_run, "save_checkpoint", lambda: train(stopped), at=2)
    train(stopped)
    assert_same_training(tmp_path / "stopped", tmp_path / "whole")
    assert rows_of(tmp_path / "stopped") == rows_of(tmp_path / "whole")


def test_another_length_afterwards(dataset, training, tmp_path: Path) -> None:
    """By the same command, whichever it had; nothing else of the result changes, and more steps begin where they
    would have."""
    asked = training(dataset, tmp_path / "run")
    assert train(asked).ema_length == 0.05, "nothing is measured"
    before = {path.name: path.read_bytes() for path in newest(asked.output).iterdir()}
    weights = {}
    for length in (0.15, 0.1, 0.05):
        optimizer = asked.optimizer.model_copy(update={"ema_length": length})
        assert train(asked.model_copy(update={"optimizer": optimizer})).ema_length == length
        weights[length] = load_file(newest(asked.output) / "ema.safetensors")
        assert header_of(asked.output)["length"] == length
    assert not any(torch.equal(weights[0.15][name], value) for name, value in weights[0.1].items() if value.ndim > 1)
    for length in (0.05, 0.1):
        own = load_file(newest(asked.output) / f"ema-{length}.safetensors")
        assert all(torch.equal(weights[length][name], value) for name, value in own.items())
    after = {path.name: path.read_bytes() for path in newest(asked.output).iterdir()}
    assert {name for name in before if before[name] != after[name]} <= {"ema.safetensors", "state.json"}
    train(training(dataset, tmp_path / "run", steps=8))
    train(training(dataset, tmp_path / "fresh", steps=8))
    assert_same_training(tmp_path / "run", tmp_path / "fresh")
