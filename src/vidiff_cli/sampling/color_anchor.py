"""Drift of color, contrast and sharpness over windows, and a color anchor against it.

A model that continues its own frames passes every small error of color, contrast or sharpness on to the next window,
where it grows.

Legend: b clips, n frames, m made frames, h and w pixels, c = 3 colors; levels are those of 8 bits, 0..255.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vidiff_cli.pixels import LEVELS_PER_UNIT, from_uint8

LUMA = np.array([0.299, 0.587, 0.114])
NAMES = ("mean", "contrast", "saturation", "sharpness", "motion")
# Of ten real scenes nine stay within each, for up to 20 windows of 8 frames after their first 16 (benchmarks/drift.py):
# the mean in levels either way, the others as a ratio either way.
BOUNDS = {"mean": 28.0, "contrast": 1.2, "saturation": 1.5, "sharpness": 1.3, "motion": 2.6}
FLAT = 1 / LEVELS_PER_UNIT  # a standard deviation of one level
ROUNDING = FLAT / 1000  # so that the given frames themselves, in another number format, are within their range


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameStats:
    """Numbers of neighboring frames, in levels: means over the frames.

    `mean` of luma; `contrast`, its standard deviation over a frame; `saturation`, the largest minus the smallest color
    of a pixel; `sharpness`, the mean |difference| of luma between neighboring pixels; `motion`, the mean |difference|
    between neighboring frames over all colors, None for a single frame.
    """

    mean: float
    contrast: float
    saturation: float
    sharpness: float
    motion: float | None


def frame_stats(
    pixels: np.ndarray, before: np.ndarray | None = None, *, ranks: Sequence[int] | None = None
) -> FrameStats:
    """Statistics of frames, uint8 (n h w c), in the order of time; `before` (h w c) is shown just before the first.

    Where not all of them are neighbors (a window that makes every fourth frame), `ranks` says which are: only
    neighboring ranks count as motion. ValueError for no frames.
    """
    if not len(pixels):
        raise ValueError("statistics of no frames")
    ranks = range(len(pixels)) if ranks is None else ranks
    sums = np.zeros(4)
    steps: list[float] = []
    for place, frame in enumerate(pixels):  # frame by frame: memory stays small
        sums += _numbers(frame)
        neighbor = before if place == 0 else pixels[place - 1] if ranks[place] == ranks[place - 1] + 1 else None
        if neighbor is not None:
            steps.append(float(np.abs(frame.astype(np.int16) - neighbor).mean()))
    mean, contrast, saturation, sharpness = (round(float(value), 3) for value in sums / len(pixels))
    motion = round(float(np.mean(steps)), 3) if steps else None
    return FrameStats(mean=mean, contrast=contrast, saturation=saturation, sharpness=sharpness, motion=motion)


def _numbers(frame: np.ndarray) -> np.ndarray:
    """Mean, contrast, saturation and sharpness of one frame (h w c)."""
    luma = frame @ LUMA
    across = [np.abs(np.diff(luma, axis=axis)).mean() for axis in (0, 1) if luma.shape[axis] > 1]
    saturation = (frame.max(axis=-1) - frame.min(axis=-1)).mean()
    return np.array([luma.mean(), luma.std(), saturation, np.mean(across) if across else 0.0])


@dataclass(frozen=True, kw_only=True, slots=True)
class Drift:
    """Statistics of the given frames, and of what each window made, in the order in which the windows were made."""

    given: FrameStats
    windows: tuple[FrameStats, ...]

    @property
    def changes(self) -> tuple[FrameStats, ...]:
        """Each window against the given frames, as `change` says it."""
        return tuple(change(each, self.given) for each in self.windows)

    def lines(self) -> list[str]:
        """A table for people: the numbers of the given frames, then what became of them, one line a window."""
        given = [f"{value:.1f}" if value is not None else "-" for value in _values(self.given).values()]
        rows = [["", *NAMES], ["given", *given]]
        for number, each in enumerate(self.changes, 1):
            ratios = [f"x{value:.2f}" if value is not None else "-" for value in list(_values(each).values())[1:]]
            rows.append([f"window {number}", f"{each.mean:+.1f}", *ratios])
        wide = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return ["  ".join([row[0].ljust(wide[0]), *map(str.rjust, row[1:], wide[1:])]) for row in rows]


def change(made: FrameStats, given: FrameStats) -> FrameStats:
    """The mean as a difference in levels, the other numbers as ratios; None where there was no motion to compare.

    Both sides of a ratio have a level added: of a gray wall without any contrast nothing is infinitely more.
    """
    ratios = {
        name: None if value is None or then is None else round((value + 1) / (then + 1), 3)
        for (name, value), then in zip(_values(made).items(), _values(given).values(), strict=True)
    }
    return FrameStats(**(ratios | {"mean": round(made.mean - given.mean, 3)}))  # type: ignore[arg-type]


def warnings(stats: Sequence[FrameStats], reference: FrameStats) -> list[str]:
    """One sentence for each number that leaves its bound in some window: where it first does, and how far it goes.

    The bounds are what real video keeps to without any model: see BOUNDS.
    """
    changes = [_values(change(each, reference)) for each in stats]
    sentences = []
    for name, bound in BOUNDS.items():
        far = [_far(name, each[name]) for each in changes]
        beyond = [number for number, distance in enumerate(far) if distance > bound]
        if not beyond:
            continue
        worst = max(beyond, key=far.__getitem__)
        value = changes[worst][name]
        found, usual = f"x{value:.2f}", f"x{1 / bound:.2f} to x{bound:.2f}"
        if name == "mean":
            found, usual = f"{value:+.0f} levels", f"{bound:g} levels"
        since = "" if beyond[0] == worst else f", beyond the usual since window {beyond[0] + 1}"
        sentences.append(
            f"The {name} drifts: {found} against the given frames in window {worst + 1}{since} (usual: {usual})."
        )
    return sentences


def _far(name: str, value: float | None) -> float:
    """Distance of a change from no change: in levels, or as a ratio of 1 or more."""
    if value is None:
        return 0.0
    return abs(value) if name == "mean" else max(value, 1 / max(value, 1e-3))


def _values(of: FrameStats) -> dict[str, float | None]:
    return {name: getattr(of, name) for name in NAMES}


def match_color_statistics(reference: np.ndarray) -> Callable[[Tensor], Tensor]:
    """Make a map that holds the colors of made frames near those of the given ones: `reference`, uint8 (n h w c).

    It maps (b c m h w) in [-1, 1] to the same, frame by frame: the mean and the standard deviation of every color are
    moved to the nearest value within the range that the given frames span themselves. A frame inside it is untouched,
    so that honest change of that size stays; and as frames alike become frames alike, no seam is made. Against drift
    that a simulation adds to real scenes this is better than moving every frame to the mean of the given ones, or
    windows as a whole (`python -m benchmarks drift`); a change of scene or light beyond the range is lost with the
    drift, therefore it is off by default. Knows nothing of earlier windows: a continued run gives the same.
    """
    given = from_uint8(torch.from_numpy(np.ascontiguousarray(reference)).permute(3, 0, 1, 2)[None], torch.float64)
    means, spreads = _means_and_spreads(given)
    lowest, narrowest = (each.amin(dim=2, keepdim=True) - ROUNDING for each in (means, spreads))
    highest, widest = (each.amax(dim=2, keepdim=True) + ROUNDING for each in (means, spreads))

    def anchor(made: Tensor) -> Tensor:
        x = made.double()
        mean, spread = _means_and_spreads(x)
        wanted = mean.clamp(lowest.to(x.device), highest.to(x.device))
        # What has no contrast would only have its noise enlarged.
        gain = torch.where(spread > FLAT, spread.clamp(narrowest.to(x.device), widest.to(x.device)) / spread, 1.0)
        moved = ((x - mean) * gain + wanted).clamp(-1, 1).to(made.dtype)
        return torch.where((gain == 1) & (wanted == mean), made, moved)

    return anchor


def _means_and_spreads(x: Tensor) -> tuple[Tensor, Tensor]:
    """(b c n h w) -> of every color of every frame, (b c n 1 1)."""
    return x.mean(dim=(3, 4), keepdim=True), x.std(dim=(3, 4), keepdim=True, correction=0)
