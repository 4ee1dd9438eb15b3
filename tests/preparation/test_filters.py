"""Scores of clips: what static, black and flat clips are, and that slow and small movement is neither."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidiff_cli.preparation.quality_filters import Limits, clip_scores, fingerprint, reject_reason
from vidiff_cli.video.decode import decode
from vidiff_cli.video.scene_detection import FrameScores, SceneScorer
from vidiff_cli.worlds.shapes import COLORS, draw_numbered, render


def measured(frames: np.ndarray) -> FrameScores:
    measure = SceneScorer()
    measure.add(frames)
    return measure.scores()


def scores(frames: np.ndarray, fps: Fraction = Fraction(8)) -> dict[str, float]:
    return clip_scores(measured(frames), 0, len(frames), fps)


def moving_edge(frames: int, pixels: float, side: int = 64) -> np.ndarray:
    """White comes in from the left by `pixels` a frame."""
    covered = np.clip(np.arange(frames)[:, None] * pixels - np.arange(side), 0, 1)
    return np.rint(255 * np.broadcast_to(covered[:, None, :, None], (frames, side, side, 3))).astype(np.uint8)


@settings(max_examples=30, deadline=None)
@given(pixels=st.floats(0.25, 2), factor=st.integers(1, 3), side=st.sampled_from([32, 64, 128, 256]))
def test_motion_is_what_changes_in_a_second_whatever_size_and_rate(pixels, factor, side):
    """Closed form: an edge from black to white that moves p of the picture's width in a second gives 255 p."""
    clip = moving_edge(17, pixels * side / 64, side)
    expected = pixels * 8 / 64 * 255
    assert scores(clip)["motion"] == pytest.approx(expected, abs=1.5)
    repeated = clip.repeat(factor, axis=0)[: 16 * factor + 1]  # the same film at a higher rate, every frame repeated
    assert scores(repeated, Fraction(8 * factor))["motion"] == pytest.approx(scores(clip)["motion"], abs=1e-3)


def test_scores_are_of_the_clip_alone():
    still = np.full((10, 32, 32, 3), 200, np.uint8)
    whole = measured(np.concatenate([still, moving_edge(20, 1, 32), still]))
    for start, stop in ((0, 10), (12, 22), (34, 40)):
        frames = np.concatenate([still, moving_edge(20, 1, 32), still])[start:stop]
        assert clip_scores(whole, start, stop - start, Fraction(8)) == scores(frames)
    assert clip_scores(whole, 0, 10, Fraction(8)) == {"motion": 0.0, "contrast": 0.0, "brightness": 200.0}
    assert list(clip_scores(whole, 0, 1, Fraction(0))) == ["contrast", "brightness"]


def test_faults_follow_the_limits():
    good = {"motion": 5.0, "contrast": 30.0, "brightness": 100.0}
    assert reject_reason(good, Limits()) is None
    assert reject_reason(good | {"motion": 0.2}, Limits()) == "static"
    assert reject_reason(good | {"motion": 0.2}, Limits(min_motion=0)) is None
    assert reject_reason(good | {"contrast": 1.0}, Limits()) == "flat"
    assert reject_reason(good | {"contrast": 1.0, "brightness": 3.0}, Limits()) == "black"
    assert reject_reason(good | {"contrast": 1.0}, Limits(min_contrast=0)) is None
    assert reject_reason(good | {"brightness": 8.0}, Limits()) is None
    assert reject_reason(good | {"brightness": 8.0}, Limits(min_brightness=10)) == "black"
    image = {"contrast": 30.0, "brightness": 100.0}
    assert reject_reason(image, Limits()) is None and reject_reason(image | {"contrast": 0.0}, Limits()) == "flat"
    nothing = Limits(min_motion=0, min_contrast=0, min_brightness=0)
    assert reject_reason({"motion": 0.0, "contrast": 0.0, "brightness": 0.0}, nothing) is None


@settings(max_examples=25, deadline=None)
@given(number=st.integers(0, 10**6), canvas=st.sampled_from([16, 32, 64]))
def test_the_world_of_shapes_is_never_at_fault(number, canvas):
    assert reject_reason(scores(render(draw_numbered(0, number, canvas=canvas))), Limits()) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("derived/static_photo.mp4", "static"),
        ("clips/white.mp4", "flat"),
        ("clips/no_duration.webm", "black"),
        ("clips/sample.flv", None),  # a head that hardly moves
        ("clips/centered_pair_small.mp4", None),  # two flies on a large plate
        ("clips/flower.mp4", None),
        ("clips/transparent.webm", None),  # a small ball on black
        ("clips/bulk-water.mov", None),  # fine grains on sand
        ("corpus/fmi_radar/fmi_20160928_y0672_x0480_t00.mp4", None),  # hardly any rain
        ("corpus/asl_gestures/book.mkv", None),
    ],
)
def test_real_films(data_dir, name, expected, rate=8):
    film = decode(data_dir / name, size=(64, 64), fps=Fraction(rate), max_frames=32)
    found = measured(film.frames)
    count = min(16, len(film.frames))
    assert reject_reason(clip_scores(found, len(film.frames) - count, count, Fraction(rate)), Limits()) == expected


def test_fingerprints_have_one_length_and_tell_colors_apart():
    lengths = {len(fingerprint(np.zeros((t, *size, 3), np.uint8))) for t in (1, 2, 16) for size in ((1, 1), (64, 96))}
    assert len(lengths) == 1
    for number in range(20):
        clip = draw_numbered(3, number)
        looks = [np.frombuffer(fingerprint(render(replace(clip, color=each))), np.uint8).astype(int) for each in COLORS]
        apart = [abs(looks[a] - looks[b]).max() for a in range(4) for b in range(a)]
        assert min(apart) > 25
