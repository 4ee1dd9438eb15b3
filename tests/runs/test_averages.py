"""Snapshots of averages, and the average of the result."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_model import tiny_video_model
from tiny_source import random_source
from torch import Tensor
from training_steps import settings_of

from vidiff_cli.config.train import TrainSettings
from vidiff_cli.runs.averages import FOLDER, MOST, TRIED, choose_average, read_snapshots, save_snapshot
from vidiff_cli.training.distributed import ALONE
from vidiff_cli.training.ema import LENGTHS, USUAL, exponent
from vidiff_cli.training.loop import train_steps
from vidiff_cli.training.lr_schedule import LRSchedule
from vidiff_cli.training.state import ChosenAverage, TrainState

STEPS = 32
DIRECT = (0.075, 0.15)


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, TrainState, TrainSettings, dict[float, dict[str, Tensor]]]:
    """32 steps with snapshots at every fourth: the run folder, the state, the settings, averages run directly."""
    settings = settings_of(STEPS, lr=1e-2)
    state, run = TrainState(tiny_video_model(noise=0.1), settings.optimizer), tmp_path_factory.mktemp("run")
    schedule = LRSchedule.of_run(STEPS, settings.optimizer)
    direct: dict[float, dict[str, Tensor]] = {length: {} for length in DIRECT}
    reader = state.video_model.caption_reader()
    options = {"reader": reader, "device": torch.device("cpu"), "dtype": torch.float32}
    for step in (report.step for report in train_steps(state, random_source(), settings, schedule, **options)):
        for length, average in direct.items():
            for name, value in state.video_model.state_dict().items():
                share = 1 - (1 - 1 / step) ** (exponent(length) + 1)
                average[name] = value.clone() if name not in average else average[name].lerp_(value, share)
        save_snapshot(state, run, schedule, ALONE, every=4)
    return run, state, settings, direct


def chosen(trained, length: float = 0.0, **more):
    run, state, settings, _ = trained
    asked = settings.model_copy(update={"optimizer": settings.optimizer.model_copy(update={"ema_length": length})})
    return choose_average(
        state, run, asked, LRSchedule.of_run(STEPS, settings.optimizer), ALONE, **({"loss": None} | more)
    )


def distance(one, other, scale) -> float:
    """Of all weights, over how far the last ones are from the others."""
    apart, whole = (
        sum(float((first[name] - second[name]).square().sum()) for name in one)
        for first, second in ((one, other), (scale, other))
    )
    return (apart / whole) ** 0.5


def test_an_average_put_together_is_near_the_one_run_directly(trained) -> None:
    """Within 8 % of its distance from the last weights, half precision included; a length that is there is exact."""
    _, state, _, direct = trained
    for length in DIRECT:
        found = chosen(trained, length)
        assert found is not None and found.length == length
        assert distance(found.weights, direct[length], state.video_model.state_dict()) < 0.08
    other = LENGTHS[-1]
    found = chosen(trained, other)
    assert found is not None and all(
        torch.equal(found.weights[name], each) for name, each in state.ema.averages[other].items()
    )
    assert chosen(trained, USUAL) is None, "which every checkpoint has"


def test_the_length_with_the_lowest_loss_is_chosen(trained) -> None:
    """Nothing without held-out clips. A loss that is not finite is never the lowest, and lengths far from the lowest
    are not measured."""
    assert chosen(trained) is None
    _, state, *_ = trained
    known = {length: chosen(trained, length) for length in TRIED if length != USUAL}
    weights = {length: each.weights for length, each in known.items() if each is not None} | {USUAL: state.ema.shadow}

    def of(losses: dict[float, float]) -> ChosenAverage:
        def loss(made) -> float:
            same = [length for length in TRIED if all(torch.equal(made[name], weights[length][name]) for name in made)]
            return losses[same[0]]

        found = chosen(trained, loss=loss)
        assert found is not None and list(found.losses) == sorted(found.losses)
        return found

    nan = float("nan")
    assert of(dict(zip(TRIED, (1, 2, 3, 4, 5, 6), strict=True))).length == 0.03
    found = of(dict(zip(TRIED, (1, 2, 3, 4, 5, 6), strict=True)))
    assert list(found.losses) == [0.03, 0.05, 0.075]
    assert of(dict(zip(TRIED, (7, 6, 5, 4, 3, 2), strict=True))).length == 0.2
    assert of(dict(zip(TRIED, (nan, nan, 5, 4, 6, 2), strict=True))).length == 0.1
    assert of(dict.fromkeys(TRIED, nan)).length == USUAL


def test_snapshots_are_few_and_evenly_spread(trained, tmp_path: Path) -> None:
    run, state, settings, _ = trained
    names = sorted(path.name for path in (run / FOLDER).iterdir())
    assert names == [f"step-{step:06d}{'-of-000032' * (step > 20)}.safetensors" for step in range(4, 32, 4)]
    schedule = LRSchedule.of_run(STEPS, settings.optimizer)
    for step in range(1, STEPS):
        at = TrainState(tiny_video_model(), settings.optimizer)
        at.step = at.ema.updates = step
        at.phase = "stable" if step <= schedule.stable else "decay"
        save_snapshot(at, tmp_path, schedule, ALONE, every=2)
        steps = [int(path.name[5:11]) for path in sorted((tmp_path / FOLDER).glob("step-*"))]
        assert len(steps) <= MOST and (step < 4 or len(steps) >= min(MOST // 2, step // 2))
    assert steps == [4, 8, 12, 16, 20, 24, 28]
    assert [updates for updates, _ in read_snapshots(run, state, schedule)] == list(range(4, 32, 4))


def test_missing_and_damaged_snapshots_break_nothing(trained, tmp_path: Path) -> None:
    run, state, settings, direct = trained
    schedule = LRSchedule.of_run(STEPS, settings.optimizer)
    folder = tmp_path / FOLDER
    folder.mkdir()
    for path in sorted((run / FOLDER).iterdir()):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "step-000008.safetensors").unlink()
    (folder / "step-000012.safetensors").write_bytes(b"rubbish")
    (folder / "step-000024-of-000100.safetensors").write_bytes((folder / "step-000016.safetensors").read_bytes())
    assert [updates for updates, _ in read_snapshots(tmp_path, state, schedule)] == [4, 16, 20, 24, 28]
    found = chosen((tmp_path, state, settings, direct), 0.15)
    assert found is not None and distance(found.weights, direct[0.15], state.video_model.state_dict()) < 0.3
    assert chosen((tmp_path / "none", state, settings, direct), 0.15) is not None
