"""`vidiff train`: from a dataset to a run folder with checkpoints, metrics, plots and sample sheets."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from vidiff_cli.config.generate import GenerationSettings
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.dataset.dataset import Dataset
from vidiff_cli.dataset.world_dataset import open_clips
from vidiff_cli.device import choose_device, choose_dtype, dtype_name
from vidiff_cli.events import EventStream, Note, Progress, task
from vidiff_cli.generation.sample_sheet import sample_sheet
from vidiff_cli.runs.finetune import inherit_settings, with_known_words
from vidiff_cli.runs.memory import explain_out_of_memory, resolve_batch_size
from vidiff_cli.runs.metrics_log import TrainingLog
from vidiff_cli.runs.monitor import TrainingMonitor, is_due
from vidiff_cli.runs.run_dir import (
    INTERRUPT_ONLY,
    OTHER_FOLDER,
    check_replaceable,
    check_run,
    complete_save,
    other_dataset,
    remove_run,
    remove_unfinished,
    resume_from,
    save_checkpoint,
    write_config,
)
from vidiff_cli.runs.setup import (
    at_peak_seconds,
    consistent,
    describe_training,
    initial_state,
    model_settings,
    open_clip_source,
)
from vidiff_cli.runs.text_encoder import choose_text, embed_captions
from vidiff_cli.runs.trackers import open_tracker, tracking
from vidiff_cli.runs.worker_rank import run_worker_rank, told
from vidiff_cli.system.locks import folder_alone
from vidiff_cli.system.signals import DeferredSignals
from vidiff_cli.text.adapter import AdaptedText
from vidiff_cli.training.auxiliary_losses import make_auxiliary_losses
from vidiff_cli.training.distributed import DistributedContext, ProcessInfo, init_distributed
from vidiff_cli.training.loop import train_steps
from vidiff_cli.training.lr_schedule import LRSchedule

SHEET_STEPS = 16  # of sampling


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainReport:
    """The run folder and what its training came to: wall time of this call, mean loss of the last steps."""

    run: Path
    checkpoint: Path
    preset: str | None
    steps: int
    clips_seen: int
    parameters: int
    precision: str
    loss: float | None
    seconds_per_step: float | None
    seconds: float


@task
def train(settings: TrainSettings) -> EventStream[TrainReport | None]:
    """Trains a model on a dataset, or goes on with an unfinished run.

    Under torchrun this is one of several processes: the first one tells and writes all there is, the others return
    None. Raises VidiffError for a dataset that cannot be read, a run folder with other settings, a divergence.
    """
    launch = ProcessInfo.from_environment(os.environ)
    device = choose_device(launch.device(settings.device))
    with init_distributed(launch, device, kind=settings.parallel, timeout_seconds=settings.patience) as parallel:
        dataset = open_clips(settings)
        if not parallel.is_main:
            return run_worker_rank(dataset, device, parallel)
        name = dataset.folder.resolve().name.replace(":", "-")  # of a world, too
        run = settings.output or Path("runs") / f"{name}-{settings.preset or 'custom'}"
        with folder_alone(run, fix=f"wait for it to end, or {OTHER_FOLDER}") as locked:
            return (yield from _train(settings, dataset, run, device, parallel, locked=locked))


def _train(
    settings: TrainSettings,
    dataset: Dataset,
    run: Path,
    device: torch.device,
    parallel: DistributedContext,
    *,
    locked: bool,
) -> EventStream[TrainReport]:
    began = time.monotonic()
    dtype = choose_dtype(settings.precision, device)
    settings = consistent(settings.model_copy(update={"precision": dtype_name(dtype)}))
    checkpoints = run / "checkpoints"
    replacing = settings.overwrite and (run / "config.json").is_file()
    if replacing:
        check_replaceable(run)
    before = None if replacing else run
    settings, tower = yield from choose_text(inherit_settings(settings, before), dataset, before)
    model = model_settings(settings, dataset, clip=tower.settings if tower else None)
    model = with_known_words(model, settings, before)
    settings = yield from resolve_batch_size(settings, model, device, run=before, world=parallel.world)
    auxiliary = make_auxiliary_losses(settings.objective, settings.diffusion, device)
    resumed = not replacing and check_run(run, settings, model, dataset)
    if locked:
        remove_unfinished(run)
    schedule = LRSchedule.of_run(settings.steps, settings.optimizer)
    place = resume_from(checkpoints, settings, schedule, resumed=resumed)
    parallel.broadcast_object(told(settings, model, dataset, resumed=place is not None))
    state = initial_state(settings, model, device, parallel, resumed=place is not None)
    if place is not None:
        state.load(place, parallel=parallel)
        if state.step >= settings.steps:
            yield Note(f"{run} has its {settings.steps} steps already; nothing to do. Raise --steps to go on.")
        else:
            yield Note(f"Continuing {run} at step {state.step} of {settings.steps}.")
        if place.parent != checkpoints and other_dataset(place, dataset):
            yield Note(f"{place} was trained on other clips than those of {dataset.folder}, which come from here on.")
    parameters = sum(value.numel() for value in state.video_model.parameters())
    yield from describe_training(settings, model, dataset, device, parameters)
    draw_sheet = partial(sample_sheet, options=GenerationSettings(steps=SHEET_STEPS, condition="replacement"))
    watch = TrainingMonitor(settings, model, dataset, device=device, dtype=dtype, draw_sheet=draw_sheet)
    tracker = open_tracker(settings.track, run) if settings.track != "none" else None
    yield from watch.announce()
    if tower is not None and isinstance(state.video_model.text, AdaptedText):
        state.video_model.text.frozen = yield from embed_captions(tower.to(device), dataset, more=watch.captions)
        del tower  # its embeddings are all that training needs
        parallel.barrier()  # the others take the embeddings from the dataset's folder
    if replacing:
        remove_run(run)
    write_config(run, settings, model, dataset)
    source = open_clip_source(settings, dataset)
    log = TrainingLog(
        run,
        settings.steps,
        batch_size=settings.batch_size,
        device=device,
        at_peak_seconds=at_peak_seconds(settings, model, device, world=parallel.world),
        clip_name=source.name,
        tracker=tracker,
        looks=[step for step in range(1, settings.steps + 1) if is_due(step, settings)],
    )
    log.go_on_from(state.step, state.notes.get("unlogged", ()))

    def keep(*, regular: bool) -> None:
        log.sync()
        state.notes = {"unlogged": log.unlogged()} | ({} if regular else {INTERRUPT_ONLY: True})
        errors = watch.errors(state, parallel) if regular else None
        save_checkpoint(state, checkpoints, settings, schedule, parallel, errors=errors)
        log.plot()

    def keep_what_is_made() -> bool:
        if alone_with_steps := parallel.world == 1 and state.step > 0:
            keep(regular=False)
        return alone_with_steps

    yield Progress(what="training", done=state.step, total=settings.steps)
    with (
        DeferredSignals(several=parallel.world > 1) as interrupt,
        tracking(tracker, settings),
        explain_out_of_memory(settings, model, keep_what_is_made),
    ):
        if place is not None and place.parent == checkpoints:
            complete_save(place, settings, schedule)
            log.plot(newer_than=log.path)
        yield from watch.run(state, run, log, parallel, again=False)
        for report in train_steps(
            state, source, settings, schedule, device=device, dtype=dtype, parallel=parallel, auxiliary=auxiliary
        ):
            yield from log.add(report)
            ending = report.step in (schedule.stable, schedule.steps)
            if ending:
                log.flush()
            regular = ending or report.step % settings.checkpoint_every == 0
            signal = parallel.all_reduce_max(interrupt.number)
            if regular or signal:
                keep(regular=regular)
            if signal:
                without = " without --overwrite" if settings.overwrite else ""
                yield Note(f"Saved {run} at step {report.step}; the same command{without} continues.")
                interrupt.reraise(signal)
            yield from watch.run(state, run, log, parallel)
    latest = (checkpoints / "latest").read_text(encoding="utf-8", errors="replace").strip()
    checkpoint = checkpoints / Path(latest).name  # the name only: a path from a file is not trusted
    return TrainReport(
        run=run,
        checkpoint=checkpoint,
        preset=settings.preset,
        steps=state.step,
        clips_seen=state.step * settings.batch_size,
        parameters=parameters,
        precision=settings.precision,
        loss=log.mean_loss(),
        seconds_per_step=log.seconds_per_step(),
        seconds=time.monotonic() - began,
    )
