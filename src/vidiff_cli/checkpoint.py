"""Checkpoint files: safetensors with a JSON header, written atomically, read with every fault as one sentence. No
pickle."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from vidiff_cli.errors import VidiffError

FORMAT = "vidiff-1"
_LONGEST_HEADER = 64 * 2**20


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Writes tensors and a JSON-able header to one safetensors file: a temporary file beside it, then a rename."""
    from safetensors.torch import save_file

    stored = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        save_file(stored, temporary, metadata={"format": FORMAT, "vidiff": json.dumps(header)})
        _sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_header(path: Path) -> dict[str, Any]:
    """The JSON header of a checkpoint file, without its tensors. VidiffError: missing, cut off, or not written by
    vidiff."""
    if not path.is_file():
        raise VidiffError(f"there is no checkpoint file {path}", fix="give a run folder or a checkpoint file")
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        size = path.stat().st_size
        if not 0 < length <= min(_LONGEST_HEADER, size - 8):
            raise _damaged(path, f"a header of {length:,} bytes in a file of {size:,}")
        try:
            metadata = json.loads(file.read(length)).get("__metadata__") or {}
            header = json.loads(metadata["vidiff"])
            if not isinstance(header, dict):
                raise TypeError(f"the header is a {type(header).__name__}")
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise VidiffError(f"{path} was not written by vidiff", found="no vidiff header", fix="train one") from error
    if metadata.get("format") != FORMAT:
        raise VidiffError(f"{path} has another format", found=metadata.get("format"), expected=FORMAT)
    return header


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint file, on the CPU. VidiffError: missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    read_header(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, " ".join(str(error).split())) from error


def file_hash(path: Path) -> str:
    """sha256 of a file, in hexadecimal: names a checkpoint in a sidecar."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Makes `folder` appear whole: `fill` writes into a temporary one beside it, which is then renamed."""
    temporary = folder.with_name(f".{folder.name}.tmp-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        fill(temporary)
        if folder.exists():  # moved aside first: a kill in between leaves both, never neither
            aside = folder.with_name(f".{folder.name}.old-{os.getpid()}")
            os.replace(folder, aside)
            os.replace(temporary, folder)
            shutil.rmtree(aside)
        else:
            os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Replaces a text file atomically."""
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _damaged(path: Path, found: str) -> VidiffError:
    return VidiffError(f"the checkpoint {path} is damaged", found=found, fix="use an earlier checkpoint of the run")
