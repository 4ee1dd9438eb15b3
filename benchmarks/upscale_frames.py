"""Made frames of real films, enlarged to the film's size or taken through an upscaler: `vidiff interpolate --then`.

    python -m benchmarks upscale frames --data FOLDER [--models 2=UPSCALER] [--trained RUN] [--half tuned|reported]

Films of benchmarks/films.py, of at most 192 pixels; those that are no larger than the model's frames are left out.
17 frames around the middle, of which every 4th is given, and 8 after 16. The commands run as a person runs them, with
`--detail both` (the estimate by motion and what a model corrects, weighed on held-back frames) and `--detail model`
(the model's frames alone). A stand-in for a model answers the question whatever a model has learned: the true frames,
made as small as the model's, with noise of 2 levels (nearly right) or of 8 (30 dB, as models trained for an hour).
`--trained` is a real one, trained for a minute by examples/builtin/motion.toml with --set steps=38.

Scores of made frames, as in `films`. Writes benchmarks/results/upscale-frames.json.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.films import MOST_DB, RATE, REPORTED, TUNED, _clock, middle
from benchmarks.machine import save
from vidiff_cli.commands.extend import extend
from vidiff_cli.commands.interpolate import interpolate
from vidiff_cli.config.generate import ExtendSettings, InterpolateSettings
from vidiff_cli.generation import calibrate, complete_video
from vidiff_cli.generation.cascade import open_stages
from vidiff_cli.generation.completion_models import CompletionModels
from vidiff_cli.generation.large_frames import at_size
from vidiff_cli.generation.load_model import open_model
from vidiff_cli.metrics.fidelity import psnr, ssim
from vidiff_cli.metrics.temporal import ClipMotion, warping_error
from vidiff_cli.models.unet_model import UNetModel
from vidiff_cli.video import decode, encode

SIDE, MULTIPLE = 192, 8
STEP, PAST, NEW = 4, 16, 8
JOBS = 2  # clips at a time
TASKS = {"every 4th": 17, "8 after 16": PAST + NEW}  # and their frames
Scores = dict[str, float]


@dataclass(frozen=True)
class Small:
    """A model, or the stand-in for one of a short `side` with noise of so many `levels`; the details by task."""

    details: Mapping[str, tuple[str, ...]]
    side: int = 0
    levels: float = 0.0


SMALL = {  # between given frames --detail both takes no upscaler
    "true frames": Small({"every 4th": ("model",), "8 after 16": ("both", "model")}, 64, 2),
    "noisy frames": Small({"every 4th": ("model",), "8 after 16": ("both",)}, 64, 8),
}
TRAINED = {"trained for a minute": Small({"8 after 16": ("both",)})}


def frames(asked: argparse.Namespace) -> None:
    """Every clip, task, model and way."""
    (upscaler,) = asked.models.values() or ["builtin"]
    models = SMALL | (TRAINED if asked.trained else {})
    films = [(asked.data / name, task) for name in (TUNED if asked.half == "tuned" else REPORTED) for task in TASKS]
    with ProcessPoolExecutor(JOBS, mp_context=get_context("spawn")) as pool:
        rows: list[dict[str, Any]] = []
        for row in pool.map(partial(one_clip, models=models, trained=asked.trained, upscaler=upscaler), films):
            if row is not None:
                rows.append(row)
                save(
                    f"{asked.name}-frames", {"half": asked.half, "side": SIDE, "summary": summary(rows), "clips": rows}
                )


def one_clip(
    film: tuple[Path, str], *, models: Mapping[str, Small], trained: str | None, upscaler: str
) -> dict[str, Any] | None:
    """The row of a clip and a task; None for one that is too short or too small."""
    torch.set_num_threads(1)
    (path, task), count = film, TASKS[film[1]]
    clip = at_most(middle(path))
    if len(clip) < count or min(clip.shape[1:3]) <= 64:
        return None
    first = (len(clip) - count) // 2
    row = one_film(clip[first : first + count], task, models, trained, upscaler)
    print(path.name, task, {key: round(each["psnr"], 2) for key, each in row.items()}, flush=True)
    return {"clip": path.name, "size": f"{clip.shape[2]}x{clip.shape[1]}", "task": task} | row


def one_film(
    truth: np.ndarray, task: str, models: Mapping[str, Small], trained: str | None, upscaler: str
) -> dict[str, Scores]:
    """The scores of all ways, "model | way"."""
    from benchmarks.upscale import true_motion

    motion, between = true_motion(truth), task == "every 4th"
    made = np.array([number % STEP != 0 if between else number >= PAST for number in range(len(truth))])
    found: dict[str, Scores] = {}

    def score(key: str, way: Callable[[], np.ndarray]) -> None:
        with _clock() as clock:
            result = way()
        found[key] = scores(result, truth, made, motion) | {"cpu_ms": 1000 * clock.seconds / int(made.sum())}

    estimate = CompletionModels(model=None)
    score("estimate", lambda: completed(truth, task, estimate, detail="estimate"))
    for name, small in models.items():
        model = open_model(Path("builtin" if small.side else str(trained)), device="cpu", dtype="fp32")
        assert isinstance(model, UNetModel)
        if small.side:
            settings = model.settings.model_copy(update={"width": small.side, "height": small.side, "frames": 8})
            model = replace(model, settings=settings)
        for detail in small.details.get(task, ()):
            for then in ((), (Path(upscaler),)):
                options = InterpolateSettings.model_validate({"input": "in.mkv", "then": then, "dtype": "fp32"})
                opened = CompletionModels(model=model, stages=open_stages(options, then))

                def way(opened: CompletionModels = opened, detail: str = detail, small: Small = small) -> np.ndarray:
                    with stand_in(truth, small):
                        return completed(truth, task, opened, detail=detail)

                score(f"{name} | --detail {detail}{' --then' if then else ''}", way)
    return found


def completed(truth: np.ndarray, task: str, opened: CompletionModels, *, detail: str) -> np.ndarray:
    """The result of a command on the given frames of a film."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.mkv", Path(folder) / "out.mkv"
        common = {"input": source, "output": target, "lossless": True, "detail": detail, "seed": 0, "sidecar": False}
        common |= {"scenes": False, "condition": "learned" if opened.model else "auto"}
        if task == "every 4th":
            encode(source, truth[::STEP], Fraction(RATE) / STEP, lossless=True)
            settings = InterpolateSettings.model_validate(common | {"factor": STEP, "hold": False})
            interpolate(settings, opened=opened)
        else:
            encode(source, truth[:PAST], Fraction(RATE), lossless=True)
            extend(ExtendSettings.model_validate(common | {"num_frames": NEW}), opened=opened)
        return decode(target).frames


class stand_in(ExitStack):
    """Within it the true frames, made as small as the model's, are what a model makes; nothing for a real one."""

    def __init__(self, truth: np.ndarray, small: Small) -> None:
        super().__init__()
        if not small.side:
            return
        rng = np.random.default_rng(0)

        def noisy(frames: np.ndarray) -> np.ndarray:
            noise = small.levels * rng.standard_normal(frames.shape)
            return np.clip(np.rint(frames + noise), 0, 255).astype(np.uint8)

        def generate(model: object, setup: object, job: object, store: object, **_: object) -> Iterator[object]:
            height, width = store.made.shape[1:3]  # type: ignore[attr-defined]
            for window in job.windows:  # type: ignore[attr-defined]
                ranks = sorted(window.makes)
                store.write(ranks, noisy(at_size(truth[ranks], (height, width)))[:, None])  # type: ignore[attr-defined]
            yield from ()

        def generate_clips(model: object, setup: object, job: object, frames: np.ndarray) -> np.ndarray:
            observed = job.windows[0].observed  # type: ignore[attr-defined]
            there = np.array([place in observed for place in range(frames.shape[1])])
            return np.where(there[:, None, None, None], frames, noisy(frames))

        self.enter_context(patch.object(complete_video, "generate", generate))
        self.enter_context(patch.object(complete_video, "estimate_seconds", lambda *_: 0.0))
        self.enter_context(patch.object(calibrate, "generate_clips", generate_clips))


def scores(result: np.ndarray, truth: np.ndarray, made: np.ndarray, motion: ClipMotion) -> Scores:
    """Of made frames; flicker of all."""
    from benchmarks.upscale import finest

    error = warping_error(truth, motion)
    return {
        "psnr": float(np.minimum(psnr(result[made], truth[made]), MOST_DB).mean()),
        "ssim": float(ssim(result[made][::3], truth[made][::3]).mean()),
        "sharpness": finest(result[made]) / max(finest(truth[made]), 1e-9),
        "flicker": warping_error(result, motion) / error if error > 1e-9 else 1.0,
    }


def at_most(clip: np.ndarray) -> np.ndarray:
    """A clip of a short side of at most `SIDE`, with sides that every scale divides."""
    share = min(1.0, SIDE / min(clip.shape[1:3]))
    height, width = (max(MULTIPLE, int(side * share) // MULTIPLE * MULTIPLE) for side in clip.shape[1:3])
    return np.stack([at_size(frame[None], (height, width))[0] for frame in clip])


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """By task and way: means, and against the same without an upscaler the worst clip and how many lose."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for task in TASKS:
        those = [row for row in rows if row["task"] == task]
        for way in dict.fromkeys(key for row in those for key in row if isinstance(row[key], dict)):
            there = [row for row in those if way in row]
            plain = way.removesuffix(" --then")
            gains = [row[way]["psnr"] - row[plain]["psnr"] for row in there]
            worst = int(np.argmin(gains))
            found.setdefault(task, {})[way] = {
                name: float(np.mean([row[way][name] for row in there])) for name in there[0][way]
            } | {
                "clips": len(there),
                "gain": float(np.mean(gains)),
                "worst": gains[worst],
                "worst_clip": there[worst]["clip"],
                "lost": sum(gain < -0.005 for gain in gains),
            }
    return found
