"""Low-resolution clips of training batches: one crop per clip, one level of noise per clip, told to the network."""

from __future__ import annotations

import numpy as np
import torch
from batches import draw, pixels, same_batch
from tiny_source import Row

from vidiff_cli.config.train import LevelSettings, LoaderSettings, ObjectiveSettings
from vidiff_cli.models.denoiser import noise_ratio
from vidiff_cli.resize import enlarge, low_resolution, with_uncertainty
from vidiff_cli.training.loader import ClipSource
from vidiff_cli.training.low_resolution import low_clips

SIDE, CROP, CLIPS = 40, 16, 12


def places() -> ClipSource:
    """Clips whose pixel values are (row, column, frame), so that a crop says where it is from."""

    def read(number: int, frames: range) -> np.ndarray:
        video = np.zeros((len(frames), SIDE, SIDE, 3), np.uint8)
        video[..., 0] = np.arange(SIDE)[:, None]
        video[..., 1] = np.arange(SIDE)
        video[..., 2] = np.array(frames)[:, None, None]
        return video

    shapes = np.tile([8, SIDE, SIDE], (CLIPS, 1))
    return ClipSource(rows=[Row(frames=8)] * CLIPS, read=read, shapes=shapes)


def batch(step: int = 0, **more: object):
    objective = ObjectiveSettings(augmentation=0.4, levels=LevelSettings(observed=0.25))
    chosen = {"objective": objective, "loader": LoaderSettings(crop=CROP), "upscale": 2, "window": 5} | more
    return draw(places(), step=step, **chosen)


def test_every_frame_of_a_clip_is_cropped_at_the_same_place() -> None:
    corners = set()
    for step in range(4):
        for clip in pixels(batch(step)):
            tops, lefts = clip[:, 0, 0, 0], clip[:, 0, 0, 1]
            assert len(tops.unique()) == len(lefts.unique()) == 1, "a frame is cropped elsewhere"
            corners.add((int(tops[0]), int(lefts[0])))
    assert len(corners) > 20, "each clip has a crop of its own"


def test_the_low_resolution_clip_is_made_of_the_crop_itself() -> None:
    drawn = batch()
    clean = drawn.augmentation == 0
    assert 0 < int(clean.sum()) < len(clean)
    expected = with_uncertainty(low_resolution(drawn.video, 2), 2)
    assert torch.equal(drawn.around[clean], expected[clean])


def test_every_clip_has_a_level_of_noise_of_its_own_which_the_network_is_told() -> None:
    found = torch.cat([batch(step).augmentation for step in range(6)])
    noisy = found[found > 0]
    assert 0.3 < len(noisy) / len(found) < 0.7
    assert len(noisy.unique()) == len(noisy) and float(noisy.max()) <= 0.4
    drawn = batch(size=CLIPS)
    off = (drawn.around[:, :3] - enlarge(low_resolution(drawn.video, 2), 2)).std(dim=(1, 2, 3, 4))
    for std, place in zip(off, drawn.augmentation, strict=True):
        assert abs(float(std) - 0.75 * float(noise_ratio(place))) <= 0.2 * float(noise_ratio(place))


def test_neither_ranks_nor_a_repetition_change_a_batch() -> None:
    whole, again = batch(3), batch(3)
    assert same_batch(whole, again)
    parts = [batch(3, rank=rank, world=2) for rank in range(2)]
    for name in ("around", "augmentation", "video"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))


def test_the_noise_of_low_resolution_clips_is_not_that_of_the_video() -> None:
    drawn = batch()
    low = low_clips(torch.zeros(8, 3, 5, 32, 32), 2, torch.full((8,), 0.5), [(0, 0, n) for n in range(8)])
    assert low.shape == (8, 7, 5, 32, 32)
    noise = low[:, :3]
    small = noise[..., ::2, ::2].flatten() - noise.mean()
    video = drawn.noise.flatten()[: len(small)]
    length = min(len(small), len(video))
    assert abs(float(torch.corrcoef(torch.stack([small[:length], video[:length]]))[0, 1])) < 0.05


def test_other_trainings_draw_what_they_drew_before() -> None:
    with_noise, without = (batch(objective=ObjectiveSettings(augmentation=share)) for share in (0.4, 0.0))
    for name in ("video", "u", "observed", "dropped", "times"):
        assert torch.equal(getattr(with_noise, name), getattr(without, name))
    plain = batch(upscale=0)
    assert plain.around is None and plain.augmentation is None
