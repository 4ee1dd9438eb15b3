"""Noise priors, images beside clips and noisy given frames: the tiny preset with one thing changed, at equal steps.

    python -m benchmarks priors [--steps 400] [NAME ...]

Each variant trains on the same 1,024 clips of the shapes world (16x16, 8 frames), with the same seed, one thread and
batches of 32; a second seed of the first tells how much is chance. Then, with its own noise in all that is drawn: the
loss of held-out clips by band of levels, attributes read back from 128 samples of captions, and the error of 4 frames
after 4 given of 64 held-out clips, by the learned condition and by reconstruction guidance of several weights; and of 8
frames after 8 (two windows) by the learned condition. Losses of two priors are those of two tasks: compare samples.
Updates benchmarks/results/priors.json after every variant; those that are in it already, at as many steps, are left
out unless they are named.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from benchmarks import learning
from benchmarks.learning import Variant
from benchmarks.machine import RESULTS, save
from vidiff_cli.config.generate import GenerationSettings
from vidiff_cli.config.model import NOISE_STRENGTHS
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.device import choose_device, choose_dtype, dtype_name
from vidiff_cli.models.unet_model import UNetModel
from vidiff_cli.training.loader import ClipSource
from vidiff_cli.training.validation import BANDS, make_validation_set
from vidiff_cli.training.validation import validate as held_out_loss
from vidiff_cli.worlds import shapes

WEIGHTS = (2.0, 5.0, 10.0)
SHOWN = 0.3  # of the schedule: the noise of given frames for a model that knows it; Imagen Video's is 0.27 to 0.33

VARIANTS = {name: Variant(changes={"diffusion.noise": name}) for name in NOISE_STRENGTHS} | {
    "a third images": Variant(changes={"objective.image_fraction": 1 / 3}),
    "context noise": Variant(changes={"objective.context_noise": 0.5}),
    "independent, another seed": Variant(changes={"seed": 1}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--steps", type=int, default=400)
    given = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    choose_device("cpu")  # sets the allocator
    for name in given.names or [name for name in VARIANTS if name not in found(given.steps)]:
        row = run(VARIANTS[name], given.steps)
        print(name, json.dumps(row), file=sys.stderr, flush=True)
        save("priors", {"steps": given.steps, "batch": 32, "results": found(given.steps) | {name: row}})


def found(steps: int) -> dict[str, Any]:
    """The variants that have been measured after as many steps."""
    path = RESULTS / "priors.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return before["results"] if before.get("steps") == steps else {}


def run(variant: Variant, steps: int) -> dict[str, Any]:
    """Trains a variant and measures it."""
    settings, dtype = learning.settings_of(variant), choose_dtype("auto", torch.device("cpu"))
    state = learning.new_state(variant, settings, told=True)
    began = time.process_time()
    for _ in learning.steps_of(state, settings, steps, dtype):
        pass
    row: dict[str, Any] = {"dtype": dtype_name(dtype), "cpu_seconds": round(time.process_time() - began, 1)}
    diffusion = settings.diffusion
    row |= {"noise": diffusion.noise, "noise_strength": diffusion.noise_strength}
    model = told_of_noise(learning.averaged(state, dtype), settings)
    row |= losses(model)
    row |= learning.attributes(model)
    return row | extensions(model)


def told_of_noise(model: UNetModel, settings: TrainSettings) -> UNetModel:
    """The model with the noise of given frames that it was trained for, as a checkpoint tells it."""
    known = model.settings.model_copy(update={"context_noise": settings.objective.context_noise})
    return replace(model, settings=known)


def losses(model: UNetModel) -> dict[str, Any]:
    """The validation loss of `vidiff train` on clips of the world that were not trained on."""
    videos, captions, _ = learning.clips(1, learning.HELD_OUT)
    rows: Any = [
        SimpleNamespace(frames=len(video), fps=str(learning.FPS), captions=(text,))
        for video, text in zip(videos, captions, strict=True)
    ]
    held = make_validation_set(
        ClipSource(rows=rows, read=lambda number, frames: videos[number, list(frames)]), model.settings
    )
    assert held is not None
    seen = held_out_loss(model.video_model, held, reader=model.reader, device=model.device, dtype=model.dtype)
    bands = dict(zip(BANDS, seen.bands, strict=True))
    return {"loss": {"all": seen.loss, "free": seen.free, "given": seen.observed} | bands}


def extensions(model: UNetModel) -> dict[str, Any]:
    """Errors of the second half after the first half: of 8 frames by reconstruction guidance, of 16 by the learned
    condition, with given frames clean and, for a model that knows them so, noisy."""
    asked: dict[str, Any] = {"seed": 0, "steps": learning.SAMPLING_STEPS}
    videos, _, paths = learning.clips(1, learning.HELD_OUT)
    row: dict[str, Any] = {}
    for weight in WEIGHTS:
        guided = GenerationSettings(**asked, condition="reconstruction", reconstruction_weight=weight)
        made = learning.report.complete(model, videos, range(4), guided)
        row[f"reconstruction, weight {weight:g}"] = learning.report.errors(made, videos, paths, range(4))
    videos, paths = longer()
    for shown in (0.0, SHOWN) if model.settings.context_noise else (0.0,):
        noisy = GenerationSettings(**asked, condition="learned", history_guidance=1.0, context_noise=shown)
        name = "long extension" + (f", given frames at {shown:g}" if shown else "")
        made = learning.report.complete(model, videos, range(8), noisy)
        row[name] = learning.report.errors(made, videos, paths, range(8))
    return row


@cache
def longer() -> tuple[np.ndarray, np.ndarray]:
    """Held-out clips of 16 frames (n t h w c) and the centers (n t 2)."""
    scenes = [shapes.draw_numbered(2, number, canvas=learning.SIDE, frames=16) for number in range(learning.HELD_OUT)]
    return np.stack([shapes.render(scene) for scene in scenes]), np.stack([scene.positions for scene in scenes])
