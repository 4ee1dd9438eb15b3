"""Captions in a table: metadata.csv or metadata.jsonl with a column for the file and a column for the caption.

The file of a row is looked up by its name, never by the order of the rows, so that a source which is missing or
rejected moves no caption.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vidiff_cli.data.captions.sidecar import clean
from vidiff_cli.errors import VidiffError

FILE_COLUMNS = ("file_name", "video_path", "media_path", "video", "path")
CAPTION_COLUMNS = ("text", "caption", "captions")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row: the file it speaks of, its captions (several in a list of a .jsonl), every column as text."""

    file: str
    captions: tuple[str, ...]
    columns: dict[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A caption table; `skipped` says for each bad row why it was left out."""

    path: Path
    rows: tuple[Row, ...]
    column_names: tuple[str, ...]
    skipped: tuple[str, ...] = field(default=())


def read_table(path: Path) -> Table:
    """Reads a .csv, .tsv or .jsonl table. VidiffError: missing, not text, no column for the file or the caption."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise VidiffError(f"the caption table {path} is not UTF-8 text", fix="save it as UTF-8") from error
    except OSError as error:
        raise VidiffError(f"the caption table {path} cannot be read", found=error.strerror) from error
    rows, skipped = [], []
    names: dict[str, None] = {}
    for line, record in _records(path, text):
        if isinstance(record, str):
            skipped.append(f"line {line}: {record}")
            continue
        names |= dict.fromkeys(record)
        file = _first(record, FILE_COLUMNS)
        if not isinstance(file, str) or not file.strip():
            skipped.append(f"line {line}: no file name")
            continue
        rows.append(Row(file=file.strip(), captions=_captions(record), columns=_as_text(record)))
    _check_columns(path, tuple(names), bool(rows or skipped))
    return Table(path=path, rows=tuple(rows), column_names=tuple(names), skipped=tuple(skipped))


def _records(path: Path, text: str) -> Iterator[tuple[int, dict[str, object] | str]]:
    """(line, the row as a dict, or what is wrong with it)."""
    if path.suffix.lower() in {".jsonl", ".ndjson"}:
        yield from _jsonl_records(text)
    elif path.suffix.lower() in {".csv", ".tsv"}:
        try:
            yield from _csv_records(text)
        except csv.Error as error:
            raise VidiffError(f"the caption table {path} is not a CSV file", found=str(error)) from error
    else:
        raise VidiffError(f"the caption table {path} has an unknown format", expected=".csv, .tsv or .jsonl")


def _jsonl_records(text: str) -> Iterator[tuple[int, dict[str, object] | str]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        yield number, record if isinstance(record, dict) else "not a JSON object"


def _csv_records(text: str) -> Iterator[tuple[int, dict[str, object] | str]]:
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)  # spreadsheets of many countries write semicolons
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    names = [name.strip() for name in next(reader, [])]
    for fields in reader:
        if not any(cell.strip() for cell in fields):
            continue
        if len(fields) != len(names):
            yield reader.line_num, f"{len(fields)} fields, the header has {len(names)} (a comma needs quotes)"
        else:
            yield reader.line_num, dict(zip(names, fields, strict=True))


def _first(record: dict[str, object], names: tuple[str, ...]) -> object:
    return next((record[name] for name in names if name in record), None)


def _captions(record: dict[str, object]) -> tuple[str, ...]:
    value = _first(record, CAPTION_COLUMNS)
    values = value if isinstance(value, list) else [value]
    return clean([text for text in values if isinstance(text, str)])


def _as_text(record: dict[str, object]) -> dict[str, str]:
    return {name: str(value).strip() for name, value in record.items() if isinstance(value, str | int | float)}


def _check_columns(path: Path, names: tuple[str, ...], any_row: bool) -> None:
    if not any_row:
        raise VidiffError(f"the caption table {path} has no row")
    for what, wanted in (("the file", FILE_COLUMNS), ("the caption", CAPTION_COLUMNS)):
        if not set(wanted) & set(names):
            raise VidiffError(
                f"the caption table {path} has no column for {what}",
                found=", ".join(names) or "no column at all",
                expected=f"one of {', '.join(wanted)}",
            )
