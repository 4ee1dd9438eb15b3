"""Rows of a CSV text: a row that is broken is reported by its line and takes no other row with it."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from vidiff_cli.config.reading import declared_delimiter, guess_delimiter
from vidiff_cli.errors import VidiffError
from vidiff_cli.preparation.captions.document import NOT_TEXT, Document
from vidiff_cli.preparation.captions.types import InvalidRow, listed

Check = Callable[[Document, Sequence[str]], None]
MOST_LINES = 100  # of one quoted field: an opening quote that nobody closed must not swallow the file


def header(line: str, delimiter: str | None = None) -> list[str]:
    """The names in the first line of a CSV text, [] where it cannot be one."""
    delimiter = delimiter or guess_delimiter(line)
    try:
        return [name.strip() for name in next(csv.reader([line], delimiter=delimiter, strict=True), [])]
    except csv.Error:
        return []


def require_columns(*columns: str) -> Check:
    """A check that a header has each of these columns once."""

    def check(document: Document, names: Sequence[str]) -> None:
        for name in columns:
            if names.count(name) != 1:
                how = "no" if name not in names else "twice the"
                found = listed(names) or "no name of a column"
                raise VidiffError(f"{document} has {how} column {name}", found=found)

    return check


def csv_rows(document: Document, check: Check) -> Iterator[tuple[int, dict[str, str]] | InvalidRow]:
    """(line, row) by the names of the header; InvalidRow for wrong quotes, encoding or number of fields.

    A row may go on over several lines inside quotes. Where it then cannot be read, only its first line is left out,
    and the next line begins a row again. VidiffError: there is no line, or `check` refuses the names of the header.
    """
    lines = document.lines()
    filled = ((number, line) for number, line in lines if line is None or line.strip())
    number, first = next(filled, (0, ""))
    declared = declared_delimiter(first or "")
    if declared is not None:
        number, first = next(filled, (0, ""))
    delimiter = declared or guess_delimiter(first or "")
    names = header(first or "", delimiter)
    if not number:
        raise VidiffError(f"the caption table {document} has no row")
    check(document, names)
    waiting: deque[tuple[int, str | None]] = deque()
    while True:
        if not waiting:
            following = next(lines, None)
            if following is None:
                return
            waiting.append(following)
        number, line = waiting[0]
        if line is None:
            waiting.popleft()
            yield InvalidRow(line=number, reason=NOT_TEXT)
            continue
        fields, used, problem = _record(waiting, lines, delimiter)
        if not problem and not any(cell.strip() for cell in fields):
            pass
        elif not problem and len(fields) != len(names):
            problem = f"{len(fields)} fields, the header has {len(names)} (a comma needs quotes)"
        elif not problem:
            yield number, dict(zip(names, fields, strict=True))
        if problem:
            used = 1
            yield InvalidRow(line=number, reason=problem)
        for _ in range(used):
            waiting.popleft()


def _record(
    waiting: deque[tuple[int, str | None]], lines: Iterator[tuple[int, str | None]], delimiter: str
) -> tuple[list[str], int, str]:
    """(fields, lines used, problem) of the row that begins with the first waiting line; reads on where it must."""
    used = 0

    def feed() -> Iterator[str]:
        nonlocal used
        while used < MOST_LINES:
            if used == len(waiting):
                following = next(lines, None)
                if following is None:
                    return
                waiting.append(following)
            line = waiting[used][1]
            if line is None:
                return
            used += 1
            yield line

    try:
        fields = next(csv.reader(feed(), delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        unpaired = any(part in str(error) for part in ("unexpected end", "expected after"))
        return [], 1, "the quotes do not pair up" if unpaired else f"not a CSV row: {error}"
    return fields, max(used, 1), ""
