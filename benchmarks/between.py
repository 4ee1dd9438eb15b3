"""Frames between given ones by a model of --task frames, against what needs no learning.

    python -m benchmarks between shapes [--steps 600] [--count 100] [--work FOLDER]
    python -m benchmarks between films --data FOLDER --model RUN
    python -m benchmarks between memory --model RUN

`shapes`: a model trained on the world of the model in the box (32x32, 16 frames a second). Of true videos that it never
saw, the frames between every 2nd and every 4th are made by blending, by the estimate by motion, and by the model in one
step and as a sample of 8 steps. And a cascade: videos of captions by the model in the box at 8 frames a second, brought
to 16, against the same model at 16; measured are the words that the oracle reads back and the distance from true
videos. `films`: real clips of the half that nothing is tuned on, at their own size, 9 frames around the middle of each;
the rest as in benchmarks/films.py. `memory`: by how many tensors of a window's frames the peak of `vidiff interpolate
--detail model` grows with the size, one window of 5 frames. Writes benchmarks/results/between-*.json and
docs/results/between.png.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks import builtin, films
from benchmarks.machine import RESULTS, measured, save
from benchmarks.paper.measuring import Yardstick
from vidiff_cli.commands.train import train
from vidiff_cli.config.generate import GenerationSettings
from vidiff_cli.config.resolve import resolve
from vidiff_cli.config.train import TrainSettings, preset
from vidiff_cli.events import Progress
from vidiff_cli.frames import plan
from vidiff_cli.generation.cascade import pass_frames
from vidiff_cli.generation.frames_stage import FramesSetup, frames_setup
from vidiff_cli.generation.generate import generate_clips
from vidiff_cli.generation.load_model import load_model
from vidiff_cli.generation.sampling_setup import resolve_sampling
from vidiff_cli.generation.video_job import VideoJob
from vidiff_cli.metrics.baselines import interpolation_baselines
from vidiff_cli.metrics.fidelity import psnr
from vidiff_cli.models.unet_model import UNetModel
from vidiff_cli.motion import estimate_clip
from vidiff_cli.pixels import clip_from_uint8, clip_to_uint8
from vidiff_cli.video import encode
from vidiff_cli.viz.contact_sheet import SheetRow, contact_sheet
from vidiff_cli.worlds.accuracy import ALL
from vidiff_cli.worlds.scenes import render
from vidiff_cli.worlds.splits import draw_scene

WORK = Path(__file__).resolve().parents[1] / "runs" / "between"
PART, SIDE, FPS, FRAMES = "straight", 32, 16, 17
SEED, REFERENCE = 20_000, 30_000  # of captions and of the true videos that distances are taken from
TRUE_VIDEOS, SHOWN, MOST_DB = 128, 3, 50.0
FILM_FRAMES = 9
Fill = Callable[[np.ndarray, int], np.ndarray]
"""(given frames: n h w c, factor) -> all frames: (n - 1) factor + 1."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    shapes = kinds.add_parser("shapes")
    shapes.add_argument("--steps", type=int, default=600)
    shapes.add_argument("--count", type=int, default=100)
    shapes.add_argument("--work", type=Path, default=WORK)
    on_films = kinds.add_parser("films")
    on_films.add_argument("--data", type=Path, required=True)
    on_films.add_argument("--model", required=True)
    kinds.add_parser("memory").add_argument("--model", required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.kind == "shapes":
        measure_shapes(asked.steps, asked.count, asked.work)
    elif asked.kind == "films":
        measure_films(asked.data, asked.model)
    else:
        measure_memory(asked.model)


def measure_shapes(steps: int, count: int, work: Path) -> None:
    seconds = train_stage(work / "frames", steps)
    stage = frames_setup(load_model(work / "frames", torch.device("cpu"), torch.float32))
    base = load_model(Path("builtin"), torch.device("cpu"), torch.float32)
    ways: dict[str, Fill] = {
        "one sample, 8 steps": sampled(stage, 8),
        "blending": blended,
        "estimate by motion": estimated,
        "model, one step": sampled(stage, 1),
    }
    scenes = [draw_scene(PART, SEED, number, side="held-out") for number in range(count)]
    truth = np.stack([render(scene, np.arange(FRAMES) / FPS, canvas=SIDE) for scene in scenes])
    true = {f"every {factor}": {name: scores(truth, way, factor) for name, way in ways.items()} for factor in (2, 4)}
    for task, rows in true.items():
        print(task, {name: round(row["psnr"], 2) for name, row in rows.items()}, flush=True)

    captions = [scene.caption for scene in scenes]
    began = time.process_time()
    at_once = sample(base, captions, base.frames, Fraction(FPS))
    whole = time.process_time() - began
    began = time.process_time()
    slow = sample(base, captions, base.frames // 2, Fraction(FPS, 2))
    half = time.process_time() - began
    sets, spent = {"base at 16 fps": at_once[:, :-1]}, {"base at 16 fps": whole}
    for name, way in ways.items():
        began = time.process_time()
        sets[f"base at 8 fps, {name}"] = np.stack([way(clip, 2) for clip in slow])
        spent[f"base at 8 fps, {name}"] = half + time.process_time() - began
    sets["truth"] = truth[:, : base.frames - 1]
    others = [draw_scene(PART, REFERENCE, number, side="train") for number in range(TRUE_VIDEOS)]
    moments = np.arange(base.frames - 1) / FPS
    yardstick = Yardstick(np.stack([render(scene, moments, canvas=SIDE) for scene in others]))
    rows = {
        name: {
            "words": builtin.accuracy(scenes, videos, Fraction(FPS)),
            "distance": yardstick.measure(videos),
            "cpu_seconds": round(spent.get(name, 0.0) / count, 3),
        }
        for name, videos in sets.items()
    }
    for name, row in rows.items():
        print(name, row["words"][ALL]["right"], row["distance"]["random"]["frechet"], row["cpu_seconds"])
    facts = {"steps": steps, "training_cpu_seconds": round(seconds, 1), "captions": count, "clips": count}
    save("between-shapes", {**facts, "yardstick": yardstick.facts, "true": true, "cascade": rows})
    shown = [
        SheetRow(label=f"{name}: {captions[number]}", frames=videos[number])
        for number in range(SHOWN)
        for name, videos in sets.items()
        if "sample" not in name
    ]
    contact_sheet(shown, RESULTS.parents[1] / "docs" / "results" / "between.png")


def train_stage(run: Path, steps: int) -> float:
    """Train the model of the frames between where it is not there; the process time of its training."""
    kept = run / "process-time.txt"
    if kept.is_file():
        return float(kept.read_text("utf-8"))
    given = {
        "dataset": Path("world:shapes"),
        "preset": "frames",
        "task": "frames",
        "output": run,
        "steps": steps,
        "device": "cpu",
        "sample_every": 0,
        "validate_every": 0,
        "loader.crop": 0,
        "world.part": PART,
        "world.size": SIDE,
        "world.fps": str(FPS),
        "text.kind": "none",
    }
    began = time.process_time()
    for event in train.events(resolve(TrainSettings, under=preset("frames"), given=given)):
        if isinstance(event, Progress) and event.done % 50 == 0:
            print(f"{event.what} {event.done}", flush=True)
    seconds = time.process_time() - began
    kept.write_text(str(seconds), encoding="utf-8")
    return seconds


def sample(model: UNetModel, prompts: list[str], frames: int, fps: Fraction) -> np.ndarray:
    """One video for each prompt (b t h w c). Video i has seed i."""
    setup, made = resolve_sampling(model, GenerationSettings()), []
    for start in range(0, len(prompts), builtin.AT_ONCE):
        part = prompts[start : start + builtin.AT_ONCE]
        job = VideoJob(
            windows=plan(frames, (), window=model.frames, overlap=model.frames // 2),
            times=[Fraction(frame) / fps for frame in range(frames)],
            prompts=lambda _, part=part: part,
            seeds=range(start, start + len(part)),
        )
        made.append(generate_clips(model, setup, job, np.zeros((len(part), frames, SIDE, SIDE, 3), np.uint8)))
    return np.concatenate(made)


def sampled(stage: FramesSetup, steps: int) -> Fill:
    """The frames of a stage in so many steps."""
    options = GenerationSettings(steps=steps)

    def fill(given: np.ndarray, factor: int) -> np.ndarray:
        sampling = resolve_sampling(stage.model, options, completes="between")
        own = FramesSetup(model=stage.model, sampling=sampling, factor=factor)
        return pass_frames([own], given, Fraction(FPS, factor), prompt="", seed=0)

    return fill


def blended(given: np.ndarray, factor: int) -> np.ndarray:
    times = [Fraction(number) for number in range(0, (len(given) - 1) * factor + 1, factor)]
    missing = [number for number in range(int(times[-1])) if number % factor]
    return merged(
        given, factor, interpolation_baselines(given, times, [Fraction(each) for each in missing])["blending"]
    )


def estimated(given: np.ndarray, factor: int) -> np.ndarray:
    total = (len(given) - 1) * factor + 1
    frames = np.zeros((total, *given.shape[1:]), np.uint8)
    frames[::factor] = given
    observed = torch.arange(total)[None] % factor == 0
    with torch.no_grad():
        made, _ = estimate_clip(clip_from_uint8(frames), observed, torch.arange(float(total))[None])
    return clip_to_uint8(made[0])


def merged(given: np.ndarray, factor: int, made: np.ndarray) -> np.ndarray:
    frames = np.zeros(((len(given) - 1) * factor + 1, *given.shape[1:]), np.uint8)
    frames[::factor] = given
    frames[[number for number in range(len(frames)) if number % factor]] = made
    return frames


def scores(truth: np.ndarray, way: Fill, factor: int) -> dict[str, Any]:
    """PSNR of the made frames, a frame's capped, and the CPU time of each."""
    began, each = time.process_time(), []
    missing = [number for number in range(FRAMES) if number % factor]
    for clip in truth:
        made = way(clip[::factor], factor)
        assert np.array_equal(made[::factor], clip[::factor]), "given frames stay"
        each.append(float(np.minimum(psnr(made[missing], clip[missing]), MOST_DB).mean()))
    spent = 1000 * (time.process_time() - began) / (len(truth) * len(missing))
    return {"psnr": float(np.mean(each)), "worst": float(np.min(each)), "cpu_ms": round(spent, 1)}


def measure_films(data: Path, model: str) -> None:
    films.FRAMES = FILM_FRAMES
    rows = []
    for path in films.REPORTED:
        frames = films.middle(data / path)
        ways = {
            "estimate": films.ours("estimate", None),
            "both": films.ours("both", model),
            "model alone": films.ours("model", model),
        }
        row: dict[str, Any] = {"clip": Path(path).name, "size": f"{frames.shape[2]}x{frames.shape[1]}"}
        for task, step in (("every 2nd", 2), ("every 4th", 4)):
            row[task] = films.between(frames, step, ways, rivals=True)
        print(row["clip"], {way: round(score["psnr"], 2) for way, score in row["every 2nd"].items()}, flush=True)
        rows.append(row)
    seen = load_model(Path(model), torch.device("cpu"), torch.float32).clips_seen
    save("between-films", {"frames": FILM_FRAMES, "clips_seen": seen, **films.summary(rows), "clips": rows})


def measure_memory(model: str) -> None:
    peaks, sides = [], (800, 1200)
    for side in sides:
        noise = np.random.default_rng(0).integers(0, 256, (side // 8, side // 8 + 8, 3), np.uint8)
        canvas = np.asarray(Image.fromarray(noise).resize((side + 64, side)))
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "in.mkv"
            encode(source, np.stack([canvas[:, 8 * k : 8 * k + side] for k in range(3)]), films.RATE, lossless=True)
            words = ["interpolate", str(source), "-m", model, "--detail", "model", "--no-hold", "--lossless"]
            _, peak = measured([sys.executable, "-m", "vidiff_cli", *words, "-o", str(Path(folder) / "out.mkv")])
        peaks.append(peak)
    tensors = (peaks[1] - peaks[0]) / (4 * 3 * 5 * (sides[1] ** 2 - sides[0] ** 2))
    print([round(peak / 2**20) for peak in peaks], tensors)
    save("between-memory", {"sides": sides, "peak_mb": [peak / 2**20 for peak in peaks], "tensors": tensors})


if __name__ == "__main__":
    main()
