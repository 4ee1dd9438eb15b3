"""Checkpoint files: safetensors with a JSON header, without pickle.

Written atomically; every fault of a file that is read becomes one sentence.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from vidiff_cli.errors import VidiffError
from vidiff_cli.system.atomic_files import atomic_path
from vidiff_cli.system.shortage import raise_shortage

FORMAT = "vidiff-2"
# the files of a checkpoint folder
WEIGHTS, AVERAGE, OPTIMIZER, STATE = "model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json"
_LONGEST_HEADER = 64 * 2**20


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Writes tensors and a JSON-able header to one safetensors file: a temporary file beside it, then a rename.

    VidiffError where it cannot be written.
    """
    from safetensors.torch import save_file

    stored = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    # One entry: several are written in a random order, and equal content should give equal bytes.
    metadata = {"vidiff": json.dumps({"format": FORMAT} | dict(header))}
    with atomic_path(path, sync=True) as temporary:
        save_file(stored, temporary, metadata=metadata)


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """The JSON header and the tensors of one file, on the CPU; they may be memory-mapped and must not be changed."""

    header: dict[str, Any]
    tensors: dict[str, Tensor]


def read_header(path: Path) -> dict[str, Any]:
    """The JSON header of a checkpoint file, without its tensors. VidiffError: missing, cut off, or not written by
    vidiff."""
    try:
        metadata = _read_table(path).get("__metadata__") or {}
        header = json.loads(metadata["vidiff"])
        if not isinstance(header, dict):
            raise TypeError(f"the header is a {type(header).__name__}")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise VidiffError(f"{path} was not written by vidiff", found="no vidiff header", fix="train one") from error
    found = header.pop("format", metadata.get("format"))  # older files have it beside the header
    if found != FORMAT:
        raise VidiffError(f"{path} has another format", found=found, expected=FORMAT)
    return header


def _read_table(path: Path) -> dict[str, Any]:
    """The JSON in front of the tensors, of bounded length. VidiffError, ValueError."""
    if not path.is_file():
        raise VidiffError(f"the checkpoint file {path} does not exist", fix="give a run folder or a checkpoint file")
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            size = path.stat().st_size
            if not 0 < length <= min(_LONGEST_HEADER, size - 8):
                raise damaged_checkpoint(path, f"a header of {length:,} bytes in a file of {size:,}")
            return json.loads(file.read(length))
    except OSError as error:
        raise_shortage(path, error)
        raise VidiffError(f"{path} cannot be read", found=(error.strerror or str(error)).lower()) from error


def read_checkpoint(path: Path) -> Checkpoint:
    """Header and tensors of a checkpoint file. VidiffError: missing, damaged, or not written by vidiff.

    The header is read before the file is mapped: a damaged length must not ask for more memory than there is.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load, load_file

    header = read_header(path)
    try:
        # safetensors maps no file whose name is not UTF-8
        tensors = load_file(path) if _is_text(path) else load(path.read_bytes())
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise_shortage(path, error)
        if isinstance(error, OSError):
            found = (error.strerror or str(error)).lower()
            raise VidiffError(f"{path} cannot be read", found=found) from error
        raise damaged_checkpoint(path, " ".join(str(error).split())) from error
    return Checkpoint(header=header, tensors=tensors)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint file, as `read_checkpoint` reads them."""
    return read_checkpoint(path).tensors


def count_parameters(path: Path) -> int:
    """Number of parameters, from the shapes alone. VidiffError where the file does not match its header."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise_shortage(path, error)
        raise damaged_checkpoint(path, " ".join(str(error).split())) from error


def _is_text(path: Path) -> bool:
    try:
        return bool(str(path).encode())
    except UnicodeEncodeError:
        return False


def file_hash(path: Path) -> str:
    """sha256 of a file, in hexadecimal: names a checkpoint in a sidecar."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def damaged_checkpoint(path: Path, found: object) -> VidiffError:
    """The error for a checkpoint file that does not hold what it should."""
    return VidiffError(f"the checkpoint {path} is damaged", found=found, fix="use an earlier checkpoint of the run")
