"""The licence of a model from the front matter of its README.md."""

from __future__ import annotations

import re
from pathlib import Path

LONGEST = 2**16  # bytes of a model card that are read
VALID = re.compile(r"[A-Za-z0-9][\w.+ ()-]{0,79}", re.ASCII)


def read_licence(folder: Path) -> str | None:
    """The licence that the README.md of a folder states, None where it states none."""
    try:
        with (folder / "README.md").open("rb") as file:
            text = file.read(LONGEST).decode(errors="replace")
    except OSError:
        return None
    match = re.match(r"\ufeff?---\s*\n(?P<front>.*?)\n---\s*(\n|$)", text, re.DOTALL)
    return None if match is None else _licence(match["front"])


def valid_licence(value: object) -> str | None:
    """A licence that is safe to show, from a string or a list with one: None for anything else."""
    if isinstance(value, list):
        value = value[0] if value else None
    if not isinstance(value, str):
        return None
    text = value.split(" #")[0].strip().strip("'\"").strip()
    return text if VALID.fullmatch(text) else None


def _licence(front: str) -> str | None:
    """`license`, or `license_name` where that is "other"."""
    licence, name = _entry(front, "license"), _entry(front, "license_name")
    return name or licence if licence in (None, "other") else licence


def _entry(front: str, key: str) -> str | None:
    match = re.search(rf"^{key}:[ \t]*(?P<value>[^\n]*)(\n[ \t]*-[ \t]+(?P<first>[^\n]+))?", front, re.MULTILINE)
    if match is None:
        return None
    value = match["value"].split(" #")[0].strip()
    return valid_licence(value.strip("[]").split(",")[0] if value else match["first"])
