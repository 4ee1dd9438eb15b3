"""Training steps and their checkpoints: a run that is stopped and continued is the uninterrupted one, bit for bit."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from batches import draw
from tiny_model import tiny_video_model
from tiny_source import random_source
from torch import Tensor
from training_steps import contents, same, settings_of, train

from vidiff_cli.checkpoint import AVERAGE, OPTIMIZER, STATE, WEIGHTS, read_header, read_tensors, write_tensors
from vidiff_cli.config.train import OptimizerSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.models.acceleration import recompute_stages
from vidiff_cli.models.video_model import new_video_model, open_video_model
from vidiff_cli.training.ema import LENGTHS
from vidiff_cli.training.loop import STUCK_AFTER
from vidiff_cli.training.lr_schedule import LRSchedule
from vidiff_cli.training.state import TrainState, average_file


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("muon_lr", [0.0, 2e-3])
def test_three_steps_and_three_more_are_six(tmp_path: Path, muon_lr: float, dtype: torch.dtype) -> None:
    """Stopped in the stable phase, at its end and in the decay branch: weights, averages, optimizers: the same bits."""
    settings = settings_of(6, muon_lr=muon_lr)
    whole = TrainState(tiny_video_model(), settings.optimizer)
    reports = train(whole, settings, dtype=dtype)
    assert [report.phase for report in reports] == ["stable"] * 4 + ["decay"] * 2
    assert all(value.isfinite().all() for value in contents(whole).values()) and whole.guard.scale.value == 1.0
    for stop in (3, 4, 5) if muon_lr and dtype == torch.float32 else (4,):
        first = TrainState(tiny_video_model(), settings.optimizer)
        early = train(first, settings, until=stop, dtype=dtype)
        first.save(tmp_path / f"step-{stop}", clips_seen=4 * stop)
        second = TrainState(tiny_video_model(seed=9), settings.optimizer)
        second.load(tmp_path / f"step-{stop}")
        assert same(first, second)
        late = train(second, settings, dtype=dtype)
        assert repr(early + late) == repr(reports)
        assert same(second, whole)


def test_dropout_needs_no_generator_to_be_kept(tmp_path: Path) -> None:
    """Two steps and two more are four, whatever the global generator has done; in parts and with activations that are
    computed again, a step drops the same."""
    settings = settings_of(4)

    def new(dropout: float = 0.4, seed: int = 0) -> TrainState:
        return TrainState(tiny_video_model(noise=0.1, dropout=dropout, seed=seed), settings.optimizer)

    whole = new()
    reports = train(whole, settings)
    assert train(new(dropout=0.0), settings, until=1)[0].loss != pytest.approx(reports[0].loss, rel=1e-3)
    first = new()
    train(first, settings, until=2)
    first.save(tmp_path / "step-2", clips_seen=8)
    torch.manual_seed(11)
    second = new(seed=9)
    second.load(tmp_path / "step-2")
    assert repr(train(second, settings)) == repr(reports[2:]) and same(second, whole)
    parts = new()
    recompute_stages(parts.video_model.denoiser.network)
    in_parts = train(parts, settings.model_copy(update={"grad_accum_steps": 2}))
    assert [report.loss for report in in_parts] == pytest.approx([report.loss for report in reports], rel=1e-4)


def test_steps_change_all_weights_and_follow_the_schedule() -> None:
    settings = settings_of(6, muon_lr=2e-3, lr=1e-2)
    state = TrainState(tiny_video_model(noise=0.1), settings.optimizer)
    before = contents(state)
    reports = train(state, settings)
    after = contents(state)
    for name in before:
        if not name.endswith("text.positions"):
            assert not torch.equal(before[name], after[name]), name
    schedule = LRSchedule.of_run(6, settings.optimizer)
    assert [report.lr for report in reports] == pytest.approx([1e-2 * schedule.factor(step) for step in range(6)])
    assert [report.step for report in reports] == [1, 2, 3, 4, 5, 6]
    for report in reports:
        parts = [value for value in (report.free, report.observed) if not math.isnan(value)]
        assert min(parts) - 1e-6 <= report.loss <= max(parts) + 1e-6 and report.gradient_norm > 0
    assert state.optimizers["muon"].param_groups[0]["lr"] == pytest.approx(2e-3 * schedule.factor(5))


def test_more_steps_continue_the_trunk_not_the_decay_branch(tmp_path: Path) -> None:
    """A run of 5 steps is kept at the end of its stable phase (3); one of 10 that goes on from it is like any other."""
    short, long = settings_of(5), settings_of(10)
    run = TrainState(tiny_video_model(), short.optimizer)
    train(run, short, until=3)
    run.save(tmp_path / "stable", clips_seen=12)
    train(run, short)
    assert run.step == 5 and run.phase == "decay"
    whole = TrainState(tiny_video_model(), long.optimizer)
    train(whole, long, until=5)
    assert not same(run, whole), "the branch has gone another way"
    longer = TrainState(tiny_video_model(), long.optimizer)
    longer.load(tmp_path / "stable")
    train(longer, long, until=5)
    assert longer.phase == "stable" and same(longer, whole)


def test_the_global_generators_have_no_part_in_weights_or_training() -> None:
    settings = settings_of(2)
    states = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        np.random.seed(noise)
        before = torch.get_rng_state()
        states.append(TrainState(tiny_video_model(), settings.optimizer))
        train(states[-1], settings)
        assert torch.equal(torch.get_rng_state(), before)
    assert same(*states)
    one, other = (new_video_model(tiny_video_model().settings, seed).denoiser.network.stem for seed in (1, 2))
    assert not torch.equal(one.weight, other.weight)


def test_gradients_are_clipped_and_a_norm_that_stays_at_its_limit_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert STUCK_AFTER > 10
    monkeypatch.setattr("vidiff_cli.training.loop.STUCK_AFTER", 3)
    settings = settings_of(6, max_grad_norm=1e-6)
    state = TrainState(tiny_video_model(), settings.optimizer)
    reports = train(state, settings)
    assert [report.stuck for report in reports] == [False, False, True, False, False, False]
    norm = torch.stack([value.grad.norm() for value in state.video_model.parameters() if value.grad is not None]).norm()
    assert reports[-1].gradient_norm > 1e-6 and float(norm) == pytest.approx(1e-6, rel=1e-3)


def test_a_divergence_is_an_error_before_the_weights_are_spoilt() -> None:
    settings = settings_of(9)
    state = TrainState(tiny_video_model(), settings.optimizer)
    train(state, settings, until=1)
    with torch.no_grad():
        state.video_model.denoiser.network.stem.bias.fill_(math.inf)  # type: ignore[union-attr]
    before = contents(state)
    with pytest.raises(VidiffError, match="diverged at step 6: found 5 unsound updates in a row") as error:
        train(state, settings)
    assert one_sentence(error)
    batch = draw(random_source(), step=5, objective=settings.objective, size=4, seed=settings.seed)
    named = re.search(r"on a batch of 4 clips, the highest loss first: (.*); continue", str(error.value))
    assert named is not None and set(named[1].split(", ")) == {f"clip {row}" for row in batch.rows}
    after = contents(state)
    assert all(torch.equal(before[name], after[name]) for name in before if name != "counts")


def test_a_checkpoint_opens_without_the_run_and_holds_no_pickle(tmp_path: Path) -> None:
    settings = settings_of(4)
    state = TrainState(tiny_video_model(), settings.optimizer)
    train(state, settings)
    state.save(folder := tmp_path / "step-4", clips_seen=16)
    assert [path.name for path in tmp_path.iterdir()] == ["step-4"]
    assert {path.name for path in folder.iterdir()} == {
        WEIGHTS,
        AVERAGE,
        *map(average_file, LENGTHS),
        OPTIMIZER,
        STATE,
    }
    for name, expected in ((WEIGHTS, state.video_model.state_dict()), (AVERAGE, state.ema.shadow)):
        video_model, header = open_video_model(folder / name)
        assert video_model.settings == state.video_model.settings
        assert header["step"] == 4 and header["clips_seen"] == 16 and header["phase"] == "decay"
        opened = video_model.state_dict()
        assert opened.keys() == expected.keys() and all(torch.equal(opened[key], expected[key]) for key in opened)
    assert isinstance(read_header(folder / OPTIMIZER), dict)
    assert all(isinstance(value, Tensor) for value in read_tensors(folder / OPTIMIZER).values())
    assert json.loads((folder / STATE).read_text()).keys() == {
        "step",
        "phase",
        "ema_updates",
        "notes",
        "guard",
        "chosen",
    }


def one_sentence(error: pytest.ExceptionInfo[VidiffError]) -> bool:
    text = str(error.value)
    return text.endswith(".") and "\n" not in text and len(text) < 400


@pytest.mark.parametrize("name", [WEIGHTS, AVERAGE, average_file(0.05), OPTIMIZER, STATE])
def test_a_damaged_checkpoint_is_one_sentence(tmp_path: Path, name: str) -> None:
    TrainState(tiny_video_model(), OptimizerSettings()).save(tmp_path / "step-0", clips_seen=0)
    path = tmp_path / "step-0" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for _ in ("cut", "missing"):
        with pytest.raises(VidiffError) as error:
            TrainState(tiny_video_model(), OptimizerSettings()).load(tmp_path / "step-0")
        assert one_sentence(error) and str(tmp_path / "step-0") in str(error.value)
        path.unlink(missing_ok=True)


def test_weights_that_do_not_fit_or_are_not_finite_are_refused(tmp_path: Path) -> None:
    path, video_model = tmp_path / "model.safetensors", tiny_video_model()
    header = {"model": video_model.settings.model_dump(mode="json")}
    good = {name: value.clone() for name, value in video_model.state_dict().items()}
    first = next(iter(good))
    for weights, of, message in (
        ({name: value for name, value in good.items() if name != first}, header, "do not fit"),
        (good | {"another": torch.zeros(2)}, header, "do not fit"),
        (good | {first: torch.zeros(3, 3)}, header, "do not fit"),
        (good | {first: torch.full_like(good[first], math.nan)}, header, "not finite"),
        (good, {"model": {"unknown": 1}}, "does not know"),
    ):
        write_tensors(path, weights, of)
        with pytest.raises(VidiffError, match=message) as error:
            open_video_model(path)
        assert one_sentence(error)


def test_optimizer_state_of_another_run_is_refused(tmp_path: Path) -> None:
    with_muon, without = settings_of(2, muon_lr=2e-3), settings_of(2)
    state = TrainState(tiny_video_model(), with_muon.optimizer)
    train(state, with_muon)
    state.save(tmp_path / "step-2", clips_seen=8)
    with pytest.raises(VidiffError, match="optimizer state does not fit") as error:
        TrainState(tiny_video_model(), without.optimizer).load(tmp_path / "step-2")
    assert one_sentence(error)
