"""Plot of an evaluation: distances with intervals, other measures beside those of real video, fidelity by frame."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from vidiff_cli.viz.picture_files import whole_picture

MADE, REAL, INK = "#1f5fa8", "#d9701a", "#3a3d42"
LONGEST_TITLE = 110


class Number(Protocol):
    """A value with its interval; None if there is no interval."""

    @property
    def value(self) -> float | None: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


Row = tuple[str, str, str, Number, Number | None]
"""Kind, name, unit, of the generated videos, of the real ones."""


def plot_evaluation(
    rows: Sequence[Row], by_frame: Mapping[str, Sequence[float | None]], path: Path, *, title: str
) -> Path:
    """Draws an axis for each number, and one for each measure by frame; returns the path.

    Every number has its own scale, because their units differ. Written atomically.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # only here: it is slow to import
    from matplotlib.figure import Figure

    shown = [row for row in rows if row[3].value is not None and math.isfinite(row[3].value)]
    lines = {name: values for name, values in by_frame.items() if any(value is not None for value in values)}
    tall = 0.52 * max(1, len(shown)) + 0.9
    heights = [tall, 2.2] if lines else [tall]
    figure = Figure(figsize=(9, sum(heights) + 0.5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)  # a canvas of its own: no window system, no global state
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    axes = parts[0].subplots(max(1, len(shown)), 1, squeeze=False)[:, 0]
    for axis, row in zip(axes, shown, strict=False):
        _number(axis, row)
    if not shown:
        axes[0].set_axis_off()
    if lines:
        for axis, (name, values) in zip(parts[1].subplots(1, len(lines), squeeze=False)[0], lines.items(), strict=True):
            _by_frame(axis, name, values)
    _legend(parts[0])
    short = title if len(title) <= LONGEST_TITLE else title[: LONGEST_TITLE - 3] + "..."
    figure.suptitle(short.replace("$", r"\$"), fontsize=9, color=INK)
    with whole_picture(path) as temporary:
        figure.savefig(temporary)
    return path


def _number(axis: Any, row: Row) -> None:
    """Draws one number: its interval as a bar, the real video's value as a mark."""
    _, name, unit, made, real = row
    values = [value for each in (made, real) if each for value in (each.value, each.low, each.high)]
    known = [value for value in values if value is not None and math.isfinite(value)]
    for number, color, place in ((real, REAL, -0.25), (made, MADE, 0.25)):
        if number is None or number.value is None or not math.isfinite(number.value):
            continue
        if number.low is not None and number.high is not None:
            axis.plot(
                [number.low, number.high], [place, place], color=color, linewidth=5, alpha=0.3, solid_capstyle="butt"
            )
        axis.plot([number.value], [place], marker="o", color=color, markersize=5, markeredgecolor="white")
    low, high = min(0.0, *known), max(0.0, *known)
    room = 0.06 * (high - low or 1.0)
    axis.set_xlim(low - (room if low < 0 else 0), high + room)
    axis.set_ylim(-0.8, 0.8)
    axis.set_yticks([])
    axis.set_ylabel(f"{name}\n{unit}" if unit else name, rotation=0, ha="right", va="center", fontsize=7.5, color=INK)
    axis.tick_params(colors=INK, labelsize=7)
    axis.xaxis.get_offset_text().set_fontsize(7)
    axis.grid(True, axis="x", linewidth=0.4, alpha=0.3)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    if low < 0:
        axis.axvline(0, color=INK, linewidth=0.6, alpha=0.5)


def _by_frame(axis: Any, name: str, values: Sequence[float | None]) -> None:
    from matplotlib.ticker import MaxNLocator

    numbers = [math.nan if value is None else value for value in values]
    axis.plot(range(len(numbers)), numbers, color=MADE, marker="o", markersize=3, linewidth=1.3)
    axis.set_title(f"{name} by frame", fontsize=8, color=INK)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.tick_params(colors=INK, labelsize=7)
    axis.grid(True, linewidth=0.4, alpha=0.3)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _legend(part: Any) -> None:
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], color=color, marker="o", linewidth=5, alpha=0.8, label=label)
        for color, label in ((MADE, "generated"), (REAL, "real (of a distance: two halves of the real videos)"))
    ]
    part.legend(handles=marks, loc="outside lower right", fontsize=7.5, ncols=2, frameon=False, labelcolor=INK)
