"""A training from a dataset to a run folder with checkpoints, metrics, plots and sample sheets."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from vidiff_cli.config.train import TrainSettings
from vidiff_cli.dataset.dataset import Dataset
from vidiff_cli.dataset.world_dataset import open_clips
from vidiff_cli.device import choose_device, choose_dtype
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import EventStream, Note, Progress
from vidiff_cli.generation.fewest_steps import measure_network
from vidiff_cli.generation.sample_sheet import sample_sheet
from vidiff_cli.generation.sampling_setup import SamplingOptions
from vidiff_cli.models.acceleration import is_compiled
from vidiff_cli.models.public.autoencoder import open_latent_codec
from vidiff_cli.runs.averages import choose_average, save_snapshot
from vidiff_cli.runs.checkpoints import (
    BEST,
    INTERRUPT_ONLY,
    best_checkpoint,
    checkpoint_name,
    complete_save,
    save_checkpoint,
)
from vidiff_cli.runs.compilation import choose_compilation
from vidiff_cli.runs.distillation import open_distillation
from vidiff_cli.runs.memory import explain_out_of_memory
from vidiff_cli.runs.metrics_log import TrainingLog
from vidiff_cli.runs.monitor import TrainingMonitor, is_due, validation_is_due
from vidiff_cli.runs.run_dir import OTHER_FOLDER, other_dataset, remove_run, write_config
from vidiff_cli.runs.run_plan import RunPlan, broadcast_plan, plan_run
from vidiff_cli.runs.setup import ReadFrames, at_peak_seconds, describe_training, initial_state, open_clip_source
from vidiff_cli.runs.shared_inputs import share_embeddings, share_latents
from vidiff_cli.runs.trackers import SafeTracker, open_tracker, tracking
from vidiff_cli.system.atomic_files import write_text
from vidiff_cli.system.launcher import ProcessInfo
from vidiff_cli.system.locks import folder_alone
from vidiff_cli.system.signals import DeferredSignals
from vidiff_cli.text.encoder import CaptionReader
from vidiff_cli.training.auxiliary_losses import make_auxiliary_losses
from vidiff_cli.training.distributed import DistributedContext, init_distributed
from vidiff_cli.training.ema import USUAL
from vidiff_cli.training.loop import train_steps
from vidiff_cli.training.lr_schedule import LRSchedule
from vidiff_cli.training.objective import Objective, training_loss
from vidiff_cli.training.state import TrainState


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainReport:
    """The run folder and the training's totals: wall time of this call, mean loss of the last steps, length of the
    averaged weights."""

    run: Path
    checkpoint: Path
    best: Path | None
    preset: str | None
    steps: int
    clips_seen: int
    parameters: int
    precision: str
    loss: float | None
    ema_length: float
    seconds_per_step: float | None
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Recorder:
    """Everything that rank 0 writes into the run folder during the steps."""

    run: Path
    log: TrainingLog
    monitor: TrainingMonitor
    tracker: SafeTracker | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rank:
    """One process of a training, ready for its steps. Rank 0 alone has a `recorder`."""

    plan: RunPlan
    state: TrainState
    schedule: LRSchedule
    dataset: Dataset
    reader: CaptionReader | None
    latents: ReadFrames | None
    device: torch.device
    dtype: torch.dtype
    objective: Objective
    parallel: DistributedContext
    recorder: _Recorder | None


def train_run(settings: TrainSettings, *, sheet: SamplingOptions) -> EventStream[TrainReport | None]:
    """Trains a model on a dataset, or continues an unfinished run; `sheet` says how its sample sheets are sampled.

    Under torchrun this is one of several processes. Rank 0 reports all events and writes all files; the others yield
    nothing and return None. Raises VidiffError for a dataset that cannot be read, a run folder with other settings, a
    divergence.
    """
    launch = ProcessInfo.from_environment(os.environ)
    device = choose_device(launch.device(settings.device), deterministic=settings.deterministic)
    with init_distributed(launch, device, kind=settings.parallel, timeout_seconds=settings.rank_timeout) as parallel:
        dataset = open_clips(settings)
        name = dataset.folder.resolve().name.replace(":", "-")  # world:shapes -> world-shapes
        run = settings.output or Path("runs") / f"{name}-{settings.preset or 'custom'}"
        lock = folder_alone(run, fix=f"wait for it to end, or {OTHER_FOLDER}") if parallel.is_main else nullcontext()
        with lock as locked:
            return (yield from _train(settings, dataset, run, device, parallel, sheet, locked=bool(locked)))


def _train(
    settings: TrainSettings,
    dataset: Dataset,
    run: Path,
    device: torch.device,
    parallel: DistributedContext,
    sheet: SamplingOptions,
    *,
    locked: bool,
) -> EventStream[TrainReport | None]:
    """Trains on one rank. Ranks wait for each other in collective calls: none of these depends on the rank."""
    start = time.monotonic()
    plan, encoder = None, None
    if parallel.is_main:
        plan, encoder = yield from plan_run(settings, dataset, run, device, world=parallel.world, locked=locked)
    plan = broadcast_plan(plan, dataset, parallel)
    objective = _open_objective(plan.settings, device)
    dtype = choose_dtype(plan.settings.precision, device)
    latents = yield from share_latents(plan, settings, dataset, device, parallel)
    monitor = None
    if parallel.is_main:
        monitor = _open_monitor(
            plan, dataset, run, device, latents, objective, sheet=sheet, autoencoder=settings.autoencoder
        )
    embeddings = yield from share_embeddings(plan, dataset, monitor, encoder, device, parallel)
    del encoder  # the steps need its embeddings only
    compilation = choose_compilation(plan.settings, plan.model, device, world=parallel.world)
    state = initial_state(plan.settings, plan.model, device, parallel, resumed=plan.resumed, compiled=compilation.mode)
    if plan.resumed:
        state.load(plan.checkpoint, parallel=parallel)
    recorder = None
    if monitor is not None:
        yield from compilation.notes()
        recorder = yield from _open_recorder(plan, state, dataset, run, device, monitor, world=parallel.world)
    rank = _Rank(
        plan=plan,
        state=state,
        schedule=LRSchedule.of_run(plan.settings.steps, plan.settings.optimizer),
        dataset=dataset,
        reader=state.video_model.caption_reader(embeddings),
        latents=latents,
        device=device,
        dtype=dtype,
        objective=objective,
        parallel=parallel,
        recorder=recorder,
    )
    if recorder is not None:
        _begin_folder(plan, state, dataset, recorder)
        yield Progress(what="training", done=state.step, total=plan.settings.steps)
    yield from _run_steps(rank)
    if recorder is not None and state.step == plan.settings.steps and (losses := recorder.log.divergence()):
        raise VidiffError(
            f"training diverged: {recorder.run} ends far above its start",
            found=f"a loss of {losses[1]:.4g} at step {state.step}, {losses[0]:.4g} at step 1",
            fix=f"train anew with a smaller --lr than {plan.settings.optimizer.lr:g} and --overwrite",
        )
    return None if recorder is None else _report(plan, state, recorder, seconds=time.monotonic() - start)


def _open_objective(settings: TrainSettings, device: torch.device) -> Objective:
    """Opens the loss of the steps: that of a student, with its teacher, or the diffusion loss and auxiliary ones."""
    if settings.distillation is not None:
        return open_distillation(settings, device)
    auxiliary = make_auxiliary_losses(settings.objective, settings.diffusion, device)
    return partial(training_loss, auxiliary=auxiliary)


def _open_recorder(
    plan: RunPlan,
    state: TrainState,
    dataset: Dataset,
    run: Path,
    device: torch.device,
    monitor: TrainingMonitor,
    *,
    world: int,
) -> EventStream[_Recorder]:
    """Describes the training and opens its log and tracker. Writes nothing yet."""
    settings, model = plan.settings, plan.model
    yield from _describe_resumption(plan, state, dataset, run)
    yield from describe_training(settings, model, dataset, device, _count_parameters(state))
    tracker = open_tracker(settings.track, run) if settings.track != "none" else None
    yield from monitor.announce()
    log = TrainingLog(
        run,
        settings.steps,
        batch_size=settings.batch_size,
        device=device,
        at_peak_seconds=at_peak_seconds(settings, model, device, world=world),
        clip_name=open_clip_source(settings, dataset).name,
        tracker=tracker,
        compiled=is_compiled(state.video_model),
        monitored_steps=[step for step in range(1, settings.steps + 1) if is_due(step, settings)],
    )
    return _Recorder(run=run, log=log, monitor=monitor, tracker=tracker)


def _open_monitor(
    plan: RunPlan,
    dataset: Dataset,
    run: Path,
    device: torch.device,
    latents: ReadFrames | None,
    objective: Objective,
    *,
    sheet: SamplingOptions,
    autoencoder: str | None,
) -> TrainingMonitor:
    """Opens the monitor.

    Args:
        plan: Settings and model.
        dataset: The clips.
        run: The run folder.
        device: Device of the model.
        latents: Reader of the clips of a model that works on latents.
        objective: The loss of a training step; a student's is that of held-out clips too.
        sheet: How sample sheets are sampled.
        autoencoder: Where the autoencoder of such a model is, as asked for.

    Returns:
        The monitor of rank 0.
    """
    dtype, known, codec = choose_dtype(plan.settings.precision, device), plan.model.autoencoder, None
    if known is not None:
        codec = open_latent_codec(known, device, model=run, source=autoencoder)
    return TrainingMonitor(
        plan.settings,
        plan.model,
        dataset,
        device=device,
        dtype=dtype,
        draw_samples=partial(sample_sheet, device=device, dtype=dtype, options=sheet, autoencoder=codec),
        measure_steps=partial(measure_network, device=device, dtype=dtype, autoencoder=codec),
        latents=latents,
        objective=None if plan.settings.distillation is None else objective,
    )


def _describe_resumption(plan: RunPlan, state: TrainState, dataset: Dataset, run: Path) -> Iterator[Note]:
    checkpoint, steps = plan.checkpoint, plan.settings.steps
    if checkpoint is None:
        return
    if state.step >= steps:
        yield Note(f"{run} has its {steps} steps already; nothing to do. Raise --steps to go on.")
    else:
        yield Note(f"Continuing {run} at step {state.step} of {steps}.")
    if checkpoint.parent != run / "checkpoints" and other_dataset(checkpoint, dataset):
        yield Note(
            f"{checkpoint} was trained on other clips than those of {dataset.folder}, which are used from here on."
        )


def _begin_folder(plan: RunPlan, state: TrainState, dataset: Dataset, recorder: _Recorder) -> None:
    """Makes the folder this run's: removes a replaced run, writes config.json, drops rows of steps to be made again."""
    if plan.replaced:
        remove_run(recorder.run)
    write_config(recorder.run, plan.settings, plan.model, dataset)
    recorder.log.resume(state.step, state.notes.get("unlogged", ()))


def _run_steps(rank: _Rank) -> EventStream[None]:
    """Makes the steps that are left, with checkpoints, validation and samples; saves and leaves at a signal."""
    settings, state, recorder, parallel = rank.plan.settings, rank.state, rank.recorder, rank.parallel

    def save_completed_steps() -> bool:
        if saved := parallel.world == 1 and state.step > 0:
            _save(rank, regular=False)
        return saved

    with (
        DeferredSignals(several=parallel.world > 1) as interrupt,
        tracking(recorder.tracker if recorder is not None else None, settings),
        explain_out_of_memory(settings, rank.plan.model, save_completed_steps),
    ):
        if recorder is not None:
            _complete_checkpoint(rank, recorder)
        if state.step < settings.steps:
            state.chosen = None  # the result of a run that is made longer is no average to go on with
        elif settings.optimizer.ema_length not in (0.0, state.chosen.length if state.chosen else USUAL):
            yield from _choose_average(rank)
            yield from _measure_steps(rank)
            _save(rank, regular=True)
        yield from _observe(rank, redraw=False)
        if (yield from _judge(rank)):
            return
        for report in train_steps(
            state,
            open_clip_source(settings, rank.dataset, latents=rank.latents),
            settings,
            rank.schedule,
            reader=rank.reader,
            device=rank.device,
            dtype=rank.dtype,
            parallel=parallel,
            objective=rank.objective,
        ):
            ending = report.step in (rank.schedule.stable, rank.schedule.steps)
            if recorder is not None:
                yield from recorder.log.add(report)
                if ending:
                    recorder.log.flush()
            regular = ending or report.step % settings.checkpoint_every == 0
            save_snapshot(state, recorder.run if recorder is not None else None, rank.schedule, parallel)
            if report.step == settings.steps:
                yield from _choose_average(rank)
                yield from _measure_steps(rank)
            signal = parallel.all_reduce_max(interrupt.number)
            if regular or signal:
                _save(rank, regular=regular)
            if signal:
                if recorder is not None:
                    without = " without --overwrite" if settings.overwrite else ""
                    yield Note(f"Saved {recorder.run} at step {report.step}; the same command{without} continues.")
                interrupt.reraise(signal)
            yield from _observe(rank)
            if (yield from _judge(rank)):
                return


def _judge(rank: _Rank) -> EventStream[bool]:
    """Keeps the checkpoint of a new lowest held-out loss; True where the training ends, because it no longer falls."""
    settings, state, recorder, parallel = rank.plan.settings, rank.state, rank.recorder, rank.parallel
    if not settings.keeps_best or not state.step or not validation_is_due(state.step, settings):
        return False
    found = recorder.log.best_validation() if recorder is not None else None
    since = parallel.all_reduce_max(found[2] if found else 0)  # measurements: 0 means that this one is the lowest
    ends = settings.patience is not None and since >= settings.patience and state.step < settings.steps
    if since and not ends:
        return False
    name = checkpoint_name(state, rank.schedule)
    missing = recorder is not None and not (recorder.run / "checkpoints" / name).is_dir()
    if parallel.all_reduce_max(int(missing)):
        _save(rank, regular=True)
    if recorder is not None and found is not None:
        checkpoints = recorder.run / "checkpoints"
        if not since and best_checkpoint(checkpoints) != checkpoints / name:
            write_text(checkpoints / BEST, name + "\n")
        if ends:
            best = best_checkpoint(checkpoints)
            yield Note(
                f"Stopped at step {state.step} of {settings.steps}: the held-out loss has not fallen for {since} "
                f"measurements. It was lowest at step {found[0]}, {found[1]:.4f}{f': {best}' if best else '.'}"
            )
    return ends


def _complete_checkpoint(rank: _Rank, recorder: _Recorder) -> None:
    """Completes a save that was interrupted after its checkpoint folder was written."""
    checkpoint = rank.plan.checkpoint
    if checkpoint is not None and checkpoint.parent == recorder.run / "checkpoints":
        complete_save(checkpoint, rank.plan.settings, rank.schedule)
        recorder.log.plot(newer_than=recorder.log.path)


def _choose_average(rank: _Rank) -> EventStream[None]:
    """Chooses the length of the average that becomes the result."""
    state, recorder, measure = rank.state, rank.recorder, None
    if recorder is not None and recorder.monitor.validation_set is not None:
        measure = partial(recorder.monitor.loss, state, reader=rank.reader)
    run = recorder.run if recorder is not None else None
    state.chosen = choose_average(state, run, rank.plan.settings, rank.schedule, rank.parallel, loss=measure)
    if recorder is not None and state.chosen is not None and (losses := state.chosen.losses):
        listed = ", ".join(f"{length:g}: {loss:.4f}" for length, loss in losses.items())
        yield Note(f"Averaged weights of length {state.chosen.length:g} have the lowest held-out loss ({listed}).")


def _measure_steps(rank: _Rank) -> EventStream[None]:
    """Measures how many steps sampling takes with the averaged weights."""
    averages, state, recorder = _averages(rank), rank.state, rank.recorder
    if recorder is None:
        return
    state.sample_steps = recorder.monitor.sample_steps(state, averages, rank.reader)
    if (found := state.sample_steps) is not None:
        beside = "" if found.completion is None else f", {found.completion} beside given frames,"
        yield Note(f"{found.free} steps of sampling{beside} make what more steps make: they are its default.")


def _averages(rank: _Rank) -> Mapping[str, Tensor]:
    """The averaged weights that sampling uses, whole, on rank 0."""
    chosen = rank.state.chosen
    return rank.parallel.gather_full_state(rank.state.ema.shadow) if chosen is None else chosen.weights


def _save(rank: _Rank, *, regular: bool) -> None:
    """Writes a checkpoint. Only a `regular` one has the errors of its averages; one that an interrupt asked for is
    removed by the next."""
    state, recorder = rank.state, rank.recorder
    errors, checkpoints = None, Path()
    if regular:
        averages = _averages(rank)
        errors = recorder.monitor.errors(state, averages) if recorder is not None else None
    if recorder is not None:
        checkpoints = recorder.run / "checkpoints"
        recorder.log.sync()
        state.notes = {"unlogged": recorder.log.unlogged()} | ({} if regular else {INTERRUPT_ONLY: True})
    save_checkpoint(state, checkpoints, rank.plan.settings, rank.schedule, rank.parallel, errors=errors)
    if recorder is not None:
        recorder.log.plot()


def _observe(rank: _Rank, *, redraw: bool = True) -> EventStream[None]:
    """Validates and samples with the averaged weights, where it is due after this step."""
    if is_due(rank.state.step, rank.plan.settings):
        averages = _averages(rank)
        if rank.recorder is not None:
            yield from rank.recorder.monitor.run(
                rank.state, averages, rank.recorder.log, reader=rank.reader, redraw=redraw
            )


def _report(plan: RunPlan, state: TrainState, recorder: _Recorder, *, seconds: float) -> TrainReport:
    settings, checkpoints = plan.settings, recorder.run / "checkpoints"
    latest = (checkpoints / "latest").read_text(encoding="utf-8", errors="replace").strip()
    return TrainReport(
        run=recorder.run,
        checkpoint=checkpoints / Path(latest).name,  # the name only: a path from a file is not trusted
        best=best_checkpoint(checkpoints) if settings.keeps_best else None,
        preset=settings.preset,
        steps=state.step,
        clips_seen=settings.clips_seen(state.step),
        parameters=_count_parameters(state),
        precision=settings.precision,
        loss=recorder.log.mean_loss(),
        ema_length=USUAL if state.chosen is None else state.chosen.length,
        seconds_per_step=recorder.log.seconds_per_step(),
        seconds=seconds,
    )


def _count_parameters(state: TrainState) -> int:
    return sum(value.numel() for value in state.video_model.parameters())
