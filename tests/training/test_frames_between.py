"""Batches of --task frames: first and last frame given, the estimate between them made of the crop itself."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from batches import draw, pixels, same_batch
from tiny_source import Row

from vidiff_cli.config.train import LevelSettings, LoaderSettings, ObjectiveSettings
from vidiff_cli.motion import estimate_around, optical_flow
from vidiff_cli.pixels import from_uint8, to_uint8
from vidiff_cli.training.conditioning_masks import draw_ends
from vidiff_cli.training.loader import ClipSource
from vidiff_cli.training.objective import _bounded

SIDE, CROP, CLIPS, FRAMES = 40, 24, 6, 9


def source() -> ClipSource:
    """Clips of textures that move, each in its own direction."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (CLIPS, 24, 24, 3)).astype(np.uint8)
    canvas = coarse.repeat(4, 1).repeat(4, 2)

    def read(number: int, frames: range) -> np.ndarray:
        step = 1 + number % 3
        return np.stack([canvas[number, 8 : 8 + SIDE, step * k : step * k + SIDE] for k in frames])

    return ClipSource(rows=[Row(frames=FRAMES)] * CLIPS, read=read, shapes=np.tile([FRAMES, SIDE, SIDE], (CLIPS, 1)))


def batch(step: int = 0, **more: object):
    objective = ObjectiveSettings(levels=LevelSettings(shared=0.0, observed=1.0), estimate_dropout=0.0)
    chosen = {"objective": objective, "loader": LoaderSettings(crop=CROP, flip=True), "between": True, "window": 5}
    return draw(source(), step=step, **(chosen | more))


@pytest.mark.parametrize("t", [3, 4, 5, 9])
def test_the_ends_are_given_and_something_is_left_to_make(t: int) -> None:
    masks = [draw_ends(np.random.default_rng(seed), t) for seed in range(400)]
    assert all(mask[0] and mask[-1] and not mask.all() for mask in masks)
    found = {tuple(mask.tolist()) for mask in masks}
    for step in range(2, t):
        wanted = np.arange(t) % step == 0
        wanted[-1] = True
        assert tuple(wanted.tolist()) in found or wanted.all(), f"every {step}th frame is never given"
    assert len(found) >= min(2 ** (t - 2) - 1, 20)


@pytest.mark.parametrize("t", [1, 2])
def test_nothing_lies_between_fewer_than_three_frames(t: int) -> None:
    assert not draw_ends(np.random.default_rng(0), t).any()


def test_every_clip_of_a_batch_has_given_ends() -> None:
    for step in range(4):
        drawn = batch(step)
        assert bool(drawn.observed[:, [0, -1]].all()) and bool((~drawn.observed).any(1).all())


def test_the_estimate_is_made_of_the_crop_itself_at_some_size_of_motion(monkeypatch) -> None:
    """With motion found at the crop's own size, the loader's estimate is that of the batch's own frames."""
    monkeypatch.setattr("vidiff_cli.training.clip_sampling.COARSEST", 1.0)
    drawn = batch()
    flow = partial(optical_flow, short_side=CROP)
    expected = torch.cat(
        [
            estimate_around(from_uint8(to_uint8(clip))[None], seen[None], times[None], flow=flow)
            for clip, seen, times in zip(drawn.video, drawn.observed, drawn.times, strict=True)
        ]
    )
    assert drawn.around.shape == (len(drawn.video), 7, 5, CROP, CROP)
    assert torch.allclose(drawn.around, expected, atol=1e-5)
    given = drawn.observed[:, None, :, None, None].expand_as(drawn.video)
    assert torch.allclose(drawn.around[:, :3][given], drawn.video[given], atol=1e-6)


def test_motion_is_found_at_smaller_sizes_too() -> None:
    """As of large frames: the estimates of the same crops differ, none from that of the given frames."""
    drawn, flow = batch(), partial(optical_flow, short_side=CROP)
    same = [
        bool(torch.allclose(estimate_around(clip[None], seen[None], times[None], flow=flow)[0], around, atol=1e-5))
        for clip, seen, times, around in zip(drawn.video, drawn.observed, drawn.times, drawn.around, strict=True)
    ]
    assert not all(same)


def test_neither_ranks_nor_a_repetition_change_a_batch() -> None:
    assert same_batch(batch(3), batch(3))
    whole = batch(3, size=4)
    parts = [batch(3, size=4, rank=rank, world=2) for rank in range(2)]
    assert torch.equal(whole.around, torch.cat([part.around for part in parts]))
    assert torch.equal(pixels(whole), torch.cat([pixels(part) for part in parts]))


def test_a_clip_whose_estimate_is_far_off_counts_as_one_at_most() -> None:
    losses = torch.tensor([0.2, 1.0, 50.0], requires_grad=True)
    bounded = _bounded(losses)
    assert torch.allclose(bounded, torch.tensor([0.2, 1.0, 1.0]))
    (gradient,) = torch.autograd.grad(bounded.sum(), losses)
    assert torch.allclose(gradient, torch.tensor([1.0, 1.0, 1 / 50]))
