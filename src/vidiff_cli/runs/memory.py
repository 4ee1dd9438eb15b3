"""Memory of a training step: `--batch-size auto`, gradient checkpointing, and the error of a step that did not fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import torch

from vidiff_cli.config.model import ModelSettings
from vidiff_cli.config.run_config import read_run_config
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.device import available_memory
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import EventStream, Note
from vidiff_cli.training.cost_estimate import CostEstimate, estimate
from vidiff_cli.training.loop import OutOfMemory, is_out_of_memory

GIB = 2**30
USABLE_FRACTION = 0.85  # of a GPU's free memory: the rest is for what the estimate does not count
MAX_AUTO_BATCH = 256  # clips
CPU_BATCH_PIXELS, CPU_MAX_CLIPS = 2**19, 32  # a step of about a second on two cores with the preset small


def resolve_batch_size(
    settings: TrainSettings, model: ModelSettings, device: torch.device, *, run: Path | None = None, world: int = 1
) -> EventStream[TrainSettings]:
    """Replaces `auto` in the batch size and in gradient checkpointing by values.

    The batch size recorded in an existing `run` is kept. Warns where the estimate exceeds the free memory.
    """
    if not settings.batch_size:
        recorded = _recorded_batch_size(run)
        batch_size = recorded or _largest_batch(settings, model, device, world)
        settings = settings.model_copy(update={"batch_size": batch_size})
        yield Note(f"Batch size: {batch_size} clips{', as recorded in the run' if recorded else ''}.")
    free = available_memory(device)
    if settings.gradient_checkpointing == "auto":
        plain = settings.model_copy(update={"gradient_checkpointing": "off"})
        tight = device.type != "cpu" and estimate_step(plain, model, world).bytes > USABLE_FRACTION * free
        settings = settings.model_copy(update={"gradient_checkpointing": "on" if tight else "off"})
    if (needed := estimate_step(settings, model, world).bytes) > free:
        change = cheapest_change(settings, model, free, world=world)
        yield Note(
            f"A step needs about {needed / GIB:.1f} GiB of memory, and {free / GIB:.1f} GiB are free"
            f"{f': {change} would fit' if change else ''}.",
            "warning",
        )
    return settings


def _largest_batch(settings: TrainSettings, model: ModelSettings, device: torch.device, world: int) -> int:
    """Clips of a batch, a power of two per process: on a CPU by the size of a clip alone, else as many as fit."""
    pixels = model.frames * math.prod(model.z_size)
    if device.type == "cpu":
        return world * max(1, min(CPU_MAX_CLIPS, 2 ** ((max(1, CPU_BATCH_PIXELS // pixels)).bit_length() - 1)))
    limit, clips = USABLE_FRACTION * available_memory(device), MAX_AUTO_BATCH
    while clips > 1:
        candidate = settings.model_copy(update={"batch_size": clips * world})
        if estimate_step(candidate, model, world).bytes <= limit:
            break
        clips //= 2
    return clips * world


def _recorded_batch_size(run: Path | None) -> int | None:
    train = read_run_config(run).get("train")
    recorded = train.get("batch_size") if isinstance(train, dict) else None
    return recorded if type(recorded) is int and recorded > 0 else None


def cheapest_change(
    settings: TrainSettings, model: ModelSettings, free_bytes: int, *, scale: float = 1.0, world: int = 1
) -> str | None:
    """Command line options with which a step fits into `free_bytes`, cheapest first.

    Gradient accumulation adds no operations, checkpointing a third of them; fewer frames make another model. `scale`
    is the measured memory over the estimated one.
    """
    clips = max(1, settings.batch_size // world)
    parts = [settings.grad_accum_steps * 2**power for power in range(clips.bit_length())]
    parts = [count for count in parts if count <= clips] or [settings.grad_accum_steps]
    lengths = dict.fromkeys((model.frames, max(1, model.frames // 2), max(1, model.frames // 4)))
    modes = dict.fromkeys((settings.gradient_checkpointing, "on"))
    for frames, checkpointing, count in product(lengths, modes, parts):
        candidate = settings.model_copy(update={"grad_accum_steps": count, "gradient_checkpointing": checkpointing})
        needed = estimate_step(candidate, model.model_copy(update={"frames": frames}), world).bytes
        if needed * scale <= free_bytes:
            options = {
                f"--accumulate {count}": count != settings.grad_accum_steps,
                "--gradient-checkpointing on": checkpointing != settings.gradient_checkpointing,
                f"--frames {frames}": frames != model.frames,
            }
            return " ".join(option for option, differs in options.items() if differs) or None
    return "a smaller --preset"


@contextmanager
def explain_out_of_memory(settings: TrainSettings, model: ModelSettings, save: Callable[[], bool]) -> Iterator[None]:
    """Raises out-of-memory errors as one VidiffError: the memory of a step and three ways to need less.

    `save` writes a checkpoint of the completed steps and returns whether it did; it is called only for errors inside a
    training step, where the state is consistent.
    """
    try:
        yield
    except (VidiffError, RuntimeError, MemoryError) as error:
        if not isinstance(error, OutOfMemory) and not is_out_of_memory(error):
            raise
        saved = ", and the steps before it are saved" if isinstance(error, OutOfMemory) and save() else ""
        smaller = max(1, settings.batch_size // (2 * settings.grad_accum_steps))
        fixes = [f"take fewer clips at once (--accumulate {2 * settings.grad_accum_steps}, or --batch-size {smaller})"]
        if settings.gradient_checkpointing != "on":
            fixes.append("compute activations again (--gradient-checkpointing on)")
        fixes.append("take fewer --frames or a smaller --preset")
        raise VidiffError(
            getattr(error, "what", "out of memory"),
            found=f"a step of about {format_bytes(estimate_step(settings, model).bytes)}{saved}",
            fix=", or ".join(fixes),
        ) from error


def estimate_step(settings: TrainSettings, model: ModelSettings, world: int = 1) -> CostEstimate:
    """Estimates a step in the precision of `settings`, on one of `world` processes."""
    return estimate(settings, model, half=settings.precision in ("bf16", "fp16"), world=world)


def format_bytes(count: int) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / 2**20:.0f} MiB"
