"""Laws of the error of one pass: which frames count, and what is measured of them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from tiny_model import tiny_video_model
from tiny_source import Row
from torch import Tensor

from vidiff_cli.config.model import ModelSettings
from vidiff_cli.diffusion.noise import seeded
from vidiff_cli.models.conditioning import Conditioning
from vidiff_cli.models.one_pass_errors import OnePassErrors, read_errors
from vidiff_cli.pixels import clip_from_uint8
from vidiff_cli.training import one_pass
from vidiff_cli.training.loader import ClipSource
from vidiff_cli.training.one_pass import choose_clips, measure_errors
from vidiff_cli.training.validation import SEED

SIDE, FRAMES = 8, 20
CPU = torch.device("cpu")


def film(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (FRAMES, SIDE, SIDE, 3), np.uint8)


@dataclass
class Stub:
    """A model whose frames are what `make` says of (z, level, conditioning)."""

    settings: ModelSettings
    make: Callable[[Tensor, Tensor, Conditioning], Tensor]

    def denoiser(self, z: Tensor, level: Tensor, told: Conditioning) -> Tensor:
        return self.make(z, level, told)


def source_of(clips: int, read: Callable[[int], np.ndarray] = film) -> ClipSource:
    return ClipSource(rows=[Row(frames=FRAMES)] * clips, read=lambda number, frames: read(number)[list(frames)])


def measured(source: ClipSource, frames: int, make: Callable[[Tensor, Tensor, Conditioning], Tensor]) -> OnePassErrors:
    settings = ModelSettings(width=SIDE, height=SIDE, frames=frames, frame_strides=(1, 2))
    held = choose_clips(source, settings)
    assert held is not None
    video_model: Any = Stub(settings, make)
    return measure_errors(video_model, held, split="val", device=CPU, dtype=torch.float32, at_once=3)


@pytest.mark.parametrize("t", [3, 4, 6, 9, 19])
def test_the_frames_that_count_are_where_they_are_said_to_be(t: int) -> None:
    asked = one_pass._tasks(t)
    gaps = {part: {gap for name, _, counted in asked if name == part for gap in counted} for part in one_pass.PARTS}
    assert gaps == {
        "between": {gap for gap in one_pass.BETWEEN if gap + 2 <= t},
        "beyond": {gap for gap in one_pass.BEYOND if gap + 2 <= t},
    }
    for part, observed, counted in asked:
        there = np.flatnonzero(observed)
        for gap, chosen in counted.items():
            assert chosen and not observed[chosen].any()
            for frame in chosen:
                before = there[there < frame].max()
                if part == "between":
                    assert there[there > frame].min() - before == gap + 1
                else:
                    assert frame == there.max() + gap and len(there) >= 2 and (np.diff(there) == 1).all()


def test_the_estimate_is_measured_beside_what_the_network_makes() -> None:
    """By networks that copy the estimate, that know the truth, and that are off by half."""
    films = [clip_from_uint8(film(number)) for number in range(4)]

    def truth(z: Tensor, level: Tensor, told: Conditioning) -> Tensor:
        return torch.cat([_found(films, clip, told.observed[place]) for place, clip in enumerate(z)])

    copied = measured(source_of(4), 9, lambda z, level, told: told.estimate)  # type: ignore[arg-type,return-value]
    exact = measured(source_of(4), 9, truth)
    off = measured(source_of(4), 9, lambda *given: 0.5 * truth(*given) + 0.1)
    assert set(copied.between) == {1, 3, 7} and set(copied.beyond) == {1, 2, 4}
    assert (copied.clips, copied.split) == (4, "val")
    for part in ("between", "beyond"):
        for gap, (model, estimate) in getattr(copied, part).items():
            assert model == pytest.approx(estimate, rel=1e-6) and estimate > 0.1
            assert getattr(exact, part)[gap] == pytest.approx((0, estimate), abs=1e-6)
            assert 0.2 < getattr(off, part)[gap][0] < 0.6 and getattr(off, part)[gap][1] == estimate


def _found(films: list[Tensor], shown: Tensor, given: Tensor) -> Tensor:
    """The whole window of which the given frames are shown."""
    t = len(given)
    for whole in films:
        for start in range(FRAMES - t + 1):
            window = whole[:, :, start : start + t]
            if torch.allclose(window[0][:, given], shown[:, given], atol=1e-5):
                return window
    raise AssertionError("no such window")


def test_the_network_is_shown_noise_and_the_given_frames() -> None:
    """Noise at the noisiest level, of each clip alone; given frames clean, and told of."""
    films = [clip_from_uint8(film(number)) for number in range(4)]

    def make(z: Tensor, level: Tensor, told: Conditioning) -> Tensor:
        settings = ModelSettings().diffusion
        assert torch.equal(level, torch.where(told.observed, settings.high, settings.low))
        assert told.tokens is None and told.estimated_from is not None
        assert torch.equal(told.observed, told.estimated_from)
        noise = [torch.randn(z.shape[1:], generator=seeded(SEED, place)) for place in range(4)]
        for clip, given in zip(z, told.observed, strict=True):
            _found(films, clip, given)
            assert any(torch.equal(clip[:, ~given], each[:, ~given]) for each in noise)
        return torch.zeros_like(z)

    measured(source_of(4), 6, make)


def test_at_most_sixteen_clips_of_models_that_are_given_frames() -> None:
    model = ModelSettings(width=SIDE, height=SIDE, frames=6, frame_strides=(1, 2))
    held = choose_clips(source_of(40), model)
    assert held is not None and len(held.draws) == len({draw.row for draw in held.draws}) == 16
    assert all(draw.frames.step == 1 and not draw.observed.any() for draw in held.draws)
    assert choose_clips(source_of(0), model) is None
    assert choose_clips(source_of(4), model.model_copy(update={"conditioning": "none"})) is None
    assert choose_clips(source_of(4), model.model_copy(update={"frames": 2})) is None


def test_a_real_network_is_measured() -> None:
    """And left as it was; the same twice."""
    video_model = tiny_video_model(noise=0.1, motion=True).eval()
    source = source_of(5, lambda number: film(number)[:, :4, :4])
    held = choose_clips(source, video_model.settings)
    assert held is not None
    before = torch.get_rng_state()
    more = {"split": "train", "device": CPU, "dtype": torch.float32, "at_once": 2}
    one, two = (measure_errors(video_model, held, **more) for _ in range(2))  # type: ignore[arg-type]
    assert one == two and torch.equal(before, torch.get_rng_state())
    assert all(0 < model < 2 for model, _ in [*one.between.values(), *one.beyond.values()])


def test_they_come_back_from_json_and_damaged_ones_do_not() -> None:
    errors = OnePassErrors(between={1: (0.1, 0.2), 7: (0.3, 0.0)}, beyond={}, clips=3, split="train")
    told = errors.as_json()
    assert told == {"between": {"1": [0.1, 0.2], "7": [0.3, 0.0]}, "beyond": {}, "clips": 3, "split": "train"}
    assert read_errors(told) == errors and read_errors(None) is None
    damaged: list[Any] = [3, [], {}, told | {"between": [1]}, told | {"clips": None}]
    pairs: list[Any] = [[1], [0.1, -1], [math.nan, 1], [math.inf, 1], ["a", 1], 3, None, [1, 2, 3]]
    damaged += [told | {"beyond": {"1": pair}} for pair in pairs]
    for each in [*damaged, told | {"between": {"one": [0.1, 0.2]}}]:
        with pytest.raises(ValueError, match="errors = "):
            read_errors(each)
