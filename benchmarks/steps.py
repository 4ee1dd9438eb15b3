"""Time of a training step before and after validations and sample sheets.

    python -m benchmarks steps [--preset tiny] [--rounds 12]

One run of a preset on clips of the synthetic world, in blocks of steps: some before anything was looked at, some with a
validation and a sample sheet before each, some after all that. What counts is the CPU time of a step, its median over
the blocks of a kind; the first block warms up and is left out. Also the first step after a look by itself, for one
slow step would not show in a median. Writes benchmarks/results/steps.json.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

import torch

from benchmarks.machine import save
from vidiff_cli.commands.prep import prep
from vidiff_cli.commands.world import world
from vidiff_cli.config.generate import GenerationSettings
from vidiff_cli.config.prep import PrepSettings
from vidiff_cli.config.train import TrainSettings, preset
from vidiff_cli.config.world import WorldSettings
from vidiff_cli.dataset.dataset import open_dataset
from vidiff_cli.device import choose_device, choose_dtype
from vidiff_cli.generation.fewest_steps import measure_network
from vidiff_cli.generation.sample_sheet import sample_sheet
from vidiff_cli.models.video_model import new_video_model
from vidiff_cli.runs.metrics_log import TrainingLog
from vidiff_cli.runs.monitor import TrainingMonitor
from vidiff_cli.runs.setup import model_settings, open_clip_source
from vidiff_cli.training.loop import train_steps
from vidiff_cli.training.lr_schedule import LRSchedule
from vidiff_cli.training.state import TrainState

CLIPS, SIDE, BLOCK = 128, 16, 8  # of the dataset; pixels; steps


def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--preset", default="tiny")
    asked.add_argument("--rounds", type=int, default=12)
    asked.add_argument("--batch-size", type=int, default=8)
    arguments = asked.parse_args()
    device = choose_device("cpu")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        world(WorldSettings(folder=folder / "clips", clips=CLIPS, frames=8, seed=0))
        prep(
            PrepSettings(
                sources=(str(folder / "clips"),),
                output=folder / "dataset",
                size=SIDE,
                frames=8,
                preview=0,
                val_fraction=0.25,
            )
        )
        found = measure(folder, arguments.preset, arguments.batch_size, arguments.rounds, device)
    ratios = {kind: found[kind]["median"] / found["before"]["median"] for kind in ("between", "after")}
    ratios["first"] = found["between"]["first"] / found["before"]["first"]
    for kind, ratio in ratios.items():
        print(f"{kind:8} {ratio:.3f} of the time before any look", file=sys.stderr)
    save(
        "steps",
        {
            "preset": arguments.preset,
            "batch": arguments.batch_size,
            "rounds": arguments.rounds,
            "steps_of_a_block": BLOCK,
            "cpu_seconds": found,
            "over_before": ratios,
            "rows": [{"what": "step time after looks, over that before", "value": ratios["after"], "floor": "<= 1.05"}],
        },
    )


def measure(folder: Path, name: str, batch_size: int, rounds: int, device: torch.device) -> dict[str, dict[str, float]]:
    """CPU seconds of the steps of the blocks before, between and after the looks, and of a look."""
    kinds = ["warm-up", *["before"] * rounds, *["between"] * rounds, *["after"] * rounds]
    steps = len(kinds) * BLOCK
    values = preset(name) | {"dataset": folder / "dataset", "batch_size": batch_size, "steps": steps, "frames": 8}
    values |= {"text": {"kind": "learned"}, "validate_every": BLOCK, "sample_every": BLOCK}
    settings = TrainSettings.model_validate(values | {"loader": {"workers": 0}})
    dtype = choose_dtype("fp32", device)
    dataset = open_dataset(settings.dataset)
    model = model_settings(settings, dataset)
    state = TrainState(new_video_model(model, 0), settings.optimizer)
    sheet = GenerationSettings(steps=16, condition="replacement")  # as `vidiff train` samples
    watch = TrainingMonitor(
        settings,
        model,
        dataset,
        device=device,
        dtype=dtype,
        draw_samples=partial(sample_sheet, device=device, dtype=dtype, options=sheet),
        measure_steps=partial(measure_network, device=device, dtype=dtype),
    )
    (folder / "run").mkdir()
    log = TrainingLog(folder / "run", steps, batch_size=batch_size)
    blocks: list[list[float]] = [[]]
    looks = list[float]()
    schedule = LRSchedule.of_run(steps, settings.optimizer)
    began = time.process_time()
    reader = state.video_model.caption_reader()
    for report in train_steps(
        state, open_clip_source(settings, dataset), settings, schedule, reader=reader, device=device, dtype=dtype
    ):
        blocks[-1].append(time.process_time() - began)
        if report.step % BLOCK == 0 and report.step < steps:
            if kinds[len(blocks)] == "between":
                began = time.process_time()
                for _ in watch.run(state, state.ema.shadow, log, reader=reader):
                    pass
                looks.append(time.process_time() - began)
            blocks.append([])
        began = time.process_time()
    found = {"look": {"median": median(looks)}}
    for kind in ("before", "between", "after"):
        chosen = [block for block, of in zip(blocks, kinds, strict=True) if of == kind]
        found[kind] = {
            "median": median(step for block in chosen for step in block),
            "first": median(block[0] for block in chosen),
        }
    return found
