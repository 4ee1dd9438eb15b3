"""A cascade against one stage at equal processor time: shapes of 64x64 from 16x16 and an upscaler, or at once.

    python -m benchmarks cascade [--base 900] [--upscaler 800] [--single 560] [--captions 64] [--work FOLDER]

World `lasting`, windows of 8 frames. The base is the recipe of benchmarks/paper/models.py at 16x16; the upscaler (x4)
is the preset upscale with 24 channels on the same world at 64x64; the single stage is the recipe at 64x64 with patches
of 4x4, which has four times the cells of the base. The steps of `--single` are chosen so that its training takes no
less processor time than the other two together; the results have all three times. Videos of captions that were not
trained on, 16 steps, guidance scale 2, the same seeds; the upscaler takes one step. Measured: words read back, and
Frechet distances from 128 true videos of 64x64, beside the base enlarged by a cubic and by Lanczos, and true videos.
Writes benchmarks/results/cascade.json and docs/results/cascade.png.
"""

from __future__ import annotations

import argparse
import json
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import RESULTS, save
from benchmarks.paper import common, measuring, models
from benchmarks.upscale import cubic, lanczos
from vidiff_cli.commands.train import train
from vidiff_cli.config.resolve import resolve
from vidiff_cli.config.train import TrainSettings, preset
from vidiff_cli.events import Progress
from vidiff_cli.generation.cascade import pass_frames, stage_setup
from vidiff_cli.generation.load_model import load_model, open_model
from vidiff_cli.models.unet_model import UNetModel
from vidiff_cli.viz.contact_sheet import SheetRow, contact_sheet
from vidiff_cli.worlds.scenes import SECONDS, render

WORK = models.WORK.parent / "cascade"
SCALE, LARGE = 4, 64
SHOWN = 3  # captions of the picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=int, default=900)
    parser.add_argument("--upscaler", type=int, default=800)
    parser.add_argument("--single", type=int, default=560)
    parser.add_argument("--captions", type=int, default=64)
    parser.add_argument("--work", type=Path, default=WORK)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    base = models.train_run(asked.work / "base", {"motion": False}, steps=asked.base)
    upscaler = trained_upscaler(asked.work / "upscaler", asked.upscaler)
    large = {"motion": False, "world.size": LARGE, "network.patch_size": 4}
    single = models.train_run(asked.work / "single", large, steps=asked.single)
    spent = {"base": base.cpu_seconds, "upscaler": upscaler, "one stage": single.cpu_seconds}
    print({name: round(seconds) for name, seconds in spent.items()}, flush=True)

    truth = measuring.true_videos(asked.captions, models.FRAMES, seed=measuring.TESTED, moved=True)
    captions = [scene.caption for scene in truth.scenes]
    small, small_seconds = sampled(base.run, captions, asked.work)
    stage = stage_setup(load_model(asked.work / "upscaler", torch.device("cpu"), torch.float32))
    began = time.process_time()
    rate = Fraction(models.FPS)
    cascaded = np.stack([pass_frames([stage], clip, rate, prompt="", seed=number) for number, clip in enumerate(small)])
    more = time.process_time() - began
    at_once, single_seconds = sampled(single.run, captions, asked.work)
    sets = {
        "one stage": (at_once, single_seconds),
        "base, cubic": (np.stack([cubic(clip, SCALE) for clip in small]), small_seconds),
        "base, Lanczos": (np.stack([lanczos(clip, SCALE) for clip in small]), small_seconds),
        "cascade": (cascaded, small_seconds + more),
        "truth": (true_large(asked.captions, measuring.TESTED), 0.0),
    }
    yardstick = measuring.Yardstick(true_large(128, measuring.REFERENCE))
    rows = {
        name: {
            "right": measuring.right_words(truth.scenes, videos),
            "distance": yardstick.measure(videos),
            "sampling_cpu_seconds": round(seconds / len(videos), 2),
        }
        for name, (videos, seconds) in sets.items()
    }
    for name, row in rows.items():
        print(name, row["right"]["all"], row["distance"]["random"]["frechet"], row["distance"]["shapes"]["frechet"])
    facts: dict[str, Any] = {"captions": asked.captions, "yardstick": yardstick.facts}
    facts["training_cpu_seconds"] = {name: round(seconds, 1) for name, seconds in spent.items()}
    facts["steps"] = {"base": asked.base, "upscaler": asked.upscaler, "one stage": asked.single}
    save("cascade", {**facts, "rows": rows})
    shown = [
        SheetRow(label=f"{name}: {captions[number]}", frames=videos[number])
        for number in range(SHOWN)
        for name, (videos, _) in sets.items()
        if name != "base, Lanczos"
    ]
    contact_sheet(shown, RESULTS.parents[1] / "docs" / "results" / "cascade.png")


def trained_upscaler(run: Path, steps: int) -> float:
    """Trains the upscaler where it is not there; returns the process time of its training."""
    kept = run / models.SPENT
    if kept.is_file():
        return float(json.loads(kept.read_text("utf-8"))["seconds"])
    settings = resolve(
        TrainSettings,
        under=preset("upscale"),
        given={
            "dataset": Path("world:shapes"),
            "preset": "upscale",
            "task": "upscale",
            "scale": SCALE,
            "output": run,
            "steps": steps,
            "device": "cpu",
            "sample_every": 0,
            "validate_every": 0,
            "loader.crop": 0,
            "network.base_channels": 24,
            "world.part": models.PART,
            "world.size": LARGE,
            "world.fps": str(models.FPS),
            "text.kind": "none",
        },
    )
    began = time.process_time()
    for event in train.events(settings):
        if isinstance(event, Progress) and event.done % 50 == 0:
            print(f"upscaler: {event.what} {event.done}", flush=True)
    seconds = time.process_time() - began
    kept.write_text(json.dumps({"seconds": seconds}), encoding="utf-8")
    return seconds


def sampled(run: Path, captions: list[str], work: Path) -> tuple[np.ndarray, float]:
    model = open_model(run, device="cpu")
    assert isinstance(model, UNetModel)
    return common.sampled(model, captions, work / "videos", guidance_scale=2.0)


def true_large(count: int, seed: int) -> np.ndarray:
    """The true videos of a seed at 64x64."""
    scenes = measuring.true_videos(count, models.FRAMES, seed=seed, moved=True).scenes
    last = int(SECONDS * models.FPS) + 2 - models.FRAMES
    starts = np.random.default_rng(seed).integers(0, last, count)
    when = [(np.arange(models.FRAMES) + start) / models.FPS for start in starts]
    return np.stack([render(scene, at, canvas=LARGE) for scene, at in zip(scenes, when, strict=True)])


if __name__ == "__main__":
    main()
