"""Flicker of an interpolation: made frames that differ from the given ones around them in luma, contrast or sharpness.

Each made frame is compared with what the given frames before and after it lead to expect, in proportion to time. These
numbers show flicker before an eye does. Levels are those of 8 bits, 0..255.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import copysign, exp, log
from statistics import fmean

import numpy as np

from vidiff_cli.metrics.drift import FrameStats

# On eleven real clips, at twice and four times the rate, the estimate by motion keeps within 0.6 levels of luma, x0.97
# to x1.00 of contrast, x0.88 to x1.07 of sharpness and a peak of x1.1. Ratios are bounds either way.
BOUNDS = {"luma": 1.5, "contrast": 1.05, "sharpness": 1.25, "peak": 2.5}
LEAST_FRAMES = 12  # of which a spectrum can be told
FLOOR_LEVELS = 0.25  # of the spectrum: below, nobody sees a peak


@dataclass(frozen=True, kw_only=True, slots=True)
class Flicker:
    """Made frames against the given ones around them: `luma`, the difference in levels; `contrast` and `sharpness`,
    ratios; the mean distance of all frames with the sign that prevails. `peak`: the swing of luma at the rate of the
    given frames over the swing at other rates; None where too few frames are there, or the given ones keep no rate."""

    luma: float
    contrast: float
    sharpness: float
    peak: float | None

    def line(self) -> str:
        """The numbers in a line for people."""
        peak = "" if self.peak is None else f", peak x{self.peak:.1f} at the rate of the given frames"
        return f"luma {self.luma:+.1f}, contrast x{self.contrast:.2f}, sharpness x{self.sharpness:.2f}{peak}"

    def warnings(self) -> list[str]:
        """One sentence for each number beyond what the estimate by motion does on real video."""
        sentences = []
        if abs(self.luma) > BOUNDS["luma"]:
            found, usual = f"{self.luma:+.1f} levels", f"{BOUNDS['luma']:g}"
            sentences.append(f"The luma flickers: {found} in made frames against the given ones (usual: {usual}).")
        for name in ("contrast", "sharpness"):
            value, bound = getattr(self, name), BOUNDS[name]
            if max(value, 1 / max(value, 1e-3)) > bound:
                usual = f"x{1 / bound:.2f} to x{bound:.2f}"
                found = f"x{value:.2f} in made frames against the given ones"
                sentences.append(f"The {name} flickers: {found} (usual: {usual}).")
        if self.peak is not None and self.peak > BOUNDS["peak"]:
            found = f"x{self.peak:.1f} of other rates (usual: x{BOUNDS['peak']:g})"
            sentences.append(f"The luma swings at the rate of the given frames: {found}.")
        return sentences


def measure_flicker(stats: Sequence[FrameStats], times: Sequence[float], given: Collection[int]) -> Flicker | None:
    """Compares the made frames of a sequence with the given ones.

    Args:
        stats: Statistics of every frame.
        times: Seconds of every frame, ascending.
        given: Places of the given frames; frames before the first and after the last are not compared.

    Returns:
        The flicker; None where nothing is made between two given frames.
    """
    places = sorted(given)
    found = []
    for place, each in enumerate(stats):
        after = bisect_left(places, place)
        if place in given or after in (0, len(places)):
            continue
        low, high = places[after - 1], places[after]
        share = (times[place] - times[low]) / (times[high] - times[low])
        mean, contrast, sharpness = (
            (1 - share) * getattr(stats[low], name) + share * getattr(stats[high], name)
            for name in ("mean", "contrast", "sharpness")
        )
        # a level more on both sides, so that the ratio to a wall without contrast stays finite
        ratios = (each.contrast + 1) / (contrast + 1), (each.sharpness + 1) / (sharpness + 1)
        found.append((each.mean - mean, *map(log, ratios)))
    if not found:
        return None
    luma, contrast, sharpness = map(_distance, zip(*found, strict=True))
    return Flicker(
        luma=round(luma, 3),
        contrast=round(exp(contrast), 3),
        sharpness=round(exp(sharpness), 3),
        peak=_peak([each.mean for each in stats], places),
    )


def _distance(values: Sequence[float]) -> float:
    """The mean distance from zero, with the sign of the mean: what alternates does not cancel."""
    return copysign(fmean(map(abs, values)), fmean(values))


def _peak(luma: Sequence[float], given: Sequence[int]) -> float | None:
    """Amplitude at the rate of the given frames over the usual amplitude at other rates (see FLOOR_LEVELS)."""
    first, last = given[0], given[-1]
    length, period = last - first, (last - first) / max(1, len(given) - 1)
    even = all(abs(place - first - number * period) <= 0.5 for number, place in enumerate(given))
    if length < LEAST_FRAMES or period < 1.5 or not even:
        return None
    series = np.asarray(luma[first : last + 1], float)
    places = np.arange(len(series))
    series = series - np.polyval(np.polyfit(places, series, 1), places)
    window = np.hanning(len(series) + 2)[1:-1]
    swing = 2 * np.abs(np.fft.rfft(series * window)) / window.sum()
    center = len(series) / period
    near = np.abs(np.arange(len(swing)) - center) <= 1.5
    others = swing[2:][~near[2:]]
    usual = float(np.median(others)) if len(others) else 0.0
    return round((float(swing[near].max()) + FLOOR_LEVELS) / (usual + FLOOR_LEVELS), 2)
