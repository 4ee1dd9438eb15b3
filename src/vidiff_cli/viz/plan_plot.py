"""The plan of a generation as a plot and as text: the window that makes each frame, and the frames that it observes.

A frame is a rank in the plan (see frames.py). Windows are numbered from 1 in plot and text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vidiff_cli.errors import VidiffError
from vidiff_cli.frames import Window
from vidiff_cli.viz.picture_files import whole_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Kinds of cells. Where several frames share a column, the highest kind is shown.
ABSENT, AVAILABLE, OBSERVED, GIVEN, REPEATED, GENERATED = range(6)
COLORS = ("#ffffff", "#e0e3e7", "#96c8f0", "#e67814", "#a05ab9", "#1654a5")
LABELS = {
    GIVEN: "given",
    GENERATED: "made",
    OBSERVED: "observed, made before",
    REPEATED: "repeats a given frame",
    AVAILABLE: "there, not observed",
}
INK, FAINT = "#202226", "#82868e"
MAX_COLUMNS, MAX_GRID_COLUMNS = 1200, 250  # columns of cells; columns with lines between them
MAX_WINDOWS = 40  # in plot and text; of more, the first and the last
MAX_RANGES = 6  # in a line of text


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanView:
    """A plan of windows with the frames that it starts from.

    `times` are the seconds of all frames; `given` frames are there from the beginning; `repeats` maps a frame to the
    given one that it copies; `written` lists the frames of the result (None: all); `batches` are ranges of window
    numbers (from 0) that are sampled together.
    """

    windows: Sequence[Window]
    times: Sequence[Fraction]
    given: Collection[int]
    written: Sequence[int] | None = None
    repeats: Mapping[int, int] = field(default_factory=dict)
    batches: Sequence[range] = ()

    @property
    def total(self) -> int:
        return len(self.times)

    @property
    def unwritten(self) -> list[int]:
        return [] if self.written is None else sorted(set(range(self.total)) - set(self.written))


def write_plan_plot(path: Path | str, plan: PlanView) -> Path:
    """Writes the plot (format by extension, atomically) and returns its path."""
    path = Path(path)
    if plan.total < 1:
        raise VidiffError("cannot plot an empty plan", found="no frames")
    with whole_picture(path) as temporary:
        draw_plan(plan).savefig(temporary)
    return path


def draw_plan(plan: PlanView) -> Figure:
    """Draws frames as columns; the rows are the video, dots for frames that are not written, and the windows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # only here: it is slow to import
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    rows = _shown_windows(len(plan.windows))
    cells = np.vstack([frame_kinds(plan), np.full(plan.total, ABSENT), window_kinds(plan, rows)])
    columns = min(plan.total, MAX_COLUMNS)
    cells = np.maximum.reduceat(cells, np.arange(columns) * plan.total // columns, axis=1)
    inches = min(max(3 + 0.28 * plan.total, 9), 16), 1.6 + 0.24 * len(cells)
    figure = Figure(figsize=inches, dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    colors = ListedColormap(COLORS)
    extent = (-0.5, plan.total - 0.5, len(cells) - 0.5, -0.5)
    axis.imshow(cells, colors, vmin=ABSENT, vmax=GENERATED, interpolation="nearest", aspect="auto", extent=extent)
    axis.hlines(np.arange(len(cells)) - 0.5, -0.5, plan.total - 0.5, color="white", linewidth=1.5)
    if plan.total <= MAX_GRID_COLUMNS:
        axis.vlines(np.arange(plan.total) - 0.5, -0.5, len(cells) - 0.5, color="white", linewidth=0.8)
    axis.plot(plan.unwritten, np.ones(len(plan.unwritten)), ".", color=INK, markersize=4)
    axis.spines[:].set_visible(False)
    axis.set_title(plan_summary(plan), loc="left", fontsize=10, color=INK)
    _label_rows(axis, plan, rows)
    _label_frames(axis, plan)
    _add_legend(figure, plan)
    return figure


def frame_kinds(plan: PlanView) -> np.ndarray:
    """Kind of each frame in the result, (total,)."""
    kinds = np.full(plan.total, GENERATED)
    kinds[list(plan.given)], kinds[list(plan.repeats)] = GIVEN, REPEATED
    return kinds


def window_kinds(plan: PlanView, rows: Sequence[int | None]) -> np.ndarray:
    """Kind of each frame in the rows of windows, (rows, total); None is an empty row."""
    source = frame_kinds(plan)
    source[source == GENERATED] = OBSERVED
    maker = np.full(plan.total, -1)  # number of the window that makes a frame; -1: there from the beginning
    for number, window in enumerate(plan.windows):
        maker[list(window.makes)] = number
    kinds = np.full((len(rows), plan.total), ABSENT)
    for row, number in zip(kinds, rows, strict=True):
        if number is not None:
            observed, made = list(plan.windows[number].observed), list(plan.windows[number].makes)
            row[maker < number] = AVAILABLE
            row[observed], row[made] = source[observed], GENERATED
    return kinds


def _label_rows(axis: Axes, plan: PlanView, rows: Sequence[int | None]) -> None:
    """Names windows on the left, counts their frames on the right, and draws a bar beside the windows of a batch."""
    places = {number: y for y, number in enumerate(rows, 2) if number is not None}
    axis.set_yticks([0, *places.values()], ["the video", *(f"window {number + 1}" for number in places)])
    axis.tick_params(axis="y", length=0, pad=10, labelsize=9, labelcolor=INK)
    windows = [plan.windows[number] for number in places]
    counts = axis.secondary_yaxis("right")
    counts.set_yticks([*places.values()], [f"makes {len(w.makes)} from {len(w.observed)}" for w in windows])
    counts.tick_params(axis="y", length=0, labelsize=9, labelcolor=FAINT)
    counts.spines["right"].set_visible(False)
    if None in rows:
        text = f"{len(plan.windows) - len(places)} windows more"
        axis.text(0, rows.index(None) + 2, text, va="center", fontsize=9, color=FAINT)
    for batch in plan.batches:
        shown = [places[number] for number in batch if number in places]
        if len(shown) > 1:
            ends, beside = (shown[0] - 0.3, shown[-1] + 0.3), axis.get_yaxis_transform()
            axis.plot((-0.006, -0.006), ends, color=INK, linewidth=1.5, transform=beside, clip_on=False, label="batch")


def _label_frames(axis: Axes, plan: PlanView) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_xlim(-0.5, plan.total - 0.5)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=16, integer=True, steps=[1, 2, 5, 10]))
    ticks = [round(tick) for tick in axis.get_xticks() if 0 <= tick < plan.total]
    axis.set_xticks(ticks, [f"{frame}\n{float(plan.times[frame]):.2f} s" for frame in ticks])
    axis.tick_params(axis="x", labelsize=8, color=FAINT, labelcolor=FAINT)
    axis.set_xlabel("frame and its time", fontsize=8, color=FAINT)


def _add_legend(figure: Figure, plan: PlanView) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    names = {kind: name for kind, name in LABELS.items() if kind != REPEATED or plan.repeats}
    handles: list[Patch | Line2D] = [Patch(color=COLORS[kind], label=name) for kind, name in names.items()]
    if plan.unwritten:
        handles.append(Line2D([], [], color=INK, marker=".", linestyle="", label="not written"))
    if any(len(batch) > 1 for batch in plan.batches):
        handles.append(Line2D([], [], color=INK, marker="|", linestyle="", label="one batch"))
    figure.legend(handles=handles, loc="outside lower left", ncols=4, frameon=False, fontsize=9, labelcolor=INK)


def plan_lines(plan: PlanView) -> list[str]:
    """The plan for a terminal: a summary, then one line a window (of more than 40, the first and the last)."""
    lines = [plan_summary(plan)]
    batch = {number: place for place, numbers in enumerate(plan.batches, 1) for number in numbers if len(numbers) > 1}
    digits = len(str(len(plan.windows)))
    for number in _shown_windows(len(plan.windows)):
        if number is None:
            lines.append(f"... {len(plan.windows) - MAX_WINDOWS} windows more ...")
            continue
        window = plan.windows[number]
        made = sorted(window.makes)
        seconds = f"{float(plan.times[made[0]]):.2f} to {float(plan.times[made[-1]]):.2f} s"
        source = f" from {_ranges(window.observed)}" if window.observed else ""
        together = f", batch {batch[number]}" if number in batch else ""
        lines.append(f"window {number + 1:>{digits}}: makes {_ranges(made)}{source} ({seconds}{together})")
    return lines


def plan_summary(plan: PlanView) -> str:
    """Counts of the plan, such as "24 frames: 8 given, 16 to make in 2 windows"; "to estimate" without windows."""
    windows, written = len(plan.windows), plan.written
    made = sum(len(window.makes) for window in plan.windows) or plan.total - len({*plan.given, *plan.repeats})
    generated = f"{made} to make in {_count(windows, 'window')}" if windows else f"{made} to estimate"
    if plan.batches and len(plan.batches) < windows:
        generated += f" ({_count(len(plan.batches), 'batch', 'es')})"
    parts = [f"{len(set(plan.given))} given", generated]
    if repeats := len(plan.repeats):
        parts.append(f"{repeats} that repeat{'s' * (repeats == 1)} a given one")
    if plan.unwritten:
        parts.append(f"{len(plan.unwritten)} not written")
    if written is not None and (held := len(written) - len(set(written))):
        parts.append(f"{held} held at the end")
    return f"{_count(plan.total, 'frame')}: {', '.join(parts)}"


def _count(number: int, noun: str, plural: str = "s") -> str:
    return f"{number} {noun}{plural * (number != 1)}"


def _shown_windows(count: int) -> list[int | None]:
    """All numbers of windows; of more than 40 the first and the last 20, with None between."""
    if count <= MAX_WINDOWS:
        return list(range(count))
    return [*range(MAX_WINDOWS // 2), None, *range(count - MAX_WINDOWS // 2, count)]


def _ranges(frames: Iterable[int]) -> str:
    """Lists frames briefly: "0-7, 12, 16-40 by 4"; "..." stands for the rest of a long list."""
    left, parts = sorted(frames), list[str]()
    while left:
        step = left[1] - left[0] if len(left) > 1 else 1
        length = next((n for n in range(1, len(left)) if left[n] - left[n - 1] != step), len(left))
        if step > 1 and length < 3:
            length = 1
        run, left = left[:length], left[length:]
        parts.append(str(run[0]) if length == 1 else f"{run[0]}-{run[-1]}" + (f" by {step}" if step > 1 else ""))
    return ", ".join(parts if len(parts) <= MAX_RANGES else [*parts[: MAX_RANGES - 1], "..."])
