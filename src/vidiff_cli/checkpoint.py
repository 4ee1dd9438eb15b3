"""Checkpoint files: safetensors with a JSON header, written atomically, read with every fault as one sentence. No
pickle."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from vidiff_cli.errors import VidiffError

FORMAT = "vidiff-2"
# the files of a checkpoint folder
WEIGHTS, AVERAGE, OPTIMIZER, STATE = "model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json"
_LONGEST_HEADER = 64 * 2**20


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Writes tensors and a JSON-able header to one safetensors file: a temporary file beside it, then a rename.

    VidiffError where it cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    stored = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        # One entry: several are written in a random order, and equal content should give equal bytes.
        save_file(stored, temporary, metadata={"vidiff": json.dumps({"format": FORMAT} | dict(header))})
        _sync(temporary)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise unwritable(path, error) from error
    finally:
        _remove(temporary)


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


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors that a checkpoint file announces, without reading them."""
    try:
        table = _read_table(path)
        return {name: tuple(entry["shape"]) for name, entry in table.items() if name != "__metadata__"}
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise _damaged(path, "a header that names no shapes") from error


def _read_table(path: Path) -> dict[str, Any]:
    """The JSON in front of the tensors, of bounded length, as it stands there. VidiffError, ValueError."""
    if not path.is_file():
        raise VidiffError(f"there is no checkpoint file {path}", fix="give a run folder or a checkpoint file")
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            size = path.stat().st_size
            if not 0 < length <= min(_LONGEST_HEADER, size - 8):
                raise _damaged(path, f"a header of {length:,} bytes in a file of {size:,}")
            return json.loads(file.read(length))
    except OSError as error:
        raise VidiffError(f"{path} cannot be read", found=(error.strerror or str(error)).lower()) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint file, on the CPU. VidiffError: missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load, load_file

    read_header(path)
    try:
        if _is_text(path):
            return load_file(path)
        return load(path.read_bytes())  # safetensors maps no file whose name is not UTF-8
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, " ".join(str(error).split())) from error


def _is_text(path: Path) -> bool:
    try:
        return bool(str(path).encode())
    except UnicodeEncodeError:
        return False


def file_hash(path: Path) -> str:
    """sha256 of a file, in hexadecimal: names a checkpoint in a sidecar."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Makes `folder` appear whole, also after a power cut: `fill` writes into a temporary one beside it, which is then
    renamed."""
    temporary = folder.with_name(f".{folder.name}.tmp-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        fill(temporary)
        for path in (*temporary.iterdir(), temporary):
            _sync(path)
        if folder.exists():  # moved aside first: a kill in between leaves both, never neither
            aside = folder.with_name(f".{folder.name}.old-{os.getpid()}")
            os.replace(folder, aside)
            try:
                os.replace(temporary, folder)
            except OSError:
                os.replace(aside, folder)
                raise
            shutil.rmtree(aside)
        else:
            os.replace(temporary, folder)
        _sync(folder.parent)
    except OSError as error:
        raise unwritable(folder, error) from error
    except VidiffError as error:  # it names a file of the temporary folder
        raise (unwritable(folder, error.__cause__) if isinstance(error.__cause__, Exception) else error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Makes a folder vanish whole: under another name it may be half removed, and a kill leaves nothing that looks
    like it."""
    gone = folder.with_name(f".{folder.name}.tmp-{os.getpid()}")
    os.replace(folder, gone)
    shutil.rmtree(gone)


def write_text(path: Path, text: str) -> None:
    """Replaces a text file atomically, also when the power fails."""
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        _sync(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        _remove(temporary)


def _sync(path: Path) -> None:
    """To the disk: a file's bytes, a folder's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # some file systems know no such thing for folders
            raise
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # its folder has gone, say: the first error tells more
        path.unlink()


def unwritable(path: Path, error: Exception) -> VidiffError:
    """One sentence for a file or folder that could not be written: the disk is full, the folder has gone, ..."""
    found = getattr(error, "strerror", None) or re.sub(r"^.*: | \(os error \d+\).*$", "", str(error))
    fix = "make room or write elsewhere" if "space" in found.lower() else None
    return VidiffError(f"{path} could not be written", found=found.lower(), fix=fix)


def _damaged(path: Path, found: str) -> VidiffError:
    return VidiffError(f"the checkpoint {path} is damaged", found=found, fix="use an earlier checkpoint of the run")
