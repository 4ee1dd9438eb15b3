"""Learning in equal CPU time: vidiff against its peer, and vidiff's recipe with one thing changed at a time.

    python -m benchmarks learning race [--budget 300] [NAME ...]
    python -m benchmarks learning recipe [--budget 160] [NAME ...]

Each contestant trains on the same 1,024 clips of the shapes world (16x16, 8 frames), one thread, batches of 32 (8 for
the peer's network, which makes too few steps of 32), until its CPU time is spent: process time of the training steps
alone, so that busy neighbors matter little. A step count is set from the first steps, for the learning rate decays
over it. Validation: 64 other clips at eight noise levels, the same noise for all, the estimate clipped to the pixel
range, the squared error weighted as `x` (equally), `truncated` and `v` (diffusion/targets.py). `recipe` trains with
captions and given frames and also reads attributes back from 128 samples. Updates benchmarks/results/learning-race.json
or learning-recipe.json.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import peer
from benchmarks.machine import RESULTS, save
from examples import shapes_report as report
from vidiff_cli.config.generate import GenerationSettings
from vidiff_cli.config.model import ModelSettings, NetworkSettings, TextSettings
from vidiff_cli.config.train import TrainSettings, preset
from vidiff_cli.device import choose_device, choose_dtype, dtype_name
from vidiff_cli.diffusion.levels import add_noise, alpha_sigma, cosine
from vidiff_cli.diffusion.noise import seeded
from vidiff_cli.diffusion.targets import WEIGHTINGS
from vidiff_cli.models.attention import RelativeTime
from vidiff_cli.models.conditioning import Conditioning
from vidiff_cli.models.unet3d import UNet3D
from vidiff_cli.models.unet_model import UNetModel
from vidiff_cli.models.video_model import VideoNetwork, new_video_model
from vidiff_cli.text.learned import collect_vocabulary
from vidiff_cli.training.loader import BatchSpec, ClipSource, draw_batch
from vidiff_cli.training.loop import train_steps
from vidiff_cli.training.lr_schedule import LRSchedule
from vidiff_cli.training.state import TrainState
from vidiff_cli.worlds import shapes

SIDE, FRAMES, FPS = 16, 8, 8
TRAINING, HELD_OUT = 1024, 64
LEVELS = 8
LOOKS = (0.125, 0.25, 0.5, 0.75, 1.0)  # shares of the budget after which the validation loss is taken
SAMPLING_STEPS = 16
PEERS_BATCH = 8


class NoiseInput(UNet3D):
    """The network shown, beside z, what of it is finer than its neighborhood, over sigma: the noise at unit scale."""

    def __init__(self, settings: NetworkSettings, *, side: int, frame_seconds: float) -> None:
        twice = settings.model_copy(update={"channels": 2 * settings.channels})
        super().__init__(twice, side=side, frame_seconds=frame_seconds)

    def forward(self, z: Tensor, level: Tensor, conditioning: Conditioning) -> Tensor:
        flat = z.transpose(1, 2).flatten(0, 1)
        fine = (flat - torch.nn.functional.avg_pool2d(flat, 3, 1, 1, count_include_pad=False)).view_as(
            z.transpose(1, 2)
        )
        _, sigma = alpha_sigma(level.float())
        fine = (fine.transpose(1, 2) / sigma[:, None, :, None, None]).clamp(-4, 4)
        fine = torch.where(conditioning.observed[:, None, :, None, None], 0.0, fine)
        return super().forward(torch.cat([z, fine], dim=1), level, conditioning)[:, : z.shape[1]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """The tiny preset with `changes` (dotted names), and `build`, which may alter a new model."""

    changes: dict[str, Any] = field(default_factory=dict)
    build: Callable[[VideoNetwork], None] | None = None
    batch: int = 32


def not_local(video_model: VideoNetwork) -> None:
    """Temporal attention's bias starts at zero instead of near neighbors first."""
    for module in video_model.modules():
        if isinstance(module, RelativeTime):
            torch.nn.init.zeros_(module.locality)


def noise_input(video_model: VideoNetwork) -> None:
    network = video_model.denoiser.network
    video_model.denoiser.network = NoiseInput(network.settings, side=SIDE, frame_seconds=network.frame_seconds)


def peers_network(video_model: VideoNetwork) -> None:
    video_model.denoiser.network = peer.PeerNetwork()  # type: ignore[assignment]


RECIPE = {
    "preset": Variant(),
    "predicting x": Variant(changes={"diffusion.target": "x"}),
    "predicting eps": Variant(changes={"diffusion.target": "eps"}),
    "plain v-loss": Variant(changes={"diffusion.weighting": "v"}),
    "min-snr loss": Variant(changes={"diffusion.weighting": "min-snr"}),
    "no shift of the levels": Variant(changes={"diffusion.shift": 0.0}),
    "temporal attention only": Variant(changes={"network.temporal": "attention"}),
    "temporal convolution only": Variant(changes={"network.temporal": "convolution"}),
    "time bias not local": Variant(build=not_local),
    "noise-normalised input": Variant(build=noise_input),
    "no decay of the learning rate": Variant(changes={"optimizer.decay": 0.0}),
    "AdamW alone": Variant(changes={"optimizer.muon_lr": 0.0}),
    "AdamW alone, lr 3e-3": Variant(changes={"optimizer.muon_lr": 0.0, "optimizer.lr": 3e-3}),
    "no patch stem": Variant(
        changes={
            "network.patch_size": 1,
            "network.base_channels": 32,
            "network.channel_mult": (1, 2, 4),
            "network.head_dim": 32,
        }
    ),
}
ALONE = {"network.context_dim": 0, "objective.levels.observed": 0.0}  # what the peer's network can be told
RACE = {
    "vidiff": Variant(changes=ALONE),
    "vidiff, no patch stem": Variant(
        changes=ALONE
        | {
            "network.patch_size": 1,
            "network.base_channels": 32,
            "network.channel_mult": (1, 2, 4),
            "network.head_dim": 32,
        }
    ),
    "peer's network in vidiff's recipe": Variant(changes=ALONE, build=peers_network, batch=PEERS_BATCH),
    "peer's network in vidiff's recipe, AdamW alone": Variant(
        changes=ALONE | {"optimizer.muon_lr": 0.0}, build=peers_network, batch=PEERS_BATCH
    ),
    "peer as published": 1e-4,
    "peer as published, lr 1e-3": 1e-3,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["race", "recipe"])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--budget", type=float, help="CPU seconds of training (race 300, recipe 160)")
    given = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    choose_device("cpu")  # sets the allocator, for all contestants alike
    budget = given.budget or {"race": 300.0, "recipe": 160.0}[given.what]
    table: dict[str, Any] = RACE if given.what == "race" else RECIPE
    path = RESULTS / f"learning-{given.what}.json"
    for name in given.names or table:
        contestant = table[name]
        if isinstance(contestant, float):
            row = run_published(contestant, budget)
        else:
            row = run(contestant, budget, told=given.what == "recipe")
        results = json.loads(path.read_text(encoding="utf-8"))["results"] if path.is_file() else {}
        results[name] = row
        print(name, json.dumps(row), file=sys.stderr, flush=True)
        save(f"learning-{given.what}", {"budget_cpu_seconds": budget, "peer": peer.versions(), "results": results})


@cache
def clips(seed: int, count: int) -> tuple[np.ndarray, tuple[str, ...], np.ndarray]:
    """uint8 clips (n t h w c), their captions, the centers (n t 2)."""
    length = FRAMES if seed else 2 * FRAMES
    scenes = [shapes.draw_numbered(seed, number, canvas=SIDE, frames=length) for number in range(count)]
    return (
        np.stack([shapes.render(scene) for scene in scenes]),
        tuple(scene.caption for scene in scenes),
        np.stack([scene.positions for scene in scenes]),
    )


def source() -> ClipSource:
    videos, captions, _ = clips(0, TRAINING)
    rows = [SimpleNamespace(frames=2 * FRAMES, fps=str(FPS), captions=(caption,)) for caption in captions]
    return ClipSource(rows=rows, read=lambda number, frames: videos[number, list(frames)])


def settings_of(variant: Variant) -> TrainSettings:
    """The tiny preset with the variant's changes."""
    nested = copy.deepcopy(preset("tiny"))
    for name, value in variant.changes.items():
        *groups, last = name.split(".")
        place = nested
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    return TrainSettings.model_validate(nested | {"batch_size": variant.batch})


def new_state(variant: Variant, settings: TrainSettings, *, told: bool) -> TrainState:
    captions = clips(0, TRAINING)[1]
    text = TextSettings(
        kind="learned" if told else "none",
        depth=settings.text.depth,
        max_tokens=settings.text.max_tokens,
        vocabulary=collect_vocabulary(captions) if told else (),
    )
    model = ModelSettings(
        width=SIDE,
        height=SIDE,
        frames=FRAMES,
        fps=str(FPS),
        frame_strides=(1, 2),
        conditioning="mixed" if told else "none",
        network=settings.network,
        diffusion=settings.diffusion,
        text=text,
    )
    video_model = new_video_model(model, 0)
    if variant.build is not None:
        torch.manual_seed(0)
        variant.build(video_model)
    return TrainState(video_model, settings.optimizer)


def run(variant: Variant, budget: float, *, told: bool) -> dict[str, Any]:
    """Trains a variant for the budget and measures it."""
    settings = settings_of(variant)
    dtype = choose_dtype("auto", torch.device("cpu"))
    trial = timed(steps_of(new_state(variant, settings, told=told), settings, 14, dtype))
    once = median(seconds for _, seconds in list(trial)[4:])
    state = new_state(variant, settings, told=told)
    total = max(20, int(budget / once))
    spent, curve, looks = 0.0, [], [round(share * total) for share in LOOKS]
    for step, seconds in timed(steps_of(state, settings, total, dtype)):
        spent += seconds
        if step in looks:
            model = averaged(state, dtype)
            curve.append({"cpu_seconds": spent, "steps": step} | validate(model_estimate(model), told=told))
    row: dict[str, Any] = {
        "parameters": sum(value.numel() for value in state.video_model.parameters()),
        "dtype": dtype_name(dtype),
        "steps": total,
        "clips_per_cpu_second": total * settings.batch_size / spent,
        "curve": curve,
    }
    return row | (attributes(averaged(state, dtype)) if told else {})


def run_published(lr: float, budget: float) -> dict[str, Any]:
    """The peer's own training, in float32 as published."""
    torch.manual_seed(0)
    trial = peer.PublishedTraining(side=SIDE, frames=FRAMES, lr=lr)
    objective, data = TrainSettings.model_validate(preset("tiny")).objective, source()
    spec = BatchSpec(objective=objective, size=PEERS_BATCH, window=FRAMES, frame_strides=(1, 2), seed=0)

    def batch(step: int) -> Tensor:
        drawn = draw_batch(data, spec, step=step, device=torch.device("cpu"))
        return (drawn.video + 1) / 2

    def steps(training: peer.PublishedTraining, total: int) -> Iterator[int]:
        for step in range(total):
            training.update(batch(step))
            yield step + 1

    once = median(seconds for _, seconds in list(timed(steps(trial, 8)))[3:])
    torch.manual_seed(0)
    training = peer.PublishedTraining(side=SIDE, frames=FRAMES, lr=lr)
    total = max(20, int(budget / once))
    spent, curve, looks = 0.0, [], [round(share * total) for share in LOOKS]
    for step, seconds in timed(steps(training, total)):
        spent += seconds
        if step in looks:
            score = validate(lambda z, level, given, captions: training.estimate(z, level), told=False)
            curve.append({"cpu_seconds": spent, "steps": step} | score)
    return {
        "parameters": sum(value.numel() for value in training.diffusion.parameters()),
        "dtype": "fp32",
        "steps": total,
        "clips_per_cpu_second": total * PEERS_BATCH / spent,
        "curve": curve,
    }


def steps_of(state: TrainState, settings: TrainSettings, total: int, dtype: torch.dtype) -> Iterator[int]:
    schedule = LRSchedule.of_run(total, settings.optimizer)
    reader, device = state.video_model.caption_reader(), torch.device("cpu")
    for step in train_steps(state, source(), settings, schedule, reader=reader, device=device, dtype=dtype):
        yield step.step


def timed(steps: Iterator[int]) -> Iterator[tuple[int, float]]:
    """Each step with the CPU seconds it took; what happens between two steps is not counted."""
    while True:
        began = time.process_time()
        step = next(steps, None)
        if step is None:
            return
        yield step, time.process_time() - began


def averaged(state: TrainState, dtype: torch.dtype) -> UNetModel:
    """A model with the averaged weights, as sampling uses it."""
    video_model = copy.deepcopy(state.video_model)
    video_model.load_state_dict(state.ema.shadow)
    video_model.requires_grad_(False).eval()
    return UNetModel(
        video_model=video_model,
        reader=video_model.caption_reader(),
        settings=video_model.settings,
        path=Path("memory"),
        hash="",
        clips_seen=10**6,
        device=torch.device("cpu"),
        dtype=dtype,
    )


# z, level (b, t), given (b, t), captions (b) -> x_hat
Estimate = Callable[[Tensor, Tensor, Tensor, Sequence[str]], Tensor]


def model_estimate(model: UNetModel) -> Estimate:
    times = torch.arange(FRAMES) / FPS
    return lambda z, level, given, captions: model.denoiser(times.expand(len(z), -1), given, captions, scale=1.0)(
        z, level
    )


@torch.no_grad()
def validate(estimate: Estimate, *, told: bool) -> dict[str, float]:
    """Weighted squared errors over the held-out clips; with given frames too, where a model knows them."""
    video = torch.from_numpy(clips(1, HELD_OUT)[0]).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    captions = clips(1, HELD_OUT)[1] if told else ("",) * HELD_OUT

    def estimated(z: Tensor, level: Tensor, given: Tensor) -> Tensor:
        parts = [slice(start, start + 16) for start in range(0, HELD_OUT, 16)]
        return torch.cat([estimate(z[part], level[part], given[part], captions[part]) for part in parts]).clamp(-1, 1)

    names = ("x", "truncated", "v")
    sums = {name: 0.0 for name in names} | ({"given_truncated": 0.0} if told else {})
    given = torch.zeros(HELD_OUT, FRAMES, dtype=torch.bool)
    first = given.clone()
    first[:, : FRAMES // 2] = True
    for number in range(LEVELS):
        u = torch.tensor((number + 0.5) / LEVELS, dtype=torch.float64)
        level = cosine(u, shift=-2.5).float().expand(HELD_OUT, FRAMES)
        noise = torch.randn(video.shape, generator=seeded(7, number))
        z = add_noise(video, noise, level)
        error = (estimated(z, level, given) - video).square().mean(dim=(1, 3, 4))  # b t
        for name in names:
            sums[name] += float((error * WEIGHTINGS[name](level)).mean()) / LEVELS
        if told:
            shown = torch.where(first[:, None, :, None, None], video, z)
            shown_level = torch.where(first, torch.full_like(level, 20.0), level)
            error = (estimated(shown, shown_level, first) - video).square().mean(dim=(1, 3, 4))
            made = error[:, FRAMES // 2 :] * WEIGHTINGS["truncated"](level[:, FRAMES // 2 :])
            sums["given_truncated"] += float(made.mean()) / LEVELS
    return sums


def attributes(model: UNetModel) -> dict[str, Any]:
    """Attributes read back from one sample per caption of the world, and the error of four frames after four."""
    captions = sorted(set(clips(0, TRAINING)[1]))
    videos, _, paths = clips(1, HELD_OUT)
    settings = GenerationSettings(seed=0, steps=SAMPLING_STEPS, condition="learned", history_guidance=1.0)
    made = report.complete(model, videos, range(4), settings)
    right = report.read_back(model, captions, settings)
    return {"right": right, "all_right": right.pop("all"), "extension": report.errors(made, videos, paths, range(4))}
