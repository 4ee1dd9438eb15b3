"""What is seen of a clip: crops and mirrored clips, which leave every other draw as it is."""

import batches
import numpy as np
import pytest
import torch
from batches import pixels
from tiny_source import Row

from vidiff_cli.config.train import LoaderSettings
from vidiff_cli.training.clip_sampling import forbids_flip
from vidiff_cli.training.loader import Batch, ClipSource

HEIGHT, WIDTH = 6, 9


def draw(rows, step: int, **loader: object) -> Batch:
    """Pixels are (clip, row, column): a crop says where it is from."""
    clips = np.zeros((len(rows), 4, HEIGHT, WIDTH, 3), dtype=np.uint8)
    clips[..., 0] = np.arange(len(rows))[:, None, None, None]
    clips[..., 1], clips[..., 2] = np.arange(HEIGHT)[:, None], np.arange(WIDTH)
    source = ClipSource(rows=rows, read=lambda number, frames: clips[number][list(frames)])
    return batches.draw(source, step=step, loader=LoaderSettings.model_validate(loader), window=3)


def test_a_crop_is_one_square_of_every_frame_at_any_place() -> None:
    places = set()
    for step in range(60):
        for clip in pixels(draw([Row(frames=4)] * 5, step, crop=4)).numpy():
            top, left = clip[0, 0, 0, 1:].tolist()
            assert clip.shape == (3, 4, 4, 3) and (clip == clip[:1]).all()
            assert (clip[0, :, :, 1] == top + np.arange(4)[:, None]).all()
            assert (clip[0, :, :, 2] == left + np.arange(4)).all()
            places.add((top, left))
    assert places == {(top, left) for top in range(HEIGHT - 3) for left in range(WIDTH - 3)}


def test_half_of_the_clips_are_mirrored_and_every_frame_of_them() -> None:
    mirrored = []
    for step in range(40):
        for clip in pixels(draw([Row(frames=4)] * 5, step, flip=True)).numpy():
            (columns,) = {tuple(frame) for frame in clip[:, :, :, 2].reshape(-1, WIDTH).tolist()}
            assert columns in (tuple(range(WIDTH)), tuple(reversed(range(WIDTH))))
            mirrored.append(columns[0] != 0)
    assert np.mean(mirrored) == pytest.approx(0.5, abs=0.12)


def test_crops_and_mirrors_change_no_other_draw() -> None:
    rows = [Row(frames=4, captions=("one", "two"))] * 5
    for step in range(10):
        plain, changed = draw(rows, step), draw(rows, step, flip=True, crop=4)
        for name in ("u", "times", "observed", "dropped"):
            assert torch.equal(getattr(plain, name), getattr(changed, name))
        assert plain.captions == changed.captions
        assert (pixels(plain)[:, 0, 0, 0, 0] == pixels(changed)[:, 0, 0, 0, 0]).all()


SIDED = [
    "a ball moves left",
    "RIGHT turn",
    "He raises his right-hand glove.",
    "leftwards",
    "the leftmost one",
    "it spins counter-clockwise",
    "a sign that reads STOP",
    "the word love",
    "ein Auto fährt nach links",
    "la voiture tourne à droite",
    "giro a la izquierda",
    "向左移动",
]


def test_a_clip_with_a_side_in_any_caption_is_never_mirrored() -> None:
    """Whichever of its captions is drawn."""
    for caption in SIDED:
        assert forbids_flip([caption]) and forbids_flip(["a dog runs", caption]), caption
    for caption in ("a bright day", "an upright bass", "copyright", "the clock ticks", "aleft", ""):
        assert not forbids_flip([caption]), caption
    rows = [Row(frames=4, captions=("a dog", SIDED[0]))] * 5
    for step in range(4):
        assert (pixels(draw(rows, step, flip=True))[:, :, :, 0, 2] == 0).all()
