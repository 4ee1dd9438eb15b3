"""The best checkpoint by held-out loss, the end of a training that no longer improves, and divergence."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vidiff_cli.commands.train import train
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import Event
from vidiff_cli.runs import train_run as train_module
from vidiff_cli.runs.checkpoints import best_checkpoint
from vidiff_cli.runs.metrics_log import TrainingLog
from vidiff_cli.training.validation import Validation


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[int, float]], None]:
    """losses({2: 0.5, ...}): the held-out loss after each of these steps."""
    original = TrainingLog.add_validation

    def make(by_step: dict[int, float]) -> None:
        def add(self: TrainingLog, step: int, phase: str, found: Validation) -> Iterator[Event]:
            yield from original(self, step, phase, replace(found, loss=by_step.get(step, 1.0)))

        monkeypatch.setattr(TrainingLog, "add_validation", add)

    return make


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir() if path.is_dir())


@pytest.fixture
def asked(training: Any, dataset_with_val: Path, tmp_path: Path) -> Callable[..., TrainSettings]:
    def make(**more: Any) -> TrainSettings:
        values = {"steps": 10, "validate_every": 1, "checkpoint_every": 5, "keep": 1}
        return training(dataset_with_val, tmp_path / "run", **(values | more))

    return make


@pytest.fixture(scope="module")
def dataset_with_val(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from vidiff_cli.commands.prep import prep
    from vidiff_cli.commands.world import world
    from vidiff_cli.config.prep import PrepSettings
    from vidiff_cli.config.world import WorldSettings

    folder = tmp_path_factory.mktemp("world")
    world(WorldSettings(folder=folder / "clips", clips=8, frames=8, seed=1))
    asked = {"sources": (str(folder / "clips"),), "output": folder / "dataset", "size": 16, "frames": 8, "preview": 0}
    prep(PrepSettings(**asked, workers=1, val_fraction=0.25))
    return folder / "dataset"


FALLS = {1: 0.9, 2: 0.7, 3: 0.4, 4: 0.5, 5: 0.6, 6: 0.5, 7: 0.45, 8: 0.5, 9: 0.6, 10: 0.7}


def test_the_best_checkpoint_is_kept(asked, losses) -> None:
    losses(FALLS)
    report = train(asked(keep_best=True))
    assert report.best is not None and report.best.name.startswith("step-000003") and report.steps == 10
    assert best_checkpoint(report.run / "checkpoints") == report.best and report.best.name in names(report.run)
    assert report.checkpoint.name == (report.run / "checkpoints" / "latest").read_text().strip()
    assert not any(name.startswith(("step-000001", "step-000002")) for name in names(report.run))


@pytest.mark.parametrize(("patience", "end"), [(2, 5), (4, 7)])
def test_it_stops_where_the_loss_no_longer_falls(asked, losses, told, patience: int, end: int) -> None:
    losses(FALLS)
    report, notes = told(train.events(asked(patience=patience)))
    assert report.steps == end and report.best.name.startswith("step-000003")
    assert any(name.startswith(f"step-{end:06d}") for name in names(report.run))
    assert any(f"Stopped at step {end} of 10" in note.text and str(report.best) in note.text for note in notes)
    losses({step: 0.3 for step in range(end + 1, 11)})
    again, _ = told(train.events(asked(patience=patience)))  # the same command stops at once
    assert again.steps == end
    further, _ = told(train.events(asked(patience=20)))
    assert further.steps == 10 and further.best.name.startswith(f"step-{end + 1:06d}")


def test_an_interrupted_training_keeps_the_same(asked, losses, monkeypatch: pytest.MonkeyPatch) -> None:
    original = train_module.train_steps

    def interrupted(*arguments: Any, **more: Any) -> Iterator[Any]:
        for report in original(*arguments, **more):
            yield report
            if report.step == 4:
                raise KeyboardInterrupt

    losses(FALLS)
    with monkeypatch.context() as patch:
        patch.setattr(train_module, "train_steps", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(asked(keep_best=True, checkpoint_every=3))
    report = train(asked(keep_best=True, checkpoint_every=3))
    assert report.best is not None and report.best.name.startswith("step-000003")


def test_without_held_out_clips_it_is_refused(training, dataset: Path, tmp_path: Path) -> None:
    from vidiff_cli.commands.prep import prep
    from vidiff_cli.config.prep import PrepSettings

    clips = dataset.parent / "clips"
    prep(PrepSettings(sources=(str(clips),), output=tmp_path / "all", size=16, frames=8, preview=0, val_fraction=0))
    for more, option in (({"keep_best": True}, "--keep-best"), ({"patience": 2}, "--patience")):
        with pytest.raises(VidiffError, match=f"{option} goes by the held-out loss"):
            train(training(tmp_path / "all", tmp_path / "run", validate_every=1, **more))
        with pytest.raises(ValueError, match=f"{option} goes by the held-out loss"):
            training(dataset, tmp_path / "run", validate_every=0, **more)


@pytest.mark.parametrize("lr", [1000.0, 300.0])
def test_a_training_with_too_high_a_rate_has_diverged(training, dataset: Path, tmp_path: Path, lr: float) -> None:
    """Its numbers overflow, or its loss ends far above its start: both are said."""
    asked = training(dataset, tmp_path / "run", steps=12, optimizer={"lr": lr, "warmup": 1})
    with pytest.raises(VidiffError, match="training diverged"):
        train(asked)


@pytest.mark.parametrize("rows", [[(1, 0.9), (10, 5e4), (20, 5.6e7)], [(1, 3.0), (7, 31.0)]])
def test_a_loss_that_ends_far_above_its_start(asked, monkeypatch: pytest.MonkeyPatch, rows) -> None:
    """Said at the end, and again where nothing is left to do."""
    report = train(asked(validate_every=0, steps=3))
    (_, first), *_, (_, last) = rows
    lines = [{"step": 3, "phase": "decay", "loss": loss, "first_loss": first} for _, loss in rows]
    (report.run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(VidiffError, match=r"training diverged: .* ends far above its start") as error:
        train(asked(validate_every=0, steps=3))
    assert f"{last:.4g}" in str(error.value) and f"{first:.4g}" in str(error.value) and "--lr" in str(error.value)


def test_a_training_that_goes_well_has_not(training, dataset: Path, tmp_path: Path) -> None:
    report = train(training(dataset, tmp_path / "run", steps=12))
    rows = [json.loads(line) for line in (report.run / "metrics.jsonl").read_text().splitlines()]
    assert report.steps == 12 and 0 < rows[0]["first_loss"] < 10
    assert all("first_loss" not in row for row in rows[1:])
