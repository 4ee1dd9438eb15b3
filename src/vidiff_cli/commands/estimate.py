"""Cost of a training (`vidiff train --estimate`), the batch size and checkpointing that fit in memory, and the message
of a training that ran out of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from vidiff_cli.config.model import ModelSettings
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.dataset.dataset import Dataset
from vidiff_cli.dataset.world_dataset import open_clips
from vidiff_cli.device import available_memory, choose_device, choose_dtype, dtype_name, peak_memory, restart_peak
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import EventStream, Note, task
from vidiff_cli.generation.frame_store import free_bytes
from vidiff_cli.runs.run_dir import read_config
from vidiff_cli.runs.setup import consistent, describe_training, model_settings, open_clip_source
from vidiff_cli.runs.text_encoder import choose_text
from vidiff_cli.runs.worker_rank import first_state
from vidiff_cli.text.adapter import AdaptedText
from vidiff_cli.text.encoder import CaptionEmbedding
from vidiff_cli.training.auxiliary_losses import make_auxiliary_losses
from vidiff_cli.training.cost_estimate import FLOAT, CostEstimate, estimate
from vidiff_cli.training.distributed import ALONE
from vidiff_cli.training.loop import LRSchedule, OutOfMemory, is_out_of_memory, train_steps

GIB = 2**30
ROOM = 0.85  # of a GPU's memory that a plan fills: the rest is for what an estimate does not see
LARGEST_AUTO = 256  # clips
CPU_PIXELS, CPU_CLIPS = 2**19, 32  # of a batch on a CPU: what two cores make in about a second with the small preset
LEAST_STEPS, MEASURED_STEPS, MEASURED_SECONDS = 3, 8, 20.0  # memory settles after a few


@dataclass(frozen=True, kw_only=True, slots=True)
class CostReport:
    """What a training will cost. Memory and seconds are measured in real steps where they fit, else estimated (None
    seconds). `change` is the cheapest change with which a training fits that does not."""

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
    """What `train` with these settings will need and how long it will take, from a few real steps. Writes nothing.

    Raises VidiffError for a dataset that cannot be read.
    """
    dataset = open_clips(settings)
    device = choose_device(settings.device)
    dtype = choose_dtype(settings.precision, device)
    restart_peak(device)
    settings = consistent(settings.model_copy(update={"precision": dtype_name(dtype)}))
    settings, tower = yield from choose_text(settings, dataset, None)
    model = model_settings(settings, dataset, clip=tower.settings if tower else None)
    del tower
    settings = yield from resolve_batch_size(settings, model, device)
    room = available_memory(device)
    wanted = _estimate(settings, model)
    yield from describe_training(settings, model, dataset, device, wanted.parameters)
    seconds, memory, told = None, wanted.bytes, "estimated"
    if wanted.bytes <= room:
        yield Note("Measuring a few steps...")
        try:
            seconds, memory = _measure(settings, model, dataset, device)
            told = "measured"
        except OutOfMemory:
            memory = max(memory, room + 1)
    fits = memory <= room
    checkpoint = wanted.fixed_bytes - wanted.parameters * FLOAT  # all but the gradients
    return CostReport(
        preset=settings.preset,
        device=str(device),
        precision=settings.precision,
        batch_size=settings.batch_size,
        accumulate=settings.grad_accum_steps,
        gradient_checkpointing=settings.gradient_checkpointing,
        clip=f"{model.frames} frames of {model.width}x{model.height}",
        parameters=wanted.parameters,
        flops_per_step=wanted.flops,
        memory_bytes=memory,
        memory_is=told,
        memory_available_bytes=room,
        fits=fits,
        change=None if fits else cheapest_change(settings, model, room, scale=memory / wanted.bytes),
        seconds_per_step=seconds,
        steps=settings.steps,
        seconds_to_finish=None if seconds is None else seconds * settings.steps,
        checkpoint_bytes=checkpoint,
        disk_bytes=checkpoint
        * (settings.keep + 3),  # the end of the stable phase, the result, and one that is being written
        disk_free_bytes=free_bytes(settings.output or Path("runs")),
    )


def as_rows(found: CostReport) -> list[tuple[str, str]]:
    """The plan for a person: names and values."""
    per_step = "not measured" if found.seconds_per_step is None else f"{found.seconds_per_step:.3g} s"
    whole = "not known" if found.seconds_to_finish is None else _duration(found.seconds_to_finish)
    parts = f", in {found.accumulate} parts" if found.accumulate > 1 else ""
    again = ", activations computed again" if found.gradient_checkpointing == "on" else ""
    rows = [
        ("device", f"{found.device}, {found.precision}"),
        ("batch", f"{found.batch_size} clips of {found.clip}{parts}{again}"),
        ("parameters", f"{found.parameters / 1e6:.2f} M"),
        ("operations", f"{found.flops_per_step / 1e9:.3g} GFLOP a step"),
        ("memory", f"{_size(found.memory_bytes)} {found.memory_is}, {_size(found.memory_available_bytes)} free"),
        ("step", per_step),
        ("to finish", f"{whole} for {found.steps} steps, without samples and validation"),
        (
            "disk",
            f"{_size(found.disk_bytes)} for checkpoints of {_size(found.checkpoint_bytes)}, "
            f"{_size(found.disk_free_bytes)} free",
        ),
        ("fits", "yes" if found.fits else f"no: the cheapest change is {found.change}"),
    ]
    return rows


def _size(count: int) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / 2**20:.0f} MiB"


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"


def resolve_batch_size(
    settings: TrainSettings, model: ModelSettings, device: torch.device, *, run: Path | None = None, world: int = 1
) -> EventStream[TrainSettings]:
    """The settings with the batch size and gradient checkpointing decided, where they are `auto`; a `run` that is there
    already has decided its batch size. Warns where the estimate is above the memory there is."""
    if not settings.batch_size:
        kept = _kept_batch(run)
        settings = settings.model_copy(update={"batch_size": kept or _largest_batch(settings, model, device, world)})
        yield Note(f"A batch is {settings.batch_size} clips{', as the run has it' if kept else ''}.")
    room = available_memory(device)
    if settings.gradient_checkpointing == "auto":
        plain = settings.model_copy(update={"gradient_checkpointing": "off"})
        tight = device.type != "cpu" and _estimate(plain, model, world).bytes > ROOM * room
        settings = settings.model_copy(update={"gradient_checkpointing": "on" if tight else "off"})
    if (wanted := _estimate(settings, model, world).bytes) > room:
        change = cheapest_change(settings, model, room, world=world)
        yield Note(
            f"A step needs about {wanted / GIB:.1f} GiB of memory, and {room / GIB:.1f} GiB are free"
            f"{f': {change} would fit' if change else ''}.",
            "warning",
        )
    return settings


def _largest_batch(settings: TrainSettings, model: ModelSettings, device: torch.device, world: int) -> int:
    """A power of two: on a CPU, it follows from the clip's size alone; else it is the largest one that fits."""
    pixels = model.frames * model.width * model.height
    if device.type == "cpu":
        return world * max(1, min(CPU_CLIPS, 2 ** ((max(1, CPU_PIXELS // pixels)).bit_length() - 1)))
    room, clips = ROOM * available_memory(device), LARGEST_AUTO
    while clips > 1:
        asked = settings.model_copy(update={"batch_size": clips * world})
        if _estimate(asked, model, world).bytes <= room:
            break
        clips //= 2
    return clips * world


def _kept_batch(run: Path | None) -> int | None:
    train = read_config(run).get("train")
    kept = train.get("batch_size") if isinstance(train, dict) else None
    return kept if type(kept) is int and kept > 0 else None


def cheapest_change(
    settings: TrainSettings, model: ModelSettings, room: int, *, scale: float = 1.0, world: int = 1
) -> str | None:
    """The options with which a step fits into `room` bytes, the ones that cost least first: parts of a batch cost no
    operation, checkpointing a third more of them, fewer frames another model. `scale` is what a step really took of
    its estimate."""
    clips = max(1, settings.batch_size // world)
    parts = [settings.grad_accum_steps * 2**power for power in range(clips.bit_length())]
    parts = [count for count in parts if count <= clips] or [settings.grad_accum_steps]
    cases = [
        (count, checkpointing, frames)
        for frames in dict.fromkeys((model.frames, max(1, model.frames // 2), max(1, model.frames // 4)))
        for checkpointing in dict.fromkeys((settings.gradient_checkpointing, "on"))
        for count in parts
    ]
    for count, checkpointing, frames in cases:
        asked = settings.model_copy(update={"grad_accum_steps": count, "gradient_checkpointing": checkpointing})
        needed = _estimate(asked, model.model_copy(update={"frames": frames}), world).bytes
        if needed * scale <= room:
            options = {
                f"--accumulate {count}": count != settings.grad_accum_steps,
                "--gradient-checkpointing on": checkpointing != settings.gradient_checkpointing,
                f"--frames {frames}": frames != model.frames,
            }
            return " ".join(option for option, differs in options.items() if differs) or None
    return "a smaller --preset"


@contextmanager
def memory_explained(settings: TrainSettings, model: ModelSettings, save: Callable[[], object]) -> Iterator[None]:
    """Out of memory as one sentence: what the step needs, and three ways out. The steps that were made are saved."""
    try:
        yield
    except (VidiffError, RuntimeError, MemoryError) as error:
        if not isinstance(error, OutOfMemory) and not is_out_of_memory(error):
            raise
        kept = ""
        if isinstance(error, OutOfMemory):
            kept = ", and the steps before it are saved" if save() else ""
        smaller = max(1, settings.batch_size // (2 * settings.grad_accum_steps))
        ways = [
            f"take fewer clips at once (--accumulate {2 * settings.grad_accum_steps}, or --batch-size {smaller})",
            "compute activations again (--gradient-checkpointing on)",
            "take fewer --frames or a smaller --preset",
        ]
        raise VidiffError(
            getattr(error, "what", "out of memory"),
            found=f"a step of about {_size(_estimate(settings, model).bytes)}{kept}",
            fix=", or ".join(way for way in ways if settings.gradient_checkpointing != "on" or "again" not in way),
        ) from error


def _estimate(settings: TrainSettings, model: ModelSettings, world: int = 1) -> CostEstimate:
    return estimate(settings, model, half=settings.precision in ("bf16", "fp16"), world=world)


def _measure(
    settings: TrainSettings, model: ModelSettings, dataset: Dataset, device: torch.device
) -> tuple[float, int]:
    """Seconds of a step and the most memory that was used, of a few real ones."""
    with contextlib.suppress(ImportError):  # a training draws its loss, and that library's memory counts
        import matplotlib.backends.backend_agg
        import matplotlib.figure  # noqa: F401

    state = first_state(settings, model, device, ALONE)
    if isinstance(state.video_model.text, AdaptedText) and model.text.clip is not None:
        clip = model.text.clip
        blank = CaptionEmbedding(tokens=torch.zeros(16, clip.width), pooled=torch.zeros(clip.pooled))
        state.video_model.text.frozen = lambda _: blank
    schedule = LRSchedule.of_run(max(settings.steps, MEASURED_STEPS), settings.optimizer)
    dtype = choose_dtype(settings.precision, device)
    auxiliary = make_auxiliary_losses(settings.objective, settings.diffusion, device)
    steps = train_steps(
        state, open_clip_source(settings, dataset), settings, schedule, device=device, dtype=dtype, auxiliary=auxiliary
    )
    durations, began = list[float](), time.monotonic()
    before = began
    for _ in islice(steps, MEASURED_STEPS):
        now = time.monotonic()
        durations.append(now - before)
        before = now
        enough = MEASURED_SECONDS if len(durations) >= LEAST_STEPS else 10 * MEASURED_SECONDS
        if now - began > enough:
            break
    steps.close()  # type: ignore[attr-defined]
    return min(durations[1:] or durations), peak_memory(device)
