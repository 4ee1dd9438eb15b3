"""Natural change of the statistics of real scenes, and the effect of holding colors against drift.

    python -m benchmarks drift CLIPS...

CLIPS are names or patterns of video files; what cannot be read is passed over. They are scaled to 64 pixels on the
short side, cropped to a square, at most 400 frames, and cut into scenes. Of each scene the first 16 frames count as
given, and every 8 frames after them as a window, up to 20 of them.

`variation`: how far each number of `metrics/drift.py` gets from that of the given frames, in any window; the
bounds of its warnings come from the 90th percentile over scenes.

`control`: a model that drifts is simulated. Within every window an error of color grows that the next one starts from:
an offset of so many levels a window, in every color by another amount, and a gain of contrast. Where colors are held
("range": as `anchored` does), the next window starts from what is left. Error: root mean square to the true frames, in
levels. "frame": every frame gets the mean and contrast of the given ones; "window": one correction for a window
instead of each frame; "range and 4": four levels and a tenth of contrast more than the given frames span. Seam: how
much more the mean color jumps into a window than in truth, in levels. Writes benchmarks/results/drift.json.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from fractions import Fraction
from glob import glob
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import save
from vidiff_cli.errors import VidiffError
from vidiff_cli.metrics.drift import BOUNDS, NAMES, change, frame_stats, warnings
from vidiff_cli.pixels import clip_from_uint8, clip_to_uint8
from vidiff_cli.sampling.color_anchor import match_color_statistics
from vidiff_cli.video import decode, probe
from vidiff_cli.video.scene_detection import SceneScorer, scene_starts

SIDE, MOST, GIVEN, WINDOW, WINDOWS = 64, 400, 16, 8, 20
SIMULATED_WINDOWS = 4  # a scene has at least so many to be drifted
FLAT = 5.0  # levels of contrast: a scene that begins with less (black, a title) has no colors to hold
DRIFTS = {"none": (0.0, 0.0), "slow": (0.5, 0.01), "middling": (1.0, 0.02), "fast": (2.0, 0.04)}  # levels, gain
Fix = Callable[[np.ndarray], np.ndarray]  # frames (n h w c) in levels -> the same


def main() -> None:
    scenes = {name: frames for path in matching(sys.argv[1:]) for name, frames in scenes_of(path)}
    if not scenes:
        raise SystemExit(__doc__)
    shown = [frames for frames in scenes.values() if frames[:GIVEN].std(axis=(1, 2, 3)).mean() > FLAT]
    figures: dict[str, Any] = {"scenes": len(shown), "variation": variation(shown)}
    long = [frames for frames in shown if len(frames) >= GIVEN + SIMULATED_WINDOWS * WINDOW]
    figures |= {"simulated_scenes": len(long), "control": {}}
    for name, hold in HOLDS.items():
        figures["control"][name] = {drift: simulated(long, hold, *amount) for drift, amount in DRIFTS.items()}
        print(name, figures["control"][name], file=sys.stderr, flush=True)
    save("drift", figures)


def matching(patterns: list[str]) -> list[Path]:
    return [Path(name) for pattern in patterns for name in sorted(glob(pattern))]


def scenes_of(path: Path) -> list[tuple[str, np.ndarray]]:
    """Its scenes of three windows or more; none of a file that cannot be read."""
    try:
        info = probe(path)
        scale = Fraction(SIDE, min(info.width, info.height))
        size = max(SIDE, round(info.width * scale)), max(SIDE, round(info.height * scale))
        frames = decode(path, size=size, crop=(SIDE, SIDE), max_frames=MOST).frames
    except VidiffError as error:
        print(error, file=sys.stderr)
        return []
    measure = SceneScorer()
    measure.add(frames)
    edges = [*scene_starts(measure.scores()), len(frames)]
    pairs = pairwise(edges)
    return [(f"{path.name} from {low}", frames[low:high]) for low, high in pairs if high - low >= GIVEN + 2 * WINDOW]


def windows(frames: np.ndarray) -> list[slice]:
    count = min(WINDOWS, (len(frames) - GIVEN) // WINDOW)
    return [slice(GIVEN + number * WINDOW, GIVEN + (number + 1) * WINDOW) for number in range(count)]


def variation(scenes: list[np.ndarray]) -> dict[str, Any]:
    """Percentiles over scenes of the farthest change of each number; the part of scenes that a warning is given for."""
    farthest: dict[str, list[float]] = {name: [] for name in NAMES}
    warned = 0
    for frames in scenes:
        given = frame_stats(frames[:GIVEN])
        looks = [frame_stats(frames[each], frames[each.start - 1]) for each in windows(frames)]
        changes = [change(each, given) for each in looks]
        warned += bool(warnings(looks, given))
        farthest["mean"].append(max(abs(each.mean) for each in changes))
        for name in NAMES[1:]:
            values = [getattr(each, name) for each in changes]
            farthest[name].append(max(max(value, 1 / value) for value in values))
    table = {
        name: {
            "bound": BOUNDS[name],
            "percentiles": {str(part): round(float(np.percentile(values, part)), 2) for part in (50, 75, 90, 95)},
            "within": round(float(np.mean(np.asarray(values) <= BOUNDS[name])), 3),
        }
        for name, values in farthest.items()
    }
    return {"numbers": table, "scenes_with_any_warning": round(warned / len(scenes), 3)}


def simulated(
    scenes: list[np.ndarray], hold: Callable[[np.ndarray], Fix], levels: float, gain: float
) -> dict[str, Any]:
    """Means over scenes of the error in all windows, of that in the last one, and of the jump at seams."""
    rows = [drifting(frames, hold, levels, gain, np.random.default_rng(number)) for number, frames in enumerate(scenes)]
    mean, last, seam = np.array(rows).T
    names = {"error": mean, "last_window": last, "seam": seam}
    return {name: round(float(np.mean(values)), 3) for name, values in names.items()} | {
        "median_error": round(float(np.median(mean)), 3)
    }


def drifting(
    frames: np.ndarray, hold: Callable[[np.ndarray], Fix], levels: float, gain: float, rng: np.random.Generator
) -> tuple[float, float, float]:
    truth = frames.astype(np.float64)
    fix, center = hold(frames[:GIVEN]), truth[:GIVEN].mean(axis=(0, 1, 2))
    offset_step = levels * rng.choice([-1, 1]) * rng.uniform(0.7, 1.3, 3)
    gain_step = 1 + gain * rng.choice([-1, 1]) * rng.uniform(0.7, 1.3, 3)
    offset, factor = np.zeros(3), np.ones(3)
    errors, seams, before = [], [], truth[GIVEN - 1]
    for place in windows(frames):
        true = truth[place]
        part = (np.arange(1, WINDOW + 1) / WINDOW)[:, None, None, None]
        drifted = (true - center) * factor * gain_step**part + center + offset + offset_step * part
        made = fix(np.rint(drifted.clip(0, 255)))
        errors.append(np.sqrt(np.square(made - true).mean()))
        jump = made[0].mean((0, 1)) - before.mean((0, 1)) - true[0].mean((0, 1)) + truth[place.start - 1].mean((0, 1))
        seams.append(np.abs(jump).mean())
        before = made[-1]
        factor, offset = fitted(true[-4:] - center, made[-4:] - center)
    return float(np.mean(errors)), float(errors[-1]), float(np.mean(seams))


def fitted(true: np.ndarray, made: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The factor and offset of every color that lead from one to the other, by least squares: what a model that goes
    on from these frames has before its eyes."""
    axes = (0, 1, 2)
    mean, variance = true.mean(axes), true.var(axes)
    together = ((true - mean) * (made - made.mean(axes))).mean(axes)
    factor = np.where(variance > 1, together / np.maximum(variance, 1), 1.0)
    return factor, made.mean(axes) - factor * mean


def within(reference: np.ndarray, *, more: float = 0.0, one: bool = False, whole: bool = False) -> Fix:
    """Mean and contrast clamped to the range of the reference, widened by `more` levels and 2.5 % of contrast each; to
    `one` value, its middle; the `whole` window by one correction."""
    axes = (1, 2)
    means, spreads = reference.mean(axis=axes), reference.std(axis=axes)
    bounds = [(each.mean(0), each.mean(0)) if one else (each.min(0), each.max(0)) for each in (means, spreads)]
    (low, high), (least, most) = bounds
    wider = 1 + more / 40

    def fix(frames: np.ndarray) -> np.ndarray:
        mean, spread = frames.mean(axis=axes, keepdims=True), frames.std(axis=axes, keepdims=True)
        if whole:
            mean, spread = mean.mean(axis=0, keepdims=True), spread.mean(axis=0, keepdims=True)
        wanted = np.clip(mean, low - more, high + more)
        ratio = np.where(spread > 1, np.clip(spread, least / wider, most * wider) / np.maximum(spread, 1), 1)
        return np.rint(np.clip((frames - mean) * ratio + wanted, 0, 255))

    return fix


def ours(reference: np.ndarray) -> Fix:
    anchor = match_color_statistics(reference)
    return lambda frames: clip_to_uint8(anchor(clip_from_uint8(frames.astype(np.uint8)))[0]).astype(np.float64)


HOLDS: dict[str, Callable[[np.ndarray], Fix]] = {
    "nothing held": lambda reference: lambda frames: frames,
    "range": ours,
    "range, window": lambda reference: within(reference, whole=True),
    "range and 4": lambda reference: within(reference, more=4),
    "mean, frame": lambda reference: within(reference, one=True),
    "mean, window": lambda reference: within(reference, one=True, whole=True),
}
