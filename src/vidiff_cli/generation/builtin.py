"""The model of the package."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def builtin_file() -> Path:
    """The path of its weights."""
    return Path(str(files("vidiff_cli") / "builtin" / "model.safetensors"))
