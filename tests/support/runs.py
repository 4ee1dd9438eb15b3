"""Run folders compared: rows and weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from vidiff_cli.checkpoint import read_header
from vidiff_cli.runs.metrics_log import MEASURED


def rows_of(run: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl but for what was measured: times and memory."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in MEASURED} for row in rows]


def config_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "config.json").read_text())


def newest(run: Path) -> Path:
    """The checkpoint that `latest` names."""
    return run / "checkpoints" / (run / "checkpoints" / "latest").read_text().strip()


def weights_of(run: Path) -> dict[str, Tensor]:
    """All tensors of the newest checkpoint: weights, averages, optimizer."""
    files = sorted(newest(run).glob("*.safetensors"))
    names = ["ema-0.05.safetensors", "ema-0.1.safetensors", "ema.safetensors"]
    assert [path.name for path in files] == [*names, "model.safetensors", "optimizer.safetensors"]
    return {f"{path.name}/{name}": value for path in files for name, value in load_file(path).items()}


def assert_same_training(one: Path, other: Path) -> None:
    """The newest checkpoints of two runs are equal bit for bit, and so is what else decides the future."""
    ours, theirs = weights_of(one), weights_of(other)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not ours[name].equal(theirs[name])] == []
    for name in ("model", "ema", "optimizer"):
        headers = [read_header(newest(run) / f"{name}.safetensors") for run in (one, other)]
        assert headers[0] == headers[1]
    assert (newest(one) / "state.json").read_text() == (newest(other) / "state.json").read_text()
