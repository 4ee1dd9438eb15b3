"""What is measured of one video, and of one video against another: numbers by name.

Legend: t frames, h and w pixels, c = 3 RGB; uint8 (t h w c).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from vidiff_cli.metrics import temporal
from vidiff_cli.metrics.fidelity import SIDE, ms_ssim, psnr, ssim
from vidiff_cli.metrics.temporal import ClipMotion
from vidiff_cli.worlds import accuracy


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasureSpec:
    """A number's name, its unit, and which value is the better one ("as real": the one nearest to real video's)."""

    name: str
    unit: str
    better: str


WARPING = MeasureSpec(name="warping error", unit="of squared pixels in [0, 1]", better="lower")
TRUE_WARPING = MeasureSpec(name="warping error along the real motion", unit=WARPING.unit, better="lower")
FLICKER = MeasureSpec(name="flicker", unit="levels, where nothing moves", better="as real")
MOTION = MeasureSpec(name="motion", unit="pixels per frame", better="as real")
UNEVEN = MeasureSpec(name="motion change", unit="pixels per frame and frame", better="as real")
SEAM = MeasureSpec(name="seam jump", unit="of the usual change", better="1")
COLOR = MeasureSpec(name="color drift", unit="levels per frame", better="as real")
SHARPNESS = MeasureSpec(name="sharpness drift", unit="levels per frame", better="as real")
CLIP = MeasureSpec(name="CLIP similarity", unit="100 cos", better="higher")
PSNR = MeasureSpec(name="PSNR", unit="dB", better="higher")
SSIM = MeasureSpec(name="SSIM", unit="", better="higher")
MS_SSIM = MeasureSpec(name="MS-SSIM", unit="", better="higher")
WORDS = {
    name: MeasureSpec(name=f"{name} right", unit="share of captions", better="higher")
    for name in (*accuracy.ATTRIBUTES, accuracy.ALL)
}
OVER_TIME = (WARPING, FLICKER, MOTION, UNEVEN, SEAM, COLOR, SHARPNESS)
FIDELITY: Mapping[MeasureSpec, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    PSNR: psnr,
    SSIM: ssim,
    MS_SSIM: ms_ssim,
}


def counted(motion: ClipMotion, given: Collection[int]) -> ClipMotion:
    """The motion without the pairs of frames that were both given."""
    both = [number in given and number + 1 in given for number in range(len(motion.seen))]
    return replace(motion, seen=motion.seen & ~np.array(both, dtype=bool)[:, None, None])


def over_time(frames: np.ndarray, motion: ClipMotion, given: Collection[int]) -> dict[MeasureSpec, float]:
    """How the frames that were not given follow one another."""
    made = [number for number in range(len(frames)) if number not in given]
    moved = counted(motion, given)
    return {
        WARPING: temporal.warping_error(frames, moved),
        FLICKER: temporal.flicker(frames, moved),
        MOTION: temporal.motion_magnitude(moved),
        UNEVEN: temporal.motion_change(moved),
        SEAM: temporal.seam_jump(frames, given),
        COLOR: temporal.color_drift(frames[made], made),
        SHARPNESS: temporal.sharpness_drift(frames[made], made),
    }


def words(frames: np.ndarray, caption: str, fps: Fraction) -> dict[MeasureSpec, float]:
    """1 for each attribute that a caption of the shapes world names and the oracle sees, 0 where it sees another."""
    seconds = np.arange(len(frames)) / float(fps)
    return {WORDS[name]: float(right) for name, right in accuracy.caption_accuracy(caption, frames, seconds).items()}


def fidelity(frames: np.ndarray, truth: np.ndarray, made: Collection[int]) -> dict[MeasureSpec, np.ndarray]:
    """PSNR, SSIM and MS-SSIM of each frame (t), nan for given ones; below 11 pixels PSNR alone."""
    chosen = sorted(made)
    found = {}
    for measure, function in FIDELITY.items():
        if measure is not PSNR and min(frames.shape[1:3]) < SIDE:
            continue
        values = np.full(len(frames), np.nan)
        values[chosen] = function(frames[chosen], truth[chosen])
        found[measure] = values
    return found
