"""Marks for words: right for true clips, wrong for the clip of another caption, none for what is not said."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vidiff_cli.worlds.marks import ALL, marks
from vidiff_cli.worlds.parts import draw_scene
from vidiff_cli.worlds.scenes import Ground, Scene, Thing, render

SECONDS = np.arange(16) / 8
RED = Thing(colour="red", shape="square", motion="still", size="small", start=(0.3, 0.3))
BLUE = Thing(colour="blue", shape="circle", motion="still", size="large", start=(0.7, 0.7))


def frames_of(*things: Thing) -> np.ndarray:
    return render(Scene(things=things, ground=Ground(), caption=""), SECONDS, canvas=32)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_a_true_clip_has_every_word_of_its_caption(number: int) -> None:
    scene = draw_scene("whole", 2, number, side="any")
    found = marks(scene.caption, render(scene, SECONDS, canvas=32), SECONDS)
    assert all(found.values()) and found.keys() >= {"colour", "shape", "motion", ALL}


def test_a_wrong_word_is_that_attribute_and_all() -> None:
    found = marks("a large red square standing still", frames_of(RED), SECONDS)
    assert found == {"colour": True, "shape": True, "size": False, "motion": True, ALL: False}
    assert not marks("a small green square standing still", frames_of(RED), SECONDS)["colour"]
    assert marks("a red square", frames_of(RED), SECONDS) == {"colour": True, "shape": True, ALL: True}


def test_each_of_two_things_must_be_so_whatever_their_order() -> None:
    caption = "a small red square at rest and a large blue circle not moving"
    assert marks(caption, frames_of(BLUE, RED), SECONDS)[ALL]
    assert marks("a small red circle at rest and a large blue circle not moving", frames_of(RED, BLUE), SECONDS) == {
        "colour": True,
        "shape": False,
        "size": True,
        "motion": True,
        ALL: False,
    }
    assert not marks(caption, frames_of(RED), SECONDS)["colour"]


def test_nothing_is_marked_of_a_caption_of_another_world_and_nothing_right_of_an_empty_clip() -> None:
    assert marks("a cat surfing", frames_of(RED), SECONDS) == {}
    assert not any(marks("a red square standing still", np.zeros((16, 32, 32, 3), np.uint8), SECONDS).values())
