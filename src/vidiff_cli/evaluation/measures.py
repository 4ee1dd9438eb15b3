"""Measures of one video, and of one video against another: numbers by name.

Legend: t frames, h and w pixels, c = 3 RGB; uint8 (t h w c).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch

from vidiff_cli.metrics import temporal
from vidiff_cli.metrics.fidelity import SIDE, ms_ssim, psnr, ssim
from vidiff_cli.metrics.temporal import ClipMotion, make_motion
from vidiff_cli.motion import forward_backward_mask, optical_flow
from vidiff_cli.motion.warping import resize, resize_flow
from vidiff_cli.pixels import from_uint8_fast
from vidiff_cli.worlds import accuracy
from vidiff_cli.worlds.scene_oracle import detect_objects


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasureSpec:
    """Name and unit of a measure, and its better value: "lower", "higher", "1", or "as real", nearest to real video."""

    name: str
    unit: str
    better: str


WARPING = MeasureSpec(name="warping error", unit="of squared pixels in [0, 1]", better="lower")
REAL_WARPING = MeasureSpec(name="warping error along the real motion", unit=WARPING.unit, better="lower")
FLICKER = MeasureSpec(name="flicker", unit="levels, where nothing moves", better="as real")
MOTION = MeasureSpec(name="motion", unit="pixels per frame", better="as real")
MOTION_CHANGE = MeasureSpec(name="motion change", unit="pixels per frame and frame", better="as real")
SEAM_JUMP = MeasureSpec(name="seam jump", unit="of the usual change", better="1")
COLOR_DRIFT = MeasureSpec(name="color drift", unit="levels per frame", better="as real")
SHARPNESS_DRIFT = MeasureSpec(name="sharpness drift", unit="levels per frame", better="as real")
CLIP_SCORE = MeasureSpec(name="CLIP similarity", unit="100 cos", better="higher")
PSNR = MeasureSpec(name="PSNR", unit="dB", better="higher")
SSIM = MeasureSpec(name="SSIM", unit="", better="higher")
MS_SSIM = MeasureSpec(name="MS-SSIM", unit="", better="higher")
CAPTION_ACCURACY = {
    name: MeasureSpec(name=f"{name} right", unit="share of captions", better="higher")
    for name in (*accuracy.ATTRIBUTES, accuracy.ALL)
}
FROM_MIDDLE = MeasureSpec(name="objects from the middle", unit="of the side", better="as real")
TEMPORAL = (WARPING, FLICKER, MOTION, MOTION_CHANGE, SEAM_JUMP, COLOR_DRIFT, SHARPNESS_DRIFT)
FIDELITY: Mapping[MeasureSpec, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    PSNR: psnr,
    SSIM: ssim,
    MS_SSIM: ms_ssim,
}
MEASURES = {
    measure.name: measure
    for measure in (*TEMPORAL, REAL_WARPING, CLIP_SCORE, *FIDELITY, *CAPTION_ACCURACY.values(), FROM_MIDDLE)
}

FLOW_METHOD = "dense inverse search"
FLOW_PAIRS = 16  # of frames at a time


@torch.no_grad()
def measure_motion(frames: np.ndarray, device: torch.device) -> ClipMotion:
    """Optical flow between consecutive frames, uint8 (t h w c), visible where forward and backward flow agree."""
    height, width = frames.shape[1:3]
    flows, masks = [], []
    for first in range(0, len(frames) - 1, FLOW_PAIRS):
        chunk = torch.from_numpy(np.ascontiguousarray(frames[first : first + FLOW_PAIRS + 1])).to(device)
        images = from_uint8_fast(chunk.permute(0, 3, 1, 2))
        forward, backward = optical_flow(images[:-1], images[1:])
        visible = resize(forward_backward_mask(forward, backward), (height, width))  # made at the size of the flow
        flows.append(resize_flow(forward, (height, width)).cpu().numpy())
        masks.append(visible[:, 0].cpu().numpy() > 0.5)
    if not flows:
        return make_motion(np.zeros((0, 2, height, width)), np.zeros((0, height, width)))
    return make_motion(np.concatenate(flows), np.concatenate(masks))


def without_given_pairs(motion: ClipMotion, given: Collection[int]) -> ClipMotion:
    """Masks out the pairs of frames that were both given."""
    both = [number in given and number + 1 in given for number in range(len(motion.seen))]
    return replace(motion, seen=motion.seen & ~np.array(both, dtype=bool)[:, None, None])


def measure_temporal(frames: np.ndarray, motion: ClipMotion, given: Collection[int]) -> dict[MeasureSpec, float]:
    """Measures over time of the generated frames: those that were not given."""
    generated = [number for number in range(len(frames)) if number not in given]
    moved = without_given_pairs(motion, given)
    return {
        WARPING: temporal.warping_error(frames, moved),
        FLICKER: temporal.flicker(frames, moved),
        MOTION: temporal.motion_magnitude(moved),
        MOTION_CHANGE: temporal.motion_change(moved),
        SEAM_JUMP: temporal.seam_jump(frames, given),
        COLOR_DRIFT: temporal.color_drift(frames[generated], generated),
        SHARPNESS_DRIFT: temporal.sharpness_drift(frames[generated], generated),
    }


def measure_captions(frames: np.ndarray, caption: str, fps: Fraction) -> dict[MeasureSpec, float]:
    """1 for each attribute that a caption of the shapes world names and the oracle sees, 0 where it sees another; and
    the distance of the objects from the middle."""
    seen = detect_objects(frames, np.arange(len(frames)) / float(fps))
    if not (found := accuracy.words_right(caption, seen)):
        return {}
    right = {CAPTION_ACCURACY[name]: float(right) for name, right in found.items()}
    return right | {FROM_MIDDLE: accuracy.distance_from_middle(seen)}


def measure_fidelity(
    frames: np.ndarray, truth: np.ndarray, generated: Collection[int]
) -> dict[MeasureSpec, np.ndarray]:
    """PSNR, SSIM and MS-SSIM of each frame (t), nan for given ones; below 11 pixels PSNR alone."""
    chosen = sorted(generated)
    found = {}
    for measure, function in FIDELITY.items():
        if measure is not PSNR and min(frames.shape[1:3]) < SIDE:
            continue
        values = np.full(len(frames), np.nan)
        values[chosen] = function(frames[chosen], truth[chosen])
        found[measure] = values
    return found
