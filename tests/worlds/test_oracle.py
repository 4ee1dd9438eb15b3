"""The oracle reads back what was rendered, also from imperfect frames, and says nothing where there is nothing."""

from collections.abc import Callable

import numpy as np
import pytest

from vidiff_cli.errors import VidiffError
from vidiff_cli.worlds.oracle import positions, read_shape
from vidiff_cli.worlds.shapes import ATTRIBUTES, ShapeScene, draw, render

Spoil = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def clean(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return frames


def noisy(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise of 4 % of the range, everywhere."""
    return np.clip(np.rint(frames + rng.normal(0, 0.04 * 255, frames.shape)), 0, 255).astype(np.uint8)


def blurred(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    wide = np.pad(frames.astype(float), ((0, 0), (1, 1), (1, 1), (0, 0)))
    wide = (wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:]) / 4
    return np.rint((wide[:, :, :-2] + 2 * wide[:, :, 1:-1] + wide[:, :, 2:]) / 4).astype(np.uint8)


def dim_on_gray(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.rint(frames * 0.6 + 20).astype(np.uint8)


def half_the_chroma(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What yuv420p does: every block of 2 x 2 pixels shares its color, only the luma stays."""
    luma = frames @ np.array([0.299, 0.587, 0.114])
    chroma = frames - luma[..., None]
    t, h, w, _ = frames.shape
    shared = chroma.reshape(t, h // 2, 2, w // 2, 2, 3).mean((2, 4)).repeat(2, 1).repeat(2, 2)
    return np.clip(np.rint(luma[..., None] + shared), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("spoil", [clean, noisy, blurred, dim_on_gray, half_the_chroma])
def test_every_attribute_is_right_in_99_of_100(spoil):
    rng = np.random.default_rng(5)
    wrong = dict.fromkeys(ATTRIBUTES, 0)
    for number in range(100):
        length = (8, 16)[number % 2]
        scene, start = draw(rng), int(rng.integers(17 - length))
        seen = read_shape(spoil(render(scene), rng)[start : start + length])
        for name, word in scene.attributes.items():
            wrong[name] += seen.attributes[name] != word
        true = scene.positions[start : start + length]
        assert np.abs(seen.positions - true).max() < (0.06 if spoil is clean else 0.4)
        assert seen.residual_px < 0.2
    assert max(wrong.values()) <= 1, wrong


@pytest.mark.parametrize("canvas", [32, 64])
def test_other_canvases(canvas):
    rng = np.random.default_rng(6)
    for _ in range(15):
        scene = draw(rng, canvas=canvas)
        seen = read_shape(render(scene))
        assert seen.attributes == scene.attributes
        np.testing.assert_allclose(seen.speed_px_per_frame, np.abs(np.diff(scene.positions, axis=0)).max(), rtol=0.03)


def one_scene(**words: str) -> ShapeScene:
    return draw(np.random.default_rng(1), attributes=words)


def test_nothing_is_read_from_an_empty_video_or_faint_noise():
    noise = np.random.default_rng(0).integers(0, 20, (16, 16, 16, 3)).astype(np.uint8)
    for frames in (np.zeros_like(noise), np.full_like(noise, 255), noise):
        assert set(read_shape(frames).attributes.values()) == {None}
    assert np.isnan(read_shape(np.zeros_like(noise)).positions).all()
    assert np.isnan(read_shape(np.zeros_like(noise)).speed_px_per_frame)


def test_what_stands_still_or_leaps_about_moves_in_no_direction():
    seen = read_shape(np.repeat(render(one_scene(color="red", shape="plus"))[:1], 16, axis=0))
    assert (seen.color, seen.shape, seen.direction, seen.speed) == ("red", "plus", None, None)
    rng = np.random.default_rng(2)
    lost = sum(read_shape(render(draw(rng))[rng.permutation(16)]).direction is None for _ in range(40))
    assert lost >= 35


def test_frames_without_the_object_have_no_position():
    scene = one_scene()
    frames = render(scene)
    frames[[3, 7, 8]] = 0
    found = positions(frames)
    assert np.isnan(found[[3, 7, 8]]).all() and np.isfinite(np.delete(found, [3, 7, 8], axis=0)).all()
    assert read_shape(frames).attributes == scene.attributes


def test_a_speck_elsewhere_is_not_the_object():
    scene = one_scene(size="small", direction="right")
    frames = render(scene)
    far = 1 if scene.start[1] > 8 else 14
    frames[5, far, 2] = 255
    assert np.abs(positions(frames)[5] - scene.positions[5]).max() < 0.05


def test_an_object_that_changes_its_color_or_is_gray_has_none():
    frames = render(one_scene(color="red"))
    assert read_shape(np.repeat(frames.max(3, keepdims=True), 3, axis=3)).color is None
    frames[8:] = frames[8:][..., [1, 0, 2]]
    assert read_shape(frames).color is None


def test_stride_keeps_the_word_for_the_speed():
    for speed in ("slowly", "quickly"):
        frames = render(one_scene(speed=speed))
        assert read_shape(frames[::2], stride=2).speed == speed
        assert read_shape(frames[::2], stride=2).speed_px_per_frame == pytest.approx(
            2 * read_shape(frames).speed_px_per_frame, rel=0.05
        )


@pytest.mark.parametrize("shape", [(16, 16, 3), (4, 16, 8, 3), (4, 16, 16, 1), (0, 16, 16, 3)])
def test_other_arrays_are_clear_errors(shape):
    with pytest.raises(VidiffError, match="square RGB clips"):
        read_shape(np.zeros(shape, np.uint8))
