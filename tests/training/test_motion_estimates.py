"""Laws of the estimates in batches: those of generation, from observed frames alone, whoever draws the batch."""

from dataclasses import replace
from typing import Any

import batches
import numpy as np
import pytest
import torch
from batches import pixels, same_batch, spec_of
from tiny_model import tiny_video_model
from tiny_source import Row

from vidiff_cli.config.train import LevelSettings, LoaderSettings, ObjectiveSettings
from vidiff_cli.motion import estimate_clip
from vidiff_cli.pixels import clip_from_uint8
from vidiff_cli.training.loader import Batch, ClipSource, draw_batches
from vidiff_cli.training.motion_estimates import estimate_frames
from vidiff_cli.training.objective import diffusion_loss, make_conditioning

CLIPS, FRAMES, SIDE = 6, 8, 20
CPU = torch.device("cpu")
SHOWN = ("estimate", "uncertainty", "estimated_from")


def film(number: int) -> np.ndarray:
    """A textured picture that moves (t h w c)."""
    rng = np.random.default_rng(number)
    small = torch.from_numpy(rng.random((1, 3, 6, 6), dtype=np.float32))
    wide = torch.nn.functional.interpolate(small, (40, 40), mode="bicubic").clamp(0, 1)[0]
    step = 1 + number % 2
    moved = [wide[:, place : place + SIDE, place * step : place * step + SIDE] for place in range(FRAMES)]
    return (torch.stack(moved) * 255).byte().permute(0, 2, 3, 1).numpy()


@pytest.fixture
def source() -> ClipSource:
    clips = [film(number) for number in range(CLIPS)]
    return ClipSource(rows=[Row(frames=FRAMES)] * CLIPS, read=lambda number, frames: clips[number][list(frames)])


def draw(source: ClipSource, *, loader: LoaderSettings | None = None, motion: bool = True, **more: Any) -> Batch:
    reader, step = more.pop("reader", None), more.pop("step", 0)
    objective = ObjectiveSettings.model_validate({"levels": {"observed": 0.8}, "caption_dropout": 0.0} | more)
    asked = {"objective": objective, "loader": loader or LoaderSettings(crop=16), "motion": motion}
    return batches.draw(source, step=step, reader=reader, size=6, window=6, **asked)


def test_the_estimate_is_that_of_generation_bit_for_bit(source: ClipSource) -> None:
    """Which knows one clip alone, its given frames from a file, and nothing in the place of the others."""
    seen = 0
    for step in range(4):
        batch = draw(source, step=step, loader=LoaderSettings(crop=16, flip=True), context_noise=0.5)
        assert batch.estimated_from is not None and batch.estimate is not None and batch.uncertainty is not None
        for clip, observed in enumerate(batch.estimated_from):
            known = torch.where(observed[:, None, None], clip_from_uint8(pixels(batch)[clip].numpy()), 9.0)
            estimate, uncertainty = estimate_clip(known, observed[None], batch.times[clip, None])
            assert torch.equal(batch.estimate[clip], estimate[0])
            assert torch.equal(batch.uncertainty[clip], uncertainty[0])
            seen += int(observed.any())
    assert 10 < seen < 24


def test_no_estimate_knows_frames_that_are_not_observed() -> None:
    frames = np.stack([film(number) for number in range(3)])
    observed = np.zeros((3, FRAMES), dtype=bool)
    observed[0, [0, 4]] = observed[1, 2:5] = True
    times = np.arange(FRAMES)[None].repeat(3, axis=0) / 8
    other = np.where(observed[:, :, None, None, None], frames, 255 - frames)
    one, two = estimate_frames(frames, observed, times), estimate_frames(other, observed, times)
    assert all(torch.equal(*pair) for pair in zip(one, two, strict=True))
    assert not one[0][2].any() and not one[1][2].any(), "nothing is observed of the last one"
    error = (one[0][0] - clip_from_uint8(frames[0])[0]).abs().mean(dim=(0, 2, 3))
    assert error[0] == error[4] == 0 and float(error[1:4].max()) < 0.05


def test_ranks_workers_and_what_was_asked_before_change_no_estimate(source: ClipSource) -> None:
    wanted = spec_of(objective=ObjectiveSettings(levels=LevelSettings(observed=0.8)), size=6, window=6, motion=True)

    def drawn(workers: int, rank: int = 0, world: int = 1, start: int = 0) -> list[Batch]:
        fresh = ClipSource(rows=source.rows, read=source.read)
        asked = replace(wanted, loader=LoaderSettings(workers=workers, crop=16), rank=rank, world=world)
        return list(draw_batches(fresh, asked, start=start, stop=3, device=CPU))

    alone, threads = drawn(0), drawn(2)
    ranks = list(zip(drawn(1, 0, 2), drawn(1, 1, 2), strict=True))
    resumed = drawn(1, start=2)
    for step, batch in enumerate(alone):
        for name in SHOWN:
            assert torch.equal(getattr(batch, name), getattr(threads[step], name))
            assert torch.equal(getattr(batch, name), torch.cat([getattr(part, name) for part in ranks[step]]))
            assert step < 2 or torch.equal(getattr(batch, name), getattr(resumed[step - 2], name))


def test_readers_leave_the_threads_of_the_step_alone(source: ClipSource) -> None:
    torch.set_num_threads(3)  # the fixture sets them back
    wanted = spec_of(loader=LoaderSettings(workers=2), size=2)
    seen = [torch.get_num_threads() for _ in draw_batches(source, wanted, start=0, stop=3, device=CPU)]
    assert seen == [3, 3, 3] and torch.get_num_threads() == 3


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_share_of_the_estimates_is_dropped_and_no_other_draw_changes(source: ClipSource, share: float) -> None:
    shown = given = 0
    for step in range(20):
        batch, other = draw(source, step=step, estimate_dropout=share), draw(source, step=step, estimate_dropout=0.0)
        hidden = dict.fromkeys(SHOWN)
        assert same_batch(replace(batch, **hidden), replace(other, **hidden))
        assert batch.estimated_from is not None and batch.estimate is not None and other.estimate is not None
        kept = batch.estimated_from.any(dim=1)
        assert torch.equal(batch.estimated_from, batch.observed & kept[:, None])
        assert torch.equal(batch.estimate[kept], other.estimate[kept]) and not batch.estimate[~kept].any()
        shown, given = shown + int(kept.sum()), given + int(batch.observed.any(dim=1).sum())
    assert abs(shown / given - (1 - share)) < 0.12 and given > 60


def test_images_beside_clips_have_none(source: ClipSource) -> None:
    batch = draw(source, image_fraction=0.4, estimate_dropout=0.0)
    conditioning = make_conditioning(batch, None)
    assert batch.is_image is not None and batch.estimate is not None and batch.estimate.shape == batch.video.shape
    assert not batch.estimate[:, :, 6:].any()
    assert not conditioning.estimated[:, 6:].any() and conditioning.estimated[:, :6].any()
    plain, clips = draw(source, estimate_dropout=0.0), batch.without_images()
    assert all(torch.equal(getattr(clips, name), getattr(plain, name)) for name in (*SHOWN, "observed", "times"))
    assert all(getattr(draw(source, motion=False), name) is None for name in SHOWN), "of a model without motion"


def test_a_dropped_estimate_is_not_seen(source: ClipSource) -> None:
    """The loss is that of the same network without, bit for bit."""
    video_model = tiny_video_model(noise=0.1, motion=True)
    reader = video_model.caption_reader()
    dropped, shown = (draw(source, reader=reader, estimate_dropout=share) for share in (1.0, 0.0))
    losses = [diffusion_loss(video_model.denoiser, video_model.text, batch).per_clip for batch in (dropped, shown)]
    none = replace(dropped, **dict.fromkeys(SHOWN))
    assert torch.equal(losses[0], diffusion_loss(video_model.denoiser, video_model.text, none).per_clip)
    given = dropped.observed.any(dim=1)
    assert torch.equal(losses[0][~given], losses[1][~given]) and bool((losses[0][given] != losses[1][given]).all())
