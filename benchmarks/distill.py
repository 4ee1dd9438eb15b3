"""Passes of the network against what they are worth: a model, its students, and other steps, on the world's captions.

    python -m benchmarks distill [--rows NAME=MODEL:STEPS[:SCALE[:SAMPLER[:SHIFT]]] ...] [--count 150]

Of each row one video is sampled for `count` captions of each side of the split (combinations of words that were
trained on, and ones that never were), the same noise for every row. "all words" as in `benchmarks builtin` (Wilson's
95 % interval); "spread" is the standard deviation of the object's place in the middle frame over that of the true
clips of these captions: few steps pull it to the center, which the words do not show; "sharpness" is the root mean
square difference of neighboring pixels over that of the true clips. A row without a scale has the model's own. "error"
is how far beyond 8 given frames of true clips the object is from its true place in the 8 after them, in pixels (the
median over clips of the mean over frames). Passes are of a free sample, seconds the CPU's. Updates
benchmarks/results/distill.json, row by row.
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

from benchmarks.builtin import AT_ONCE, SEED, SIDES, sample, share
from benchmarks.machine import RESULTS, save
from vidiff_cli.config.generate import GenerationSettings
from vidiff_cli.frames import plan
from vidiff_cli.generation.generate import generate_clips
from vidiff_cli.generation.load_model import load_model
from vidiff_cli.generation.sampling_setup import resolve_sampling
from vidiff_cli.generation.video_job import VideoJob
from vidiff_cli.models.unet_model import UNetModel
from vidiff_cli.viz.contact_sheet import SheetRow, contact_sheet
from vidiff_cli.worlds import scenes
from vidiff_cli.worlds.accuracy import ALL, caption_accuracy
from vidiff_cli.worlds.scene_oracle import detect_objects
from vidiff_cli.worlds.splits import draw_scene

GIVEN, SHOWN = 8, 8  # frames given for the error; rows of the sheet


def main() -> None:
    parser = argparse.ArgumentParser(description="Passes of a model and of its students.")
    parser.add_argument("--rows", nargs="+", default=["student=builtin:4"])
    parser.add_argument("--part", default="straight")
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--extended", type=int, default=32)
    parser.add_argument("--name", default="distill")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    path = RESULTS / f"{asked.name}.json"
    figures: dict[str, Any] = json.loads(path.read_text())["figures"] if path.is_file() else {}
    for row in asked.rows:
        label, _, how = row.partition("=")
        key = ":".join([label, *how.split(":")[1:]])
        figures[key] = measure(how, asked.part, asked.count, asked.extended, RESULTS / f"{asked.name}-{label}.png")
        print(key, figures[key], flush=True)
        save(asked.name, {"figures": figures})


def measure(row: str, part: str, count: int, extended: int, picture: Path) -> dict[str, Any]:
    """The figures of a row MODEL:STEPS:SCALE:SAMPLER:SHIFT."""
    name, steps, scale, sampler, shift = (*row.split(":"), "", "", "", "")[:5]
    options = {"model": name, "steps": steps or None, "guidance_scale": scale or None, "shift": shift or 0.0}
    settings = GenerationSettings.model_validate(options | ({"sampler": sampler} if sampler else {}))
    device = torch.device("cpu")
    model = load_model(settings.model, device, torch.float32)
    drawn = [draw_scene(part, SEED, number, side=side) for side in SIDES for number in range(count)]
    began = time.process_time()
    videos = sample(model, settings, [scene.caption for scene in drawn])
    seconds = (time.process_time() - began) / len(drawn)
    times = np.arange(videos.shape[1]) / float(model.fps)
    canvas = videos.shape[2]
    true = np.stack([scenes.render(scene, times, canvas=canvas) for scene in drawn])
    setup = resolve_sampling(model, settings)
    rows = [SheetRow(label=scene.caption, frames=video[::3]) for scene, video in zip(drawn, videos, strict=True)]
    contact_sheet(rows[:SHOWN], picture.with_name(f"{picture.stem}-{steps}.png"))
    right = [caption_accuracy(scene.caption, video, times)[ALL] for scene, video in zip(drawn, videos, strict=True)]
    return {
        "passes": setup.passes * (1 if setup.guidance_scale == 1 else 2),
        "all words": share(right),
        "spread": round(spread(videos, times) / spread(true, times), 3),
        "sharpness": round(sharpness(videos) / sharpness(true), 3),
        "error": round(extension_error(model, settings, part, extended), 3) if extended else None,
        "cpu_seconds": round(seconds, 3),
    }


def spread(videos: np.ndarray, times: np.ndarray) -> float:
    """Standard deviation of the object's place in the middle frame, in canvases; videos without one are left out."""
    centers = np.array([center_path(video, times)[len(times) // 2] for video in videos])
    return float(np.sqrt(np.nanvar(centers, axis=0).sum()))


def sharpness(videos: np.ndarray) -> float:
    """Root mean square difference of neighboring pixels."""
    values = videos.astype(np.float32)
    return float(np.sqrt(np.mean([np.square(np.diff(values, axis=axis)).mean() for axis in (2, 3)])))


def center_path(video: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The place of the object in every frame (t, 2), nan where there is none."""
    things = detect_objects(video, times).things
    return things[0].centers if things else np.full((len(times), 2), np.nan)


def extension_error(model: UNetModel, settings: GenerationSettings, part: str, count: int) -> float:
    """Distance in pixels of the object from its true place in the frames after the given ones."""
    total, side = model.settings.frames, model.settings.width
    times = np.arange(total) / float(model.fps)
    drawn = [draw_scene(part, SEED + 1, number, side="train") for number in range(count)]
    true = np.stack([scenes.render(scene, times, canvas=side) for scene in drawn])
    setup, errors = resolve_sampling(model, settings, completes="beyond"), list[float]()
    for start in range(0, count, AT_ONCE):
        clips = true[start : start + AT_ONCE]
        job = VideoJob(
            windows=plan(total, range(GIVEN), window=total, overlap=GIVEN),
            times=[Fraction(frame) / model.fps for frame in range(total)],
            prompts=lambda _, clips=clips: [""] * len(clips),
            seeds=range(start, start + len(clips)),
        )
        given = clips.copy()
        given[:, GIVEN:] = 0
        for made, clip in zip(generate_clips(model, setup, job, given), clips, strict=True):
            away = np.linalg.norm(center_path(made, times) - center_path(clip, times), axis=1)[GIVEN:]
            if np.isfinite(away).any():
                errors.append(float(np.nanmean(away)) * side)
    return float(np.median(errors))
