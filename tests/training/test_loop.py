"""What a step does besides the plain update: parts of a batch, the loss scale of fp16, updates that are not made."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vidiff_cli.config.train import OptimizerSettings, TrainSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.models.video_model import VideoNetwork
from vidiff_cli.text.encoder import CaptionTensors
from vidiff_cli.training import loop
from vidiff_cli.training import step_guard as guards
from vidiff_cli.training.distributed import ALONE, SingleProcess
from vidiff_cli.training.loader import Batch, ClipSource
from vidiff_cli.training.loop import OutOfMemory, StepReport, split_batch, train_steps
from vidiff_cli.training.lr_schedule import LRSchedule
from vidiff_cli.training.objective import Loss
from vidiff_cli.training.state import TrainState
from vidiff_cli.training.step_guard import ENOUGH, GIVE_UP_AFTER, StepGuard

Maker = Callable[..., VideoNetwork]
CPU = torch.device("cpu")


@pytest.fixture
def source(row: type) -> ClipSource:
    clips = np.random.default_rng(0).integers(0, 256, (7, 4, 4, 4, 3), dtype=np.uint8)

    def read(number: int, frames: Sequence[int]) -> np.ndarray:
        return clips[number][list(frames)]

    return ClipSource(rows=[row(frames=4, captions=("a red square", "blue"))] * 7, read=read)


def settings_of(steps: int, *, accumulate: int = 1, **optimizer: Any) -> TrainSettings:
    chosen = {"warmup": 2, "decay": 0.0, "ema": 0.7, **optimizer}
    return TrainSettings(
        steps=steps, batch_size=5, seed=5, grad_accum_steps=accumulate, frames=4, optimizer=OptimizerSettings(**chosen)
    )


def go(
    state: TrainState, source: ClipSource, settings: TrainSettings, *, until: int | None = None, **more: Any
) -> list[StepReport]:
    reports = []
    more = {"reader": state.video_model.caption_reader(), "device": CPU, "dtype": torch.float32} | more
    for report in train_steps(state, source, settings, LRSchedule.of_run(settings.steps, settings.optimizer), **more):
        reports.append(report)
        if report.step == until:
            break
    return reports


def weights(state: TrainState) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in state.video_model.state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def text_of(clips: Sequence[int]) -> CaptionTensors:
    """Captions of which clip i has i + 1 tokens."""
    mask = torch.arange(max(clips) + 1) <= torch.tensor(list(clips))[:, None]
    pooled = torch.tensor(list(clips))[:, None].float()
    return CaptionTensors(tokens=mask * (1 + torch.arange(mask.shape[1])), mask=mask, pooled=pooled)


def batch_of(clips: int) -> Batch:
    draw = torch.Generator().manual_seed(1)
    return Batch(
        video=torch.randn(clips, 3, 2, 4, 4, generator=draw, dtype=torch.float64),
        noise=torch.randn(clips, 3, 2, 4, 4, generator=draw),
        u=torch.rand(clips, generator=draw),
        times=torch.rand(clips, 2, generator=draw),
        observed=torch.rand(clips, 2, generator=draw) < 0.5,
        dropped=torch.rand(clips, generator=draw) < 0.5,
        captions=tuple(map(str, range(clips))),
        text=text_of(range(clips)),
        rows=tuple(range(clips)),
    )


class Squares(SingleProcess):
    """A loss in float64 instead of the network's."""

    def loss(self, video_model: Any, batch: Batch, auxiliary: Any = None) -> Loss:
        per_clip = video_model(batch.video.flatten(1)).square().sum(dim=1)
        return Loss(total=per_clip.mean(), per_clip=per_clip.detach(), observed=batch.dropped, level=batch.u)


@pytest.mark.parametrize("accumulate", [2, 3, 7, 50])
def test_the_gradient_of_the_parts_is_the_gradient_of_the_batch(accumulate: int) -> None:
    torch.manual_seed(0)
    layer, batch, found = nn.Linear(96, 4).double(), batch_of(7), []
    for parts in (1, accumulate):
        settings = settings_of(1, accumulate=parts).model_copy(update={"batch_size": 7})
        loss = loop._gradients(layer, batch, settings, 1.0, nullcontext, Squares(), None)  # type: ignore[arg-type]
        found.append((loss, layer.weight.grad.clone()))  # type: ignore[union-attr]
    (whole, gradient), (sum_, of_parts) = found
    assert float((of_parts - gradient).abs().max() / gradient.abs().max()) < 1e-14
    assert float(sum_.total) == pytest.approx(float(whole.total), rel=1e-14)
    assert torch.allclose(sum_.per_clip, whole.per_clip, rtol=1e-14) and torch.equal(sum_.level, whole.level)


def test_accumulation_makes_the_same_step_of_the_network(make_video_model: Maker, source: ClipSource) -> None:
    steps, found = 1, []
    for accumulate in (1, 3):
        settings = settings_of(steps, accumulate=accumulate)
        state = TrainState(make_video_model(noise=0.1), settings.optimizer)
        found.append((go(state, source, settings)[0], [value.grad for value in state.video_model.parameters()]))
    (one, first), (three, second) = found
    assert three.loss == pytest.approx(one.loss, rel=1e-5) and three.rows == one.rows
    assert np.allclose(three.per_clip, one.per_clip, rtol=1e-4) and np.array_equal(three.levels, one.levels)
    largest = max(float(value.abs().max()) for value in first if value is not None)
    for a, b in zip(first, second, strict=True):
        assert (a is None) == (b is None)
        assert a is None or float((a - b).abs().max()) < 1e-5 * largest  # type: ignore[operator]


def test_a_batch_is_split_without_loss() -> None:
    batch = batch_of(7)
    parts = split_batch(batch, 3)
    assert [len(part.captions) for part in parts] == [2, 2, 3] and split_batch(batch, 1) == [batch]
    for entry in fields(Batch):
        value, pieces = getattr(batch, entry.name), [getattr(part, entry.name) for part in parts]
        if isinstance(value, Tensor):
            assert torch.equal(torch.cat(pieces), value), entry.name
        elif isinstance(value, CaptionTensors):
            for piece, clips in zip(pieces, ([0, 1], [2, 3], [4, 5, 6]), strict=True):
                alone = text_of(clips)
                assert all(torch.equal(getattr(piece, name), getattr(alone, name)) for name in ("tokens", "mask"))
                assert torch.equal(piece.pooled, alone.pooled)
        else:
            assert value is None or sum(pieces, ()) == value, entry.name


def test_fp16_overflows_halve_the_scale_and_leave_the_weights(
    make_video_model: Maker, source: ClipSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SCALE", 2.0**40)
    settings = settings_of(GIVE_UP_AFTER + 2)
    state = TrainState(make_video_model(noise=0.1), settings.optimizer)
    before = weights(state)
    reports = go(state, source, settings, dtype=torch.float16)
    assert [report.reason for report in reports] == ["overflow"] * len(reports) and equal(before, weights(state))
    assert all(math.isfinite(report.loss) for report in reports), "the loss itself is sound: nothing has diverged"
    assert state.guard.scale.value == 2.0 ** (40 - len(reports)) and state.ema.updates == 0


def test_fp16_steps_are_nearly_those_of_float32_and_resume_bit_for_bit(
    make_video_model: Maker, source: ClipSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guards, "GROW_AFTER", 2)  # so that the scale changes on both sides of the stop
    settings = settings_of(5, max_grad_norm=100.0)
    exact, whole, first = (TrainState(make_video_model(noise=0.1), settings.optimizer) for _ in range(3))
    wanted = go(exact, source, settings)
    reports = go(whole, source, settings, dtype=torch.float16)
    assert not any(report.skipped for report in reports) and whole.guard.scale.value == 2.0**18
    assert reports[0].gradient_norm == pytest.approx(wanted[0].gradient_norm, rel=0.02), "the scale is divided out"
    early = go(first, source, settings, dtype=torch.float16, until=3)
    first.save(tmp_path / "step-3", clips_seen=15)
    second = TrainState(make_video_model(seed=9), settings.optimizer)
    second.load(tmp_path / "step-3")
    assert repr(early + go(second, source, settings, dtype=torch.float16)) == repr(reports)
    assert equal(weights(whole), weights(second)) and second.guard.state_dict() == whole.guard.state_dict()


def test_other_formats_have_no_scale(make_video_model: Maker, source: ClipSource) -> None:
    settings = settings_of(1)
    state = TrainState(make_video_model(), settings.optimizer)
    go(state, source, settings, dtype=torch.bfloat16)
    assert state.guard.scale.value == 1.0


class Spoilt(SingleProcess):
    """Losses of some steps are multiplied."""

    def __init__(self, factors: dict[int, float]) -> None:
        self.factors, self.step = factors, 0

    def loss(self, video_model: Any, batch: Batch, auxiliary: Any = None) -> Loss:
        loss = super().loss(video_model, batch, auxiliary)
        self.step += 1
        factor = self.factors.get(self.step, 1.0)
        return Loss(total=loss.total * factor, per_clip=loss.per_clip, observed=loss.observed, level=loss.level)


def test_an_update_that_is_not_finite_is_skipped_and_named(make_video_model: Maker, source: ClipSource) -> None:
    settings = settings_of(3)
    state = TrainState(make_video_model(), settings.optimizer)
    steps = train_steps(
        state,
        source,
        settings,
        LRSchedule.of_run(3, settings.optimizer),
        reader=state.video_model.caption_reader(),
        device=CPU,
        dtype=torch.float32,
        parallel=Spoilt({2: math.nan}),
    )
    next(steps)
    before = weights(state)
    report = next(steps)
    assert report.skipped and report.reason == "not finite" and len(report.rows) == 5 and report.step == 2
    assert equal(before, weights(state)) and state.ema.updates == 1
    assert not next(steps).skipped and not equal(before, weights(state))


def test_a_spike_is_skipped_also_after_a_resume(
    make_video_model: Maker, source: ClipSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guards, "ENOUGH", 3)
    settings = settings_of(7, grad_spike_factor=50.0)
    whole, first = (TrainState(make_video_model(noise=0.1), settings.optimizer) for _ in range(2))
    reports = go(whole, source, settings, parallel=Spoilt({5: 1e4}))
    assert [report.reason for report in reports] == ["", "", "", "", "spike", "", ""]
    assert whole.ema.updates == 6, "no update of the weights, none of their average"
    go(first, source, settings, parallel=ALONE, until=4)
    first.save(tmp_path / "step-4", clips_seen=20)
    second = TrainState(make_video_model(), settings.optimizer)
    second.load(tmp_path / "step-4")
    late = go(second, source, settings, parallel=Spoilt({1: 1e4}))
    assert repr(late) == repr(reports[4:]) and equal(weights(whole), weights(second))


def test_without_a_bound_a_spike_is_an_update_like_any_other() -> None:
    guard = StepGuard()
    for _ in range(ENOUGH + 5):
        assert guard.check(1.0, 1.0, spike=0.0) == ""
    assert guard.check(1.0, 1e9, spike=0.0) == "" and guard.check(1.0, 1e9, spike=10.0) == "spike"


def test_a_guard_that_somebody_has_edited_is_refused() -> None:
    good = StepGuard().state_dict()
    for bad in ({"norms": 3}, good | {"scale": 0}, good | {"norms": [math.nan]}, good | {"unsound": "many"}):
        with pytest.raises((TypeError, ValueError, KeyError)):
            StepGuard().load_state_dict(bad)
    StepGuard().load_state_dict(good)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError(), RuntimeError("x: can't allocate memory: y")]
)
def test_out_of_memory_is_an_error_of_its_own_and_leaves_the_state(
    make_video_model: Maker, source: ClipSource, error: Exception, tmp_path: Path
) -> None:
    class Full(SingleProcess):
        def loss(self, video_model: Any, batch: Batch, auxiliary: Any = None) -> Loss:
            raise error

    settings = settings_of(3)
    state = TrainState(make_video_model(), settings.optimizer)
    go(state, source, settings, until=1)
    before = weights(state)
    with pytest.raises(OutOfMemory, match="out of memory at step 2"):
        go(state, source, settings, parallel=Full())
    assert state.step == 1 and equal(before, weights(state))
    state.save(tmp_path / "step-1", clips_seen=5)


def test_other_errors_of_a_step_stay_what_they_are(make_video_model: Maker, source: ClipSource) -> None:
    class Broken(SingleProcess):
        def loss(self, video_model: Any, batch: Batch, auxiliary: Any = None) -> Loss:
            raise RuntimeError("shapes do not match")

    settings = settings_of(1)
    with pytest.raises(RuntimeError, match="shapes") as caught:
        go(TrainState(make_video_model(), settings.optimizer), source, settings, parallel=Broken())
    assert not isinstance(caught.value, VidiffError)
