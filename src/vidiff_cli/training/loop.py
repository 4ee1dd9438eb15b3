"""The training loop: a generator of step reports. The caller owns printing, saving, sampling and stopping."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidiff_cli.config.train import TrainSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.models.acceleration import compile_failure
from vidiff_cli.models.sharding import local
from vidiff_cli.models.video_model import VideoNetwork
from vidiff_cli.text.encoder import CaptionReader, CaptionTensors
from vidiff_cli.training.distributed import ALONE, DistributedContext
from vidiff_cli.training.gradients import clip_gradients
from vidiff_cli.training.loader import Batch, BatchSpec, ClipSource, draw_batches
from vidiff_cli.training.lr_schedule import LRSchedule
from vidiff_cli.training.objective import Loss, Objective, training_loss
from vidiff_cli.training.state import TrainState
from vidiff_cli.training.step_guard import GIVE_UP_AFTER, SCALE, name_clips

STUCK_AFTER = 200  # steps in a row at the clip value before it is called stuck


@dataclass(frozen=True, kw_only=True, slots=True)
class StepReport:
    """After `step` updates. Loss of the clips without given frames (`free`), with some (`observed`), and of those whose
    frames have levels of their own (`frame_levels`); nan without such clips.

    `stuck` is True once, when the gradient norm has stayed at the clip value for long: most often a forgotten parameter
    or too large a learning rate. Of each clip of the batch, over all ranks: `per_clip` loss, `conditional` (with
    its caption), `rows` (its number in the source); of each of its frames: `per_frame` loss, `levels` (log-SNR),
    and `made`, true for those that count (b, t). `terms` are the auxiliary losses, weighted. `skipped`: the update
    was not made, for the `reason` that `StepGuard.check` returns.
    """

    step: int
    phase: str
    loss: float
    free: float
    observed: float
    frame_levels: float
    gradient_norm: float
    lr: float
    stuck: bool
    per_clip: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    per_frame: np.ndarray = field(default_factory=lambda: np.zeros((0, 1), np.float32))
    levels: np.ndarray = field(default_factory=lambda: np.zeros((0, 1), np.float32))
    made: np.ndarray = field(default_factory=lambda: np.zeros((0, 1), bool))
    conditional: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    rows: tuple[int, ...] = ()
    terms: dict[str, float] = field(default_factory=dict)
    skipped: bool = False
    reason: str = ""


def train_steps(
    state: TrainState,
    source: ClipSource,
    settings: TrainSettings,
    schedule: LRSchedule,
    *,
    reader: CaptionReader | None,
    device: torch.device,
    dtype: torch.dtype,
    parallel: DistributedContext = ALONE,
    objective: Objective = training_loss,
) -> Iterator[StepReport]:
    """Updates `state` until `schedule.steps`, one report per update.

    Between two updates the state is consistent and may be saved.

    Args:
        state: Weights, averages, optimizers and the step.
        source: The clips.
        settings: Settings of the training.
        schedule: Learning rates, and the number of steps.
        reader: Reads captions for the text encoder; None for a model without one.
        device: Device of the weights.
        dtype: Number format of the forward pass.
        parallel: The processes that train together.
        objective: The loss of a batch.

    Yields:
        A report per update; a skipped one has the reason.

    Raises:
        VidiffError: Several unsound updates in a row.
        OutOfMemory: A step does not fit.
    """
    model = state.video_model.settings
    spec = BatchSpec(
        objective=settings.objective,
        loader=settings.loader,
        size=settings.batch_size,
        window=model.frames,
        frame_strides=model.frame_strides,
        seed=settings.seed,
        motion=model.network.motion,
        upscale=model.network.upscale,
        between=model.network.between,
        rank=parallel.rank,
        world=parallel.world,
    )
    drawn = draw_batches(source, spec, start=state.step, stop=schedule.steps, device=device, reader=reader)
    with closing(drawn) as batches:
        updates = _updates(
            state, batches, settings, schedule, device=device, dtype=dtype, parallel=parallel, objective=objective
        )
        for report in updates:
            yield report
            if state.guard.skipped == GIVE_UP_AFTER:
                raise VidiffError(
                    f"training diverged at step {report.step}",
                    found=f"{GIVE_UP_AFTER} unsound updates in a row, the last with a loss of {report.loss:.4g} and a "
                    f"gradient norm of {report.gradient_norm:.4g} on a "
                    f"{name_clips(report.rows, report.per_clip, source.name)}",
                    fix="continue with a smaller --lr from an earlier checkpoint",
                )


def _updates(
    state: TrainState,
    batches: Iterable[Batch],
    settings: TrainSettings,
    schedule: LRSchedule,
    *,
    device: torch.device,
    dtype: torch.dtype,
    parallel: DistributedContext,
    objective: Objective,
) -> Iterator[StepReport]:
    video_model, guard, chosen = state.video_model, state.guard, settings.optimizer
    video_model.train()
    if dtype == torch.float16 and guard.scale.value == 1.0 and not guard.norms:
        guard.scale.value = SCALE
    for batch in batches:
        lr = state.set_rate(schedule.factor(state.step))
        autocast = partial(torch.autocast, device.type, dtype, enabled=dtype != torch.float32)
        with _explained(state):
            loss = _gradients(video_model, batch, settings, guard.scale.value, autocast, parallel, objective)
        gradients = [value.grad for value in video_model.parameters() if value.grad is not None]
        guard.scale.unscale([local(gradient) for gradient in gradients])
        outcome = _gather(loss, clip_gradients(gradients, chosen.max_grad_norm), batch, settings.batch_size, parallel)
        norm, value = outcome.norm, outcome.loss
        reason = guard.check(value, norm, spike=chosen.grad_spike_factor)
        if not reason:
            for optimizer in state.optimizers.values():
                optimizer.step()
            state.ema.update(video_model)
        state.phase = "stable" if state.step < schedule.stable else "decay"
        state.step += 1
        guard.clipped = guard.clipped + 1 if norm >= chosen.max_grad_norm else 0
        per_clip, made, apart = outcome.per_clip, outcome.made, levels_differ(outcome.levels, outcome.made)
        observed = ~made.all(dim=1) & ~apart
        yield StepReport(
            step=state.step,
            phase=state.phase,
            loss=value,
            free=_mean(per_clip[~observed & ~apart]),
            observed=_mean(per_clip[observed]),
            frame_levels=_mean(per_clip[apart]),
            gradient_norm=norm,
            lr=lr,
            stuck=guard.clipped == STUCK_AFTER,
            per_clip=per_clip.numpy(),
            per_frame=outcome.per_frame.numpy(),
            levels=outcome.levels.numpy(),
            made=made.numpy(),
            conditional=outcome.conditional.numpy(),
            rows=outcome.rows,
            terms=outcome.terms,
            skipped=bool(reason),
            reason=reason,
        )


def _gradients(
    video_model: VideoNetwork,
    batch: Batch,
    settings: TrainSettings,
    scale: float,
    autocast: Callable[[], AbstractContextManager[object]],
    parallel: DistributedContext,
    objective: Objective,
) -> Loss:
    """Leaves the gradient of the loss, times `scale`, in the parameters; returns the loss of this rank's clips,
    detached.

    The clips go through the network in `grad_accum_steps` parts of nearly the same size; each counts by its clips, so
    that the sum is the whole batch's gradient but for rounding.
    """
    video_model.zero_grad(set_to_none=True)  # on the module: no optimizer can leave another's gradients standing
    parts, losses = split_batch(batch, settings.grad_accum_steps), list[Loss]()
    total: Tensor | float = 0.0
    terms: dict[str, Tensor] = {}
    for number, part in enumerate(parts, start=1):
        weight = parallel.weight(len(part.captions), settings.batch_size)
        with parallel.no_sync(number == len(parts)):
            with autocast():
                loss = parallel.loss(video_model, part, objective)
            (loss.total * (weight * scale)).backward()
        total = total + weight * loss.total.detach()
        terms = {name: terms.get(name, 0.0) + weight * term for name, term in loss.terms.items()}
        losses.append(loss)
    return Loss(
        total=torch.as_tensor(total),
        per_clip=torch.cat([loss.per_clip for loss in losses]),
        per_frame=torch.cat([loss.per_frame for loss in losses]),
        made=torch.cat([loss.made for loss in losses]),
        level=torch.cat([loss.level for loss in losses]),
        terms=terms,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Outcome:
    """A step before its update, on the host and of all ranks: fields as in `StepReport`, of the whole batch."""

    norm: float
    loss: float
    terms: dict[str, float]
    per_clip: Tensor
    conditional: Tensor
    rows: tuple[int, ...]
    per_frame: Tensor
    levels: Tensor
    made: Tensor


def _gather(loss: Loss, norm: Tensor, batch: Batch, size: int, parallel: DistributedContext) -> _Outcome:
    """Collects what the guard and the report need of a step: the only copy from the device that the host waits for."""
    numbers = torch.stack([value.detach().double() for value in (norm, loss.total, *loss.terms.values())])
    columns = [loss.per_clip[:, None], ~batch.dropped[:, None], loss.per_frame, loss.level, loss.made]
    table = torch.cat([each.double() for each in columns], dim=1)
    copied = torch.cat([numbers, table.flatten()]).cpu()
    numbers, table = copied[: len(numbers)], copied[len(numbers) :].view(table.shape)
    rows = torch.tensor(batch.rows, dtype=torch.float64)[:, None]
    means, table = parallel.exchange(numbers[1:], torch.cat([rows, table], dim=1), size)
    rows, per_clip, conditional = table[:, :3].unbind(dim=1)
    per_frame, levels, made = (each.float() for each in table[:, 3:].chunk(3, dim=1))
    return _Outcome(
        norm=float(numbers[0]),
        loss=float(means[0]),
        terms=dict(zip(loss.terms, means[1:].tolist(), strict=True)),
        per_clip=per_clip.float(),
        conditional=conditional.bool(),
        rows=tuple(map(int, rows.tolist())),
        per_frame=per_frame,
        levels=levels,
        made=made.bool(),
    )


def levels_differ(level: Tensor, made: Tensor) -> Tensor:
    """True for clips whose frames that are made have different levels. Shapes: (b, t), (b, t) -> (b)."""
    highest = torch.where(made, level, -torch.inf).amax(dim=1)
    return highest > torch.where(made, level, torch.inf).amin(dim=1)


def split_batch(batch: Batch, parts: int) -> list[Batch]:
    """A batch cut into `parts` batches of nearly the same size, in order, of at least one clip each."""
    clips = len(batch.captions)
    parts = min(parts, clips)
    if parts == 1:
        return [batch]
    cuts = [clips * part // parts for part in range(parts + 1)]
    each = {entry.name: getattr(batch, entry.name) for entry in fields(batch)}
    return [
        replace(batch, **{name: _select(value, slice(start, stop)) for name, value in each.items()})
        for start, stop in pairwise(cuts)
    ]


def _select(value: Any, clips: slice) -> Any:
    """A field of a batch, of some of its clips; a number is of all of them."""
    if isinstance(value, CaptionTensors):
        return value.select(clips)
    return value if value is None or isinstance(value, int) else value[clips]


class OutOfMemory(VidiffError):
    """A step needed more memory than available; the weights are unchanged."""


@contextmanager
def _explained(state: TrainState) -> Iterator[None]:
    """Turns errors of missing memory into `OutOfMemory`, and frees the gradients; turns errors of torch.compile into
    VidiffError."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if (found := compile_failure(error)) is not None:
            fix = "use --compile off" + (", or install a C++ compiler (g++)" if "compiler found" in found else "")
            raise VidiffError("torch.compile cannot compile the network", found=found, fix=fix) from error
        if not is_out_of_memory(error):
            raise
        state.video_model.zero_grad(set_to_none=True)
        raise OutOfMemory(
            f"out of memory at step {state.step + 1}", found=str(error).partition("\n")[0][:200]
        ) from None


def is_out_of_memory(error: BaseException) -> bool:
    """True for an error of missing memory: on a CPU, torch raises a plain RuntimeError for it."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def _mean(values: Tensor) -> float:
    return float(values.mean()) if len(values) else math.nan
