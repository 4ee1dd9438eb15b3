"""Prompts from a file: one a line, or the column of a table."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from vidiff_cli.config.reading import declared_delimiter, guess_delimiter, read_text
from vidiff_cli.errors import VidiffError

COLUMNS = ("prompt", "caption", "text")


def read_prompts(path: Path, *, encoding: str | None = None, offered: bool = False) -> list[str]:
    """The prompts of a file, by its name: .csv or .tsv with a column `prompt` (or caption, or text), .jsonl with that
    key, any other with one prompt a line, where lines that begin with # are left out. Empty ones do not count.
    `encoding` and `offered` as for `decode_text`.

    VidiffError: unreadable, an invalid line, or no prompt at all.
    """
    text = read_text(path, what="the prompts file", encoding=encoding, offered=offered)
    prompts = [prompt for prompt in _READERS.get(path.suffix.lower(), _lines)(text, path) if prompt]
    if not prompts:
        raise VidiffError(f"{path} has no prompt", expected="one a line")
    return prompts


def _lines(text: str, path: Path) -> Iterator[str]:
    stripped = (line.strip() for line in text.splitlines())
    return (line for line in stripped if not line.startswith("#"))


def _table(text: str, path: Path) -> Iterator[str]:
    lines = text.splitlines(keepends=True)
    declared = declared_delimiter(lines[0]) if lines else None
    before = declared is not None  # a line before the names of the columns
    names = lines[before] if len(lines) > before else ""
    rows = csv.DictReader(lines[before:], delimiter=declared or guess_delimiter(names))
    try:
        for row in rows:
            yield _prompt_of(row, path, rows.line_num + before)
    except csv.Error as error:
        raise VidiffError(f"{path} is not a CSV table", found=f"{error} in line {rows.line_num + before}") from error


def _objects(text: str, path: Path) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise VidiffError(f"{path} is not a list of JSON objects", found=f"no object in line {number}")
        yield _prompt_of(row, path, number)


def _prompt_of(row: Mapping[str, object], path: Path, number: int) -> str:
    column = next((name for name in COLUMNS if name in row), None)
    if column is None:
        found = ", ".join(str(name) for name in row)[:60] or "nothing"
        raise VidiffError(f"{path} has no prompt in line {number}", found=found, expected=" or ".join(COLUMNS))
    value = row[column]
    if value is not None and not isinstance(value, str):
        raise VidiffError(f"{path} has no text as {column} in line {number}", found=str(value)[:60])
    return (value or "").strip()


_READERS: dict[str, Callable[[str, Path], Iterator[str]]] = {".csv": _table, ".tsv": _table, ".jsonl": _objects}
