"""History guidance on clips whose paths are known: the error of the frames that are made, by the scale of the guidance.

    python -m benchmarks history [--model builtin] [--part straight] [--clips 48] [--steps 8 4] [--name history]

Held-out clips of a part of the larger world. `after`: the second half of a window is made from the first, with the
caption and without; `between`: every 4th frame is given. The error is the distance in pixels of the object's center
from the true one (an object that is not found stays where it was last seen); "kept" is the share of clips with the
color and the shape of the given object; "of scale 1" the mean difference to the same clips without history guidance,
over their mean error. "text 2" guides by the caption instead, with as many passes. Intervals are 95 %, by drawing
clips again. A distilled model has the guidance by the caption in its weights. Writes benchmarks/results/NAME.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import save
from vidiff_cli.config.generate import GenerationSettings
from vidiff_cli.frames import Window
from vidiff_cli.generation.generate import generate_clips
from vidiff_cli.generation.load_model import open_model
from vidiff_cli.generation.sampling_setup import resolve_sampling
from vidiff_cli.generation.video_job import VideoJob
from vidiff_cli.metrics.bootstrap import bootstrap_mean
from vidiff_cli.models.families import VideoModel
from vidiff_cli.worlds.scene_oracle import detect_objects
from vidiff_cli.worlds.scenes import Scene, render
from vidiff_cli.worlds.splits import draw_scene

SEED, AT_ONCE = 30_000, 16
WAYS: dict[str, dict[str, Any]] = {
    "scale 1": {"guidance_scale": 1.0},
    "scale 1.5": {"guidance_scale": 1.0, "history_guidance": 1.5},
    "scale 2": {"guidance_scale": 1.0, "history_guidance": 2.0},
    "scale 3": {"guidance_scale": 1.0, "history_guidance": 3.0},
}
TEXT_WAYS: dict[str, dict[str, Any]] = {
    "text 2": {"guidance_scale": 2.0},
    "text 2, scale 1.5": {"guidance_scale": 2.0, "history_guidance": 1.5},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("builtin"))
    parser.add_argument("--part", default="straight")
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--steps", type=int, nargs="*", default=[8, 4])
    parser.add_argument("--name", default="history", help="of the results")
    asked = parser.parse_args()
    model = open_model(asked.model)
    total = model.frames
    scenes = [draw_scene(asked.part, SEED, number, side="held-out") for number in range(asked.clips)]
    tasks = {
        "after": (frozenset(range(total // 2)), False, WAYS),
        "after, with the caption": (frozenset(range(total // 2)), True, WAYS | TEXT_WAYS),
        "between": (frozenset(range(0, total, 4)), False, WAYS),
    }
    found: dict[str, Any] = {}
    for steps, (name, (given, told, ways)) in product(asked.steps, tasks.items()):
        plain: np.ndarray | None = None
        for way, settings in ways.items():
            if model.is_distilled:
                if way in TEXT_WAYS:
                    continue
                settings = {name: value for name, value in settings.items() if name != "guidance_scale"}
            chosen = GenerationSettings.model_validate(
                {"model": asked.model, "steps": steps, "condition": "learned", "history_guidance": 1.0} | settings
            )
            errors, kept = measure(model, chosen, scenes, given, told=told)
            plain = errors if plain is None else plain
            found.setdefault(f"{steps} steps", {}).setdefault(name, {})[way] = figures = {
                "error_px": asdict(bootstrap_mean(errors.tolist(), seed=0)),
                "of scale 1": asdict(bootstrap_mean(((errors - plain) / plain.mean()).tolist(), seed=0)),
                "kept": float(kept.mean()),
            }
            print(steps, name, "|", way, figures, flush=True)
    about = {"model": {"sha256": model.hash, "clips_seen": model.clips_seen}, "part": asked.part}
    save(asked.name, about | {"tasks": found})


def measure(
    model: VideoModel, settings: GenerationSettings, scenes: Sequence[Scene], given: frozenset[int], *, told: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The mean error of each clip in pixels, and whether its object kept color and shape: (n,), (n,)."""
    times = [Fraction(frame) / model.fps for frame in range(model.frames)]
    seconds = np.array([float(time) for time in times])
    window = Window(frames=tuple(range(model.frames)), observed=given, makes=frozenset(range(model.frames)) - given)
    made, setup = sorted(window.makes), resolve_sampling(model, settings)
    errors, kept = list[float](), list[bool]()
    for first in range(0, len(scenes), AT_ONCE):
        part = scenes[first : first + AT_ONCE]
        clips = np.stack([render(scene, seconds, canvas=model.width) for scene in part])
        prompts = [scene.caption if told else "" for scene in part]
        job = VideoJob(
            windows=[window],
            times=times,
            prompts=lambda _, prompts=prompts: prompts,
            seeds=range(first, first + len(part)),
        )
        for scene, clip in zip(part, generate_clips(model, setup, job, clips), strict=True):
            thing = scene.things[0]
            things = detect_objects(clip, seconds).things
            own = next((each for each in things if each.words["color"] == thing.color), None)
            centers = np.full((len(seconds), 2), np.nan) if own is None else own.centers
            path, truth = _filled(centers), thing.centers(seconds)
            errors.append(float(np.linalg.norm(path[made] - truth[made], axis=1).mean()) * model.width)
            kept.append(own is not None and own.words["shape"] == thing.shape)
    return np.array(errors), np.array(kept)


def _filled(centers: np.ndarray) -> np.ndarray:
    """Centers (t, 2) where those of frames without the object repeat the one before, at first the middle."""
    filled, last = centers.copy(), np.array([0.5, 0.5])
    for place in range(len(filled)):
        last = last if np.isnan(filled[place]).any() else filled[place]
        filled[place] = last
    return filled
