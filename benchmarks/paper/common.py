"""Shared by the small reproductions, beside models and measures: sampling, results kept as they come, plots."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.machine import RESULTS, save
from benchmarks.paper.measuring import TESTED, of_windows, true_videos
from benchmarks.paper.models import FRAMES, WORK, content, open_trained
from vidiff_cli.config.generate import GenerationSettings
from vidiff_cli.frames import plan
from vidiff_cli.generation.generate import generate_clips
from vidiff_cli.generation.sampling_setup import resolve_sampling
from vidiff_cli.generation.video_job import VideoJob
from vidiff_cli.models.unet_model import UNetModel

HERE = Path(__file__).resolve().parent
AT_ONCE = 32
SAMPLING = {"steps": 16, "sampler": "dpmpp-2m", "guidance_scale": 1.0, "device": "cpu", "seed": 0}
PLOTS = HERE.parents[1] / "docs" / "results"


def sampled(
    model: UNetModel,
    prompts: Sequence[str],
    store: Path,
    *,
    total: int = FRAMES,
    truth: np.ndarray | None = None,
    given: int = 0,
    **choice: Any,
) -> tuple[np.ndarray, float]:
    """One video for each prompt (b n h w c) uint8, the first `given` frames those of `truth`, in windows that are shown
    half of what they have; and the process time. Video i has seed i. What was made before lies in the folder `store`.
    """
    settings = GenerationSettings.model_validate(SAMPLING | choice)
    asked = json.dumps([model.hash, settings.model_dump(mode="json"), list(prompts), total, given])
    place = store / f"{hashlib.sha256(asked.encode()).hexdigest()[:16]}.npz"
    if not place.is_file():
        frames, seconds = _sample(model, settings, prompts, total, truth, given)
        store.mkdir(parents=True, exist_ok=True)
        unfinished = place.with_suffix(".tmp.npz")
        np.savez_compressed(unfinished, frames=frames, seconds=seconds)
        unfinished.replace(place)
    with np.load(place) as kept:
        return kept["frames"], float(kept["seconds"])


def _sample(
    model: UNetModel,
    settings: GenerationSettings,
    prompts: Sequence[str],
    total: int,
    truth: np.ndarray | None,
    given: int,
) -> tuple[np.ndarray, float]:
    torch.set_num_threads(1)
    began, made = time.process_time(), []
    setup = resolve_sampling(model, settings)
    for start in range(0, len(prompts), AT_ONCE):
        part = list(prompts[start : start + AT_ONCE])
        job = VideoJob(
            windows=plan(total, range(given), window=FRAMES, overlap=FRAMES // 2),
            times=[Fraction(frame) / model.fps for frame in range(total)],
            prompts=lambda _, part=part: part,
            seeds=range(start, start + len(part)),
        )
        empty = np.zeros((len(part), total, model.height, model.width, 3), np.uint8)
        frames = empty if truth is None else truth[start : start + len(part)]
        made.append(generate_clips(model, setup, job, frames))
    return np.concatenate(made), time.process_time() - began


class Results:
    """Rows of benchmarks/results/paper-NAME.json, written one by one; `facts` that differ begin anew."""

    def __init__(self, name: str, facts: dict[str, Any]) -> None:
        self.name, self.facts = f"paper-{name}", facts
        before = content(RESULTS / f"{self.name}.json")
        same = all(before.get(key) == value for key, value in json.loads(json.dumps(facts)).items())
        self.rows: dict[str, Any] = before.get("rows", {}) if same else {}

    def row(self, key: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The row of that key, made if it is not there."""
        if key not in self.rows:
            self.rows[key] = make()
            save(self.name, {**self.facts, "rows": self.rows})
            print(key, json.dumps(self.rows[key]), file=sys.stderr, flush=True)
        return self.rows[key]


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """Videos of the same captions by several models, the true ones first."""

    captions: list[str]
    videos: dict[str, np.ndarray]
    rows: dict[str, Any]


def compare(name: str, models: Mapping[str, str], asked: argparse.Namespace) -> Compared:
    """Trains the models, samples each with the same captions and seeds, measures them: results of that name."""
    truth = true_videos(asked.count, FRAMES, seed=TESTED, moved=True)
    yardstick, captions = of_windows(), [scene.caption for scene in truth.scenes]
    results = Results(name, {"sampling": SAMPLING, "distances": yardstick.facts, "videos": asked.count})
    results.row("truth", lambda: yardstick.measure(truth.scenes, truth.frames))
    made = {"truth": truth.frames}
    for label, variant in models.items():
        model, about = open_trained(variant, asked.work)
        videos, seconds = sampled(model, captions, asked.work / "samples")
        made[label] = videos
        results.row(
            label,
            lambda videos=videos, about=about, seconds=seconds: {
                "model": about,
                **yardstick.measure(truth.scenes, videos),
                "cpu_seconds": round(seconds, 1),
            },
        )
    return Compared(captions=captions, videos=made, rows=results.rows)


def arguments(doc: str | None, *, count: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=WORK, help="folder of the trained models")
    parser.add_argument("--count", type=int, default=count, help="videos of each way")
    return parser


@contextmanager
def drawn(name: str, *, size: tuple[float, float]) -> Iterator[Figure]:
    """A figure that is written to docs/results/NAME.png."""
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    yield figure
    PLOTS.mkdir(parents=True, exist_ok=True)
    figure.savefig(PLOTS / f"{name}.png", dpi=110)
