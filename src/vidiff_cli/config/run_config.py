"""config.json of a run folder: the resolved settings of a training and of its model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# errors of reading JSON that somebody has edited
UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)


def read_run_config(run: Path | None) -> dict[str, Any]:
    """Reads config.json of a run folder; empty where it is missing or cannot be read, which `check_run` reports."""
    try:
        config = json.loads((run / "config.json").read_text(encoding="utf-8")) if run else {}
    except UNREADABLE:
        return {}
    return config if isinstance(config, dict) else {}
