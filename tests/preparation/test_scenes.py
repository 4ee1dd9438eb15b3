"""Scenes begin at hard cuts and nowhere else: on generated films with known cuts, and on real ones."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from math import ceil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vidiff_cli.video.decode import decode
from vidiff_cli.video.scene_detection import FrameScores, SceneScorer, scene_starts, thumbnails


def measured(frames: np.ndarray, block: int = 32) -> FrameScores:
    measure = SceneScorer()
    for start in range(0, len(frames), block):
        measure.add(frames[start : start + block])
    return measure.scores()


def scene(seed: int, frames: int, height: int = 64, width: int = 64, speed: float = 1 / 64) -> np.ndarray:
    """A camera that pans over a random landscape by `speed` of the width a frame, while a square moves past it."""
    rng = np.random.default_rng(seed)
    cell, length = max(2, min(height, width) // 8), width + round(frames * speed * width) + 1
    colors = rng.integers(0, 256, (-(-height // cell), -(-length // cell), 3)).astype(np.uint8)
    landscape = np.asarray(Image.fromarray(colors).resize((length, height), Image.Resampling.BILINEAR))
    side, color = min(height, width) // 4, rng.integers(0, 256, 3)
    film = np.empty((frames, height, width, 3), np.uint8)
    for t in range(frames):
        moved = round(t * speed * width)
        film[t] = landscape[:, moved : moved + width]
        film[t, side : 2 * side, max(0, width - side - moved) : width - moved] = color
    return film


def starts_of(lengths: list[int]) -> tuple[int, ...]:
    return (0, *(int(each) for each in np.cumsum(lengths[:-1])))


SIZES = [(64, 64), (48, 64), (90, 160), (32, 32), (128, 72)]


# Two random pictures can be alike by chance, and then even a person may see no cut: the same films each time.
@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    lengths=st.lists(st.integers(3, 24), min_size=1, max_size=5),
    seed=st.integers(0, 10**6),
    size=st.sampled_from(SIZES),
    speed=st.sampled_from([0.0, 1 / 256, 1 / 128]),
    repeated=st.sampled_from([1, 2, 3]),
)
def test_every_hard_cut_is_found_and_nothing_else(
    lengths: list[int], seed: int, size: tuple[int, int], speed: float, repeated: int
) -> None:
    film = np.concatenate([scene(seed + index, length, *size, speed) for index, length in enumerate(lengths)])
    film = film.repeat(repeated, axis=0)  # each frame twice or three times, as pulldown and captured screens have it
    assert scene_starts(measured(film)) == tuple(start * repeated for start in starts_of(lengths))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), first=st.integers(5, 20), between=st.integers(1, 2))
def test_two_cuts_one_or_two_frames_apart_are_both_found(seed: int, first: int, between: int) -> None:
    lengths = [first, between, 12]
    film = np.concatenate([scene(seed + index, length) for index, length in enumerate(lengths)])
    assert scene_starts(measured(film)) == starts_of(lengths)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), at=st.integers(2, 20), flashes=st.sampled_from([1, 2]))
def test_a_flash_is_no_cut(seed: int, at: int, flashes: int) -> None:
    film = scene(seed, 24, speed=1 / 128)
    film[at : at + flashes] = 255 - (255 - film[at : at + flashes]) // 4
    assert measured(film).change[at] > 12
    assert scene_starts(measured(film)) == (0,)


def test_one_frame_of_another_scene_is_no_flash() -> None:
    """It would be in the middle of a clip otherwise. A frame of light has the drawing of the scene around it."""
    film = scene(1, 24)
    film[10] = scene(2, 1)[0] // 2
    assert scene_starts(measured(film)) == (0, 10, 11)


@pytest.mark.parametrize("rate", [1, 2])
def test_a_fast_pan_noise_strobes_and_fades_are_no_cuts(rate: int) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (40, 64, 64, 3)).astype(np.uint8)
    strobe = np.where(np.arange(40)[:, None, None, None] % 2, 255, 0).repeat(64, 1).repeat(64, 2).repeat(3, 3)
    bright = np.linspace(0, 1, 12)[:, None, None, None]
    fade = np.concatenate([scene(3, 12), scene(3, 12)[-1] * (1 - bright), scene(4, 12)[0] * bright, scene(4, 12)])
    pan = scene(5, 30, speed=1 / 12)
    swish = np.concatenate([pan[:1].repeat(10, axis=0), pan, pan[-1:].repeat(10, axis=0)])
    fast = scene(6, 24, speed=1 / 6)
    held = np.concatenate([fast[:10], fast[10:20].repeat(3, axis=0), fast[20:]])  # as pulldown has it
    for film in (noise, strobe, fade, swish, held):
        assert scene_starts(measured(film[::rate].astype(np.uint8))) == (0,)


def test_one_color_then_another_is_a_cut_and_a_slide_show_is_cut_at_every_slide() -> None:
    flat = np.repeat(np.array([[20, 20, 60], [200, 180, 20], [90, 90, 90]], np.uint8), 8, axis=0)
    assert scene_starts(measured(np.broadcast_to(flat[:, None, None], (24, 32, 48, 3)))) == (0, 8, 16)
    slides = np.concatenate([np.repeat(scene(index, 1), 7, axis=0) for index in range(5)])
    assert scene_starts(measured(slides)) == (0, 7, 14, 21, 28)


@cache
def film_of(size: tuple[int, int]) -> np.ndarray:
    """A scene, and one in which every frame is there twice: 60 frames."""
    return np.concatenate([scene(1, 20, *size), scene(2, 20, *size).repeat(2, axis=0)])


@settings(max_examples=40, deadline=None)
@given(data=st.data(), count=st.integers(0, 40), size=st.sampled_from(SIZES))
def test_scores_do_not_depend_on_the_blocks(data: st.DataObject, count: int, size: tuple[int, int]) -> None:
    film = film_of(size)[:count]
    whole, measure = measured(film, 1000), SceneScorer()
    done = 0
    while done < count:
        block = data.draw(st.integers(0, 9))
        measure.add(film[done : done + block])
        done += block
    parts = measure.scores()
    assert len(whole) == len(parts) == count
    for name in FrameScores.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name), err_msg=name)


def test_thumbnails_are_means_and_alike_for_all_sizes() -> None:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (3, 32, 48, 3)).astype(np.uint8)
    for factor in (1, 2, 4, 8):
        large = small.repeat(factor, axis=1).repeat(factor, axis=2)
        np.testing.assert_array_equal(thumbnails(large), small.transpose(0, 3, 1, 2))
    frames = rng.integers(0, 256, (2, 64, 96, 3)).astype(np.uint8)
    means = frames.reshape(2, 32, 2, 48, 2, 3).mean(axis=(2, 4)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(thumbnails(frames), means, atol=1e-4)
    for count in (0, 1):
        assert scene_starts(measured(np.zeros((count, 8, 8, 3), np.uint8))) == (0,)
    for size in ((1, 1), (1, 500), (33, 65), (720, 1280), (97, 49)):
        assert thumbnails(np.full((1, *size, 3), 77, np.uint8)).size > 0
        assert (thumbnails(np.full((1, *size, 3), 77, np.uint8)) == 77).all()
        assert scene_starts(measured(np.full((3, *size, 3), 77, np.uint8))) == (0,)


# --- real films --------------------------------------------------------------------------------------------------

CUTS: dict[str, list[float]] = {  # seconds; looked at frame by frame
    "derived/hard_cuts_30_60_90.mp4": [1.2, 2.4, 3.6],
    "clips/bikes.mp4": [30 / 25, 76 / 25, 137 / 25, 187 / 25, 242 / 25],
    "clips/big_buck_bunny_0_30.webm": [283 / 24, 376 / 24, 551 / 24],
    "clips/flower.mp4": [],
    "clips/carphone_pristine.mp4": [],
    "corpus/weizmann_actions/jack_p1_orig.mp4": [],
    "corpus/weizmann_actions/bend_p0_flip.mp4": [],
    "corpus/asl_gestures/again.mkv": [],
    "corpus/asl_gestures/help.mkv": [],
    "corpus/fmi_radar/fmi_20160928_y0096_x0288_t00.mp4": [],
}


@pytest.mark.parametrize("name", CUTS)
def test_cuts_of_real_films_at_their_own_rate_and_others(data_dir: Path, name: str) -> None:
    own = decode(data_dir / name, size=(64, 48))
    rates = [own.fps, Fraction(12), Fraction(8)]
    for rate in rates:
        shown = [min(round(index / rate * own.fps), len(own.frames) - 1) for index in range(9999)]
        kept = [index for number, index in enumerate(shown) if number / rate < len(own.frames) / own.fps]
        expected = tuple(next(k for k, index in enumerate(kept) if index >= round(cut * own.fps)) for cut in CUTS[name])
        assert scene_starts(measured(own.frames[kept])) == (0, *expected), f"at {float(rate):g} fps"
    assert expected == () or ceil(CUTS[name][0] * 8) in (expected[0], expected[0] + 1)
