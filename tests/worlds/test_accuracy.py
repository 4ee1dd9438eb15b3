"""Marks for words: right for true clips, wrong for the clip of another caption, none for what is not said."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vidiff_cli.worlds.accuracy import ALL, caption_accuracy
from vidiff_cli.worlds.scenes import Background, Scene, SceneObject, render
from vidiff_cli.worlds.splits import draw_scene

SECONDS = np.arange(16) / 8
RED = SceneObject(color="red", shape="square", motion="still", size="small", start=(0.3, 0.3))
BLUE = SceneObject(color="blue", shape="circle", motion="still", size="large", start=(0.7, 0.7))


def frames_of(*things: SceneObject) -> np.ndarray:
    return render(Scene(things=things, ground=Background(), caption=""), SECONDS, canvas=32)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_a_true_clip_has_every_word_of_its_caption(number):
    scene = draw_scene("whole", 2, number, side="any")
    found = caption_accuracy(scene.caption, render(scene, SECONDS, canvas=32), SECONDS)
    assert all(found.values()) and found.keys() >= {"color", "shape", "motion", ALL}


def test_a_wrong_word_is_that_attribute_and_all():
    found = caption_accuracy("a large red square standing still", frames_of(RED), SECONDS)
    assert found == {"color": True, "shape": True, "size": False, "motion": True, ALL: False}
    assert not caption_accuracy("a small green square standing still", frames_of(RED), SECONDS)["color"]
    assert caption_accuracy("a red square", frames_of(RED), SECONDS) == {"color": True, "shape": True, ALL: True}


def test_each_of_two_things_must_be_so_whatever_their_order():
    caption = "a small red square at rest and a large blue circle not moving"
    assert caption_accuracy(caption, frames_of(BLUE, RED), SECONDS)[ALL]
    found = caption_accuracy(caption.replace("square", "circle"), frames_of(RED, BLUE), SECONDS)
    assert found == {"color": True, "shape": False, "size": True, "motion": True, ALL: False}
    assert not caption_accuracy(caption, frames_of(RED), SECONDS)["color"]


def test_nothing_is_marked_of_a_caption_of_another_world_and_nothing_right_of_an_empty_clip():
    assert caption_accuracy("a cat surfing", frames_of(RED), SECONDS) == {}
    assert not any(
        caption_accuracy("a red square standing still", np.zeros((16, 32, 32, 3), np.uint8), SECONDS).values()
    )
