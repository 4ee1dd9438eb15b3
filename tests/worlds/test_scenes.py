"""The larger world: what it draws stays in the picture, is what its caption says, and is read back."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vidiff_cli.errors import VidiffError
from vidiff_cli.worlds import scenes
from vidiff_cli.worlds.accuracy import ALL, caption_accuracy, distance_from_middle
from vidiff_cli.worlds.captions import parse_words
from vidiff_cli.worlds.scene_oracle import detect_objects
from vidiff_cli.worlds.scenes import SECONDS, Scene, SceneObject, coverage, render
from vidiff_cli.worlds.splits import MOVES, PARTS, draw_scene, held_out, split_phrases

EIGHTHS = np.arange(16) / 8
NUMBERS = st.integers(0, 10**6)
PART = st.sampled_from(sorted(PARTS))


def by_color(words: dict) -> list[dict]:
    return sorted(words["things"], key=lambda thing: thing["color"])


@settings(max_examples=60, deadline=None)
@given(PART, NUMBERS)
def test_a_scene_is_a_function_of_its_arguments(part, number):
    assert draw_scene(part, 3, number) == draw_scene(part, 3, number) != draw_scene(part, 4, number)
    one, other = (render(draw_scene(part, 3, number), EIGHTHS[:3], canvas=16) for _ in range(2))
    assert np.array_equal(one, other)


@settings(max_examples=60, deadline=None)
@given(PART, NUMBERS)
def test_every_thing_is_wholly_in_the_picture_all_the_time_and_two_never_touch(part, number):
    scene, fine = draw_scene(part, 0, number, side="any"), np.linspace(0, SECONDS, 76)
    covered = []
    for thing in scene.things:
        wide = coverage(thing.shape, 0.25 + thing.centers(fine) / 2, thing.sides(fine) / 2, thing.angles(fine), 128)
        outside = wide.copy()
        outside[:, 31:97, 31:97] = 0  # one pixel for the edge
        assert outside.sum() == 0 and (wide.sum(axis=(1, 2)) > 0).all()
        covered.append(wide > 0)
    assert len(covered) == 1 or not (covered[0] & covered[1]).any()


@settings(max_examples=60, deadline=None)
@given(PART, NUMBERS, st.sampled_from([16, 24, 32, 64]))
@example("lasting", 542, 16)  # whole rows of pixels that a triangle covers by a sixth
@example("whole", 99, 16)  # the smallest triangle: its drawn corners weigh a fifth of a pixel
def test_the_oracle_reads_all_of_it_back(part, number, canvas):
    scene = draw_scene(part, 5, number, side="any")
    seen = detect_objects(render(scene, EIGHTHS, canvas=canvas), EIGHTHS)
    assert seen.words["ground"] == scene.ground.kind
    assert by_color(seen.words) == by_color(scene.words)
    for thing in seen.things:
        true = next(one for one in scene.things if one.color == thing.words["color"])
        assert np.abs(thing.centers - true.centers(EIGHTHS)).max() * canvas < 0.125


def noisy(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.clip(np.rint(frames + rng.normal(0, 0.03 * 255, frames.shape)), 0, 255).astype(np.uint8)


def dim(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.rint(frames * 0.75 + 12).astype(np.uint8)


@pytest.mark.parametrize(("spoil", "count"), [(lambda frames, rng: frames, 300), (noisy, 60), (dim, 60)])
def test_the_oracle_reads_true_clips_and_bears_what_generated_ones_have(spoil, count):
    rng, wrong = np.random.default_rng(0), 0
    for number in range(count):
        scene = draw_scene("whole", 7, number)
        seen = detect_objects(spoil(render(scene, EIGHTHS, canvas=32), rng), EIGHTHS)
        wrong += by_color(seen.words) != by_color(scene.words)
    assert wrong <= 3  # of 300 clean ones: 99 percent


def test_the_oracle_sees_nothing_where_nothing_is_and_noise_is_no_motion():
    rng = np.random.default_rng(0)
    assert detect_objects(np.zeros((16, 32, 32, 3), np.uint8), EIGHTHS).things == ()
    for thing in detect_objects(rng.integers(0, 256, (16, 32, 32, 3), dtype=np.uint8), EIGHTHS).things:
        assert thing.words["shape"] is None
    one = SceneObject(color="red", shape="square", motion="still", size="large")
    frames = render(Scene(things=(one,), ground=scenes.Background(), caption=""), EIGHTHS, canvas=32)
    for number in range(len(frames)):  # at another place in every frame
        frames[number] = np.roll(frames[number], rng.integers(-9, 10, 2), axis=(0, 1))
    assert detect_objects(frames, EIGHTHS).things[0].words["motion"] is None


def test_the_oracle_refuses_what_is_no_clip():
    with pytest.raises(VidiffError, match="square RGB"):
        detect_objects(np.zeros((16, 32, 24, 3), np.uint8), EIGHTHS)
    with pytest.raises(VidiffError, match="its time"):
        detect_objects(np.zeros((16, 32, 32, 3), np.uint8), EIGHTHS[:4])


@settings(max_examples=200, deadline=None)
@given(PART, NUMBERS)
def test_a_caption_says_what_the_scene_shows(part, number):
    scene = draw_scene(part, 0, number, side="any")
    said, true = parse_words(scene.caption), scene.words
    assert said["ground"] == true["ground"]
    for told, thing in zip(said["things"], true["things"], strict=True):
        unsaid = {name for name in told if told[name] is None and thing[name] is not None}
        assert unsaid <= {"size", "speed"}
        assert all(told[name] == thing[name] for name in told if name not in unsaid)


def test_captions_say_the_same_in_many_ways():
    captions = {draw_scene("straight", 0, number).caption for number in range(2000)}
    assert len(captions) > 1500
    for way in ("circling", "going around in a circle", "running in circles"):
        (thing,) = parse_words(f"a small yellow box {way}")["things"]
        assert (thing["shape"], thing["motion"], thing["size"]) == ("square", "circling", "small")
    assert any(caption.startswith("a small red") for caption in captions)
    for way in ("upper left", "tiny", "fast", "leftwards", "disc", ", a "):
        assert any(way in caption for caption in captions)


def test_the_phrases_have_every_word_of_the_captions_and_no_other():
    for part in PARTS:
        known = {word.strip(",") for phrase in split_phrases(part) for word in phrase.split()}
        said = {word.strip(",") for n in range(4000) for word in draw_scene(part, 0, n).caption.split()}
        assert said <= known
        assert part == "whole" or "beside" not in known
    assert "bouncing" not in " ".join(split_phrases("straight"))


@settings(max_examples=200, deadline=None)
@given(PART, NUMBERS)
def test_no_training_scene_has_a_held_out_combination(part, number):
    def rare(scene: Scene) -> list[bool]:
        return [held_out(thing.color, thing.shape, thing.move) for thing in scene.things]

    assert not any(rare(draw_scene(part, 0, number, side="train")))
    assert all(rare(draw_scene(part, 0, number, side="held-out")))


def test_one_combination_of_nine_is_held_out_and_every_pair_of_words_is_trained():
    colors, shapes = tuple(scenes.COLORS), PARTS["straight"].shapes
    everything = list(product(colors, shapes, MOVES[:8]))
    kept = [words for words in everything if not held_out(*words)]
    assert 0.08 < 1 - len(kept) / len(everything) < 0.14
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert {(w[first], w[second]) for w in kept} == {(w[first], w[second]) for w in everything}


@pytest.mark.parametrize(
    ("shape", "angle"), [("circle", 0.0), *product(("square", "triangle", "plus"), (0.0, 0.3, 1.0))]
)
def test_a_shape_covers_its_area(shape, angle):
    area = {"square": 1, "circle": np.pi / 4, "triangle": 0.75 * 3**0.5 * 0.55**2, "plus": 5 / 9}[shape]
    covered = coverage(shape, np.array([[0.51, 0.48]]), np.array([0.4]), np.array([angle]), 64)
    assert covered.sum() == pytest.approx(area * (0.4 * 64) ** 2, rel=0.02)


def test_an_upright_square_is_exact():
    covered = coverage("square", np.array([[0.5 + 0.3 / 16, 0.5]]), np.array([0.25]), np.zeros(1), 16)[0]
    assert np.allclose(covered[7], [0] * 6 + [0.7, 1, 1, 1, 0.3] + [0] * 5)


# --- marks for words: right for true clips, wrong for the clip of another caption -------------------------------

RED = SceneObject(color="red", shape="square", motion="still", size="small", start=(0.3, 0.3))
BLUE = SceneObject(color="blue", shape="circle", motion="still", size="large", start=(0.7, 0.7))


def frames_of(*things: SceneObject) -> np.ndarray:
    return render(Scene(things=things, ground=scenes.Background(), caption=""), EIGHTHS, canvas=32)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_a_true_clip_has_every_word_of_its_caption(number):
    scene = draw_scene("whole", 2, number, side="any")
    found = caption_accuracy(scene.caption, render(scene, EIGHTHS, canvas=32), EIGHTHS)
    assert all(found.values()) and found.keys() >= {"color", "shape", "motion", ALL}


def test_a_wrong_word_is_that_attribute_and_all():
    found = caption_accuracy("a large red square standing still", frames_of(RED), EIGHTHS)
    assert found == {"color": True, "shape": True, "size": False, "motion": True, ALL: False}
    assert not caption_accuracy("a small green square standing still", frames_of(RED), EIGHTHS)["color"]
    assert caption_accuracy("a red square", frames_of(RED), EIGHTHS) == {"color": True, "shape": True, ALL: True}


def test_each_of_two_things_must_be_so_whatever_their_order():
    caption = "a small red square at rest and a large blue circle not moving"
    assert caption_accuracy(caption, frames_of(BLUE, RED), EIGHTHS)[ALL]
    found = caption_accuracy(caption.replace("square", "circle"), frames_of(RED, BLUE), EIGHTHS)
    assert found == {"color": True, "shape": False, "size": True, "motion": True, ALL: False}
    assert not caption_accuracy(caption, frames_of(RED), EIGHTHS)["color"]


def test_an_object_nearer_to_the_middle_is_nearer_by_as_much():
    """A clip moved by whole pixels; the mean over two objects; nan without any."""
    clip = frames_of(RED)
    (seen,) = detect_objects(clip, EIGHTHS).things
    off = np.nanmean(seen.centers, axis=0) - 0.5
    across, down = np.round(off * clip.shape[1]).astype(int)
    for part in (0, 1):
        moved = np.roll(clip, (-part * down, -part * across), axis=(1, 2))
        expected = np.linalg.norm(off - part * np.array([across, down]) / clip.shape[1])
        assert distance_from_middle(detect_objects(moved, EIGHTHS)) == pytest.approx(expected, abs=0.01)
    assert np.linalg.norm(off) > 0.1
    clips = (frames_of(RED), frames_of(BLUE), frames_of(RED, BLUE))
    one, other, both = (distance_from_middle(detect_objects(clip, EIGHTHS)) for clip in clips)
    assert both == pytest.approx((one + other) / 2, abs=0.01)
    assert np.isnan(distance_from_middle(detect_objects(np.zeros((16, 32, 32, 3), np.uint8), EIGHTHS)))


def test_nothing_is_marked_of_a_caption_of_another_world_and_nothing_right_of_an_empty_clip():
    assert caption_accuracy("a cat surfing", frames_of(RED), EIGHTHS) == {}
    assert not any(
        caption_accuracy("a red square standing still", np.zeros((16, 32, 32, 3), np.uint8), EIGHTHS).values()
    )
