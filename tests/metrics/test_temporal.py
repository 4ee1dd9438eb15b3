"""Measures over time on videos whose motion, flicker and drift are known by construction."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vidiff_cli.metrics.temporal import (
    ClipMotion,
    changes,
    color_drift,
    flicker,
    make_motion,
    motion_change,
    motion_magnitude,
    sampled,
    seam_jump,
    sharpness_drift,
    warping_error,
)
from vidiff_cli.motion import warp


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def panned(frames: int, step: tuple[int, int], side: int = 20) -> np.ndarray:
    """A window that moves over a picture of noise: all moves by -step, exactly."""
    world = noise(side + 40, side + 40, 3)
    places = [(20 + step[0] * number, 20 + step[1] * number) for number in range(frames)]
    return np.stack([world[y : y + side, x : x + side] for x, y in places])


def motion_with(flow: tuple[float, float], frames: int, side: int = 20) -> ClipMotion:
    """Everywhere the same; seen where it stays inside."""
    flows = np.broadcast_to(np.array(flow, float)[None, :, None, None], (frames - 1, 2, side, side))
    found = make_motion(flows, np.ones((frames - 1, side, side)))
    inside = np.all((found.places >= 0) & (found.places <= side - 1), axis=1)
    return ClipMotion(flow=found.flow, places=found.places, seen=inside)


STILL = motion_with((0, 0), 6)


def test_a_pan_has_no_warping_error_along_its_motion_and_its_change_along_none() -> None:
    video = panned(6, (-2, 1))
    assert warping_error(video, motion_with((2, -1), 6)) == 0.0
    wanted = np.mean(np.square(np.diff(video.astype(float), axis=0) / 255))
    assert warping_error(video, STILL) == pytest.approx(wanted, rel=1e-12)


def test_warping_error_of_a_step_of_brightness_is_its_square() -> None:
    video = np.full((6, 20, 20, 3), 100, np.uint8)
    video[1::2] += 51
    assert warping_error(video, STILL) == pytest.approx(0.2**2)
    assert flicker(video, STILL) == pytest.approx(51)


def test_flicker_looks_only_where_nothing_moves_and_warping_only_where_something_is_seen() -> None:
    video = noise(6, 20, 20, 3)
    assert np.isnan(flicker(video, motion_with((1, 0), 6)))
    hidden = ClipMotion(flow=STILL.flow, places=STILL.places, seen=np.zeros_like(STILL.seen))
    assert np.isnan(warping_error(video, hidden)) and np.isnan(flicker(video, hidden))
    half = STILL.seen.copy()
    half[:, :, 10:] = False
    video[:, :, :10] = 7
    assert flicker(video, ClipMotion(flow=STILL.flow, places=STILL.places, seen=half)) == 0.0


def test_motion_is_the_length_of_the_flow_and_even_motion_does_not_change() -> None:
    even = motion_with((3, -4), 6)
    assert motion_magnitude(even) == pytest.approx(5)
    assert motion_change(even) == pytest.approx(0)
    steps = np.array([1.0, 2.0, 4.0, 7.0])  # changes of 1, 2 and 3: twice as many pixels in none of them
    flows = np.zeros((4, 2, 20, 20))
    flows[:, 0] = steps[:, None, None]
    assert motion_change(make_motion(flows, np.ones((4, 20, 20)))) == pytest.approx(2.0)
    assert np.isnan(motion_change(motion_with((1, 0), 2)))
    assert np.isnan(motion_magnitude(make_motion(np.zeros((0, 2, 4, 4)), np.zeros((0, 4, 4)))))


def test_motion_change_follows_the_pixel() -> None:
    """Each column has a speed of its own, and goes on with the speed of where it arrives."""
    flows = np.zeros((2, 2, 20, 20))
    flows[0, 0, :, 4], flows[1, 0, :, 7] = 3.0, 3.0
    seen = np.zeros((2, 20, 20))
    seen[0, :, 4] = seen[1, :, 7] = 1
    assert motion_change(make_motion(flows, seen)) == pytest.approx(0)
    flows[1, 0, :, 7] = -1.0
    assert motion_change(make_motion(flows, seen)) == pytest.approx(4)


def test_sampling_is_the_warp_of_frames() -> None:
    rng = np.random.default_rng(1)
    picture, flow = noise(9, 11, 3).astype(float), rng.normal(0, 4, (2, 9, 11))
    places = make_motion(flow[None], np.ones((1, 9, 11))).places[0]
    wanted = warp(torch.from_numpy(picture).permute(2, 0, 1)[None], torch.from_numpy(flow)[None])[0].permute(1, 2, 0)
    assert np.allclose(sampled(picture, places), wanted.numpy(), atol=1e-9)


def test_a_seam_is_one_where_all_goes_on_as_before_and_its_square_where_it_jumps() -> None:
    video = np.repeat(np.arange(8, dtype=np.uint8)[:, None, None, None] * 2, 16, axis=1).repeat(16, 2).repeat(3, 3)
    assert seam_jump(video, range(4)) == pytest.approx(1.0)
    video[4:] += 4  # a step of 6 where 2 is usual
    assert seam_jump(video, range(4)) == pytest.approx(9.0)
    assert seam_jump(video, range(4, 8)) == pytest.approx(9.0)
    assert np.isnan(seam_jump(video, ())) and np.isnan(seam_jump(video, range(8))) and np.isnan(seam_jump(video, {3}))
    assert np.isnan(seam_jump(np.zeros_like(video), range(4)))
    assert changes(video)[3] == 36.0


def test_drift_is_the_slope_whatever_the_frames_show() -> None:
    base = noise(16, 16, 3) // 2
    video = np.stack([base + np.array([2, 0, 1], np.uint8) * number for number in range(9)])
    assert color_drift(video) == pytest.approx(np.sqrt(5))
    assert color_drift(video[::2], [0, 2, 4, 6, 8]) == pytest.approx(np.sqrt(5))
    assert sharpness_drift(video) == pytest.approx(0, abs=1e-9)
    assert color_drift(video[[0, 1, 0]]) == pytest.approx(0, abs=1e-9)
    assert all(np.isnan(each) for each in (color_drift(video[:1]), sharpness_drift(video[:1]), color_drift(video[:0])))


def test_sharpness_falls_as_stripes_fade() -> None:
    stripes = np.zeros((5, 8, 8, 3), np.uint8)
    for number in range(5):
        stripes[number, :, ::2] = 200 - 20 * number
    assert sharpness_drift(stripes) == pytest.approx(-10)  # across alone: half of the neighbors
