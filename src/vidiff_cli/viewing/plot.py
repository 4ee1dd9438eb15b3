"""Plots of a training run: loss, learning rate and gradient norm against the step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vidiff_cli.errors import VidiffError
from vidiff_cli.viewing.files import whole_picture

PANELS: Mapping[str, tuple[str, str]] = {  # key of a metrics row: title, scale of the axis
    "loss": ("loss", "log"),
    "lr": ("learning rate", "linear"),
    "gradient_norm": ("gradient norm", "log"),
}
SMOOTHED_PART = 1 / 30  # of the run: the time constant of the smoothed curve
COLOUR = "#1f5fa8"
PARTS: Mapping[str, tuple[str, str]] = {  # of the loss: legend and colour; drawn smoothed
    "free": ("clips without given frames", "#3f9b6c"),
    "observed": ("clips with given frames", "#8a5fb0"),
    "validation_loss": ("validation", "#d9701a"),
}


def plot_metrics(rows: Sequence[Mapping[str, Any]], path: Path | str) -> Path:
    """Draws `loss` (as logged and smoothed), `lr` and `gradient_norm` against `step`; returns the path.

    Every row has a `step` and any of these, and `free`, `observed`, `validation_loss` (losses of a part of the clips)
    where they were measured. What is absent or not finite is left out, a panel without values is not drawn. The picture
    is written atomically. Raises VidiffError when no row has anything to draw.
    """
    path = Path(path)
    panels = [key for key in PANELS if len(_series(rows, key)[0])]
    if not panels:
        raise VidiffError("There is nothing to plot yet", expected="rows with a step and " + " or ".join(PANELS))
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # only here: it is slow to import
    from matplotlib.figure import Figure

    heights = [2.2 if key == "loss" else 1.0 for key in panels]
    figure = Figure(figsize=(9, 1.2 + 1.9 * sum(heights)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)  # a canvas of its own: no window system, no global state
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for key, axis in zip(panels, axes, strict=True):
        _draw(axis, rows, key)
    axes[-1].set_xlabel("step")
    with whole_picture(path) as temporary:
        figure.savefig(temporary)
    return path


def smooth(values: np.ndarray, span: float) -> np.ndarray:
    """The exponential mean over about `span` values, without a bias towards zero at the beginning."""
    keep = span / (span + 1)
    total, weight, means = 0.0, 0.0, np.empty(len(values))
    for index, value in enumerate(values):
        total, weight = keep * total + value, keep * weight + 1
        means[index] = total / weight
    return means


def _marker(values: np.ndarray) -> str | None:
    """A line through one point is invisible."""
    return "o" if len(values) == 1 else None


def _smoothed(values: np.ndarray) -> np.ndarray:
    return smooth(values, max(1.0, len(values) * SMOOTHED_PART))


def _draw(axis: Any, rows: Sequence[Mapping[str, Any]], key: str) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator

    title, scale = PANELS[key]
    steps, values = _series(rows, key)
    positive = values.min() > 0
    if key == "lr":
        axis.plot(steps, values, color=COLOUR, linewidth=1.4, marker=_marker(values))
    else:
        axis.plot(steps, values, color=COLOUR, linewidth=0.8, alpha=0.3, label="as logged")
        axis.plot(steps, _smoothed(values), color=COLOUR, linewidth=1.8, marker=_marker(values), label="smoothed")
    if key == "loss":
        for part, (name, colour) in PARTS.items():
            steps, values = _series(rows, part)
            if len(values):
                positive = positive and values.min() > 0
                axis.plot(steps, _smoothed(values), color=colour, linewidth=1.2, marker=_marker(values), label=name)
        axis.legend(frameon=False, loc="upper right")
    if scale == "log" and positive:
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")  # 0.05 reads better than a power of ten
        axis.yaxis.set_minor_formatter("")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axis.set_ylabel(title)
    axis.grid(True, which="both", linewidth=0.4, alpha=0.35)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _series(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of the rows that have a finite number under `key`."""
    pairs = [(row["step"], row[key]) for row in rows if _is_number(row.get("step")) and _is_number(row.get(key))]
    steps, values = np.asarray(pairs, float).reshape(-1, 2).T
    return steps, values


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
