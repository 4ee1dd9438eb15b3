"""A check of `vidiff doctor` and its result. Imports nothing but the standard library."""

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
    """The result of a check; `fix` is None exactly for "ok"."""

    status: Status
    found: str
    fix: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """A row of the report: its stable `name`, the function that fills it, and the fix if that function raises."""

    name: str
    probe: Callable[[], Finding]
    fix: str

    def run(self) -> Finding:
        """Calls `probe`; an error becomes a fault."""
        try:
            return self.probe()
        except VidiffError as error:
            return Finding("fault", str(error).rstrip("."), error.fix or self.fix)
        except Exception as error:
            text = " ".join(str(error).split())
            return Finding("fault", f"{type(error).__name__}: {text}" if text else type(error).__name__, self.fix)


def required_packages(package: str) -> list[str]:
    """Names of the packages that an installed one always requires; empty if it is not installed."""
    try:
        lines = importlib.metadata.requires(package) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [match[0] for line in lines if ";" not in line and (match := re.match(r"[\w.-]+", line))]


def installed_version(name: str) -> str | None:
    """The version of an installed package, from its metadata."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
