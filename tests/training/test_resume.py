"""Training steps and their checkpoints: a run that is stopped and continued is the uninterrupted one, bit for bit."""

import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vidiff_cli.checkpoint import AVERAGE, OPTIMIZER, STATE, WEIGHTS, read_header, read_tensors, write_tensors
from vidiff_cli.config.train import OptimizerSettings, TrainSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.models.acceleration import recompute_stages
from vidiff_cli.models.video_model import VideoNetwork, new_video_model, open_video_model
from vidiff_cli.training.loader import BatchSpec, ClipSource, draw_batch
from vidiff_cli.training.loop import STUCK_AFTER, StepReport, train_steps
from vidiff_cli.training.lr_schedule import LRSchedule
from vidiff_cli.training.state import TrainState

Maker = Callable[..., VideoNetwork]
CPU = torch.device("cpu")


@pytest.fixture
def source(row: type) -> ClipSource:
    captions = ("a red square moving left", "a blue circle", "")
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 256, (5, 8, 4, 4, 3), dtype=np.uint8)

    def read(number: int, frames: Sequence[int]) -> np.ndarray:
        return clips[number][list(frames)]

    return ClipSource(rows=[row(frames=8, captions=captions)] * 5, read=read)


def settings_of(steps: int, *, muon_lr: float = 0.0, **optimizer: Any) -> TrainSettings:
    chosen = {"warmup": 2, "decay": 0.4, "muon_lr": muon_lr, "ema": 0.7, **optimizer}
    return TrainSettings(steps=steps, batch_size=4, seed=5, optimizer=OptimizerSettings(**chosen))


def go(
    state: TrainState,
    source: ClipSource,
    settings: TrainSettings,
    *,
    until: int | None = None,
    total: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> list[StepReport]:
    """Steps on `total`'s schedule (the settings' own if not given), stopped after step `until`."""
    schedule = LRSchedule.of_run(total or settings.steps, settings.optimizer)
    reports = []
    reader = state.video_model.caption_reader()
    for report in train_steps(state, source, settings, schedule, reader=reader, device=CPU, dtype=dtype):
        reports.append(report)
        if report.step == until:
            break
    return reports


def contents(state: TrainState) -> dict[str, Tensor]:
    """Everything that a run is, by name."""
    names = {id(value): name for name, value in state.video_model.named_parameters()}
    found = {f"weight {name}": value for name, value in state.video_model.state_dict().items()}
    found |= {f"average {name}": value for name, value in state.ema.shadow.items()}
    for title, optimizer in state.optimizers.items():
        for parameter, values in optimizer.state.items():
            found |= {f"{title} {names[id(parameter)]} {key}": torch.as_tensor(value) for key, value in values.items()}
    found["counts"] = torch.tensor([state.step, state.ema.updates, ["stable", "decay"].index(state.phase)])
    return {name: value.detach().clone() for name, value in found.items()}


def same(one: TrainState, other: TrainState) -> bool:
    first, second = contents(one), contents(other)
    assert first.keys() == second.keys() and len(first) > 100
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("muon_lr", [0.0, 2e-3])
def test_three_steps_and_three_more_are_six(
    make_video_model: Maker, source: ClipSource, tmp_path: Path, muon_lr: float, dtype: torch.dtype
) -> None:
    """Stopped in the stable phase, at its end and in the decay branch: weights, averages, optimizers: the same bits."""
    settings = settings_of(6, muon_lr=muon_lr)
    whole = TrainState(make_video_model(), settings.optimizer)
    reports = go(whole, source, settings, dtype=dtype)
    assert [report.phase for report in reports] == ["stable"] * 4 + ["decay"] * 2
    assert all(value.isfinite().all() for value in contents(whole).values())
    for stop in (3, 4, 5):
        first = TrainState(make_video_model(), settings.optimizer)
        early = go(first, source, settings, until=stop, dtype=dtype)
        first.save(tmp_path / f"step-{stop}", clips_seen=4 * stop)
        second = TrainState(make_video_model(seed=9), settings.optimizer)
        second.load(tmp_path / f"step-{stop}")
        assert same(first, second)
        late = go(second, source, settings, dtype=dtype)
        assert repr(early + late) == repr(reports)
        assert same(second, whole)


def test_dropout_needs_no_generator_to_be_kept(make_video_model: Maker, source: ClipSource, tmp_path: Path) -> None:
    """Two steps and two more are four, whatever the global generator has done; in parts and with activations that are
    computed again, a step drops the same."""
    settings = settings_of(4)

    def new(dropout: float = 0.4, seed: int = 0) -> TrainState:
        return TrainState(make_video_model(noise=0.1, dropout=dropout, seed=seed), settings.optimizer)

    whole = new()
    reports = go(whole, source, settings)
    assert go(new(dropout=0.0), source, settings, until=1)[0].loss != pytest.approx(reports[0].loss, rel=1e-3)
    first = new()
    go(first, source, settings, until=2)
    first.save(tmp_path / "step-2", clips_seen=8)
    torch.manual_seed(11)
    second = new(seed=9)
    second.load(tmp_path / "step-2")
    assert repr(go(second, source, settings)) == repr(reports[2:]) and same(second, whole)
    parts = new()
    recompute_stages(parts.video_model.denoiser.network)
    in_parts = go(parts, source, settings.model_copy(update={"grad_accum_steps": 2}))
    assert [report.loss for report in in_parts] == pytest.approx([report.loss for report in reports], rel=1e-4)


def test_steps_change_all_weights_and_follow_the_schedule(make_video_model: Maker, source: ClipSource) -> None:
    settings = settings_of(6, muon_lr=2e-3, lr=1e-2)
    state = TrainState(make_video_model(noise=0.1), settings.optimizer)
    before = contents(state)
    reports = go(state, source, settings)
    after = contents(state)
    for name in before:
        if not name.endswith("text.positions"):
            assert not torch.equal(before[name], after[name]), name
    schedule = LRSchedule.of_run(6, settings.optimizer)
    assert [report.lr for report in reports] == pytest.approx([1e-2 * schedule.factor(step) for step in range(6)])
    assert [report.step for report in reports] == [1, 2, 3, 4, 5, 6]
    assert state.optimizers["muon"].param_groups[0]["lr"] == pytest.approx(2e-3 * schedule.factor(5))


def test_more_steps_continue_the_trunk_not_the_decay_branch(
    make_video_model: Maker, source: ClipSource, tmp_path: Path
) -> None:
    """A run of 5 steps is kept at the end of its stable phase (3); one of 10 that goes on from it is like any other."""
    short, long = settings_of(5), settings_of(10)
    run = TrainState(make_video_model(), short.optimizer)
    go(run, source, short, until=3)
    run.save(tmp_path / "stable", clips_seen=12)
    go(run, source, short)
    assert run.step == 5 and run.phase == "decay"
    whole = TrainState(make_video_model(), long.optimizer)
    go(whole, source, long, until=5)
    assert not same(run, whole), "the branch has gone another way"
    longer = TrainState(make_video_model(), long.optimizer)
    longer.load(tmp_path / "stable")
    go(longer, source, long, until=5)
    assert longer.phase == "stable" and same(longer, whole)


def test_the_global_generators_have_no_part_in_training(make_video_model: Maker, source: ClipSource) -> None:
    settings = settings_of(2)
    states = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        np.random.seed(noise)
        state = TrainState(make_video_model(), settings.optimizer)
        before = torch.get_rng_state()
        go(state, source, settings)
        assert torch.equal(torch.get_rng_state(), before)
        states.append(state)
    assert same(*states)


def test_first_weights_follow_from_the_seed(make_video_model: Maker) -> None:
    model = make_video_model().settings
    before = torch.get_rng_state()
    one, two, other = (new_video_model(model, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["denoiser.network.stem.weight"], other["denoiser.network.stem.weight"])


def test_reports_tell_free_and_observed_clips_apart(make_video_model: Maker, source: ClipSource) -> None:
    settings = settings_of(12)
    for report in go(TrainState(make_video_model(), settings.optimizer), source, settings):
        assert math.isfinite(report.loss) and report.gradient_norm > 0 and not report.stuck
        known = [value for value in (report.free, report.observed) if not math.isnan(value)]
        assert min(known) - 1e-6 <= report.loss <= max(known) + 1e-6


def test_a_gradient_norm_that_stays_at_its_limit_is_told_once(
    make_video_model: Maker, source: ClipSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert STUCK_AFTER > 10
    monkeypatch.setattr("vidiff_cli.training.loop.STUCK_AFTER", 3)
    settings = settings_of(6, max_grad_norm=1e-6)
    reports = go(TrainState(make_video_model(), settings.optimizer), source, settings)
    assert [report.stuck for report in reports] == [False, False, True, False, False, False]


def test_the_gradient_is_clipped(make_video_model: Maker, source: ClipSource) -> None:
    settings = settings_of(1, max_grad_norm=1e-3)
    state = TrainState(make_video_model(), settings.optimizer)
    (report,) = go(state, source, settings)
    norm = torch.stack([value.grad.norm() for value in state.video_model.parameters() if value.grad is not None]).norm()
    assert report.gradient_norm > 1e-3 and float(norm) == pytest.approx(1e-3, rel=1e-3)


def test_a_divergence_is_an_error_before_the_weights_are_spoilt(make_video_model: Maker, source: ClipSource) -> None:
    settings = settings_of(9)
    state = TrainState(make_video_model(), settings.optimizer)
    go(state, source, settings, until=1)
    with torch.no_grad():
        state.video_model.denoiser.network.stem.bias.fill_(math.inf)  # type: ignore[union-attr]
    before = contents(state)
    with pytest.raises(VidiffError, match="diverged at step 6: found 5 unsound updates in a row") as error:
        go(state, source, settings)
    assert one_sentence(error)
    spec = BatchSpec(objective=settings.objective, size=4, window=4, frame_strides=(1,), seed=settings.seed)
    batch = draw_batch(source, spec, step=5, device=CPU)
    named = re.search(r"on a batch of 4 clips, the highest loss first: (.*); continue", str(error.value))
    assert named is not None and set(named[1].split(", ")) == {f"clip {row}" for row in batch.rows}
    after = contents(state)
    assert all(torch.equal(before[name], after[name]) for name in before if name != "counts")


def test_a_checkpoint_opens_without_the_run(make_video_model: Maker, source: ClipSource, tmp_path: Path) -> None:
    settings = settings_of(4)
    state = TrainState(make_video_model(), settings.optimizer)
    go(state, source, settings)
    state.save(tmp_path / "step-4", clips_seen=16)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-4"]
    assert {path.name for path in (tmp_path / "step-4").iterdir()} == {WEIGHTS, AVERAGE, OPTIMIZER, STATE}
    for name, expected in ((WEIGHTS, state.video_model.state_dict()), (AVERAGE, state.ema.shadow)):
        video_model, header = open_video_model(tmp_path / "step-4" / name)
        assert video_model.settings == state.video_model.settings
        assert header["step"] == 4 and header["clips_seen"] == 16 and header["phase"] == "decay"
        opened = video_model.state_dict()
        assert opened.keys() == expected.keys() and all(torch.equal(opened[key], expected[key]) for key in opened)


def one_sentence(error: pytest.ExceptionInfo[VidiffError]) -> bool:
    text = str(error.value)
    return text.endswith(".") and "\n" not in text and len(text) < 400


@pytest.mark.parametrize("name", [WEIGHTS, AVERAGE, OPTIMIZER, STATE])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_checkpoint_is_one_sentence(make_video_model: Maker, tmp_path: Path, name: str, damage: str) -> None:
    state = TrainState(make_video_model(), OptimizerSettings())
    state.save(tmp_path / "step-0", clips_seen=0)
    path = tmp_path / "step-0" / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(VidiffError) as error:
        TrainState(make_video_model(), OptimizerSettings()).load(tmp_path / "step-0")
    assert one_sentence(error) and str(tmp_path / "step-0") in str(error.value)


def test_weights_that_do_not_fit_or_are_not_finite_are_refused(make_video_model: Maker, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    video_model = make_video_model()
    header = {"model": video_model.settings.model_dump(mode="json")}
    good = {name: value.clone() for name, value in video_model.state_dict().items()}
    first = next(iter(good))
    for bad, message in (
        ({name: value for name, value in good.items() if name != first}, "do not fit"),
        (good | {"another": torch.zeros(2)}, "do not fit"),
        (good | {first: torch.zeros(3, 3)}, "do not fit"),
        (good | {first: torch.full_like(good[first], math.nan)}, "not finite"),
    ):
        write_tensors(path, bad, header)
        with pytest.raises(VidiffError, match=message) as error:
            open_video_model(path)
        assert one_sentence(error)
    write_tensors(path, good, {"model": {"unknown": 1}})
    with pytest.raises(VidiffError, match="does not know") as error:
        open_video_model(path)
    assert one_sentence(error)


def test_optimizer_state_of_another_run_is_refused(make_video_model: Maker, source: ClipSource, tmp_path: Path) -> None:
    with_muon, without = settings_of(2, muon_lr=2e-3), settings_of(2)
    state = TrainState(make_video_model(), with_muon.optimizer)
    go(state, source, with_muon)
    state.save(tmp_path / "step-2", clips_seen=8)
    with pytest.raises(VidiffError, match="optimizer state does not fit") as error:
        TrainState(make_video_model(), without.optimizer).load(tmp_path / "step-2")
    assert one_sentence(error)


def test_a_checkpoint_holds_no_pickle(make_video_model: Maker, source: ClipSource, tmp_path: Path) -> None:
    settings = settings_of(1)
    state = TrainState(make_video_model(), settings.optimizer)
    go(state, source, settings)
    state.save(tmp_path / "step-1", clips_seen=4)
    for name in (WEIGHTS, AVERAGE, OPTIMIZER):
        assert isinstance(read_header(tmp_path / "step-1" / name), dict)
        assert all(isinstance(value, Tensor) for value in read_tensors(tmp_path / "step-1" / name).values())
    assert set(json.loads((tmp_path / "step-1" / STATE).read_text())) == {
        "step",
        "phase",
        "ema_updates",
        "notes",
        "guard",
    }
