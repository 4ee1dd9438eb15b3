"""The live table: whole on any terminal, however narrow, and in whatever encoding."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from vidiff_cli.cli.live import FigureTable
from vidiff_cli.cli.progress import LiveDisplay, PlainDisplay
from vidiff_cli.events import Note, Progress

FIGURES = (
    *(("phase", "stable"), ("loss", "0.2345"), ("level below -4", "0.9123"), ("validation", "0.2555")),
    *(("learning rate", "1.00e-03"), ("memory", "0.53 GB"), ("left", "0:12:30")),
)


def lines_of(width: int, figures: tuple[tuple[str, str], ...] = FIGURES, encoding: str = "utf-8") -> list[str]:
    raw = io.BytesIO()
    out = Console(file=io.TextIOWrapper(raw, encoding=encoding, write_through=True), width=width)
    out.print(FigureTable(figures))
    return raw.getvalue().decode(encoding).splitlines()


@pytest.mark.parametrize("width", [200, 60, 24])
def test_all_figures_are_there_and_no_line_is_too_long(width: int) -> None:
    lines = [line.rstrip() for line in lines_of(width) if line.strip()]
    assert all(len(line) <= width for line in lines)
    for name, value in FIGURES:
        assert any(re.search(rf"{re.escape(name)} +{re.escape(value)}(   |$)", line) for line in lines)
    columns = max(1, (width + 3) // (14 + 1 + 8 + 3))
    assert len(lines) == -(-len(FIGURES) // columns)  # no more lines than it takes


@pytest.mark.parametrize("width", [1, 2, 7])
def test_a_terminal_that_is_too_narrow_shows_a_part(width: int) -> None:
    assert all(len(line) <= width for line in lines_of(width))


@pytest.mark.parametrize("encoding", ["ascii", "cp437"])
def test_signs_that_a_terminal_does_not_have_are_replaced(encoding: str) -> None:
    assert "?" in "".join(lines_of(80, (("loss \u6587", "0.1"),), encoding))


@pytest.mark.parametrize(("width", "encoding"), [(120, "utf-8"), (40, "ascii"), (10, "ascii")])
def test_bars_table_and_notes_together(width: int, encoding: str) -> None:
    """What a training shows from its first event to its last; a later kind of work takes the table away."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    out = Console(file=stream, force_terminal=True, width=width, height=20, highlight=False, soft_wrap=True)
    with LiveDisplay(out) as show:
        show(Progress(what="training", done=0, total=9))
        show(Progress(what="training", done=5, total=9, detail="loss 0.2", figures=FIGURES))
        show(Note("a note"))
        show.bars.refresh()
        with_table = len(raw.getvalue())
        show(Progress(what="captions", done=1, total=2, detail="a film"))
        show.bars.refresh()
    text = raw.getvalue().decode(encoding)
    assert "a note" in text
    if width >= 40:
        assert "training" in text and "0:12:30" in text[:with_table] and "5/9" in text
        assert "0:12:30" not in text[with_table:].rpartition("\n\n")[2][-width * 3 :]
    assert "loss 0.2" not in text  # the table says it


def test_a_log_without_a_terminal_has_plain_lines() -> None:
    out = io.StringIO()
    show = PlainDisplay(Console(file=out, width=200), every_seconds=0)
    show(Progress(what="training", done=5, total=9, detail="loss 0.2345, validation 0.2555", figures=FIGURES))
    assert out.getvalue() == "training: 5/9, 0:00 elapsed, loss 0.2345, validation 0.2555\n"
