"""Histograms of a dataset, as numbers, as lines of text and as a plot."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from vidiff_cli.errors import VidiffError
from vidiff_cli.viz.picture_files import whole_picture

BARS = 12  # of a histogram over numbers, at most
FEW = 8  # different numbers that have a bar each
MOST_NAMES = 12  # bars of a histogram over names; the rest stands in one bar
LARGEST = 1e12
WIDTH = 32  # characters of the longest bar
EIGHTHS = " ▏▎▍▌▋▊▉"
COLOR = "#1f5fa8"


@dataclass(frozen=True, kw_only=True, slots=True)
class Histogram:
    """Numbers of values per bar.

    Bar k is called `labels[k]` and has `counts[k]` values: those from `edges[k]` to below `edges[k + 1]` (the last bar
    includes its upper edge) or, if `edges` is empty, those equal to its label. `least`, `median` and `most` are those
    of the values, None for names.
    """

    name: str
    unit: str
    values: int
    labels: tuple[str, ...]
    counts: tuple[int, ...]
    edges: tuple[float, ...] = ()
    least: float | None = None
    median: float | None = None
    most: float | None = None


def numeric_histogram(name: str, unit: str, values: Iterable[float]) -> Histogram | None:
    """At most 12 bars of one round width, or one for each of few values; None without values.

    Values that are not finite, or larger than any score or length can be, are skipped.
    """
    numbers = np.array([value for value in values if abs(value) < LARGEST], dtype=np.float64)
    if not len(numbers):
        return None
    least, median, most = float(numbers.min()), float(np.median(numbers)), float(numbers.max())
    different, counts = np.unique(numbers.round(6), return_counts=True)
    labels, edges = tuple(f"{value:.6g}" for value in different), list[float]()
    if len(different) > FEW:
        edges = _edges(least, most, whole=bool((numbers == numbers.round()).all()))
        counts, _ = np.histogram(numbers, edges)
        labels = tuple(f"{low:.6g} to {high:.6g}" for low, high in pairwise(edges))
    return Histogram(
        name=name,
        unit=unit,
        values=len(numbers),
        labels=labels,
        counts=tuple(counts.tolist()),
        edges=tuple(edges),
        least=least,
        median=median,
        most=most,
    )


def categorical_histogram(name: str, unit: str, values: Iterable[str]) -> Histogram | None:
    """The most frequent names first (ties by name), at most 12 bars; None without names."""
    counter = Counter(values)
    ordered = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    if not ordered:
        return None
    if len(ordered) > MOST_NAMES:
        rest = ordered[MOST_NAMES - 1 :]
        ordered = [*ordered[: MOST_NAMES - 1], (f"{len(rest)} others", sum(count for _, count in rest))]
    labels, counts = zip(*ordered, strict=True)
    return Histogram(name=name, unit=unit, values=sum(counter.values()), labels=labels, counts=counts)


def _edges(least: float, most: float, *, whole: bool) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten that cover least..most, at most 13; at least 1 apart if `whole`."""
    power = 10.0 ** (math.floor(math.log10((most - least) / BARS)) if most > least else 0)
    for step in (power * factor for factor in (1, 2, 5, 10, 20)):
        low, high = math.floor(least / step), math.floor(most / step) + 1
        if high - low <= BARS and (step >= 1 or not whole):
            return [float(f"{number * step:.12g}") for number in range(low, high + 1)]
    raise AssertionError("twenty times the wanted step is always enough")


def histogram_lines(histogram: Histogram) -> list[str]:
    """One line of text per bar: its label, a bar of blocks, the count."""
    widest = max(map(len, histogram.labels))
    top = max(max(histogram.counts), 1)
    return [
        f"{label.rjust(widest)} {_bar(count / top)} {count:,}"
        for label, count in zip(histogram.labels, histogram.counts, strict=True)
    ]


def _bar(part: float) -> str:
    """A value in 0..1 as block characters; every positive value shows at least a sliver."""
    eighths = round(part * WIDTH * 8) or int(part > 0)
    return ("█" * (eighths // 8) + EIGHTHS[eighths % 8]).strip().ljust(WIDTH)


def histogram_summary(histogram: Histogram) -> str:
    """Number of values and their range, for the heading."""
    if histogram.median is None:
        return f"{histogram.values:,} {histogram.unit}"
    least, median, most = (f"{value:.4g}" for value in (histogram.least, histogram.median, histogram.most))
    return f"{histogram.unit}: {least} to {most}, median {median}"


def plot_histograms(histograms: Sequence[Histogram], path: Path | str, *, title: str = "") -> Path:
    """Draws histograms in a grid (format by extension, atomically); returns the path.

    Raises VidiffError for an empty list.
    """
    path = Path(path)
    if not histograms:
        raise VidiffError("no histograms to plot", expected="at least one histogram")
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # only here: it is slow to import
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    columns = min(2, len(histograms))
    rows = -(-len(histograms) // columns)
    figure = Figure(figsize=(5.2 * columns, 0.4 + 2.9 * rows), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)  # a canvas of its own: no window system, no global state
    if title:
        figure.suptitle(title.replace("$", r"\$"), fontsize=11)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[len(histograms) :]:
        axis.set_axis_off()
    for axis, histogram in zip(axes, histograms, strict=False):
        places = range(len(histogram.counts))
        if histogram.edges:
            widths = np.diff(histogram.edges)
            axis.bar(histogram.edges[:-1], histogram.counts, widths * 0.94, align="edge", color=COLOR)
            axis.axvline(histogram.median, color="#d9701a", linewidth=1.2)
        else:
            axis.bar(places, histogram.counts, 0.7, color=COLOR)
            axis.set_xlim(-1, max(len(places), 3))
            slanted = sum(map(len, histogram.labels)) > 40
            angle = {"rotation": 30, "ha": "right"} if slanted else {}
            axis.set_xticks(places, [label.replace("$", r"\$") for label in histogram.labels], **angle)
        axis.set_title(histogram.name, fontsize=10, loc="left")
        axis.set_title(histogram_summary(histogram), fontsize=8, loc="right", color="#60646c")
        axis.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        axis.grid(True, axis="y", linewidth=0.4, alpha=0.35)
        axis.set_axisbelow(True)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    with whole_picture(path) as temporary:
        figure.savefig(temporary)
    return path
