"""Temporal metrics of one video: warping error, flicker, motion, seams and drift.

Legend: t frames, h and w pixels, c colors; frames are uint8 (t h w c). Every function returns one float64 for a video,
nan where it is undefined. Optical flow comes from outside (`ClipMotion`): no metric here depends on a network.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vidiff_cli.luma import LUMA

PEAK = 255.0
STILL = 0.5  # pixels per frame: less is no motion


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipMotion:
    """Optical flow of a video, for each pair of consecutive frames.

    `flow` (t-1 2 h w): where a pixel goes, x before y, in pixels; `places` (t-1 2 h w): the pixel (x, y) of the next
    frame that it arrives at, not rounded; `seen` (t-1 h w): whether it is visible there.
    """

    flow: np.ndarray
    places: np.ndarray
    seen: np.ndarray


def make_motion(flow: np.ndarray, seen: np.ndarray) -> ClipMotion:
    """The motion of flows (t-1 2 h w) and masks (t-1 h w)."""
    height, width = flow.shape[2:]
    grid = np.stack(np.broadcast_arrays(np.arange(width)[None, :], np.arange(height)[:, None]))
    return ClipMotion(flow=flow.astype(np.float64), places=flow + grid, seen=seen.astype(bool))


def warping_error(frames: np.ndarray, motion: ClipMotion) -> float:
    """The mean square of what changes along the motion, in pixels of [0, 1]: the mean over the colors, over the
    visible pixels of a pair, then over the pairs that have any.

    The motion may be that of a true video, which then shows in which way the frames should have moved.
    Source: Lai et al. 2018, equations 9 and 10 (the sum over colors there is a mean here).
    """
    return _over_pairs(frames, motion, motion.seen, lambda change: np.square(change / PEAK).mean(axis=-1))


def flicker(frames: np.ndarray, motion: ClipMotion) -> float:
    """The mean |change| where nothing moves (flow below half a pixel, visible), in levels of 0..255.

    VBench's flickering (Huang et al. 2023) for any video: that one is defined for videos in which nothing moves at all.
    """
    still = motion.seen & (np.hypot(motion.flow[:, 0], motion.flow[:, 1]) < STILL)
    return _over_pairs(frames, motion, still, lambda change: np.abs(change).mean(axis=-1), warped=False)


def _over_pairs(
    frames: np.ndarray,
    motion: ClipMotion,
    mask: np.ndarray,
    measure: Callable[[np.ndarray], np.ndarray],
    *,
    warped: bool = True,
) -> float:
    """The mean over pairs of the mean of a measure of their change (h w c) -> (h w), where the mask (t-1 h w) says."""
    values = []
    for number in np.flatnonzero(mask.any(axis=(1, 2))):
        now, then = (frames[place].astype(np.float64) for place in (number, number + 1))
        change = now - (sampled(then, motion.places[number]) if warped else then)
        values.append(measure(change)[mask[number]].mean())
    return float(np.mean(values)) if values else np.nan


def sampled(picture: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The picture (h w c) at places (2 h w), x before y: bilinear, the border repeated beyond it."""
    height, width = picture.shape[:2]
    x, y = np.clip(places[0], 0, width - 1), np.clip(places[1], 0, height - 1)
    left, top = x.astype(int), y.astype(int)
    right, below = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    across, down = (x - left)[..., None], (y - top)[..., None]
    upper = (1 - across) * picture[top, left] + across * picture[top, right]
    lower = (1 - across) * picture[below, left] + across * picture[below, right]
    return (1 - down) * upper + down * lower


def motion_magnitude(motion: ClipMotion) -> float:
    """The mean length of the flow over visible pixels, in pixels per frame."""
    lengths = np.hypot(motion.flow[:, 0], motion.flow[:, 1])
    return float(lengths[motion.seen].mean()) if motion.seen.any() else np.nan


def motion_change(motion: ClipMotion) -> float:
    """Mean change of motion: the length of the difference between a pixel's flow and its next one, in pixels per frame
    and frame, over the pixels that are visible in both. 0 for uniform motion; nan below three frames."""
    lengths = []
    for number in range(len(motion.flow) - 1):
        onward = sampled(np.moveaxis(motion.flow[number + 1], 0, -1), motion.places[number])
        both = sampled(motion.seen[number + 1][..., None].astype(float), motion.places[number])[..., 0] == 1
        away = onward - np.moveaxis(motion.flow[number], 0, -1)
        lengths.append(np.hypot(away[..., 0], away[..., 1])[motion.seen[number] & both])
    found = np.concatenate(lengths) if lengths else np.zeros(0)
    return float(found.mean()) if len(found) else np.nan


def changes(frames: np.ndarray) -> np.ndarray:
    """The mean square difference of each frame and the next, in levels squared: (t-1)."""
    return np.array([np.square(late.astype(np.float64) - early).mean() for early, late in pairwise(frames)])


def seam_jump(frames: np.ndarray, given: Collection[int]) -> float:
    """The largest mean square change where given frames meet made ones, over that between neighboring given frames; 1
    is seamless. nan where there is no seam, no two neighboring given frames, or where these do not differ."""
    there = set(given)
    steps = changes(frames)
    inside = [steps[frame] for frame in range(len(steps)) if {frame, frame + 1} <= there]
    seams = [steps[frame] for frame in range(len(steps)) if (frame in there) != (frame + 1 in there)]
    usual = float(np.mean(inside)) if inside else 0.0
    return float(max(seams)) / usual if seams and usual else np.nan


def color_drift(frames: np.ndarray, numbers: Sequence[int] | None = None) -> float:
    """Drift of the mean color in one direction: the length of its least-squares slope over the three colors, in levels
    per frame. `numbers` (t) of the frames, where they are not consecutive. nan for one frame."""
    return float(np.linalg.norm(_slope(frames.mean(axis=(1, 2), dtype=np.float64), numbers)))


def sharpness_drift(frames: np.ndarray, numbers: Sequence[int] | None = None) -> float:
    """The least-squares slope of sharpness (mean |difference| of luma of neighboring pixels), in levels per frame:
    below 0 the video blurs. nan for one frame, and for frames of one pixel."""
    values = []
    for frame in frames:
        luma = frame @ LUMA
        steps = [np.abs(np.diff(luma, axis=axis)).mean() for axis in (0, 1) if luma.shape[axis] > 1]
        values.append(float(np.mean(steps)) if steps else np.nan)
    return float(_slope(np.array(values)[:, None], numbers)[0])


def _slope(values: np.ndarray, numbers: Sequence[int] | None) -> np.ndarray:
    """(t k) -> (k): the slope of the straight line that fits best."""
    if len(values) < 2:
        return np.full(values.shape[1:], np.nan)
    time = np.asarray(range(len(values)) if numbers is None else numbers, np.float64)
    time = time - time.mean()
    return time @ (values - values[0]) / (time @ time)
