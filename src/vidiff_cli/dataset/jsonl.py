"""JSON Lines files: one JSON object per line, written atomically."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vidiff_cli.errors import VidiffError
from vidiff_cli.system.atomic_files import atomic_path
from vidiff_cli.system.shortage import raise_shortage

JOURNAL = ".journal"  # of an unfinished dataset


def damaged(path: Path, found: str, expected: str | None = None) -> VidiffError:
    """The one sentence for a file of a dataset that is not as it was written."""
    return VidiffError(f"{path} is damaged", found=found, expected=expected, fix="prepare again with --overwrite")


def unreadable(path: Path, error: Exception) -> VidiffError:
    """The one sentence for a file of a dataset that could not be read: damaged where it is missing or its content is
    wrong. Raises ShortageError where the system was short of something, which says nothing about the file."""
    raise_shortage(path, error)
    found = (getattr(error, "strerror", None) or str(error)).lower()
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
        return VidiffError(f"{path} cannot be read", found=found, fix="make it readable, then run it again")
    return damaged(path, found)


def write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """A .jsonl file, atomically. File names that are not valid text come out as JSON escapes and read back equal."""
    with atomic_path(path, parents=True) as partial, partial.open("wb") as file:
        for row in rows:
            file.write(row_bytes(row))


def row_bytes(row: Mapping[str, object]) -> bytes:
    """One line of a .jsonl file, with its end."""
    return (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a .jsonl file. VidiffError where it is missing or a line is not a JSON object."""
    return (row for _, _, _, row in read_lines(path))


def read_lines(path: Path) -> Iterator[tuple[int, int, bytes, dict[str, Any]]]:
    """(number of the line, its first byte, its bytes, the row) of every row of a .jsonl file, read one after another;
    errors as `read_rows`."""
    try:
        with path.open("rb") as file:
            start = 0
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, start, line, parse_row(path, line, number)
                start += len(line)
    except OSError as error:
        raise unreadable(path, error) from error


def parse_row(path: Path, line: bytes, number: int) -> dict[str, Any]:
    """One line of a .jsonl file. VidiffError where it is no JSON object; `number` names the line."""
    try:
        row = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"no JSON in line {number}") from error
    if not isinstance(row, dict):
        raise damaged(path, f"no JSON object in line {number}")
    return row
