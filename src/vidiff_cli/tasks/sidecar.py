"""The JSON file beside a video that says how it was made: its name, and what it tells."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LONGEST_SIDECAR = 16 * 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class MadeBy:
    """What a sidecar says: how its video was made. `repeat` is the command that makes it again, where it was made."""

    command: str
    seed: int | None
    model: str | None
    model_sha256: str | None
    vidiff: str | None
    sidecar: Path
    repeat: str


def sidecar_of(path: Path) -> Path:
    """out.mp4 -> out.json."""
    return path.with_suffix(".json") if path.suffix else path.with_name(path.name + ".json")


def made_by(path: Path) -> MadeBy | None:
    """What the sidecar beside a video or a folder of frames says; None without one that vidiff wrote."""
    try:
        path = path if path.name else path.absolute()  # "." has a name of its own
        sidecar = sidecar_of(path)
        if not sidecar.is_file() or sidecar.stat().st_size > LONGEST_SIDECAR:
            return None
        content = json.loads(sidecar.read_text(encoding="utf-8"))
        command, checkpoint, versions = content["command"], content["checkpoint"], content["versions"]
        if not isinstance(content["settings"], dict) or not re.fullmatch("[a-z]{1,20}", command):
            return None
        return MadeBy(
            command=command,
            seed=content["seed"] if isinstance(content["seed"], int) else None,
            model=_text(checkpoint.get("path")),
            model_sha256=_text(checkpoint.get("sha256")),
            vidiff=_text(versions.get("vidiff")),
            sidecar=sidecar,
            repeat=shlex.join(["vidiff", command, "--from-json", str(sidecar), "-o", f"again{path.suffix}"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):  # somebody else's JSON
        return None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
