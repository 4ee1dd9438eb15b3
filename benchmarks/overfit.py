"""Overfitting of the preset tiny on eight clips: the first check of any training.

    python -m benchmarks overfit [STEPS]

Eight clips of the synthetic world (16x16, 8 frames), all of them in every step, 300 steps of the preset as it ships.
Writes the losses, by noise too, to benchmarks/results/overfit.json.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import save
from vidiff_cli.commands.prep import prep
from vidiff_cli.commands.train import train
from vidiff_cli.commands.world import world
from vidiff_cli.config.prep import PrepSettings
from vidiff_cli.config.train import TrainSettings, preset
from vidiff_cli.config.world import WorldSettings

CLIPS = 8


def main() -> None:
    steps = int((sys.argv[1:2] or ["300"])[0])
    with tempfile.TemporaryDirectory() as place:
        clips, dataset, run = (Path(place, name) for name in ("clips", "dataset", "run"))
        world(WorldSettings(folder=clips, clips=CLIPS, frames=8, seed=0))
        prep(PrepSettings(sources=(str(clips),), output=dataset, size=16, frames=8, preview=0, val_fraction=0))
        told = {"dataset": dataset, "output": run, "batch_size": CLIPS, "steps": steps, "sample_every": 0}
        began = time.process_time()
        train(TrainSettings.model_validate(preset("tiny") | told | {"validate_every": 0, "device": "cpu"}))
        seconds = time.process_time() - began
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    names = [name for name in rows[-1] if name == "loss" or name.startswith("loss_level")]
    curve = [{"step": row["step"]} | {name: row.get(name) for name in names} for row in rows]
    last = [row["loss"] for row in rows[-5:]]
    print(
        f"loss {rows[0]['loss']:.3f} at step {rows[0]['step']}, {sum(last) / len(last):.4f} at the end", file=sys.stderr
    )
    save(
        "overfit",
        {"clips": CLIPS, "steps": steps, "cpu_seconds": seconds, "loss": sum(last) / len(last), "curve": curve},
    )
