"""Trainings and commands on the pretended GPU, in a process of their own: python cases.py GROUP FOLDER prints, as JSON,
what each of the group's cases counted."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pretended
import torch
from pretended import LOG, WrongDevice, pretended_gpu
from tiny_model import CAPTIONS, add_noise_to_weights
from torch import Tensor
from torch.nn import functional

from vidiff_cli.checkpoint import write_tensors
from vidiff_cli.commands.evaluate import evaluate
from vidiff_cli.commands.extend import extend
from vidiff_cli.commands.interpolate import interpolate
from vidiff_cli.commands.sample import sample
from vidiff_cli.config.evaluate import EvaluateSettings
from vidiff_cli.config.generate import ExtendSettings, InterpolateSettings, SampleSettings
from vidiff_cli.config.model import DiffusionSettings, ModelSettings, TextSettings
from vidiff_cli.config.train import TrainSettings, presets
from vidiff_cli.models import unet3d
from vidiff_cli.models.acceleration import recompute_stages
from vidiff_cli.models.video_model import VideoNetwork, new_video_model
from vidiff_cli.text.learned import collect_vocabulary
from vidiff_cli.training import auxiliary_losses
from vidiff_cli.training.auxiliary_losses import make_auxiliary_losses
from vidiff_cli.training.distillation import Distillation
from vidiff_cli.training.loader import BatchSpec, ClipSource, draw_batch
from vidiff_cli.training.loop import train_steps
from vidiff_cli.training.lr_schedule import LRSchedule
from vidiff_cli.training.objective import training_loss
from vidiff_cli.training.state import TrainState
from vidiff_cli.video.encode import encode

SIDE, FRAMES, BATCH, STEPS = 16, 4, 4, 1  # STEPS are counted, after one that warms up
SMALL: dict[str, Any] = {"base_channels": 8, "channel_mult": [1, 2], "head_dim": 8, "embedding": 16, "context_dim": 8}
NOISE: dict[str, dict[str, Any]] = {
    "independent": {},
    "mixed": {"noise": "mixed", "noise_strength": 0.5},
    "progressive": {"noise": "progressive", "noise_strength": 0.5},
}


class Row:
    frames, fps, captions = 8, "8", CAPTIONS


@cache
def source() -> ClipSource:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, SIDE, SIDE, 3), np.uint8)
    return ClipSource(rows=[Row()] * 6, read=lambda number, frames: pixels[number][list(frames)])


def model_settings(network: dict[str, Any] | None = None, **more: Any) -> ModelSettings:
    text = TextSettings(vocabulary=collect_vocabulary(CAPTIONS))
    shape: dict[str, Any] = {"width": SIDE, "height": SIDE, "frames": FRAMES, "text": text}
    return ModelSettings.model_validate(shape | {"network": SMALL | (network or {})} | more)


def new_model(settings: ModelSettings) -> VideoNetwork:
    video_model = new_video_model(settings, 0)
    add_noise_to_weights(video_model, 0.05)
    return video_model


def train(
    *,
    network: dict[str, Any] | None = None,
    shape: dict[str, Any] | None = None,
    noise: str = "independent",
    objective: dict[str, Any] | None = None,
    checkpointing: bool = False,
    distilled: bool = False,
    **more: Any,
) -> None:
    """Some steps, of which all but the first are counted."""
    values = {"steps": 9, "batch_size": BATCH, "frames": FRAMES, "optimizer": {"muon_lr": 1e-3}}
    settings = TrainSettings.model_validate(values | {"objective": objective or {}} | more)
    diffusion, device = DiffusionSettings.model_validate(NOISE[noise]), torch.device("cuda")
    model = model_settings({"motion": True} | (network or {}), diffusion=diffusion, **(shape or {}))
    video_model = new_model(model).to(device)
    if checkpointing:
        recompute_stages(video_model.denoiser.network)
    auxiliary = make_auxiliary_losses(settings.objective, diffusion, device)
    of_batch = partial(training_loss, auxiliary=auxiliary)
    if distilled:
        teacher = new_model(model).to(device).requires_grad_(False).eval()
        of_batch = Distillation(teacher=teacher, steps=4, substeps=2, guidance_scale=2.0)
    schedule, reader = LRSchedule.of_run(settings.steps, settings.optimizer), video_model.caption_reader()
    state = TrainState(video_model, settings.optimizer)
    steps = train_steps(
        state, source(), settings, schedule, reader=reader, device=device, dtype=torch.bfloat16, objective=of_batch
    )
    next(steps)
    LOG.reset()
    for _ in range(STEPS):
        next(steps)
    counted(per=STEPS)
    steps.close()


def tiny() -> None:
    """The preset tiny, on 16x16 frames."""
    preset = presets()["tiny"]
    train(network=preset["network"], optimizer=preset["optimizer"], objective=preset["objective"])


def flow() -> None:
    """With every clip above the gate."""
    with mock.patch.object(auxiliary_losses, "GATE", -30.0):
        train(objective={"flow_loss": 1.0}, grad_accum_steps=2)


LOCAL = {"motion": False, "attention_max_size": 0, "temporal": "convolution", "context_dim": 0}
TRAIN: dict[str, Callable[[], None]] = {
    "tiny": tiny,
    "plain": train,
    "images": partial(train, objective={"image_fraction": 0.4}),
    "images, context noise, noise prior": partial(
        train, noise="progressive", objective={"image_fraction": 0.4, "context_noise": 0.5}
    ),
    "dropout, checkpointing": partial(train, network={"dropout": 0.1}, checkpointing=True),
    "flow loss, two parts": flow,
    "levels by frame": partial(train, objective={"levels": {"independent": 0.3, "sloped": 0.3}}),
    "sinusoidal positions, AdamW": partial(train, network={"positions": "sinusoidal"}, optimizer={"muon_lr": 0.0}),
    "distillation": partial(train, distilled=True),
    "super-resolution": partial(
        train, network=LOCAL | {"upscale": 2}, shape={"augmentation": 0.3, "text": TextSettings(kind="none")}
    ),
    "frames between": partial(
        train,
        network=LOCAL | {"between": True},
        shape={"text": TextSettings(kind="none")},
        objective={"levels": {"shared": 0.0, "observed": 1.0}, "estimate_dropout": 0.0},
    ),
}


def counted(*, per: int = 1) -> None:
    COUNTS.update(
        waits={f"{kind} at {place}": count / per for (kind, place), count in LOG.waits.items()},
        launches=sum(LOG.launches.values()) / per,
        operations={name: count / per for name, count in LOG.launches.most_common()},
        attention=[[list(shape), place] for shape, place in sorted(LOG.attention)],
        layouts={place: count / per for place, count in LOG.layouts.items()},
        elementwise_bytes=LOG.elementwise_bytes / per,
    )


COUNTS: dict[str, Any] = {}


@cache
def checkpoint(noise: str = "independent") -> Path:
    """A model of every way to condition."""
    diffusion = DiffusionSettings.model_validate(NOISE[noise])
    settings = model_settings(diffusion=diffusion, context_noise=0.5, frame_levels=True)
    path = Path(f"{noise}.safetensors")
    header = {"model": settings.model_dump(mode="json"), "clips_seen": 10**6}
    write_tensors(path, new_model(settings).state_dict(), header)
    return path


@cache
def clip(number: int = 0, frames: int = 3) -> Path:
    path, rng = Path(f"clips/{number}-{frames}.mkv"), np.random.default_rng(number)
    path.parent.mkdir(exist_ok=True)
    encode(path, rng.integers(0, 256, (frames, SIDE, SIDE, 3), np.uint8), Fraction(8), lossless=True)
    return path


def generate(command: Any, kind: Any, *, noise: str = "independent", few: int = 2, **options: Any) -> None:
    """A command with few steps and with twice as many: what the second waits for more often is waited for in steps."""
    waits = []
    for steps in (few, 2 * few):
        alone = {} if kind is SampleSettings else {"size": "model", "detail": "model"}
        shared = {"model": checkpoint(noise), "device": "cuda", "dtype": "bf16", "seed": 3, "lossless": True}
        LOG.reset()
        command(kind.model_validate(shared | alone | {"steps": steps, "output": f"made-{steps}.mkv"} | options))
        waits.append(dict(LOG.waits))
        for path in Path().glob("made-*"):
            path.unlink()
    counted()
    more = {key: count - waits[0].get(key, 0) for key, count in waits[1].items()}
    COUNTS["waits"] = {f"{kind} at {place}": count / few for (kind, place), count in more.items() if count}


def samples(**options: Any) -> None:
    generate(sample, SampleSettings, **{"prompts": ("a red square",), "num_frames": FRAMES} | options)


def extends(**options: Any) -> None:
    generate(extend, ExtendSettings, input=clip(), num_frames=2, **options)


def interpolates(**options: Any) -> None:
    generate(interpolate, InterpolateSettings, input=clip(), factor=2, **options)


GENERATE: dict[str, Callable[[], None]] = {
    "sample ddpm, noise prior": partial(samples, sampler="ddpm", noise="mixed"),
    "sample ddim, dynamic threshold, freeinit, freenoise": partial(
        samples,
        sampler="ddim",
        threshold=0.99,
        freeinit=2,
        start_noise="freenoise",
        history_guidance=1.5,  # also in the single step that the others are compared with
        num_frames=6,
        few=1,
    ),
    "extend learned": extends,
    "extend context noise, ddpm": partial(extends, context_noise=0.3, sampler="ddpm"),
    "extend reconstruction": partial(extends, condition="reconstruction"),
    "extend reconstruction, ddpm, noise prior": partial(
        extends, condition="reconstruction", sampler="ddpm", noise="mixed"
    ),
    "extend replacement": partial(extends, condition="replacement"),
    "extend history guidance, prompt": partial(extends, history_guidance=1.5, prompt=("a red square",)),
    "extend rolling": partial(extends, scheme="rolling", overlap=2, few=2),
    "extend rolling, ddpm": partial(extends, scheme="rolling", overlap=2, few=2, sampler="ddpm"),
    "interpolate learned": interpolates,
    "interpolate reconstruction": partial(interpolates, condition="reconstruction", gradient_checkpointing="on"),
}


def evaluates(**options: Any) -> None:
    clips = [clip(number, FRAMES) for number in range(3)]
    real = clips[0].parent
    LOG.reset()
    values = {"real": real, "output": "evaluation", "bootstrap": 5, "clip": False, "device": "cuda"}
    evaluate(EvaluateSettings.model_validate(values | {"extractors": ("random",), "overwrite": True} | options))
    counted()


def evaluates_samples() -> None:
    evaluates(generated=checkpoint(), sampling={"steps": 2, "dtype": "bf16"}, count=2)


EVALUATE: dict[str, Callable[[], None]] = {
    "two folders": lambda: evaluates(generated=clip(0, FRAMES).parent),
    "samples of a model": evaluates_samples,
}


def fails(fault: Callable[[], Any]) -> None:
    """A planted fault, which CUDA refuses."""
    try:
        fault()
    except WrongDevice as error:
        COUNTS["found"] = str(error)


def in_network(name: str, wrong: Callable[..., Any]) -> Callable[[], None]:
    """A fault in what a function of the network returns."""

    def fault() -> None:
        with mock.patch.object(unet3d, name, wrong):
            train()

    return partial(fails, fault)


def there(*shape: int) -> Tensor:
    return torch.ones(shape, device="cuda")


def five_dimensions() -> None:
    LOG.reset()
    functional.scaled_dot_product_attention(*[there(2, 5, 1, 4, 8)] * 3)
    counted()


def too_many() -> None:
    LOG.reset()
    functional.scaled_dot_product_attention(*[there(65_536, 1, 1, 1)] * 3)
    counted()


def waits() -> None:
    LOG.reset()
    here, mask = torch.ones(3), there(3) > 0
    for wait in (
        lambda: there(1).item(),
        lambda: bool(there(1) > 0),
        lambda: there(3).cpu(),
        lambda: there(3).nonzero(),
        lambda: there(3)[mask],
        lambda: here.to("cuda"),
        lambda: there(3).copy_(here),
        lambda: there(3)[torch.tensor([0])],
        lambda: torch.cuda.synchronize(),
        lambda: torch.tensor([1.0], device="cuda"),
        lambda: there(3).to("cpu", non_blocking=True),
    ):
        before = sum(LOG.waits.values())
        wait()
        COUNTS.setdefault("each", []).append(sum(LOG.waits.values()) - before)
    LOG.reset()
    here.to("cuda", non_blocking=True)
    here.pin_memory().to("cuda", non_blocking=True)
    torch.empty(3, pin_memory=True).copy_(there(3), non_blocking=True)
    torch.zeros(3, device="cuda").add_(2.0).mul_(torch.tensor(3.0))
    counted()


def launches() -> None:
    LOG.reset()
    x = there(2, 3)
    x.view(6)[2:].mul_(2)
    counted()


def same_as_on_a_cpu() -> None:
    """The loss and the gradients of a batch in float32, with images, dropout and a patch stem."""
    video_model = new_model(model_settings({"motion": True, "dropout": 0.1}))
    objective = {"image_fraction": 0.4, "context_noise": 0.5}
    settings = TrainSettings.model_validate({"batch_size": BATCH, "frames": FRAMES, "objective": objective})
    spec = BatchSpec(objective=settings.objective, size=BATCH, window=FRAMES, frame_strides=(1,), seed=0, motion=True)
    found = []
    for device in (torch.device("cpu"), torch.device("cuda")):
        video_model.to(device).train().zero_grad()
        batch = draw_batch(source(), spec, step=0, device=device, reader=video_model.caption_reader())
        training_loss(video_model, batch).total.backward()
        found.append([value.grad.cpu() for value in video_model.parameters() if value.grad is not None])
    sizes = [float(wanted.norm()) for wanted in found[0]]
    COUNTS["gradients"] = sum(size > 0 for size in sizes)
    pairs = zip(sizes, *found, strict=True)
    COUNTS["difference"] = max(float((ours - wanted).norm()) / size for size, wanted, ours in pairs if size)


FAULTS: dict[str, Callable[[], None]] = {
    "a sum of both devices": partial(fails, lambda: there(3) + torch.ones(3)),
    "a product with a number of the CPU": partial(fails, lambda: torch.cat([there(1), torch.ones(1)])),
    "a generator of the CPU": partial(
        fails, lambda: torch.randn(3, device="cuda", generator=torch.Generator().manual_seed(0))
    ),
    "numpy": partial(fails, lambda: np.asarray(there(3))),
    "a mask of another format": partial(
        fails,
        lambda: functional.scaled_dot_product_attention(*[there(1, 1, 4, 8)] * 3, attn_mask=there(4, 4).double()),
    ),
    "features of times on the CPU": in_network("gap_features", lambda times, is_image: torch.zeros(*times.shape, 4)),
    "elapsed times on the CPU": in_network("_elapsed", lambda times, is_image: torch.zeros(times.shape)),
    "five dimensions": five_dimensions,
    "too many at once": too_many,
    "waits": waits,
    "launches": launches,
    "the same as on a CPU": same_as_on_a_cpu,
}

GROUPS = {"train": TRAIN, "generate": GENERATE, "evaluate": EVALUATE, "faults": FAULTS}


def results(cases: dict[str, Callable[[], None]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, case in cases.items():
        COUNTS.clear()
        try:
            case()
        except Exception:
            COUNTS["error"] = traceback.format_exc()
        yield name, dict(COUNTS)


if __name__ == "__main__":
    group, folder, *names = sys.argv[1:]
    os.chdir(folder)
    torch.set_num_threads(1)
    chosen = {name: case for name, case in GROUPS[group].items() if not names or name in names}
    checkpoint(), checkpoint("mixed"), clip(), [clip(number, FRAMES) for number in range(3)]
    with pretended_gpu():
        print(json.dumps(dict(results(chosen))), flush=True)
    assert pretended.KEPT
    os._exit(0)  # torch's tables point into this process's memory
