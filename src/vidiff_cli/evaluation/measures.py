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
from vidiff_cli.metrics.temporal import Motion
from vidiff_cli.worlds import marks


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """A number's name, its unit, and which value is the better one ("as real": the one nearest to real video's)."""

    name: str
    unit: str
    better: str


WARPING = Measure(name="warping error", unit="of squared pixels in [0, 1]", better="lower")
TRUE_WARPING = Measure(name="warping error along the real motion", unit=WARPING.unit, better="lower")
FLICKER = Measure(name="flicker", unit="levels, where nothing moves", better="as real")
MOTION = Measure(name="motion", unit="pixels per frame", better="as real")
UNEVEN = Measure(name="motion change", unit="pixels per frame and frame", better="as real")
SEAM = Measure(name="seam jump", unit="of the usual change", better="1")
COLOUR = Measure(name="colour drift", unit="levels per frame", better="as real")
SHARPNESS = Measure(name="sharpness drift", unit="levels per frame", better="as real")
CLIP = Measure(name="CLIP similarity", unit="100 cos", better="higher")
PSNR = Measure(name="PSNR", unit="dB", better="higher")
SSIM = Measure(name="SSIM", unit="", better="higher")
MS_SSIM = Measure(name="MS-SSIM", unit="", better="higher")
WORDS = {
    name: Measure(name=f"{name} right", unit="share of captions", better="higher")
    for name in (*marks.ATTRIBUTES, marks.ALL)
}
OVER_TIME = (WARPING, FLICKER, MOTION, UNEVEN, SEAM, COLOUR, SHARPNESS)
FIDELITY: Mapping[Measure, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {PSNR: psnr, SSIM: ssim, MS_SSIM: ms_ssim}


def counted(motion: Motion, given: Collection[int]) -> Motion:
    """The motion without the pairs of frames that were both given."""
    both = [number in given and number + 1 in given for number in range(len(motion.seen))]
    return replace(motion, seen=motion.seen & ~np.array(both, dtype=bool)[:, None, None])


def over_time(frames: np.ndarray, motion: Motion, given: Collection[int]) -> dict[Measure, float]:
    """How the frames that were not given follow one another."""
    made = [number for number in range(len(frames)) if number not in given]
    moved = counted(motion, given)
    return {
        WARPING: temporal.warping_error(frames, moved),
        FLICKER: temporal.flicker(frames, moved),
        MOTION: temporal.motion_magnitude(moved),
        UNEVEN: temporal.motion_change(moved),
        SEAM: temporal.seam_jump(frames, given),
        COLOUR: temporal.colour_drift(frames[made], made),
        SHARPNESS: temporal.sharpness_drift(frames[made], made),
    }


def words(frames: np.ndarray, caption: str, fps: Fraction) -> dict[Measure, float]:
    """1 for each attribute that a caption of the shapes world names and the oracle sees, 0 where it sees another."""
    seconds = np.arange(len(frames)) / float(fps)
    return {WORDS[name]: float(right) for name, right in marks.marks(caption, frames, seconds).items()}


def fidelity(frames: np.ndarray, truth: np.ndarray, made: Collection[int]) -> dict[Measure, np.ndarray]:
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
