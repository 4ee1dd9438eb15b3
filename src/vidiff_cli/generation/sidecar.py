"""The JSON file beside a video that records how it was made."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from vidiff_cli import __version__
from vidiff_cli.device import dtype_name
from vidiff_cli.models.families import VideoModel
from vidiff_cli.system.atomic_files import write_text

LONGEST_SIDECAR = 16 * 2**20
NOT_RECORDED = {"output", "overwrite", "jobs"}  # settings that do not belong to how a video was made


@dataclass(frozen=True, kw_only=True, slots=True)
class MadeBy:
    """Content of a sidecar: how its video was made. `repeat` is the command that makes it again, where it was made."""

    command: str
    seed: int | None
    model: str | None
    model_sha256: str | None
    vidiff: str | None
    sidecar: Path
    repeat: str


def sidecar_path(path: Path) -> Path:
    """out.mp4 -> out.json; out.mp4.json where out.json is the sidecar of another result, such as out.mkv."""
    return path.with_name(result_stem(path) + ".json")


def result_stem(path: Path) -> str:
    """Start of the names of files beside a result: out.mp4 -> out; its whole name where out.json says that the files
    beside are those of another result."""
    whole = path.name if path.suffix else path.name + ".frames"
    plain = path.with_suffix(".json") if path.suffix else path.with_name(path.name + ".json")
    if path.with_name(whole + ".json").is_file():
        return whole
    content = _read(plain)
    other = None if content is None else content.get("file")
    if not isinstance(other, str) or other in (path.name, "") or Path(other).name != other:
        return plain.stem
    return whole if path.with_name(other).exists() else plain.stem  # a result that was renamed keeps its sidecar


def made_by(path: Path) -> MadeBy | None:
    """Read how a video or a folder of frames was made from its sidecar; None without one that vidiff wrote."""
    path = path if path.name else path.absolute()  # "." has a name of its own
    content, sidecar = read_sidecar(path), sidecar_path(path)
    if content is None:
        return None
    checkpoint = content["checkpoint"] or {}
    return MadeBy(
        command=content["command"],
        seed=content["seed"] if isinstance(content["seed"], int) else None,
        model=_text(checkpoint.get("path")),
        model_sha256=_text(checkpoint.get("sha256")),
        vidiff=_text(content["versions"].get("vidiff")),
        sidecar=sidecar,
        repeat=shlex.join(["vidiff", content["command"], "--from-json", str(sidecar), "-o", f"again{path.suffix}"]),
    )


def read_sidecar(path: Path) -> dict[str, Any] | None:
    """Content of the sidecar beside a result: command, settings, seed, checkpoint (None where no model took part),
    versions and more. None without one that vidiff wrote."""
    return _read(sidecar_path(path))


def _read(sidecar: Path) -> dict[str, Any] | None:
    try:
        if not sidecar.is_file() or sidecar.stat().st_size > LONGEST_SIDECAR:
            return None
        content = json.loads(sidecar.read_text(encoding="utf-8"))
        kinds = {"command": str, "settings": dict, "seed": object, "checkpoint": dict | None, "versions": dict}
        good = all(isinstance(content[name], kind) for name, kind in kinds.items())
        return content if good and re.fullmatch("[a-z]{1,20}", content["command"]) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # somebody else's JSON
        return None


def write_sidecar(
    path: Path,
    command: str,
    record: Mapping[str, Any],
    model: VideoModel | None,
    seed: int,
    facts: Mapping[str, object],
) -> None:
    """Write how a video was made beside it.

    Args:
        path: The video.
        command: The command that made it.
        record: Its settings as JSON: with the seed and the checkpoint file enough to repeat it.
        model: The model; a run may have a later checkpoint by then, so its file is named.
        seed: The seed of the video.
        facts: What else is recorded.
    """
    content = {
        "command": command,
        "file": path.name,
        "argv": sys.argv,
        "settings": resolved_settings(record, model, seed),
        "seed": seed,
        "checkpoint": model and model.record(),
        "device": str(model.device) if model else "cpu",
        "dtype": dtype_name(model.dtype) if model else "fp32",
        "threads": torch.get_num_threads(),
        "versions": {"vidiff": __version__, "torch": torch.__version__, "numpy": version("numpy")},
        **facts,
    }
    write_text(sidecar_path(path), json.dumps(content, indent=2) + "\n")


def resolved_settings(record: Mapping[str, Any], model: VideoModel | None, seed: int | None) -> dict[str, Any]:
    """Settings as a sidecar has them: with what was chosen for this result, without where it was written."""
    kept = {name: value for name, value in record.items() if name not in NOT_RECORDED}
    return kept | {"seed": seed, **({"model": model.name} if model else {"detail": "estimate"})}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
