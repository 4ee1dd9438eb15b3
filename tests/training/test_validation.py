"""Held-out loss: the same question at every step and in every run, and nothing of the training is touched."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from batches import pixels
from tiny_model import tiny_video_model
from tiny_source import Row, make_source

from vidiff_cli.config.model import DiffusionSettings
from vidiff_cli.diffusion.levels import cosine
from vidiff_cli.training import validation
from vidiff_cli.training.loader import Batch
from vidiff_cli.training.motion_estimates import estimate_frames
from vidiff_cli.training.objective import diffusion_loss
from vidiff_cli.training.validation import EDGES, Validation, ValidationSet, ignores_text, make_validation_set, validate

CPU = torch.device("cpu")


@pytest.fixture
def video_model() -> Any:
    """Weights that make every path live, the text's too."""
    return tiny_video_model(noise=0.3)


@pytest.fixture
def held(video_model: Any) -> ValidationSet:
    """Twenty clips, two of another shape and every fifth without a caption."""
    rows = [Row(frames=3 if n % 10 == 7 else 6, captions=() if n % 5 == 0 else ("a red square",)) for n in range(20)]
    found = make_validation_set(make_source(rows), video_model.settings)
    assert found is not None
    return found


def look(video_model: Any, held: ValidationSet, **more: Any) -> Validation:
    reader = video_model.caption_reader()
    return validate(video_model, held, reader=reader, device=CPU, dtype=torch.float32, **more)


def test_it_is_a_function_of_the_clips_and_the_weights(video_model, held) -> None:
    """Whatever random numbers were drawn before, and however many clips are looked at at a time."""
    first = look(video_model, held)
    torch.manual_seed(1)
    np.random.seed(1)
    again = make_validation_set(held.source, video_model.settings)
    assert again is not None and look(video_model, again) == first
    alone = look(video_model, held, at_once=3)
    assert alone.clips == first.clips == 20
    assert alone.loss == pytest.approx(first.loss, rel=1e-5)
    assert alone.bands == pytest.approx(first.bands, rel=1e-5)
    with torch.no_grad():
        next(video_model.parameters()).mul_(1.01)
    assert look(video_model, held).loss != first.loss


def test_motion_is_shown_where_the_network_knows_it_and_never_dropped(held, monkeypatch) -> None:
    """At every level of noise, whatever share of the estimates is dropped in training."""
    seen: list[Batch] = []

    def loss(denoiser: Any, text: Any, batch: Batch) -> Any:
        seen.append(batch)
        return diffusion_loss(denoiser, text, batch)

    monkeypatch.setattr(validation, "diffusion_loss", loss)
    look(tiny_video_model(noise=0.3, motion=True), held)
    assert seen and all(batch.estimated_from is not None for batch in seen)
    for batch in seen:
        assert torch.equal(batch.estimated_from, batch.observed)  # type: ignore[arg-type]
        expected = estimate_frames(pixels(batch).numpy(), batch.observed.numpy(), batch.times.double().numpy())
        assert torch.equal(batch.estimate, expected[0]) and torch.equal(batch.uncertainty, expected[1])  # type: ignore[arg-type]
    seen.clear()
    look(tiny_video_model(noise=0.3), held)
    assert seen and all(batch.estimate is None for batch in seen)


def test_nothing_is_touched_also_after_an_error(video_model, held, monkeypatch) -> None:
    """Dropout and gradients are off meanwhile."""
    video_model.train()
    for parameter in video_model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {name: value.clone() for name, value in video_model.state_dict().items()}
    random, numpy_random = torch.get_rng_state(), np.random.get_state()[1].copy()
    look(video_model, held)
    assert torch.get_rng_state().equal(random) and (np.random.get_state()[1] == numpy_random).all()
    assert all(value.equal(before[name]) for name, value in video_model.state_dict().items())
    assert all(value.requires_grad and bool((value.grad == 1).all()) for value in video_model.parameters())
    seen: list[tuple[bool, bool]] = []

    def loss(denoiser: Any, *_: Any) -> None:
        seen.append((denoiser.training, torch.is_grad_enabled()))
        raise ZeroDivisionError

    monkeypatch.setattr(validation, "diffusion_loss", loss)
    with pytest.raises(ZeroDivisionError):
        look(video_model, held)
    assert seen == [(False, False)] and all(module.training for module in video_model.modules())
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("shift", [0.0, -2.5, 3.0])
def test_levels_are_stratified_within_every_band(shift: float) -> None:
    """Shares are those of uniform u; in a band, each of n equal parts has one clip, however often it is looked at."""
    diffusion = DiffusionSettings(shift=shift)
    found = make_validation_set(make_source([Row(frames=4)] * 12), tiny_video_model(diffusion=diffusion).settings)
    assert found is not None and found.shares.sum() == pytest.approx(1)
    u = found.u[::2]
    assert (u == found.u[1::2]).all()
    level = cosine(torch.from_numpy(u), shift=shift).numpy()
    ends = (math.inf, *sorted(EDGES, reverse=True), -math.inf)
    limits = [1 - 2 / math.pi * math.atan(math.exp((end - shift) / 2)) for end in ends]  # u of a level
    bands = [(low, high) for low, high in pairwise(limits)][::-1]
    for number, (low, high) in enumerate(bands):
        assert found.shares[number] == pytest.approx(high - low, abs=1e-3)
        assert (np.digitize(level[:, number], EDGES) == number).all()
        parts = np.sort((u[:, number] - low) / (high - low) * 12)
        np.testing.assert_allclose(parts, np.arange(12) + 0.5, atol=0.05)


def test_a_band_that_the_schedule_does_not_reach() -> None:
    video_model = tiny_video_model(noise=0.3, diffusion=DiffusionSettings(low=-20, high=1))
    found = look(video_model, make_validation_set(make_source([Row(frames=4)] * 4), video_model.settings))
    assert found.bands[3] is None and math.isfinite(found.loss)
    assert all(band is not None and math.isfinite(band) for band in found.bands[:3])


def told_loss(monkeypatch: pytest.MonkeyPatch, value: Callable[[Any, Any, Any, Any], Any]) -> None:
    """A loss of each clip that is a function of (number of the clip, observed, band, caption dropped)."""

    def loss(denoiser: Any, text: Any, batch: Any) -> Any:
        real = diffusion_loss(denoiser, text, batch)
        number = batch.video[:, 0, 0, 0, 0].add(1).mul(127.5).round()  # the clip, as conftest's source tells it
        band = torch.from_numpy(np.digitize(torch.where(real.made, real.level, torch.inf).amin(dim=1), EDGES))
        per_clip = value(number, ~real.made.all(dim=1), band, batch.dropped)
        return replace(
            real, total=per_clip.mean(), per_clip=per_clip, per_frame=per_clip[:, None].expand_as(real.level)
        )

    monkeypatch.setattr(validation, "diffusion_loss", loss)


def test_means_are_over_the_clips_they_name(video_model, held, monkeypatch) -> None:
    told_loss(monkeypatch, lambda number, given, band, drop: number + 100 * given + 1000 * band + 10_000 * drop)
    found = look(video_model, held)
    number = np.arange(20)
    given = np.array([draw.observed.any() for draw in held.draws])
    captioned = number % 5 != 0
    assert (given == (number % 2 == 1)).all()
    base = number + 100 * given + 10_000 * ~captioned
    bands = held.shares @ np.arange(4) * 1000
    assert found.loss == pytest.approx(base.mean() + bands)
    assert found.free == pytest.approx(base[~given].mean() + bands)
    assert found.observed == pytest.approx(base[given].mean() + bands)
    assert found.bands == pytest.approx([base.mean() + 1000 * band for band in range(4)])
    assert found.unconditional == pytest.approx(base[captioned].mean() + bands + 10_000)
    assert (found.text_gain, found.text_gain_error) == (pytest.approx(10_000), pytest.approx(0, abs=1e-6))


@pytest.mark.parametrize("count", [1, 5, 16])
def test_each_of_few_clips_is_looked_at_both_ways(video_model, count: int) -> None:
    """So that one held-out clip is enough for the loss without and with given frames."""
    source = make_source([Row(frames=6, captions=("a red square",))] * count)
    draws = make_validation_set(source, video_model.settings).draws
    assert [draw.row for draw in draws] == [number for number in range(count) for _ in range(2)]
    assert [bool(draw.observed.any()) for draw in draws] == [False, True] * count
    found = look(video_model, make_validation_set(source, video_model.settings))
    assert found.clips == count and found.free > 0 and found.observed > 0
    assert found.loss == pytest.approx((found.free + found.observed) / 2, rel=1e-6)
    assert (found.text_gain_error is None) == (count < validation.FEWEST_CLIPS), "two looks at a clip are one clip"
    images = video_model.settings.model_copy(update={"frames": 1})
    assert len(make_validation_set(make_source([Row(frames=1)] * count), images).draws) == count


def test_the_error_of_the_gain_is_over_clips(video_model, monkeypatch) -> None:
    """Of eight clips that gain 0 to 7, each looked at both ways: the error of eight numbers, not of sixteen."""
    told_loss(monkeypatch, lambda number, given, band, drop: number * drop)
    source = make_source([Row(frames=6, captions=("a red square",))] * 8)
    found = look(video_model, make_validation_set(source, video_model.settings))
    assert found.text_gain == pytest.approx(3.5)
    assert found.text_gain_error == pytest.approx(np.arange(8).std(ddof=1) / 8**0.5)


def test_many_clips_are_bounded_and_evenly_spaced() -> None:
    found = make_validation_set(make_source([Row(frames=4)] * 250), tiny_video_model().settings)
    assert found is not None
    numbers = [draw.row for draw in found.draws]
    assert len(numbers) == 32 and (numbers[0], numbers[-1]) == (0, 249) and set(np.diff(numbers)) == {8, 9}
    assert make_validation_set(make_source([]), tiny_video_model().settings) is None


def test_without_learned_conditioning_no_frames_are_given(video_model) -> None:
    settings = video_model.settings.model_copy(update={"conditioning": "none"})
    found = make_validation_set(make_source([Row(frames=6)] * 6), settings)
    assert found is not None and not any(draw.observed.any() for draw in found.draws)
    assert look(video_model, found).observed is None


@pytest.mark.parametrize(
    ("gains", "told"),
    [
        ([], False),
        ([(600, 0.0, 0.1)], False),
        ([(600, 0.0, 0.1), (700, 0.05, 0.1)], True),
        ([(600, 0.0, 0.1), (700, 0.05, 0.1), (800, 0.0, 0.1)], False),  # it was told before
        ([(600, 0.0, 0.1), (700, 0.3, 0.1), (800, 0.0, 0.1)], False),
        ([(600, 0.0, 0.1), (700, 0.3, 0.1), (800, -0.2, 0.1), (850, 0.1, 0.1)], True),
        ([(100, 0.0, 0.1), (500, 0.0, 0.1)], False),  # too early
        ([(600, 0.3, 0.1), (700, 0.3, 0.1)], False),
    ],
)
def test_when_the_text_is_called_ignored(gains: list[tuple[int, float, float]], told: bool) -> None:
    assert ignores_text(gains, steps=1000) is told
    assert not ignores_text(gains, steps=9000)  # a tenth of a long run comes first


def test_independent_levels_by_frame_are_looked_at_where_they_are_trained(video_model) -> None:
    """A third of the looks: every frame at places that lie evenly, independent of its neighbors'; the other looks are
    asked as ever."""
    source = make_source([Row(frames=6, captions=("a red square",))] * 9)
    plain = make_validation_set(source, video_model.settings)
    found = make_validation_set(source, video_model.settings, independent=True)
    assert [draw.u is not None for draw in found.draws] == [False, False, True] * 9
    assert not any(draw.observed.any() for draw in found.draws if draw.u is not None)
    for kind in range(2):
        ours, theirs = found.draws[kind::3], plain.draws[kind::2]
        assert [draw.row for draw in ours] == [draw.row for draw in theirs] == list(range(9))
    assert (found.u[::3] == plain.u[::2]).all()
    made = look(video_model, found)
    assert made.frame_levels is not None and look(video_model, plain).frame_levels is None
    parts = (made.free, made.observed, made.frame_levels)
    assert all(part is not None for part in parts) and made.loss == pytest.approx(sum(parts) / 3, rel=1e-6)
    assert look(video_model, found, at_once=2).frame_levels == pytest.approx(made.frame_levels, rel=1e-5)


def test_a_frame_counts_in_the_band_of_its_own_level(video_model, monkeypatch) -> None:
    """A loss that tells the band of every frame is read back as it is; a look without text costs half the passes."""
    passes, places = 0, list[np.ndarray]()

    def loss(denoiser: Any, text: Any, batch: Any) -> Any:
        nonlocal passes
        passes += 1
        if not batch.dropped.all():
            places.append(batch.u.numpy())
        real = diffusion_loss(denoiser, text, batch)
        per_frame = torch.from_numpy(np.digitize(real.level.numpy(), EDGES)).double()
        per_clip = (per_frame * real.made).sum(dim=1) / real.made.sum(dim=1)
        return replace(real, total=per_clip.mean(), per_clip=per_clip, per_frame=per_frame)

    monkeypatch.setattr(validation, "diffusion_loss", loss)
    source = make_source([Row(frames=6, captions=("a red square",))] * 10)
    held = make_validation_set(source, video_model.settings, independent=True)
    found = look(video_model, held, at_once=len(held.draws))
    assert found.bands == pytest.approx((0, 1, 2, 3))
    seen = np.stack(places)[:, [draw.u is not None for draw in held.draws]]  # passes, looks, frames
    np.testing.assert_allclose(np.sort(seen * 4 % 1, axis=0), np.broadcast_to(seen[:1] * 4 % 1, seen.shape), atol=1e-5)
    assert (np.sort((seen * 4).astype(int), axis=0) == np.arange(4)[:, None, None]).all(), "each quarter once"
    assert found.free == pytest.approx(held.shares @ np.arange(4))
    assert found.frame_levels == pytest.approx(held.shares @ np.arange(4), abs=0.35), "drawn evenly over the schedule"
    both, passes = passes, 0
    assert look(video_model, held, at_once=len(held.draws), text_gain=False).text_gain is None and passes * 2 == both
