"""A check and what it finds."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from vidiff_cli.errors import VidiffError

Status = Literal["ok", "warning", "fault"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found; `fix` is there for a warning and a fault."""

    status: Status
    found: str
    fix: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """A row to be: its lasting `name`, how to look, and the fix when looking itself fails."""

    name: str
    look: Callable[[], Finding]
    fix: str

    def run(self) -> Finding:
        """The finding; any error is one, too."""
        try:
            return self.look()
        except VidiffError as error:
            return Finding("fault", str(error).rstrip("."), error.fix or self.fix)
        except Exception as error:
            text = " ".join(str(error).split())
            return Finding("fault", f"{type(error).__name__}: {text}" if text else type(error).__name__, self.fix)


def ok(found: str) -> Finding:
    return Finding("ok", found)


def needs(package: str) -> list[str]:
    """The names of the packages that an installed one always needs; none for one that is not installed."""
    try:
        lines = importlib.metadata.requires(package) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [match[0] for line in lines if ";" not in line and (match := re.match(r"[\w.-]+", line))]


def installed(name: str) -> str | None:
    """The version of an installed package, from its metadata."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
