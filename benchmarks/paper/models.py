"""The models of the small reproductions: one recipe, and variants that differ from it in one thing.

    python -m benchmarks paper.models [--work DIR] [NAME ...]    trains them ahead; all without a name

They learn one small colored thing on black that bounces, circles or stands still for ever (part `lasting` of the
world): 16x16 pixels, 8 frames a second, windows of 8. They train through `vidiff train`'s own task, on one thread, and
go on where they were interrupted; what a training cost is its process time, which busy neighbors change less.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from vidiff_cli.commands.train import train
from vidiff_cli.config.resolve import resolve
from vidiff_cli.config.train import TrainSettings, preset
from vidiff_cli.events import Progress
from vidiff_cli.generation.load_model import open_model
from vidiff_cli.models.unet_model import UNetModel
from vidiff_cli.system.atomic_files import write_text

PART, SIZE, FPS, FRAMES = "lasting", 16, 8, 8
SEED = 0  # of the clips that are trained on, and of the training
STEPS = 600
WORK = Path(__file__).resolve().parents[2] / "runs" / "paper"
SPENT = "process-time.json"

# All models: the preset tiny made narrower, and what is learnt soonest in so few steps: x, convolutions over time
# alone, a short decay of the learning rate (docs/decisions/0005).
COMMON = {
    "batch_size": 16,
    "network.base_channels": 32,
    "network.head_dim": 16,
    "network.embedding": 128,
    "network.temporal": "convolution",
    "optimizer.decay": 0.25,
    "diffusion.target": "x",
    "diffusion.weighting": "truncated",
}
# What a model has other than that, its steps, and whose stable it goes on from: the result is as of one training.
VARIANTS: Mapping[str, tuple[dict[str, Any], int, str | None]] = {
    "base": ({}, STEPS, None),
    "twice": ({}, 2 * STEPS, "base"),  # as many frames as images-8 sees
    "long": ({}, 3 * STEPS, "twice"),
    "v": ({"diffusion.target": "v", "diffusion.weighting": "v"}, STEPS, None),
    "eps": ({"diffusion.target": "eps", "diffusion.weighting": "eps"}, STEPS, None),
    "images-8": ({"objective.image_fraction": 8 / 16}, STEPS, None),
    "images-4": ({"objective.image_fraction": 4 / 12}, STEPS, None),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """A finished run and the process time of its training."""

    name: str
    run: Path
    steps: int
    cpu_seconds: float


def trained(name: str, work: Path) -> Trained:
    """The run of a variant, trained now as far as it is not."""
    sets, steps, start = VARIANTS[name]
    run = work / name
    if start is not None and not run.exists():
        trained(start, work)
        shutil.copytree(work / start, run)
    return train_run(run, sets, steps=steps)


def train_run(run: Path, sets: Mapping[str, Any], *, steps: int, seed: int = SEED) -> Trained:
    """Trains the recipe with these settings in a run folder, or goes on there; `seed` is that of the training."""
    torch.set_num_threads(1)
    name = run.name
    settings = resolve(
        TrainSettings,
        under=preset("tiny"),
        given={
            "dataset": Path("world:shapes"),
            "preset": "tiny",
            "output": run,
            "steps": steps,
            "frames": FRAMES,
            "conditioning": "mixed",
            "device": "cpu",
            "checkpoint_every": 200,
            "sample_every": 0,
            "validate_every": 0,
            "world.part": PART,
            "world.size": SIZE,
            "world.fps": str(FPS),
            "world.seed": SEED,
            "seed": seed,
            **COMMON,
            **sets,
        },
    )
    before = content(run / SPENT)
    began, first = time.process_time(), None
    for event in train.events(settings):
        if not isinstance(event, Progress) or event.what != "training":
            continue
        first = event.done if first is None else first
        if event.done > first and (event.done % 50 == 0 or event.done == steps):
            seconds = before.get("seconds", 0.0) + time.process_time() - began
            made = before.get("steps_made", 0) + event.done - first
            write_text(run / SPENT, json.dumps({"seconds": seconds, "steps_made": made}))
            print(f"{name}: step {event.done} of {steps}, {seconds:.0f} s of process time", file=sys.stderr)
    spent = content(run / SPENT)  # with steps of a decay that was left for a longer run: those count by their number
    return Trained(name=name, run=run, steps=steps, cpu_seconds=spent["seconds"] / spent["steps_made"] * steps)


def open_trained(name: str, work: Path) -> tuple[UNetModel, dict[str, Any]]:
    """The model of a variant and what is to say of it in results."""
    done = trained(name, work)
    model = open_model(done.run, device="cpu")
    facts = {"sha256": model.hash, "steps": done.steps, "clips_seen": model.clips_seen}
    return model, facts | {"training_cpu_seconds": round(done.cpu_seconds, 1)}


def content(path: Path) -> dict[str, Any]:
    """Read a JSON file; {} where it does not exist."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(VARIANTS))
    parser.add_argument("--work", type=Path, default=WORK)
    asked = parser.parse_args()
    for name in asked.names or VARIANTS:
        done = trained(name, asked.work)
        print(f"{done.run} {done.steps} steps, {done.cpu_seconds:.0f} s")
