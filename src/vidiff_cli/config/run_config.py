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
    return renew(config) if isinstance(config, dict) else {}


def renew(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of an older run in today's names: it had one share of clips with observed frames, and decays of
    averages, which length has no use for."""
    train = config.get("train")
    groups = [train.get(name) if isinstance(train, dict) else None for name in ("objective", "optimizer")]
    objective, optimizer = (group if isinstance(group, dict) else {} for group in groups)
    observed = objective.pop("observed", None)
    if isinstance(observed, int | float):
        objective["levels"] = {"shared": 1 - observed, "observed": observed}
    for name in ("ema", "ema_more"):
        optimizer.pop(name, None)
    return config
