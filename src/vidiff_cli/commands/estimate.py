"""`vidiff train --estimate`: memory, time and disk of a training, from a few real steps."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import torch

from vidiff_cli.config.model import ClipSettings, ModelSettings
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.dataset.dataset import Dataset
from vidiff_cli.dataset.world_dataset import open_clips
from vidiff_cli.device import (
    available_memory,
    choose_device,
    choose_dtype,
    dtype_name,
    peak_memory,
    restart_peak,
    synchronize,
)
from vidiff_cli.events import EventStream, Note, task
from vidiff_cli.generation.frame_store import free_bytes
from vidiff_cli.runs.averages import MOST
from vidiff_cli.runs.compilation import choose_compilation
from vidiff_cli.runs.latents import blank_latents
from vidiff_cli.runs.memory import cheapest_change, estimate_step, format_bytes, resolve_batch_size
from vidiff_cli.runs.public_finetune import blank_base_latents, finetunes_public
from vidiff_cli.runs.run_plan import plan_own_model, plan_public_model
from vidiff_cli.runs.setup import describe_training, initial_state, open_clip_source
from vidiff_cli.text.encoder import CaptionEmbedding, EmbedCaption
from vidiff_cli.training.auxiliary_losses import make_auxiliary_losses
from vidiff_cli.training.cost_estimate import FLOAT
from vidiff_cli.training.distributed import ALONE
from vidiff_cli.training.loop import OutOfMemory, train_steps
from vidiff_cli.training.lr_schedule import LRSchedule
from vidiff_cli.training.objective import training_loss

MIN_STEPS, MAX_STEPS, MAX_SECONDS = 3, 8, 20.0  # of a measurement: memory settles after a few steps


@dataclass(frozen=True, kw_only=True, slots=True)
class CostReport:
    """Memory, time and disk of a training.

    `memory_is` is "measured" in real steps where they fit, else "estimated" (then `seconds_per_step` is None). `change`
    names the cheapest options with which a training fits that does not fit as asked.
    """

    preset: str | None
    device: str
    precision: str
    batch_size: int
    accumulate: int
    gradient_checkpointing: str
    clip: str
    parameters: int
    flops_per_step: float
    memory_bytes: int
    memory_is: str
    memory_available_bytes: int
    fits: bool
    change: str | None
    seconds_per_step: float | None
    steps: int
    seconds_to_finish: float | None
    checkpoint_bytes: int
    disk_bytes: int
    disk_free_bytes: int


@task
def estimate_cost(settings: TrainSettings) -> EventStream[CostReport]:
    """Estimates memory, time and disk of `train` with these settings by a few real steps. Writes nothing.

    Raises VidiffError for a dataset that cannot be read.
    """
    dataset = open_clips(settings)
    device = choose_device(settings.device, deterministic=settings.deterministic)
    dtype = choose_dtype(settings.precision, device)
    restart_peak(device)
    settings = settings.model_copy(update={"precision": dtype_name(dtype)})
    if finetunes_public(settings):
        settings, model, encoder = yield from plan_public_model(settings, dataset, device, None)
    else:
        settings, model, encoder = yield from plan_own_model(settings, dataset, device, None, encode=False)
    del encoder
    settings = yield from resolve_batch_size(settings, model, device)
    free = available_memory(device)
    estimate = estimate_step(settings, model)
    yield from describe_training(settings, model, dataset, device, estimate.parameters)
    seconds, memory, method = None, estimate.bytes, "estimated"
    if estimate.bytes <= free:
        yield Note("Measuring a few steps...")
        try:
            seconds, memory = _measure_steps(settings, model, dataset, device)
            method = "measured"
        except OutOfMemory:
            memory = max(memory, free + 1)
    fits = memory <= free
    checkpoint = estimate.fixed_bytes  # without gradients, with the average for sampling
    snapshots = (MOST + 1) * estimate.parameters * FLOAT  # of two averages in half precision
    checkpoints = settings.keep + 3  # the end of the stable phase, the result, and one that is being written
    return CostReport(
        preset=settings.preset,
        device=str(device),
        precision=settings.precision,
        batch_size=settings.batch_size,
        accumulate=settings.grad_accum_steps,
        gradient_checkpointing=settings.gradient_checkpointing,
        clip=f"{model.frames} frames of {model.width}x{model.height}",
        parameters=estimate.parameters,
        flops_per_step=estimate.flops,
        memory_bytes=memory,
        memory_is=method,
        memory_available_bytes=free,
        fits=fits,
        change=None if fits else cheapest_change(settings, model, free, scale=memory / estimate.bytes),
        seconds_per_step=seconds,
        steps=settings.steps,
        seconds_to_finish=None if seconds is None else seconds * settings.steps,
        checkpoint_bytes=checkpoint,
        disk_bytes=checkpoint * checkpoints + snapshots,
        disk_free_bytes=free_bytes(settings.output or Path("runs")),
    )


def as_rows(report: CostReport) -> list[tuple[str, str]]:
    """Formats a report as rows of name and value."""
    step = "not measured" if report.seconds_per_step is None else f"{report.seconds_per_step:.3g} s"
    total = "not known" if report.seconds_to_finish is None else _format_duration(report.seconds_to_finish)
    parts = f", in {report.accumulate} parts" if report.accumulate > 1 else ""
    recompute = ", activations computed again" if report.gradient_checkpointing == "on" else ""
    memory, free = format_bytes(report.memory_bytes), format_bytes(report.memory_available_bytes)
    disk, checkpoint = format_bytes(report.disk_bytes), format_bytes(report.checkpoint_bytes)
    return [
        ("device", f"{report.device}, {report.precision}"),
        ("batch", f"{report.batch_size} clips of {report.clip}{parts}{recompute}"),
        ("parameters", f"{report.parameters / 1e6:.2f} M"),
        ("operations", f"{report.flops_per_step / 1e9:.3g} GFLOP a step"),
        ("memory", f"{memory} {report.memory_is}, {free} free"),
        ("step", step),
        ("to finish", f"{total} for {report.steps} steps, without samples and validation"),
        ("disk", f"{disk} for checkpoints of {checkpoint} and snapshots, {format_bytes(report.disk_free_bytes)} free"),
        ("fits", "yes" if report.fits else f"no: the cheapest change is {report.change}"),
    ]


def _format_duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"


def _measure_steps(
    settings: TrainSettings, model: ModelSettings, dataset: Dataset, device: torch.device
) -> tuple[float, int]:
    """Makes a few training steps; returns the seconds of the fastest and the peak memory in bytes."""
    with contextlib.suppress(ImportError):  # a training plots its loss, and matplotlib's memory counts
        import matplotlib.backends.backend_agg
        import matplotlib.figure  # noqa: F401

    own = model.base is None
    latents = blank_latents(dataset, model.autoencoder) if own else blank_base_latents(model, dataset)
    compiled = choose_compilation(settings, model, device).mode
    state = initial_state(settings, model, device, ALONE, compiled=compiled)
    encoder = model.text.clip if model.base is None else model.base.text
    embed = None if encoder is None else _blank_captions(encoder)
    steps = train_steps(
        state,
        open_clip_source(settings, dataset, latents=latents),
        settings,
        LRSchedule.of_run(max(settings.steps, MAX_STEPS), settings.optimizer),
        reader=state.video_model.caption_reader(embed),
        device=device,
        dtype=choose_dtype(settings.precision, device),
        objective=partial(
            training_loss, auxiliary=make_auxiliary_losses(settings.objective, settings.diffusion, device)
        ),
    )
    durations, start = list[float](), time.monotonic()
    previous = start
    for _ in islice(steps, MAX_STEPS):
        synchronize(device)
        now = time.monotonic()
        durations.append(now - previous)
        previous = now
        limit = MAX_SECONDS if len(durations) >= MIN_STEPS else 10 * MAX_SECONDS
        if now - start > limit:
            break
    steps.close()  # type: ignore[attr-defined]
    return min(durations[1:] or durations), peak_memory(device)


def _blank_captions(clip: ClipSettings) -> EmbedCaption:
    """Embeddings of zeros in the place of a CLIP's: a measurement does not run its tower."""
    blank = CaptionEmbedding(tokens=torch.zeros(16, clip.width), pooled=torch.zeros(clip.pooled))
    return lambda caption: blank
