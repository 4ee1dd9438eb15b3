"""What is seen of a clip: crops and mirrored clips, which leave every other draw as it is."""

import numpy as np
import pytest
import torch

from vidiff_cli.config.train import LoaderSettings, ObjectiveSettings
from vidiff_cli.training.clip_sampling import forbids_flip
from vidiff_cli.training.loader import Batch, BatchSpec, ClipSource, draw_batch

HEIGHT, WIDTH = 6, 9


def clips_of(count: int) -> np.ndarray:
    """A clip's pixels are (number, row, column): a crop says where it is from."""
    clips = np.zeros((count, 4, HEIGHT, WIDTH, 3), dtype=np.uint8)
    clips[..., 0] = np.arange(count)[:, None, None, None]
    clips[..., 1] = np.arange(HEIGHT)[:, None]
    clips[..., 2] = np.arange(WIDTH)
    return clips


def draw(rows, step: int, **loader: object) -> Batch:
    clips = clips_of(len(rows))
    spec = BatchSpec(
        objective=ObjectiveSettings(),
        loader=LoaderSettings.model_validate(loader),
        size=8,
        window=3,
        frame_strides=(1,),
        seed=0,
    )
    source = ClipSource(rows=rows, read=lambda number, frames: clips[number][list(frames)])
    return draw_batch(source, spec, step=step, device=torch.device("cpu"))


def pixels(batch: Batch) -> np.ndarray:
    return ((batch.video + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 4, 1).numpy()


def test_a_crop_is_one_square_of_every_frame_at_any_place(row: type) -> None:
    places = set()
    for step in range(60):
        for clip in pixels(draw([row(frames=4)] * 5, step, crop=4)):
            top, left = clip[0, 0, 0, 1:].tolist()
            assert clip.shape == (3, 4, 4, 3) and (clip == clip[:1]).all()
            assert (clip[0, :, :, 1] == top + np.arange(4)[:, None]).all() and (
                clip[0, :, :, 2] == left + np.arange(4)
            ).all()
            places.add((top, left))
    assert places == {(top, left) for top in range(HEIGHT - 3) for left in range(WIDTH - 3)}


def test_half_of_the_clips_are_mirrored_and_every_frame_of_them(row: type) -> None:
    mirrored = []
    for step in range(40):
        for clip in pixels(draw([row(frames=4)] * 5, step, flip=True)):
            (columns,) = {tuple(frame) for frame in clip[:, :, :, 2].reshape(-1, WIDTH).tolist()}
            assert columns in (tuple(range(WIDTH)), tuple(reversed(range(WIDTH))))
            mirrored.append(columns[0] != 0)
    assert np.mean(mirrored) == pytest.approx(0.5, abs=0.12)


def test_crops_and_mirrors_change_no_other_draw(row: type) -> None:
    rows = [row(frames=4, captions=("one", "two"))] * 5
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
FREE = ["a bright day", "an upright bass", "a dog runs", "copyright", "the clock ticks", "aleft", ""]


@pytest.mark.parametrize("caption", SIDED)
def test_a_clip_with_a_side_in_any_caption_is_never_mirrored(row: type, caption: str) -> None:
    """Whichever of its captions is drawn."""
    assert forbids_flip([caption]) and forbids_flip(["a dog runs", caption])
    rows = [row(frames=4, captions=("a dog", caption))] * 5
    for step in range(4):
        assert (pixels(draw(rows, step, flip=True))[:, :, :, 0, 2] == 0).all()


@pytest.mark.parametrize("caption", FREE)
def test_other_captions_have_no_side(caption: str) -> None:
    assert not forbids_flip([caption])
