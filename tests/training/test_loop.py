"""What a step does besides the plain update: parts of a batch, the loss scale of fp16, updates that are not made."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_model import tiny_video_model
from torch import Tensor, nn
from training_steps import contents, same, same_weights, settings_of, train

from vidiff_cli.text.encoder import CaptionTensors
from vidiff_cli.training import loop
from vidiff_cli.training import step_guard as guards
from vidiff_cli.training.distributed import SingleProcess
from vidiff_cli.training.loader import Batch
from vidiff_cli.training.loop import OutOfMemory, split_batch
from vidiff_cli.training.objective import Loss
from vidiff_cli.training.state import TrainState
from vidiff_cli.training.step_guard import ENOUGH, GIVE_UP_AFTER, StepGuard


def text_of(clips: Sequence[int]) -> CaptionTensors:
    """Captions of which clip i has i + 1 tokens."""
    mask = torch.arange(max(clips) + 1) <= torch.tensor(list(clips))[:, None]
    pooled, lengths = torch.tensor(list(clips))[:, None].float(), tuple(clip + 1 for clip in clips)
    return CaptionTensors(tokens=mask * (1 + torch.arange(mask.shape[1])), mask=mask, pooled=pooled, lengths=lengths)


def batch_of(clips: int) -> Batch:
    draw = torch.Generator().manual_seed(1)
    return Batch(
        video=torch.randn(clips, 3, 2, 4, 4, generator=draw, dtype=torch.float64),
        noise=torch.randn(clips, 3, 2, 4, 4, generator=draw),
        u=torch.rand(clips, 1, generator=draw).expand(-1, 2),
        times=torch.rand(clips, 2, generator=draw),
        observed=torch.rand(clips, 2, generator=draw) < 0.5,
        dropped=torch.rand(clips, generator=draw) < 0.5,
        captions=tuple(map(str, range(clips))),
        text=text_of(range(clips)),
        rows=tuple(range(clips)),
    )


class Squares(SingleProcess):
    """A loss in float64 instead of the network's."""

    def loss(self, video_model: Any, batch: Batch, objective: Any) -> Loss:
        per_clip = video_model(batch.video.flatten(1)).square().sum(dim=1)
        return Loss(
            total=per_clip.mean(),
            per_clip=per_clip.detach(),
            per_frame=per_clip.detach()[:, None].expand_as(batch.u),
            made=~batch.observed,
            level=batch.u,
        )


class Spoilt(SingleProcess):
    """Losses of some steps are multiplied by a number, or raise an error."""

    def __init__(self, spoilt: dict[int, float | Exception]) -> None:
        self.spoilt, self.step = spoilt, 0

    def loss(self, video_model: Any, batch: Batch, objective: Any) -> Loss:
        self.step += 1
        factor = self.spoilt.get(self.step, 1.0)
        if isinstance(factor, Exception):
            raise factor
        loss = super().loss(video_model, batch, objective)
        return replace(loss, total=loss.total * factor)


@pytest.mark.parametrize("accumulate", [3, 50])
def test_the_gradient_of_the_parts_is_the_gradient_of_the_batch(accumulate: int) -> None:
    torch.manual_seed(0)
    layer, batch, found = nn.Linear(96, 4).double(), batch_of(7), []
    for parts in (1, accumulate):
        settings = settings_of(1).model_copy(update={"batch_size": 7, "grad_accum_steps": parts})
        loss = loop._gradients(layer, batch, settings, 1.0, nullcontext, Squares(), None)  # type: ignore[arg-type]
        found.append((loss, layer.weight.grad.clone()))  # type: ignore[union-attr]
    (whole, gradient), (sum_, of_parts) = found
    assert float((of_parts - gradient).abs().max() / gradient.abs().max()) < 1e-14
    assert float(sum_.total) == pytest.approx(float(whole.total), rel=1e-14)
    assert torch.allclose(sum_.per_clip, whole.per_clip, rtol=1e-14) and torch.equal(sum_.level, whole.level)


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
                for name in ("tokens", "mask", "pooled"):
                    assert torch.equal(getattr(piece, name), getattr(text_of(clips), name))
        elif isinstance(value, int):
            assert pieces == [value] * 3, entry.name
        else:
            assert value is None or sum(pieces, ()) == value, entry.name


def test_fp16_overflows_halve_the_scale_and_leave_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "SCALE", 2.0**40)
    settings = settings_of(GIVE_UP_AFTER + 2)
    state = TrainState(tiny_video_model(noise=0.1), settings.optimizer)
    before = contents(state)
    reports = train(state, settings, dtype=torch.float16)
    assert [report.reason for report in reports] == ["overflow"] * len(reports) and same_weights(state, before)
    assert all(math.isfinite(report.loss) for report in reports), "the loss itself is sound: nothing has diverged"
    assert state.guard.scale.value == 2.0 ** (40 - len(reports)) and state.ema.updates == 0


def test_fp16_steps_are_nearly_those_of_float32_and_resume_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guards, "GROW_AFTER", 2)  # so that the scale changes on both sides of the stop
    settings = settings_of(5, max_grad_norm=100.0)
    exact, whole, first = (TrainState(tiny_video_model(noise=0.1), settings.optimizer) for _ in range(3))
    (wanted,) = train(exact, settings, until=1)
    reports = train(whole, settings, dtype=torch.float16)
    assert not any(report.skipped for report in reports) and whole.guard.scale.value == 2.0**18
    assert reports[0].gradient_norm == pytest.approx(wanted.gradient_norm, rel=0.02), "the scale is divided out"
    early = train(first, settings, dtype=torch.float16, until=3)
    first.save(tmp_path / "step-3", clips_seen=12)
    second = TrainState(tiny_video_model(seed=9), settings.optimizer)
    second.load(tmp_path / "step-3")
    assert repr(early + train(second, settings, dtype=torch.float16)) == repr(reports)
    assert same(whole, second) and second.guard.state_dict() == whole.guard.state_dict()


def test_an_update_that_is_not_finite_is_skipped_and_named() -> None:
    settings = settings_of(3)
    state = TrainState(tiny_video_model(), settings.optimizer)
    train(state, settings, until=1)
    before = contents(state)
    (report,) = train(state, settings, until=2, parallel=Spoilt({1: math.nan}))
    assert report.skipped and report.reason == "not finite" and len(report.rows) == 4 and report.step == 2
    assert same_weights(state, before) and state.ema.updates == 1
    assert not train(state, settings)[0].skipped and not same_weights(state, before)


def test_a_spike_is_skipped_also_after_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "ENOUGH", 3)
    settings = settings_of(7, grad_spike_factor=50.0)
    whole, first = (TrainState(tiny_video_model(noise=0.1), settings.optimizer) for _ in range(2))
    reports = train(whole, settings, parallel=Spoilt({5: 1e4}))
    assert [report.reason for report in reports] == ["", "", "", "", "spike", "", ""]
    assert whole.ema.updates == 6, "no update of the weights, none of their average"
    train(first, settings, until=4)
    first.save(tmp_path / "step-4", clips_seen=16)
    second = TrainState(tiny_video_model(), settings.optimizer)
    second.load(tmp_path / "step-4")
    late = train(second, settings, parallel=Spoilt({1: 1e4}))
    assert repr(late) == repr(reports[4:]) and same(whole, second)


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
    ("error", "is_memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (RuntimeError("x: can't allocate memory: y"), True),
        (RuntimeError("shapes do not match"), False),
    ],
)
def test_out_of_memory_is_an_error_of_its_own_and_no_error_touches_the_state(error: Exception, is_memory: bool) -> None:
    settings = settings_of(3)
    state = TrainState(tiny_video_model(), settings.optimizer)
    train(state, settings, until=1)
    before = contents(state)
    with pytest.raises(Exception, match="out of memory at step 2" if is_memory else "shapes do not match") as caught:
        train(state, settings, parallel=Spoilt({1: error}))
    assert isinstance(caught.value, OutOfMemory) == is_memory
    assert state.step == 1 and same_weights(state, before)
