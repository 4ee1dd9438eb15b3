"""Laws of the rendered world: what is drawn has exactly the area, the place and the words of its scene."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidiff_cli.errors import VidiffError
from vidiff_cli.worlds.shapes import (
    ARM,
    ATTRIBUTES,
    COLORS,
    COMBINATIONS,
    SIZES,
    SPEEDS,
    ShapeScene,
    coverage,
    draw,
    draw_numbered,
    frames_that_fit,
    parse_caption,
    render,
)

scenes = st.builds(
    lambda seed, canvas, frames: draw(np.random.default_rng(seed), canvas=canvas, frames=frames),
    st.integers(0, 2**32 - 1),
    st.sampled_from([16, 20, 32, 64]),
    st.integers(1, 16),
)


def area(scene: ShapeScene) -> float:
    part = 1.0 if scene.shape == "square" else ARM * (2 - ARM)
    return part * scene.side_px**2


@settings(max_examples=40, deadline=None)
@given(scenes)
def test_total_brightness_is_area_times_color(scene):
    covered = coverage(scene.shape, scene.side_px, scene.positions, scene.canvas)
    np.testing.assert_allclose(covered.sum((1, 2)), area(scene), rtol=1e-12)
    assert covered.min() >= 0 and covered.max() <= 1 + 1e-12
    light = render(scene).astype(float).sum((1, 2))
    edge_pixels = 12 * (scene.side_px + 2)  # rounding to 8 bits moves each of them by half a level at most
    assert np.abs(light - area(scene) * np.asarray(COLORS[scene.color])).max() <= 0.5 * edge_pixels
    inside = covered > 1 - 1e-9
    assert (render(scene)[inside] == COLORS[scene.color]).all() and not render(scene)[covered == 0].any()


@settings(max_examples=40, deadline=None)
@given(scenes)
def test_the_centroid_is_the_position(scene):
    covered = coverage(scene.shape, scene.side_px, scene.positions, scene.canvas)
    pixel = np.arange(scene.canvas) + 0.5
    total = covered.sum((1, 2))
    centroid = np.stack([covered.sum(1) @ pixel / total, covered.sum(2) @ pixel / total], axis=1)
    # pixels sample a box without error where its side is a whole number of pixels; the bars of a plus never are
    exact = scene.shape == "square" and scene.side_px == int(scene.side_px)
    assert np.abs(centroid - scene.positions).max() <= (1e-9 if exact else 0.05)


@settings(max_examples=40, deadline=None)
@given(scenes)
def test_the_path_is_straight_uniform_and_inside(scene):
    path, half = scene.positions, scene.side_px / 2
    assert (path >= half - 1e-9).all() and (path <= scene.canvas - half + 1e-9).all()
    steps = np.diff(path, axis=0)
    np.testing.assert_allclose(np.abs(steps).sum(1), scene.canvas * SPEEDS[scene.speed], rtol=1e-9)
    assert np.allclose(steps, steps[:1])


def test_a_plus_counts_its_middle_once():
    covered = coverage("plus", 6.0, np.array([[8.0, 8.0]]), 16)[0]
    assert covered.max() == 1 and covered.sum() == 20
    assert (covered[5:7, 5:7] == 0).all() and (covered[7:9, 5:11] == 1).all() and (covered[5:11, 7:9] == 1).all()


def test_a_seed_gives_the_same_scene_again():
    again = [draw(np.random.default_rng(7)) for _ in range(2)]
    assert again[0] == again[1] != draw(np.random.default_rng(8))
    assert draw_numbered(3, 200) == draw_numbered(3, 200) != draw_numbered(4, 200)
    seen = [draw(np.random.default_rng(seed)).attributes for seed in range(100)]
    assert all({words[name] for words in seen} == set(options) for name, options in ATTRIBUTES.items())


def test_every_run_of_128_has_every_caption_once_in_its_own_order():
    captions = [draw_numbered(1, number, frames=2).caption for number in range(256)]
    assert set(Counter(captions[:128]).values()) == set(Counter(captions[128:]).values()) == {1}
    assert captions[:128] != captions[128:]
    assert len(COMBINATIONS) == 128


def test_captions_say_the_attributes():
    scene = draw(np.random.default_rng(0), attributes=dict(COMBINATIONS[0]))
    assert scene.attributes == dict(COMBINATIONS[0])
    assert scene.caption == "a small red square moving left slowly"
    for combination in COMBINATIONS:
        assert parse_caption(draw(np.random.default_rng(0), attributes=combination).caption) == dict(combination)
    assert parse_caption("A BLUE plus, please") == {"color": "blue", "shape": "plus"}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("speed", SPEEDS)
def test_the_longest_clip_fits_and_one_frame_more_is_an_error_that_says_so(size, speed):
    longest = frames_that_fit(size, speed)
    words = {"size": size, "speed": speed}
    assert draw(np.random.default_rng(0), frames=longest, attributes=words).frames == longest
    with pytest.raises(VidiffError, match=f"at most {longest} frames"):
        draw(np.random.default_rng(0), frames=longest + 1, attributes=words)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"attributes": {"color": "pink"}}, "pink.*red or green"),
        ({"attributes": {"weight": "heavy"}}, "weight.*color, shape"),
        ({"canvas": 4}, "8 px or more"),
        ({"frames": 0}, "at least one frame"),
        ({"frames": 18}, "at most 17 frames"),
    ],
)
def test_impossible_scenes_are_clear_errors(wrong, says):
    for seed in range(4):
        with pytest.raises(VidiffError, match=says):
            draw(np.random.default_rng(seed), **wrong)
