"""Made frames at the input's size: given ones untouched, colors that meet, no rings at edges, little memory."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from PIL import Image

from vidiff_cli.errors import VidiffError
from vidiff_cli.timeline import extension, interpolation
from vidiff_cli.video import decode, decord_backend, encode, probe
from vidiff_cli.video.restore_resolution import enlarge, model_size, restore_resolution, stream_full_size

CLIPS = [  # upright, turned, odd sizes, pixels that are not square, ten bits, alpha, a GIF
    "clips/flower.mp4",
    "clips/rotate_90.mov",
    "clips/rotate_180.mov",
    "clips/bear-vp9-odd-dimensions.webm",
    "clips/carphone_pristine.mp4",
    "clips/h264_10bits.mp4",
    "clips/transparent.webm",
    "clips/newtonscradle.gif",
]


def picture(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    """(h w c) uint8: smooth, away from black and white, so that colors can be moved without clipping."""
    coarse = np.random.default_rng(seed).integers(70, 180, (4, 6, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def shrunk(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX)) for frame in frames])


def tinted(frame: np.ndarray, offset: tuple[int, int, int] = (9, -6, 4), gain: float = 1.0) -> np.ndarray:
    middle = frame.mean(axis=(0, 1))
    return np.clip((frame - middle) * gain + middle + offset + 0.5, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", CLIPS)
def test_given_frames_are_the_decoded_ones_and_made_ones_fit_in(data_dir, name):
    info = probe(data_dir / name)
    size = model_size(info.width, info.height, 64, 8)
    whole = decode(data_dir / name, max_frames=4).frames
    small = decode(data_dir / name, size=size, max_frames=4).frames
    count = len(whole)
    given = {rank: rank for rank in range(0, count, 2)}
    out = list(restore_resolution(small, given, range(count), stream_full_size(info)))
    assert [frame.shape for frame in out] == [(info.height, info.width, 3)] * count
    assert all(np.array_equal(out[rank], whole[rank]) for rank in given)
    made = [rank for rank in range(count) if rank not in given]
    apart = [out[rank].mean(axis=(0, 1)) - whole[rank].mean(axis=(0, 1)) for rank in made]
    assert np.abs(apart).max() < 1.5, "8-bit levels: the made frames are the input's own, at another size"


@drawn(
    width=st.integers(1, 2000),
    height=st.integers(1, 2000),
    multiple=st.sampled_from([1, 2, 8, 16]),
    times=st.integers(1, 8),
)
def test_the_working_size_covers_the_whole_picture(width, height, multiple, times):
    short = multiple * times
    size = model_size(width, height, short, multiple)
    assert min(size) == short and not any(side % multiple for side in size)
    stretch = Fraction(size[0], size[1]) / Fraction(width, height)
    assert abs(max(size) - Fraction(short * max(width, height), min(width, height))) <= Fraction(multiple, 2)
    assert (size[0] >= size[1]) == (width >= height) or stretch != 1


def test_a_color_fault_of_the_model_is_mended_at_the_join_and_held():
    whole = np.stack([np.roll(picture(90, 160), shift, axis=1) for shift in range(12)])
    small = shrunk(whole, (40, 24))
    line = extension(4, Fraction(8), new=8)
    for rank in range(4, 12):
        small[rank] = tinted(small[rank], gain=0.9)
    out = np.stack(list(restore_resolution(small, line.given, line.written, iter(whole[:4]))))
    error, untreated = (
        np.abs(frames[4:] - whole[4:].astype(float)).mean(axis=(1, 2, 3)) for frames in (out, raw(small))
    )
    assert error.max() < 2.5 < 5 < untreated.min()
    change = np.diff(out.astype(float).mean(axis=(1, 2)), axis=0)
    assert np.abs(change).max() < 1, "levels of the mean: no step at the join or after it"


def raw(small: np.ndarray) -> np.ndarray:
    return np.stack([np.asarray(enlarge(frame, (160, 90))) for frame in small])


def test_between_two_joins_the_correction_changes_linearly():
    whole = np.repeat(picture(60, 80)[None], 9, axis=0)
    small = shrunk(whole, (40, 30))
    for rank in range(1, 8):  # a fault that grows
        small[rank] = tinted(small[rank], (2 * rank, -2 * rank, 0))
    out = np.stack(list(restore_resolution(small, {0: 0, 8: 1}, range(9), iter(whole[:2]))))
    moved = (out.astype(float).mean(axis=(1, 2)) - small.astype(float).mean(axis=(1, 2)))[1:8, 0]
    ideal = [-2 * (1 - rank / 8) - 14 * rank / 8 for rank in range(1, 8)]
    assert np.abs(moved - ideal).max() < 0.6


def test_a_picture_that_moves_is_no_color_fault():
    """A white square, a twentieth of the picture, leaves between the given frame and the first made one."""
    whole = np.full((2, 80, 80, 3), 60, np.uint8)
    whole[0, 10:28, 10:28] = 255
    small = shrunk(whole, (40, 40))
    out = list(restore_resolution(small, {0: 0}, range(2), iter(whole[:1])))
    assert np.abs(out[1].astype(int) - 60).max() <= 1


def test_a_given_frame_of_another_scene_changes_nothing():
    dark, light = picture(40, 40) // 3, picture(40, 40, seed=1) // 3 + 150
    whole = np.stack([dark, dark, dark, light])
    small = shrunk(whole, (20, 20))
    alone, beside = (
        list(restore_resolution(small, given, range(3), iter(whole[[0, 3]])))[1:] for given in ({0: 0}, {0: 0, 3: 1})
    )
    assert all(np.array_equal(one, other) for one, other in zip(alone, beside, strict=True))


def test_held_observed_and_repeated_frames():
    """24 frames a second to 60: every second given frame is written, the last one held; copies show their original."""
    whole = np.stack([np.full((20, 30, 3), 40 * number, np.uint8) for number in range(5)])
    line = interpolation(5, Fraction(24), fps=Fraction(60))
    small = np.zeros((len(line.times), 8, 12, 3), np.uint8)
    out = list(restore_resolution(small, line.given, line.written, iter(whole)))
    assert len(out) == len(line.written)
    assert [int(out[k][0, 0, 0]) for k, rank in enumerate(line.written) if rank in line.given] == [0, 80, *[160] * 3]
    copies = {0: 0, 1: 0, 2: 0, 3: 1}
    shown = list(restore_resolution(small, copies, range(4), iter(whole)))
    assert [int(frame[0, 0, 0]) for frame in shown] == [0, 0, 0, 40]


def test_an_end_that_meets_the_beginning_is_matched_to_it():
    """A loop: the first frame once more, later than all others, and not written."""
    whole = np.repeat(picture(40, 60)[None], 2, axis=0)
    small = shrunk(np.repeat(whole[:1], 6, axis=0), (30, 20))
    small[2:5] = [tinted(frame) for frame in small[2:5]]
    out = list(restore_resolution(small, {0: 0, 1: 1, 5: 0}, range(5), iter(whole)))
    assert max(np.abs(frame.astype(float).mean(axis=(0, 1)) - whole[0].mean(axis=(0, 1))).max() for frame in out) < 1


@pytest.mark.parametrize("size", [(7, 5), (40, 9), (161, 121), (8, 200)])
def test_edges_do_not_ring(size):
    small = np.full((16, 24, 3), 40, np.uint8)
    small[:, 12:] = 200
    small[8:, 6:9] = (255, 0, 130)
    grown = np.asarray(enlarge(small, size))
    assert grown.shape == (size[1], size[0], 3)
    for channel in range(3):
        assert small[..., channel].min() <= grown[..., channel].min()
        assert grown[..., channel].max() <= small[..., channel].max()
    left = grown[: size[1] // 3, : max(1, size[0] // 6)]
    assert np.abs(left.astype(int) - 40).max() <= 1, "flat stays flat"


@settings(max_examples=10, deadline=None)
@drawn(width=st.integers(1, 40), height=st.integers(1, 40), seed=st.integers(0, 9))
def test_any_size_goes_to_any_other(width, height, seed):
    rng = np.random.default_rng(seed)
    whole = rng.integers(0, 256, (1, height, width, 3), np.uint8)
    small = rng.integers(0, 256, (3, 8, 16, 3), np.uint8)
    out = list(restore_resolution(small, {1: 0}, [0, 1, 1, 2], iter(whole)))
    assert [frame.shape for frame in out] == [(height, width, 3)] * 4
    assert np.array_equal(out[1], whole[0]) and out[1] is out[2]


def test_frames_are_taken_one_at_a_time_and_none_too_many():
    taken = list[int]()

    def given() -> Iterator[np.ndarray]:
        for number in range(1000):
            taken.append(number)
            yield np.zeros((4, 4, 3), np.uint8)

    small = np.zeros((1000, 2, 2, 3), np.uint8)
    frames = restore_resolution(small, {rank: rank // 2 for rank in range(0, 1000, 2)}, range(1000), given())
    for rank, _ in enumerate(frames):
        assert len(taken) == rank // 2 + 1
        if rank == 20:
            break


def test_an_input_that_became_shorter_is_an_error():
    whole = np.zeros((2, 4, 4, 3), np.uint8)
    with pytest.raises(VidiffError, match="fewer frames"):
        list(restore_resolution(np.zeros((3, 2, 2, 3), np.uint8), {0: 0, 2: 2}, range(3), iter(whole)))


def test_another_decoder_goes_on_where_the_first_gave_up(tmp_path, indexed, indices, monkeypatch):
    encode(tmp_path / "a.mkv", indexed(70), Fraction(10), lossless=True)
    original = decord_backend.frames

    def broken(*arguments, **named):
        for number, item in enumerate(original(*arguments, **named)):
            if number == 40:
                raise decord_backend.DecordUnfit("broken here")
            yield item

    monkeypatch.setattr(decord_backend, "frames", broken)
    assert indices(np.stack(list(stream_full_size(tmp_path / "a.mkv")))) == list(range(70))


def test_small_frames_may_be_anything_that_answers_by_rank():
    asked = set[int]()

    class Reel:
        def __getitem__(self, rank: int) -> np.ndarray:
            asked.add(rank)
            return np.zeros((2, 2, 3), np.uint8)

    list(restore_resolution(Reel(), {0: 0, 1: 0, 5: 1, 6: 0}, range(6), iter(np.zeros((2, 4, 4, 3), np.uint8))))
    assert asked == {0, 2, 3, 4, 5}, "never what repeats another"
