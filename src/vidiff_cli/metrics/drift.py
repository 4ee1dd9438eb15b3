"""Drift of generated windows from the observed frames: color, contrast, sharpness and motion, window by window.

A model that continues from its own frames passes every small error on to the next window, where it grows. These numbers
show it before an eye does.

Legend: n frames, h and w pixels, c = 3 colors; levels are those of 8 bits, 0..255.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vidiff_cli.luma import LUMA

NAMES = ("mean", "contrast", "saturation", "sharpness", "motion")
# Nine of ten real scenes stay within each, for up to 20 windows of 8 frames after their first 16 (benchmarks/drift.py):
# the mean in levels either way, the others as a ratio either way.
BOUNDS = {"mean": 28.0, "contrast": 1.2, "saturation": 1.5, "sharpness": 1.3, "motion": 2.6}


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameStats:
    """Statistics of consecutive frames, in levels: means over the frames.

    `mean` of luma; `contrast`, its standard deviation over a frame; `saturation`, the largest minus the smallest color
    of a pixel; `sharpness`, the mean |difference| of luma between neighboring pixels; `motion`, the mean |difference|
    between consecutive frames over all colors, None where no two are consecutive.
    """

    mean: float
    contrast: float
    saturation: float
    sharpness: float
    motion: float | None


def frame_stats(
    pixels: np.ndarray, before: np.ndarray | None = None, *, ranks: Sequence[int] | None = None
) -> FrameStats:
    """Computes the statistics of frames, uint8 (n h w c), in the order of time.

    `before` (h w c) is the frame just before the first. `ranks` are the positions of frames that are not all
    consecutive (a window that generates every fourth frame): only consecutive ranks count as motion. ValueError for no
    frames.
    """
    if not len(pixels):
        raise ValueError("frame statistics need at least one frame")
    ranks = range(len(pixels)) if ranks is None else ranks
    sums = np.zeros(4)
    steps: list[float] = []
    for place, frame in enumerate(pixels):  # frame by frame: memory stays small
        sums += _spatial_stats(frame)
        previous = before if place == 0 else pixels[place - 1] if ranks[place] == ranks[place - 1] + 1 else None
        if previous is not None:
            steps.append(float(np.abs(frame.astype(np.int16) - previous).mean()))
    mean, contrast, saturation, sharpness = (round(float(value), 3) for value in sums / len(pixels))
    motion = round(float(np.mean(steps)), 3) if steps else None
    return FrameStats(mean=mean, contrast=contrast, saturation=saturation, sharpness=sharpness, motion=motion)


def _spatial_stats(frame: np.ndarray) -> np.ndarray:
    """Mean, contrast, saturation and sharpness of one frame (h w c)."""
    luma = frame @ LUMA
    across = [np.abs(np.diff(luma, axis=axis)).mean() for axis in (0, 1) if luma.shape[axis] > 1]
    saturation = (frame.max(axis=-1) - frame.min(axis=-1)).mean()
    return np.array([luma.mean(), luma.std(), saturation, np.mean(across) if across else 0.0])


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """Statistics of the observed frames (`given`), and of each window's frames in the order of generation."""

    given: FrameStats
    windows: tuple[FrameStats, ...]

    @property
    def changes(self) -> tuple[FrameStats, ...]:
        """The `change` of each window against the observed frames."""
        return tuple(change(each, self.given) for each in self.windows)

    def lines(self) -> list[str]:
        """A table for people: the statistics of the observed frames, then the change of each window, one per line."""
        given = [f"{value:.1f}" if value is not None else "-" for value in _by_name(self.given).values()]
        rows = [["", *NAMES], ["given", *given]]
        for number, each in enumerate(self.changes, 1):
            ratios = [f"x{value:.2f}" if value is not None else "-" for value in list(_by_name(each).values())[1:]]
            rows.append([f"window {number}", f"{each.mean:+.1f}", *ratios])
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]


def change(generated: FrameStats, observed: FrameStats) -> FrameStats:
    """The mean as a difference in levels, the other statistics as ratios; None where either side has no motion.

    Both sides of a ratio have a level added, so that the ratio to a wall without contrast stays finite.
    """
    ratios = {
        name: None if value is None or reference is None else round((value + 1) / (reference + 1), 3)
        for (name, value), reference in zip(_by_name(generated).items(), _by_name(observed).values(), strict=True)
    }
    return FrameStats(**(ratios | {"mean": round(generated.mean - observed.mean, 3)}))  # type: ignore[arg-type]


def warnings(windows: Sequence[FrameStats], observed: FrameStats) -> list[str]:
    """One sentence for each statistic that leaves its bound: the first window beyond it, and the farthest one.

    The bounds are those that real video keeps without any model: see BOUNDS.
    """
    changes = [_by_name(change(each, observed)) for each in windows]
    sentences = []
    for name, bound in BOUNDS.items():
        distances = [_distance(name, each[name]) for each in changes]
        beyond = [number for number, distance in enumerate(distances) if distance > bound]
        if not beyond:
            continue
        worst = max(beyond, key=distances.__getitem__)
        value = changes[worst][name]
        found, usual = f"x{value:.2f}", f"x{1 / bound:.2f} to x{bound:.2f}"
        if name == "mean":
            found, usual = f"{value:+.0f} levels", f"{bound:g} levels"
        since = "" if beyond[0] == worst else f", beyond the usual since window {beyond[0] + 1}"
        sentences.append(
            f"The {name} drifts: {found} against the given frames in window {worst + 1}{since} (usual: {usual})."
        )
    return sentences


def _distance(name: str, value: float | None) -> float:
    """Distance of a change from no change: in levels, or as a ratio of 1 or more."""
    if value is None:
        return 0.0
    return abs(value) if name == "mean" else max(value, 1 / max(value, 1e-3))


def _by_name(stats: FrameStats) -> dict[str, float | None]:
    return {name: getattr(stats, name) for name in NAMES}
