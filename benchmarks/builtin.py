"""Accuracy of a model of the larger world on its captions, read back by the oracle: the figures of the model card.

    python -m benchmarks builtin [--model builtin] [--count 500] [--sweep 150] [--scales 1 2 4]

For each side of the split (combinations of words that were trained on, and ones that never were) `count` captions are
drawn as they are in training, one video is sampled for each at the default guidance scale, sampler and steps, and the
oracle reads color, shape, size, motion, direction and speed from the 8-bit frames. An attribute counts where the
caption says it; "all" is every word of the caption at once. `sweep` captions more are sampled at every other guidance
scale, of a model that is not distilled. The intervals are Wilson's, 95 %. Writes benchmarks/results/builtin.json and
builtin.png.
"""

from __future__ import annotations

import argparse
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import RESULTS, save
from vidiff_cli.config.generate import GenerationSettings
from vidiff_cli.frames import plan
from vidiff_cli.generation.generate import generate_clips
from vidiff_cli.generation.load_model import open_model
from vidiff_cli.generation.sampling_setup import resolve_sampling
from vidiff_cli.generation.video_job import VideoJob
from vidiff_cli.models.unet_model import UNetModel
from vidiff_cli.viz.contact_sheet import SheetRow, contact_sheet
from vidiff_cli.worlds.accuracy import caption_accuracy
from vidiff_cli.worlds.scenes import Scene
from vidiff_cli.worlds.splits import HoldOut, draw_scene

SEED = 20_000  # of the captions: not the one of training
SIDES: tuple[HoldOut, ...] = ("train", "held-out")
AT_ONCE = 25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("builtin"))
    parser.add_argument("--part", default="straight")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--sweep", type=int, default=150)
    parser.add_argument("--scales", type=float, nargs="*", default=[1.0, 4.0])
    parser.add_argument("--steps", type=int)
    parser.add_argument("--name", default="builtin")
    asked = parser.parse_args()
    settings = GenerationSettings.model_validate(
        {"model": asked.model} | ({"steps": asked.steps} if asked.steps else {})
    )
    model = open_model(settings.model)
    default = model.guidance_scale
    figures: dict[str, Any] = {
        "model": {"sha256": model.hash, "clips_seen": model.clips_seen},
        "sampler": settings.sampler,
        "steps": settings.steps or model.steps,
        "by_scale": {},
    }
    for scale in [default, *(() if model.is_distilled else asked.scales)]:
        count = asked.count if scale == default else asked.sweep
        chosen = settings.model_copy(update={"guidance_scale": scale})
        for side in SIDES if count else ():
            scenes = [draw_scene(asked.part, SEED, number, side=side) for number in range(count)]
            videos = sample(model, chosen, [scene.caption for scene in scenes])
            figures["by_scale"].setdefault(f"{scale:g}", {})[side] = found = accuracy(scenes, videos, model.fps)
            print(scale, side, {name: round(100 * each["right"], 1) for name, each in found.items()}, flush=True)
            if scale == default:
                sheet(scenes[:10], videos[:10], RESULTS / f"{asked.name}-{side}.png")
    save(asked.name, figures)


def sample(model: UNetModel, settings: GenerationSettings, prompts: list[str]) -> np.ndarray:
    """One video for each prompt: (b, t, h, w, 3) uint8. Video i has seed i."""
    setup, made = resolve_sampling(model, settings), []
    for start in range(0, len(prompts), AT_ONCE):
        part = prompts[start : start + AT_ONCE]
        total = model.settings.frames
        job = VideoJob(
            windows=plan(total, (), window=total, overlap=total // 2),
            times=[Fraction(frame) / model.fps for frame in range(total)],
            prompts=lambda _, part=part: part,
            seeds=range(start, start + len(part)),
        )
        empty = np.zeros((len(part), total, model.settings.height, model.settings.width, 3), np.uint8)
        made.append(generate_clips(model, setup, job, empty))
    return np.concatenate(made)


def accuracy(scenes: list[Scene], videos: np.ndarray, fps: Fraction) -> dict[str, Any]:
    """The share of captions whose word for an attribute is what the oracle sees, of those that have one."""
    seconds = np.arange(videos.shape[1]) / float(fps)
    given: dict[str, list[bool]] = {}
    for scene, video in zip(scenes, videos, strict=True):
        for name, right in caption_accuracy(scene.caption, video, seconds).items():
            given.setdefault(name, []).append(right)
    return {name: share(values) for name, values in given.items()}


def share(values: list[bool]) -> dict[str, Any]:
    """The share that is true, how many there are, and Wilson's 95 % interval."""
    n, p, z = len(values), sum(values) / len(values), 1.959964
    middle, reach = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    interval = [round((middle + sign * reach) / (1 + z * z / n), 4) for sign in (-1, 1)]
    return {"right": round(p, 4), "count": n, "interval": interval}


def sheet(scenes: list[Scene], videos: np.ndarray, path: Path) -> None:
    """Ten captions and what was made of them."""
    rows = [SheetRow(label=scene.caption, frames=video[::3]) for scene, video in zip(scenes, videos, strict=True)]
    contact_sheet(rows, path)
