"""Drift is measured as it was put in, warned of above its bounds, and held by colors that stay as they were given."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vidiff_cli.metrics.drift import Drift, FrameStats, change, frame_stats, warnings
from vidiff_cli.sampling.color_anchor import match_color_statistics


def scene(count: int, *, seed: int = 0, side: int = 24, level: float = 110, contrast: float = 30) -> np.ndarray:
    """Colored blobs that move a little: every number is clearly above nothing."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0, 1, (side // 4 + 1, side // 4 + count + 1, 3))
    fine = np.kron(coarse, np.ones((4, 4, 1)))
    fine = (fine - fine.mean((0, 1))) / fine.std((0, 1))
    picture = level + contrast * fine + np.array([8, 0, -8])
    return np.stack([picture[:side, step : step + side] for step in range(count)]).clip(0, 255).round().astype(np.uint8)


def as_video(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(3, 0, 1, 2)[None].float() / 127.5 - 1


def moments(video: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    levels = (video.double() + 1) * 127.5
    return levels.mean((3, 4)), levels.std((3, 4), correction=0)


# --- the numbers -------------------------------------------------------------------------------------------------


def test_the_look_of_frames_whose_numbers_are_known() -> None:
    """Vertical stripes of 40 and 100 in gray, one pixel wide, that swap places: all five numbers by hand."""
    stripes = np.where(np.arange(8) % 2, 100, 40)[None, :, None].repeat(8, 0).repeat(3, 2).astype(np.uint8)
    frames = np.stack([stripes, stripes[:, ::-1], stripes])
    assert asdict(frame_stats(frames)) == {
        "mean": 70.0,
        "contrast": 30.0,
        "saturation": 0.0,
        "sharpness": 30.0,  # 60 across, 0 down
        "motion": 60.0,
    }
    colors = np.zeros((1, 4, 4, 3), np.uint8)
    colors[..., 0] = 200
    assert frame_stats(colors) == FrameStats(mean=59.8, contrast=0.0, saturation=200.0, sharpness=0.0, motion=None)


def test_motion_counts_neighbors_only() -> None:
    frames = np.zeros((4, 4, 4, 3), np.uint8)
    frames[1:] = np.array([10, 30, 90])[:, None, None, None]
    assert frame_stats(frames).motion == 30
    assert frame_stats(frames[1:], frames[0]).motion == 30
    assert frame_stats(frames, ranks=[3, 4, 9, 10]).motion == 35
    assert frame_stats(frames[::2], ranks=[0, 2]).motion is None
    assert frame_stats(frames[::2], np.full((4, 4, 3), 7, np.uint8), ranks=[1, 3]).motion == 7
    with pytest.raises(ValueError, match="at least one frame"):
        frame_stats(frames[:0])


def test_changes_are_differences_and_ratios() -> None:
    given_ = FrameStats(mean=100, contrast=19, saturation=0, sharpness=4, motion=None)
    made = FrameStats(mean=90, contrast=39, saturation=0, sharpness=0, motion=3.0)
    assert change(made, given_) == FrameStats(mean=-10, contrast=2, saturation=1, sharpness=0.2, motion=None)
    drift = Drift(given=given_, windows=(given_, made))
    assert drift.changes[0] == FrameStats(mean=0, contrast=1, saturation=1, sharpness=1, motion=None)
    assert json.loads(json.dumps(asdict(drift)))["windows"][1]["contrast"] == 39
    lines = drift.lines()
    assert len(lines) == 4 and len({len(line) for line in lines}) == 1
    assert lines[1].split() == ["given", "100.0", "19.0", "0.0", "4.0", "-"]
    assert lines[3].split() == ["window", "2", "-10.0", "x2.00", "x1.00", "x0.20", "-"]


def test_a_warning_says_since_when_and_how_far() -> None:
    base = FrameStats(mean=100, contrast=30, saturation=20, sharpness=5, motion=2)
    looks = [
        FrameStats(mean=100 + 16 * step, contrast=30, saturation=20, sharpness=5, motion=2 if step < 3 else None)
        for step in range(4)
    ]
    assert warnings(looks, base) == [
        "The mean drifts: +48 levels against the given frames in window 4, beyond the usual since window 3 "
        "(usual: 28 levels)."
    ]
    darker = FrameStats(mean=100, contrast=30, saturation=4, sharpness=5, motion=2)
    assert warnings([darker], base) == [
        "The saturation drifts: x0.24 against the given frames in window 1 (usual: x0.67 to x1.50)."
    ]
    assert warnings([], base) == []


# --- holding colors ---------------------------------------------------------------------------------------------


def test_frames_within_the_range_of_the_given_ones_are_untouched() -> None:
    pixels = scene(12)
    given_frames = as_video(pixels)
    assert torch.equal(match_color_statistics(pixels)(given_frames), given_frames)
    assert torch.equal(match_color_statistics(pixels)(given_frames[:, :, 3:5]), given_frames[:, :, 3:5])


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 5), st.floats(-60, 60), st.floats(0.4, 2.2), st.integers(1, 4))
def test_colors_come_back_to_the_range(seed: int, offset: float, gain: float, count: int) -> None:
    """Whatever the drift of mean and contrast: afterwards both lie within what the given frames span."""
    reference = scene(count, seed=seed)
    drifted = as_video(scene(5, seed=seed + 1, level=110 + offset, contrast=30 * gain))
    held = match_color_statistics(reference)(drifted)
    assert held.shape == drifted.shape and held.dtype == drifted.dtype and held.abs().max() <= 1
    (means, spreads), (low_high, least_most) = moments(held), moments(as_video(reference))
    clipped = float((held.abs() == 1).double().mean())
    slack = 0.01 + 60 * clipped  # what is clipped at black and white has another mean
    for value, bound in ((means, low_high), (spreads, least_most)):
        assert (value >= bound.amin(2, keepdim=True) - slack).all()
        assert (value <= bound.amax(2, keepdim=True) + slack).all()


def test_it_is_one_frame_at_a_time_and_never_beyond_white() -> None:
    """So that batches, windows and continued runs give the same, and neighbors stay neighbors."""
    anchor = match_color_statistics(scene(3))
    one, other = as_video(scene(4, seed=1, level=180)), as_video(scene(4, seed=2, contrast=70))
    together = anchor(torch.cat([one, other]))
    assert torch.equal(together, torch.cat([anchor(one), anchor(other)]))
    assert torch.equal(together[:, :, 2:], anchor(torch.cat([one, other])[:, :, 2:]))
    assert anchor(torch.full((1, 3, 2, 8, 8), 3.0)).abs().max() <= 1
    spark = torch.zeros(1, 3, 1, 8, 8)
    spark[..., 0, 0] = 0.2  # with the contrast of the given frames this pixel would be far beyond white
    assert float(anchor(spark).max()) == 1
    nudged = one + 1e-4
    assert (anchor(nudged) - anchor(one)).abs().max() < 3e-4


def test_a_flat_frame_gets_no_contrast() -> None:
    """Its noise would be enlarged to that of the given frames."""
    flat = torch.full((1, 3, 1, 8, 8), -0.9)
    flat[..., 0, 0] += 0.001
    held = match_color_statistics(scene(3))(flat)
    assert float((held.amax() - held.amin()) * 127.5) < 30 and float(held[:, :, 0].std(dim=(2, 3)).amax() * 127.5) < 1
