"""The built-in model: its name and the file of its weights."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

BUILTIN = Path("builtin")  # its name for --model


def is_builtin(path: Path) -> bool:
    """True if a path names the built-in model: a file or folder of that name takes precedence."""
    return path == BUILTIN and not path.exists()


def builtin_file() -> Path:
    """The weights of the built-in model."""
    return Path(str(files("vidiff_cli") / "builtin" / "model.safetensors"))
