"""Batches: a function of (seed, step), with the shares and ranges that the settings ask for."""

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from fractions import Fraction
from functools import partial
from itertools import pairwise
from typing import Any

import batches
import numpy as np
import pytest
import torch
from batches import CPU, pixels, same_batch, spec_of
from tiny_source import Row, make_source
from torch import Tensor

from vidiff_cli.config.train import LevelSettings, LoaderSettings, ObjectiveSettings
from vidiff_cli.dataset.schema import Clip
from vidiff_cli.errors import VidiffError
from vidiff_cli.text.learned import LearnedText, collect_vocabulary
from vidiff_cli.training.loader import Batch, BatchSpec, ClipSource, draw_batches

draw = partial(batches.draw, frame_strides=(1, 2))


def asked(workers: int, **more: Any) -> BatchSpec:
    return spec_of(loader=LoaderSettings(workers=workers), size=4, window=3, frame_strides=(1, 2), seed=5, **more)


def tensors_of(batch: Batch) -> set[str]:
    return {field.name for field in fields(batch) if isinstance(getattr(batch, field.name), Tensor)}


def frames_of(batch: Batch) -> tuple[list[int], list[list[int]]]:
    """Rows (b), and frame indices (b, t), read from the pixels of the stub source."""
    seen = pixels(batch)[:, :, 0, 0]
    return seen[:, 0, 0].tolist(), seen[:, :, 1].tolist()


def test_a_batch_follows_from_seed_and_step_alone() -> None:
    source = make_source([Row(frames=12, captions=("one", "two", "three"))] * 20)
    first = [draw(source, seed=3, step=step) for step in range(6)]
    np.random.seed(1)
    torch.manual_seed(1)
    for step in (5, 0, 3):
        assert same_batch(draw(source, seed=3, step=step), first[step])
    for step, other in enumerate(draw(source, seed=4, step=step) for step in range(6)):
        assert not torch.equal(other.noise, first[step].noise) and not torch.equal(other.u, first[step].u)
    assert all(not torch.equal(one.noise, two.noise) for one, two in pairwise(first))


def test_no_draw_is_used_for_two_things() -> None:
    """With one clip a step, its level, what is given and whether its caption is dropped are independent draws."""
    source = make_source([Row(frames=4)] * 7)
    objective = ObjectiveSettings(levels=LevelSettings(observed=0.5), caption_dropout=0.5, caption_dropout_observed=0.5)
    drawn = [draw(source, size=1, frame_strides=(1,), step=step, objective=objective) for step in range(400)]
    u = np.array([float(batch.u[0, 0]) for batch in drawn])
    given = np.array([bool(batch.observed.any()) for batch in drawn])
    dropped = np.array([bool(batch.dropped) for batch in drawn])
    for one, other in ((u, given), (u, dropped), (given, dropped)):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.2
    again = np.array([float(draw(source, size=1, seed=1, step=step).u[0, 0]) for step in range(400)])
    assert abs(np.corrcoef(u, again)[0, 1]) < 0.2 and abs(np.corrcoef(u[1:], u[:-1])[0, 1]) < 0.2


@pytest.mark.parametrize("size", [1, 5])
def test_levels_are_stratified(size: int) -> None:
    """Sorted, one u falls into each of b equal parts; and which clip has which changes."""
    drawn = [draw(make_source([Row(frames=4)] * 5), size=size, step=step) for step in range(40)]
    for batch in drawn:
        assert ((batch.u >= 0) & (batch.u <= 1)).all()
        assert (batch.u[:, 0].sort().values * size).floor().clamp(max=size - 1).tolist() == list(range(size))
    together = torch.stack([batch.u[:, 0] for batch in drawn])
    assert float((together.mean() - 0.5).abs()) < 0.1
    assert len(together[:, 0].unique()) == len(drawn)


def test_shares_of_observed_clips_and_dropped_captions() -> None:
    source = make_source([Row(frames=8)] * 50)
    objective = ObjectiveSettings(
        levels=LevelSettings(observed=0.6), caption_dropout=0.12, caption_dropout_observed=0.35
    )
    drawn = [draw(source, size=32, window=8, step=step, objective=objective) for step in range(80)]
    observed = torch.cat([batch.observed.any(dim=1) for batch in drawn])
    dropped = torch.cat([batch.dropped for batch in drawn])
    # a scattered pattern (one in five) may be empty: of 8 frames once in about nine times
    assert float(observed.double().mean()) == pytest.approx(0.6 * (1 - 0.2 / 9), abs=0.04)
    assert float(dropped[~observed].double().mean()) == pytest.approx(0.12, abs=0.04)
    assert float(dropped[observed].double().mean()) == pytest.approx(0.35, abs=0.04)


def test_windows_stand_anywhere_at_every_frame_step_and_know_their_times() -> None:
    rate = Fraction(30000, 1001)
    source = make_source([Row(frames=10, fps="30000/1001")] * 3)
    seen: Counter[tuple[int, int]] = Counter()
    for step in range(60):
        batch = draw(source, window=4, frame_strides=(1, 2, 3, 8), step=step)
        for frames, times in zip(frames_of(batch)[1], batch.times.tolist(), strict=True):
            (apart,) = {late - early for early, late in pairwise(frames)}
            seen[frames[0], apart] += 1
            assert times == pytest.approx([float(apart * place / rate) for place in range(4)], rel=1e-6)
    assert set(seen) == {(start, apart) for apart in (1, 2, 3) for start in range(10 - 3 * apart)}


def test_pixels_noise_and_captions() -> None:
    source = make_source([Row(frames=6, captions=(f"one of {number}", f"two of {number}")) for number in range(9)])
    drawn = [draw(source, window=3, step=step) for step in range(30)]
    for batch in drawn:
        assert batch.video.shape == batch.noise.shape == (8, 3, 3, 4, 4) and batch.video.dtype == torch.float32
        assert float(batch.video[:, 2].unique()) == -1.0, "0 is -1"
        rows, _ = frames_of(batch)
        assert batch.rows == tuple(rows) and batch.is_image is None
        assert all(caption.endswith(f"of {number}") for caption, number in zip(batch.captions, rows, strict=True))
    assert len({caption for batch in drawn for caption in batch.captions}) == 18
    noise = torch.cat([batch.noise for batch in drawn])
    assert abs(float(noise.mean())) < 5 / noise.numel() ** 0.5 and float(noise.var()) == pytest.approx(1, abs=0.05)
    assert len(noise.flatten(1).unique(dim=0)) == len(noise)


def test_clips_shorter_than_the_window_are_taken_whole() -> None:
    batch = draw(make_source([Row(frames=3)] * 5), window=8)
    assert frames_of(batch)[1] == [[0, 1, 2]] * 8
    never = ObjectiveSettings(caption_dropout=0, caption_dropout_observed=0)
    still = draw(make_source([Row(frames=1, fps="0", captions=())] * 5), window=8, objective=never)
    assert still.video.shape[2] == 1 and not still.observed.any() and not still.times.any()
    assert still.dropped.all() and still.captions == ("",) * 8, "a clip without a caption counts as dropped"


def shaped_source(shapes: Sequence[tuple[int, int, int]]) -> ClipSource:
    """Clips of so many frames, rows and columns, whose pixels are their numbers."""

    def read(number: int, frames: Sequence[int]) -> np.ndarray:
        return np.full((len(frames), *shapes[number][1:], 3), number, dtype=np.uint8)

    rows = [Row(frames=frames, fps="0" if frames == 1 else "8", captions=()) for frames, _, _ in shapes]
    return ClipSource(rows=rows, read=read, shapes=np.array(shapes))


def test_clips_of_other_shapes_are_put_off_and_never_lost() -> None:
    """Lengths and frame sizes: each batch has one of both, and in 8 epochs of 20 clips each clip comes 8 times."""
    shapes = [(6, 4, 4)] * 9 + [(1, 4, 4)] * 5 + [(6, 4, 8)] * 4 + [(2, 4, 4)] * 2
    source, seen = shaped_source(shapes), Counter[int]()
    for step in range(20):
        batch = draw(source, size=8, step=step, frame_strides=(1,))
        assert len(batch.rows) == len(batch.u) == 8
        assert {(min(4, shapes[n][0]), *shapes[n][1:]) for n in batch.rows} == {tuple(batch.video.shape[2:])}
        seen.update(frames_of(batch)[0])
    assert seen == dict.fromkeys(range(20), 8)


@pytest.mark.parametrize(("size", "world"), [(8, 8), (7, 3), (5, 1)])
def test_ranks_share_the_batch_of_one(size: int, world: int) -> None:
    """Bit for bit, whatever the number of ranks; also where shapes are mixed, with images and noisy context."""
    objective = IMAGES.model_copy(update={"context_noise": 0.5})
    rows = [Row(frames=12, captions=("one", "two"))] * 7 + [Row(frames=1, fps="0", captions=())] * 6
    for step in range(4):
        drawn = partial(draw, size=size, step=step, objective=objective)
        whole = drawn(make_source(rows))
        parts = [drawn(make_source(rows), rank=rank, world=world) for rank in range(world)]
        assert max(len(part.u) for part in parts) - min(len(part.u) for part in parts) <= 1
        assert tensors_of(whole) >= {"video", "noise", "u", "context"} and len(whole.rows) == size
        for name in tensors_of(whole):
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name)), name
        for name in ("captions", "rows"):
            assert sum((getattr(part, name) for part in parts), ()) == getattr(whole, name)


def test_more_ranks_than_clips_is_said() -> None:
    with pytest.raises(VidiffError, match=r"fewer clips than there are processes: found --batch-size 2, expected at"):
        draw(make_source([Row(frames=4)] * 5), size=2, world=3)


@pytest.mark.parametrize(("workers", "start"), [(0, 7), (1, 0), (3, 7)])
def test_workers_and_a_resume_change_nothing(workers: int, start: int) -> None:
    """Also from the middle of an epoch; and reading ahead ends where the training does."""
    rows = [Row(frames=9)] * 11
    source, read = make_source(rows), list[int]()
    counted = ClipSource(rows=rows, read=lambda number, frames: (read.append(number), source.read(number, frames))[1])
    found = list(draw_batches(counted, asked(workers), start=start, stop=12, device=CPU))
    one_by_one = [draw(source, size=4, window=3, seed=5, step=step) for step in range(start, 12)]
    assert len(found) == 12 - start and all(map(same_batch, found, one_by_one))
    assert len(read) == 4 * len(found)


@pytest.mark.parametrize(("workers", "rank", "world"), [(0, 0, 1), (2, 0, 1), (0, 1, 3)])
def test_captions_are_read_where_the_batch_is_made(workers: int, rank: int, world: int) -> None:
    """Whoever draws it: the tensors of its own captions, padded to the longest of them and of no other rank's."""
    captions = ("red", "a blue circle", "a red square moving left")
    source = make_source([Row(frames=4, captions=(captions[number % 3],)) for number in range(7)])
    read = LearnedText(collect_vocabulary(captions)).read
    spec = asked(workers, rank=rank, world=world)
    widths = set()
    for batch in draw_batches(source, spec, start=0, stop=8, device=CPU, reader=read):
        expected = read(batch.captions)
        assert batch.text is not None and torch.equal(batch.text.tokens, expected.tokens)
        assert torch.equal(batch.text.mask, expected.mask) and batch.text.pooled is None
        widths.add(expected.mask.shape[1])
    assert world == 1 or len(widths) > 1


def test_no_thread_stays_after_an_error_or_an_early_end() -> None:
    def read(number: int, frames: Sequence[int]) -> np.ndarray:
        raise VidiffError("the disk is gone")

    before = threading.active_count()
    for workers in (0, 2):
        broken = ClipSource(rows=[Row(frames=4)] * 5, read=read)
        with pytest.raises(VidiffError, match="the disk is gone"):
            next(draw_batches(broken, asked(workers), start=0, stop=9, device=CPU))
        assert threading.active_count() == before
    ahead = draw_batches(make_source([Row(frames=4)] * 5), asked(3), start=0, stop=10**6, device=CPU)
    next(ahead)
    assert threading.active_count() > before
    ahead.close()
    assert threading.active_count() == before


IMAGES = ObjectiveSettings(image_fraction=1 / 3, caption_dropout=0.5)


@pytest.mark.parametrize(("fraction", "count"), [(0.0, 0), (0.2, 2), (0.5, 8)])
def test_images_have_the_share_of_the_frames_that_is_asked_for(fraction: float, count: int) -> None:
    batch = draw(make_source([Row(frames=12)] * 9), window=8, objective=ObjectiveSettings(image_fraction=fraction))
    assert batch.video.shape[2] == batch.noise.shape[2] == batch.times.shape[1] == batch.observed.shape[1] == 8 + count
    if not count:
        assert batch.is_image is None and batch.without_images() is batch
        return
    assert batch.is_image is not None and batch.is_image.tolist() == [[False] * 8 + [True] * count] * 8
    assert not batch.observed[:, 8:].any() and not batch.times[:, 8:].any()
    still = draw(make_source([Row(frames=1, fps="0")] * 9), objective=ObjectiveSettings(image_fraction=fraction))
    assert still.is_image is None and still.video.shape[2] == 1, "an image needs no image beside it"


def test_a_clip_is_the_same_with_images_beside_it() -> None:
    """All that is drawn for it but its noise."""
    rows = [Row(frames=9, captions=("one", "two"))] * 7
    for step in range(5):
        plain = draw(make_source(rows), step=step, objective=IMAGES.model_copy(update={"image_fraction": 0.0}))
        beside = draw(make_source(rows), step=step, objective=IMAGES)
        clips = beside.without_images()
        assert same_batch(replace(clips, noise=plain.noise), plain) and beside.is_image is not None
        assert same_batch(draw(make_source(rows), step=step, objective=IMAGES), beside)


def test_images_are_any_frames_for_which_the_caption_is_true() -> None:
    """Beside a clip whose caption is dropped, frames of all other clips; else of the clip itself."""
    source = make_source([Row(frames=9)] * 5)
    seen: Counter[tuple[bool, int, int]] = Counter()
    for step in range(60):
        batch = draw(source, size=6, step=step, objective=IMAGES)
        for number, dropped, clip in zip(batch.rows, batch.dropped.tolist(), pixels(batch)[:, :, 0, 0], strict=True):
            for image, frame, _ in clip[batch.clip_frames :].tolist():
                assert (image == number) != dropped
                seen[dropped, image, frame] += 1
    assert {each[1:] for each in seen if each[0]} == {(image, frame) for image in range(5) for frame in range(9)}
    assert {each[1:] for each in seen if not each[0]} == {(image, frame) for image in range(5) for frame in range(9)}
    lonely = draw(make_source([Row(frames=9)]), objective=IMAGES)
    assert lonely.is_image is not None and not lonely.video[:, 0].ne(-1).any(), "there is no other clip"


@pytest.mark.parametrize("crop", [0, 4])
def test_images_are_as_large_as_the_clips_beside_them(crop: int) -> None:
    """Where clips have several frame sizes; with a crop, from all of them."""
    source, mixed = shaped_source([(6, 4, 4), (6, 4, 8)] * 5), 0
    asked = {"objective": IMAGES, "loader": LoaderSettings(crop=crop), "size": 5, "window": 3}
    for step in range(10):
        batch = batches.draw(source, step=step, **asked)
        numbers = pixels(batch)[:, 3:, 0, 0, 0].flatten().tolist()
        mixed += len({number % 2 for number in numbers}) == 2
        assert crop or {number % 2 for number in numbers} == {batch.rows[0] % 2}
    assert bool(mixed) == bool(crop)


def test_half_of_the_given_frames_have_noise_drawn_for_their_clip() -> None:
    """Even over the schedule up to what is asked for; every other draw is as without it."""
    source = make_source([Row(frames=8, captions=("one", "two"))] * 50)
    objective = ObjectiveSettings(levels=LevelSettings(observed=1.0), context_noise=0.6)
    drawn = [draw(source, size=32, window=8, step=step, objective=objective) for step in range(60)]
    places = torch.cat([batch.context for batch in drawn if batch.context is not None])
    assert len(places) == 32 * 60 and float((places == 0).double().mean()) == pytest.approx(0.5, abs=0.045)
    noisy = (places[places > 0] / 0.6).sort().values
    assert float((noisy - torch.linspace(0, 1, len(noisy))).abs().max()) < 0.06, "Kolmogorov and Smirnov"
    for step in (0, 17):
        plain = draw(
            source, size=32, window=8, step=step, objective=ObjectiveSettings(levels=LevelSettings(observed=1.0))
        )
        assert plain.context is None and same_batch(replace(drawn[step], context=None), plain)


def test_a_clip_is_named_by_its_source() -> None:
    described = {"id": "a-0", "source": "films/a.mp4", "start_seconds": 2.5, "fps": "8", "frames": 4, "captions": []}
    clip = Clip(**described, split="train", shard="0", group=None)  # type: ignore[arg-type]
    source = ClipSource(rows=[Row(frames=4), clip], read=lambda number, frames: np.zeros((1, 4, 4, 3), np.uint8))
    assert [source.name(number) for number in range(2)] == ["clip 0", "films/a.mp4 at 2.5 s"]
