"""The models of the package."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

FOLDER = Path(str(files("vidiff_cli") / "builtin"))


def builtin_file() -> Path:
    """The path of the weights of the model that makes videos."""
    return FOLDER / "model.safetensors"


def builtin_upscaler(scale: float | None, folder: Path = FOLDER) -> Path | None:
    """The path of the upscaler for a scale: the smallest that reaches it in one pass, else the largest; the smallest of
    all for None. None where the package has no upscaler."""
    found = {int(match[1]): path for path in folder.glob("*") if (match := re.fullmatch(r"upscale-x(\d)", path.stem))}
    reaching = [each for each in sorted(found) if each >= (scale or 0)]
    return found[reaching[0] if reaching else max(found)] if found else None
