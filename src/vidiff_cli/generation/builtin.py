"""The model in the box: its name, and where its weights lie."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

BUILTIN = Path("builtin")  # what --model calls it


def is_builtin(path: Path) -> bool:
    """Whether a path names the model in the box: a file or folder of that name wins."""
    return path == BUILTIN and not path.exists()


def builtin_file() -> Path:
    """The weights of the model in the box."""
    return Path(str(files("vidiff_cli") / "builtin" / "model.safetensors"))
