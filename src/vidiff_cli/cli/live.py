"""Bars and a table of figures, redrawn on a terminal while a task runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.segment import Segment
from rich.style import Style
from rich.table import Column
from rich.text import Text

Figures = Sequence[tuple[str, str]]
BETWEEN = 3  # blanks between two columns
WIDE = 80  # cells; narrower terminals show only the count and the time left


class FigureTable:
    """Names and values in as many columns as fit, filled downwards.

    Characters outside the encoding of the terminal are replaced.
    """

    def __init__(self, figures: Figures) -> None:
        self.figures = figures

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        encoding = console.encoding or "ascii"
        plain = [(_plain(name, encoding), _plain(value, encoding)) for name, value in self.figures]
        names, values = (max(map(len, column)) for column in zip(*plain, strict=True))
        width = names + 1 + values
        columns = max(1, (options.max_width + BETWEEN) // (width + BETWEEN))
        rows = -(-len(plain) // columns)
        for row in range(rows):
            for column, (name, value) in enumerate(plain[row::rows]):
                yield Segment(" " * BETWEEN * bool(column) + name.ljust(names + 1), Style(dim=True))
                yield Segment(value.rjust(values))
            yield Segment.line()


def _plain(text: str, encoding: str) -> str:
    return text.encode(encoding, "replace").decode(encoding, "replace")


def clock(seconds: float) -> str:
    """Minutes and seconds, and hours where there are any: 1:05, 2:00:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class TimeLeftColumn(ProgressColumn):
    """The time left for a kind of work, from its field `left` (seconds, or None)."""

    def render(self, task: Task) -> Text:
        left = 0.0 if task.finished else task.fields["left"]
        return Text("-:--" if left is None else clock(left), style="progress.remaining")


class Bars(Progress):
    """A bar for each kind of work, with the fields `detail` and `left`, and a table of figures under them."""

    def __init__(self, console: Console) -> None:
        cut = Column(no_wrap=True, overflow="crop")  # rich's ellipsis is not in every encoding
        columns: list[ProgressColumn] = [TextColumn("{task.description}", markup=False, table_column=cut)]
        if console.width >= WIDE:
            columns += [BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeLeftColumn()]
        else:
            columns += [MofNCompleteColumn(table_column=cut), TimeLeftColumn(table_column=cut)]
        columns.append(TextColumn("{task.fields[detail]}", markup=False, table_column=cut))
        self._figures: Figures = ()
        super().__init__(*columns, console=console)

    def show_figures(self, figures: Figures) -> None:
        """Set the table; no figures, no table."""
        self._figures = figures

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self._figures:
            yield FigureTable(self._figures)
