"""Output of the commands: results on stdout, lines for a person on stderr."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from fractions import Fraction
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.text import Text

LONGEST_LINE = 2000


class _ErrorConsole(Console):
    """A console on stderr that keeps running quietly when stderr is closed (a terminal or pipe that has gone)."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


def stderr() -> Console:
    """A console on the present stderr, looked up at each call, so that redirection works."""
    return _ErrorConsole(stderr=True, highlight=False, soft_wrap=True)


def shown(text: str) -> str:
    """Text from a file, a file name or a caption as one printable line of bounded length.

    Control characters, which a terminal would obey, and characters that change the direction of text become escapes.
    """
    text = text if len(text) <= LONGEST_LINE else f"{text[: LONGEST_LINE // 2]} ... {text[-LONGEST_LINE // 2 :]}"
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def byte_text(count: int) -> str:
    """A size for a person: "2.8 GB"."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def print_paths(*paths: Path | str) -> None:
    """Print paths on stdout, one a line, without markup; a terminal gets control characters as escapes."""
    for path in paths:
        _print(shown(str(path)) if sys.stdout.isatty() else str(path))


def print_json(value: object) -> None:
    """Print one JSON object on stdout: a dataclass, a pydantic model or plain data; fractions and paths become text."""
    _print(json.dumps(_as_json(value), indent=2, allow_nan=False))


def print_rows(rows: Sequence[Sequence[str]], *, colors: Mapping[str, str] | None = None) -> None:
    """Print aligned columns on stdout, never wrapped or cut.

    colors: styles of cells by their text, used on a terminal. Control characters come out as escapes.
    """
    console, colors = Console(highlight=False, soft_wrap=True), colors or {}
    for *cells, last in aligned(rows):
        with console.capture() as line:
            console.print(Text("  ").join([*(Text(cell, colors.get(cell.rstrip(), "")) for cell in cells), Text(last)]))
        _print(line.get().rstrip())


def aligned(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """The cells in printable form; every column but the last padded to one width."""
    table = [[shown(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*(row[:-1] for row in table), strict=True)]
    return [[*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]] for row in table]


def _print(line: str) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(os.fsencode(line) + b"\n")  # a file name that is not valid UTF-8 keeps its bytes
    sys.stdout.buffer.flush()


def _as_json(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_as_json(item) for item in value]
    if isinstance(value, Path | Fraction):
        return str(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, Integral):  # also NumPy's
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None  # JSON has no nan
    return value
