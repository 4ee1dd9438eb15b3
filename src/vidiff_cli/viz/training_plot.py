"""Plots of a training run: loss, its bands of noise, learning rate and gradient norm against the step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vidiff_cli.errors import VidiffError
from vidiff_cli.viz.picture_files import whole_picture

Rows = Sequence[Mapping[str, Any]]

SMOOTHED_PART = 1 / 50  # of the run: the time constant of the smoothed curve
FEWEST_SMOOTHED = 5  # rows; of fewer, every one is seen
COLOR, INK, VALIDATION = "#1f5fa8", "#3a3d42", "#d9701a"
PARTS: Mapping[str, tuple[str, str]] = {  # of the loss: legend and color; drawn smoothed
    "free": ("clips without given frames", "#3f9b6c"),
    "observed": ("clips with given frames", "#8a5fb0"),
    "frame_levels": ("clips with levels by frame", "#b0528a"),
}
LEVELS: Mapping[str, tuple[str, str]] = {  # bands of log-SNR, from noise to nearly clean: legend and color
    "level_below_-4": ("below -4: noise", "#1d3557"),
    "level_-4_to_-1": ("-4 to -1", "#2a788e"),
    "level_-1_to_2": ("-1 to 2", "#5aa469"),
    "level_above_2": ("above 2: nearly clean", "#c9a227"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A column of the log against the step. `marks`: points without smoothing; `faint`: unsmoothed, in the
    background."""

    key: str
    name: str
    color: str
    marks: bool = False
    faint: bool = False
    smooth: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """Lines that share an axis."""

    title: str
    lines: tuple[Line, ...]
    height: float = 1.0
    log: bool = True
    legend: bool = True


PANELS = (
    Panel(
        title="loss",
        height=2.2,
        lines=(
            Line(key="loss", name="training", color=COLOR),
            Line(key="loss", name="training, as logged", color=COLOR, faint=True),
            *(Line(key=key, name=name, color=color) for key, (name, color) in PARTS.items()),
            Line(key="validation_loss", name="held-out clips", color=VALIDATION, marks=True),
        ),
    ),
    Panel(
        title="loss by log-SNR\n(dots: held-out clips)",
        height=1.8,
        lines=tuple(
            Line(key=f"{part}_{key}", name=name, color=color, marks=part == "validation")
            for part in ("loss", "validation")
            for key, (name, color) in LEVELS.items()
        ),
    ),
    Panel(
        title="lower with captions",
        log=False,
        legend=False,
        lines=(Line(key="text_gain", name="held-out clips", color=VALIDATION, marks=True),),
    ),
    Panel(
        title="learning rate",
        height=0.8,
        log=False,
        legend=False,
        lines=(Line(key="lr", name="learning rate", color=COLOR, smooth=False),),
    ),
    Panel(
        title="gradient norm",
        legend=False,
        lines=(
            Line(key="gradient_norm", name="as logged", color=COLOR, faint=True),
            Line(key="gradient_norm", name="smoothed", color=COLOR),
        ),
    ),
)
WHAT = ("loss", "lr", "gradient_norm")


def plot_metrics(rows: Rows, path: Path | str) -> Path:
    """Plots the rows of a metrics.jsonl against `step`; returns the path.

    Every row has a `step` and any of `loss` (drawn as logged and smoothed), its parts, `lr`, `gradient_norm`,
    `validation_loss` and its parts (drawn as marks). Missing and non-finite values are skipped; a panel without values
    is not drawn. Written atomically. Raises VidiffError if no row has a value to plot.
    """
    path = Path(path)
    panels = [panel for panel in PANELS if any(len(_series(rows, line.key)[0]) for line in panel.lines)]
    if not any(len(_series(rows, key)[0]) for key in WHAT):
        raise VidiffError("no values to plot yet", expected="rows with a step and " + " or ".join(WHAT))
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # only here: it is slow to import
    from matplotlib.figure import Figure

    heights = [panel.height for panel in panels]
    figure = Figure(figsize=(9, 1.0 + 1.7 * sum(heights)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)  # a canvas of its own: no window system, no global state
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for panel, axis in zip(panels, axes, strict=True):
        _draw(axis, rows, panel)
    _mark_decay(list(axes), rows)
    axes[-1].set_xlabel("step")
    with whole_picture(path) as temporary:
        figure.savefig(temporary)
    return path


def smooth(values: np.ndarray, span: float) -> np.ndarray:
    """Exponential mean over about `span` values, without a bias towards zero at the beginning."""
    keep = span / (span + 1)
    total, weight, means = 0.0, 0.0, np.empty(len(values))
    for index, value in enumerate(values):
        total, weight = keep * total + value, keep * weight + 1
        means[index] = total / weight
    return means


def _smoothed(values: np.ndarray) -> np.ndarray:
    return smooth(values, len(values) * SMOOTHED_PART) if len(values) > FEWEST_SMOOTHED else values


def _draw(axis: Any, rows: Rows, panel: Panel) -> None:
    from matplotlib.ticker import MaxNLocator

    drawn, named = [], set[str]()
    for line in panel.lines:
        steps, values = _series(rows, line.key)
        if len(values):
            shown = _line(axis, steps, values, line, label=None if line.name in named else line.name)
            named.add(line.name)
            drawn.append(values if line.faint or line.marks else shown)
    if panel.log and min(values.min() for values in drawn) > 0:
        _scale(axis, drawn)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axis.set_ylabel(panel.title, color=INK)
    axis.tick_params(colors=INK, labelsize=8.5)
    axis.grid(True, which="both", linewidth=0.4, alpha=0.3)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    if panel.legend and len(named) > 1:
        axis.legend(edgecolor="none", framealpha=0.85, fontsize=8, ncols=2, loc="upper right", labelcolor=INK)
    if not panel.log:
        axis.axhline(0, color=INK, linewidth=0.6, alpha=0.5)


def _line(axis: Any, steps: np.ndarray, values: np.ndarray, line: Line, *, label: str | None) -> np.ndarray:
    """Draws one line; returns the plotted values."""
    if line.faint:
        axis.plot(steps, values, color=line.color, linewidth=0.8, alpha=0.25, label=label)
        return values
    if line.marks:
        style: dict[str, Any] = {"marker": "o", "markersize": 4, "markeredgecolor": "white", "markeredgewidth": 0.6}
        axis.plot(steps, values, color=line.color, linewidth=0.9, linestyle=":", zorder=3, label=label, **style)
        return values
    shown = _smoothed(values) if line.smooth else values
    marker = "o" if len(values) == 1 else None  # a line through one point is invisible
    whole = line.key not in PARTS
    width, order = (1.8, 2.5) if whole else (1.1, 2.0)
    axis.plot(steps, shown, color=line.color, linewidth=width, zorder=order, marker=marker, label=label)
    return shown


def _scale(axis: Any, drawn: Iterable[np.ndarray]) -> None:
    """Sets a logarithmic axis with plain numbers, as many as fit."""
    from matplotlib.ticker import LogLocator, NullLocator

    values = np.concatenate(list(drawn))
    wide = values.max() / values.min() > 100
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 1.5, 2, 3, 5, 7)))
    axis.yaxis.set_minor_locator(LogLocator(subs=(2, 5)) if wide else NullLocator())
    axis.yaxis.set_major_formatter("{x:g}")  # 0.05 reads better than a power of ten
    axis.yaxis.set_minor_formatter("")


def _mark_decay(axes: Sequence[Any], rows: Rows) -> None:
    """Draws a line where the decay branch begins."""
    stable = [row["step"] for row in rows if row.get("phase") == "stable" and _is_number(row.get("step"))]
    decay = [row["step"] for row in rows if row.get("phase") == "decay" and _is_number(row.get("step"))]
    if stable and decay and max(stable) < max(decay):
        for axis in axes:
            axis.axvline(max(stable), color=INK, linewidth=0.8, linestyle=(0, (4, 3)), alpha=0.45)
        axes[0].annotate(
            "decay begins",
            (max(stable), 0.03),
            xycoords=("data", "axes fraction"),
            xytext=(4, 0),
            textcoords="offset points",
            color=INK,
            fontsize=8,
            alpha=0.8,
        )


def _series(rows: Rows, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of the rows that have a finite number under `key`."""
    pairs = [(row["step"], row[key]) for row in rows if _is_number(row.get("step")) and _is_number(row.get(key))]
    steps, values = np.asarray(pairs, float).reshape(-1, 2).T
    return steps, values


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
