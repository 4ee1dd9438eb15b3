"""Captions in a table with a column for the file and one for the caption: CSV, or a JSON object on each line.

The file of a row is looked up by its name, never by the order of the rows, so that a source which is missing or
rejected moves no caption.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from vidiff_cli.errors import VidiffError
from vidiff_cli.preparation.captions.csv_rows import csv_rows
from vidiff_cli.preparation.captions.document import NOT_TEXT, Document, Repeated, parse_json
from vidiff_cli.preparation.captions.types import (
    CONTROL,
    SURROGATES,
    Annotation,
    InvalidRow,
    MatchTarget,
    clean_captions,
    listed,
    plain_columns,
    sentence,
    whole_file,
)

FILE_COLUMNS = ("file_name", "video_path", "media_path", "video", "path")
CAPTION_COLUMNS = ("captions", "text", "caption")  # where there are several, all captions come before the first of them


def read_csv(document: Document) -> Iterator[Annotation | InvalidRow]:
    """Entries of a CSV table. VidiffError: no row, or no column for the file or the caption."""
    yield from _entries(document, csv_rows(document, _check_columns))


def read_jsonl(document: Document) -> Iterator[Annotation | InvalidRow]:
    """Entries of JSON lines; a list holds several captions. VidiffError: as `read_csv`."""
    yield from _entries(document, _json_rows(document))


def read_records(
    document: Document, rows: Iterator[tuple[int, dict[str, object]] | InvalidRow]
) -> Iterator[Annotation | InvalidRow]:
    """Entries of rows with their numbers, by the same names of columns. VidiffError: as `read_csv`."""
    yield from _entries(document, rows)


def json_row(line: str) -> dict[str, object] | str:
    """Parses the JSON object in a line; returns the reason as text if it is not one."""
    try:
        record = parse_json(line)
    except Repeated as error:
        return f"JSON with {error}"
    except RecursionError:
        return "JSON that is nested too deep"
    except ValueError:
        return "not a JSON object"
    return record if isinstance(record, dict) else "not a JSON object"


def names_a_file(names: Collection[str]) -> bool:
    return not set(FILE_COLUMNS).isdisjoint(names)


def names_a_caption(names: Collection[str]) -> bool:
    return not set(CAPTION_COLUMNS).isdisjoint(names)


def _json_rows(document: Document) -> Iterator[tuple[int, dict[str, object]] | InvalidRow]:
    for number, line in document.lines():
        if line is None:
            yield InvalidRow(line=number, reason=NOT_TEXT)
        elif line.strip():
            record = json_row(line)
            yield InvalidRow(line=number, reason=record) if isinstance(record, str) else (number, record)


def _entries(
    document: Document,
    rows: Iterator[tuple[int, dict[str, str]] | InvalidRow] | Iterator[tuple[int, dict[str, object]] | InvalidRow],
) -> Iterator[Annotation | InvalidRow]:
    names: dict[str, None] = {}
    broken: InvalidRow | None = None  # the first
    for row in rows:
        if isinstance(row, InvalidRow):
            broken = broken or row
            yield row
            continue
        number, record = row
        names |= dict.fromkeys(record)
        yield from _entry(number, record)
    if broken and not names:
        found = f"{broken.reason} in line {broken.line}"
        raise VidiffError(f"the caption table {document} has no row that can be used", found=found)
    if not names:
        raise VidiffError(f"the caption table {document} has no row")
    _check_columns(document, list(names))


def _entry(number: int, record: Mapping[str, object]) -> Iterator[Annotation | InvalidRow]:
    file = _first(record, FILE_COLUMNS)
    if not isinstance(file, str) or not file.strip():
        yield InvalidRow(line=number, reason="no file name")
        return
    file = file.strip()
    if SURROGATES.search(file) or CONTROL.search(file):
        yield InvalidRow(line=number, reason="the file name is not valid text")
        return
    value = _first(record, CAPTION_COLUMNS)
    captions = []
    for index, text in enumerate(value if isinstance(value, list) else [value]):
        words, wrong = sentence(text)
        if wrong:
            part = f"caption[{index}]" if isinstance(value, list) else ""
            yield InvalidRow(line=number, part=part, reason=wrong, video=file)
        else:
            captions.append(words)
    captions = clean_captions(captions)
    target = MatchTarget(stems=(), segments=whole_file(captions))
    yield Annotation(
        video=file, line=number, sentences=len(captions), targets=(target,), file=file, columns=plain_columns(record)
    )


def captions_of_record(record: object) -> tuple[str, ...]:
    """The captions of a JSON object, by the names of columns; () without."""
    value = _first(record, CAPTION_COLUMNS) if isinstance(record, dict) else None
    texts = [sentence(text)[0] for text in (value if isinstance(value, list) else [value])]
    return clean_captions(texts)


def _first(record: Mapping[str, object], names: tuple[str, ...]) -> object:
    return next((record[name] for name in names if name in record), None)


def _check_columns(document: Document, names: Sequence[str]) -> None:
    for what, known, wanted in (
        ("the file", names_a_file(names), FILE_COLUMNS),
        ("the caption", names_a_caption(names), CAPTION_COLUMNS),
    ):
        if not known:
            raise VidiffError(
                f"the caption table {document} has no column for {what}",
                found=listed(names) or "no column at all",
                expected=f"one of {', '.join(wanted)}",
            )
