"""Guidance that costs as much as classifier-free guidance or less: by a worse model, rescaled, in an interval.

    python -m benchmarks guides --model RUN --guide CHECKPOINT [--part lasting] [--count 40] [--only NAME ...]

Every row samples one video for `count` captions of each side of the split, with the same noise and about the same
passes of the network. "guide" goes away from a worse model, an earlier checkpoint of the same training, in the place of
the model without a caption (autoguidance; Karras et al. 2024), with captions and without; "rescale" gives the guided
estimate the deviation of the conditional one, for .7 of the difference (Lin et al. 2024); "interval" guides at middle
levels only (Kynkaanniemi et al. 2024), with more steps for the same passes. Columns as in `benchmarks distill`;
"distance" is the Frechet distance to the true clips of the captions over features of the `shapes` extractor. Updates
benchmarks/results/guides.json, row by row.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.builtin import SEED, SIDES, sample, share
from benchmarks.distill import sharpness, spread
from benchmarks.machine import RESULTS, save
from vidiff_cli.config.generate import GenerationSettings
from vidiff_cli.diffusion.guidance import classifier_free
from vidiff_cli.diffusion.samplers import Denoise
from vidiff_cli.evaluation.extractors import shapes_extractor
from vidiff_cli.generation.load_model import load_model
from vidiff_cli.metrics.distance import Moments, frechet, moments
from vidiff_cli.models.unet_model import UNetModel
from vidiff_cli.worlds import scenes
from vidiff_cli.worlds.accuracy import ALL, caption_accuracy
from vidiff_cli.worlds.splits import draw_scene

CPU = torch.device("cpu")
MIX = 0.7  # of the rescaled estimate
INTERVAL = (-6.0, 2.0)  # levels that are guided
Guide = Callable[[Denoise, Denoise, Denoise], Denoise]
"""(with the caption, without it, the guide with it) -> guided."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A way to guide: steps of sampling, passes of the network, and captions or none."""

    steps: int
    passes: int
    guide: Guide
    captions: bool = True


def text(scale: float) -> Guide:
    return lambda with_text, without, guide: classifier_free(with_text, without, scale)


def by_model(scale: float) -> Guide:
    return lambda with_text, without, guide: classifier_free(with_text, guide, scale)


def rescaled(scale: float) -> Guide:
    def wrap(with_text: Denoise, without: Denoise, guide: Denoise) -> Denoise:
        def guided(z: Tensor, level: Tensor) -> Tensor:
            c, u = with_text(z, level), without(z, level)
            x = u + scale * (c - u)
            alike = x * (c.flatten(1).std(dim=1) / x.flatten(1).std(dim=1))[:, None, None, None, None]
            return MIX * alike + (1 - MIX) * x

        return guided

    return wrap


def in_interval(scale: float) -> Guide:
    def wrap(with_text: Denoise, without: Denoise, guide: Denoise) -> Denoise:
        everywhere = classifier_free(with_text, without, scale)

        def guided(z: Tensor, level: Tensor) -> Tensor:
            inside = INTERVAL[0] <= float(level.min()) <= INTERVAL[1]
            return (everywhere if inside else with_text)(z, level)

        return guided

    return wrap


ROWS = {
    "none": Row(steps=16, passes=16, guide=text(1.0)),
    "text 2": Row(steps=8, passes=16, guide=text(2.0)),
    "text 4": Row(steps=8, passes=16, guide=text(4.0)),
    "guide 1.5": Row(steps=8, passes=16, guide=by_model(1.5)),
    "guide 2": Row(steps=8, passes=16, guide=by_model(2.0)),
    "guide 3": Row(steps=8, passes=16, guide=by_model(3.0)),
    "rescale 2": Row(steps=8, passes=16, guide=rescaled(2.0)),
    "rescale 4": Row(steps=8, passes=16, guide=rescaled(4.0)),
    "interval 2": Row(steps=11, passes=16, guide=in_interval(2.0)),
    "no captions": Row(steps=16, passes=16, guide=text(1.0), captions=False),
    "no captions, guide 2": Row(steps=8, passes=16, guide=by_model(2.0), captions=False),
}


class Guided:
    """A model whose denoiser is guided in another way, and the rest its own."""

    def __init__(self, model: UNetModel, guide: UNetModel, way: Guide) -> None:
        self._model, self._guide, self._way = model, guide, way
        self.passes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def denoiser(self, times: Tensor, given: Tensor, prompts: list[str], **more: Any) -> Denoise:
        empty = [""] * len(prompts)
        asked = [(self._model, prompts), (self._model, empty), (self._guide, prompts)]
        parts = [model.denoiser(times, given, each, **more | {"scale": 1.0}) for model, each in asked]
        return self._way(*(self._counted(part) for part in parts))

    def _counted(self, denoise: Denoise) -> Denoise:
        def counted(z: Tensor, level: Tensor) -> Tensor:
            self.passes += len(z)
            return denoise(z, level)

        return counted


def moments_of(videos: np.ndarray) -> Moments:
    """Mean and covariance of the features of videos."""
    extractor = shapes_extractor(CPU)
    features = np.stack([extractor(video) for video in videos])
    return moments(lambda: iter([features]))


def main() -> None:
    parser = argparse.ArgumentParser(description="Guidance by a model, rescaled, in an interval, at equal passes.")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--guide", type=Path, required=True)
    parser.add_argument("--part", default="lasting")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--only", nargs="*", default=list(ROWS))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    model, guide = (load_model(path, CPU, torch.float32) for path in (asked.model, asked.guide))
    path = RESULTS / "guides.json"
    figures: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {"rows": {}}
    figures |= {"clips_seen": {"model": model.clips_seen, "guide": guide.clips_seen}, "part": asked.part}
    drawn = [draw_scene(asked.part, SEED, number, side=side) for side in SIDES for number in range(asked.count)]
    times = np.arange(model.settings.frames) / float(model.fps)
    true = np.stack([scenes.render(scene, times, canvas=model.settings.width) for scene in drawn])
    reference = moments_of(true)
    for name in asked.only:
        row, captions = ROWS[name], [scene.caption for scene in drawn]
        way, began = Guided(model, guide, row.guide), time.process_time()
        settings = GenerationSettings(steps=row.steps, guidance_scale=1.0)
        videos = sample(way, settings, captions if row.captions else [""] * len(captions))  # type: ignore[arg-type]
        found: dict[str, Any] = {"passes": round(way.passes / len(videos), 1)}
        if row.captions:
            right = [
                caption_accuracy(each.caption, video, times)[ALL] for each, video in zip(drawn, videos, strict=True)
            ]
            found["all words"] = share(right)
        figures["rows"][name] = found | {
            "distance": round(frechet(moments_of(videos), reference), 3),
            "spread": round(spread(videos, times) / spread(true, times), 3),
            "sharpness": round(sharpness(videos) / sharpness(true), 3),
            "cpu_seconds": round((time.process_time() - began) / len(videos), 3),
        }
        print(name, figures["rows"][name], flush=True)
        save("guides", figures)
