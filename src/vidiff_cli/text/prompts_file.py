"""Prompts from a file: one a line, or the column of a table."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from vidiff_cli.config.reading import read_text
from vidiff_cli.errors import VidiffError

COLUMNS = ("prompt", "caption", "text")


def read_prompts(path: Path) -> list[str]:
    """The prompts of a file, by its name: .csv with a column `prompt` (or caption, or text), .jsonl with that key, any
    other with one prompt a line, where lines that begin with # are left out. Empty ones do not count.

    VidiffError: unreadable, an invalid line, or no prompt at all.
    """
    text = read_text(path, what="the prompts file")
    prompts = [prompt for prompt in _READERS.get(path.suffix.lower(), _lines)(text, path) if prompt]
    if not prompts:
        raise VidiffError(f"{path} has no prompt", expected="one a line")
    return prompts


def _lines(text: str, path: Path) -> Iterator[str]:
    stripped = (line.strip() for line in text.splitlines())
    return (line for line in stripped if not line.startswith("#"))


def _table(text: str, path: Path) -> Iterator[str]:
    rows = csv.DictReader(text.splitlines(keepends=True))
    try:
        for row in rows:
            yield _prompt_of(row, path, rows.line_num)
    except csv.Error as error:
        raise VidiffError(f"{path} is not a CSV table", found=f"{error} in line {rows.line_num}") from error


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


_READERS: dict[str, Callable[[str, Path], Iterator[str]]] = {".csv": _table, ".jsonl": _objects}
