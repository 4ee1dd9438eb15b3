"""Plan of a run: the settings, the model and the checkpoint that rank 0 decides on and all ranks follow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from vidiff_cli.config.model import ModelSettings
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.dataset.dataset import Dataset
from vidiff_cli.device import choose_dtype, dtype_name
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import EventStream
from vidiff_cli.runs.checkpoints import resume_from
from vidiff_cli.runs.distillation import plan_student
from vidiff_cli.runs.finetune import inherit_settings, with_known_words
from vidiff_cli.runs.latents import blank_autoencoder, choose_autoencoder
from vidiff_cli.runs.memory import resolve_batch_size
from vidiff_cli.runs.public_finetune import StateEncoder, describe_clips, finetunes_public, public_settings
from vidiff_cli.runs.run_dir import check_replaceable, check_run, remove_unfinished
from vidiff_cli.runs.setup import consistent, model_settings
from vidiff_cli.runs.text_encoder import FrozenEncoder, choose_text
from vidiff_cli.text.long_captions import caption_limit
from vidiff_cli.training.distributed import DistributedContext
from vidiff_cli.training.lr_schedule import LRSchedule


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    """Resolved settings and model of a run.

    `resumed` says whether training continues from a checkpoint. Known to rank 0 alone: the `checkpoint` folder, and
    whether an old run is to be `replaced`.
    """

    settings: TrainSettings
    model: ModelSettings
    resumed: bool
    checkpoint: Path | None = None
    replaced: bool = False


def plan_run(
    settings: TrainSettings, dataset: Dataset, run: Path, device: torch.device, *, world: int, locked: bool
) -> EventStream[tuple[RunPlan, FrozenEncoder | None]]:
    """Decide what to train and where to continue.

    Writes nothing, but removes unfinished files of killed processes while the folder is locked.

    Args:
        settings: As asked for.
        dataset: The dataset.
        run: The run folder, which need not exist.
        device: Device of the training.
        world: Number of processes.
        locked: This process holds the lock of the folder.

    Returns:
        The plan, and the text encoder that embeds the captions.

    Raises:
        VidiffError: The folder holds anything but this run.
    """
    public, dtype = finetunes_public(settings), choose_dtype(settings.precision, device)
    settings = settings.model_copy(update={"precision": dtype_name(dtype)})
    replaced = settings.overwrite and (run / "config.json").is_file()
    if replaced:
        check_replaceable(run)
    existing = None if replaced else run
    if settings.distillation is not None:
        settings, model, tower = yield from plan_student(settings, dataset)
    else:
        choose = plan_public_model if public else plan_own_model
        settings, model, tower = yield from choose(settings, dataset, device, existing)
    settings = yield from resolve_batch_size(settings, model, device, run=existing, world=world)
    continued = not replaced and check_run(run, settings, model, dataset)
    if locked:
        remove_unfinished(run)
    schedule = LRSchedule.of_run(settings.steps, settings.optimizer)
    checkpoint = resume_from(run / "checkpoints", settings, schedule, resumed=continued)
    resumed = checkpoint is not None
    plan = RunPlan(settings=settings, model=model, resumed=resumed, checkpoint=checkpoint, replaced=replaced)
    return plan, tower


def plan_own_model(
    settings: TrainSettings, dataset: Dataset, device: torch.device, run: Path | None, *, encode: bool = True
) -> EventStream[tuple[TrainSettings, ModelSettings, FrozenEncoder | None]]:
    """The settings, a model of vidiff's own and its frozen text encoder; a `run` that is there has decided some. For a
    measurement, which does not `encode`, the latents of an autoencoder have no statistics."""
    settings = consistent(settings)
    settings, tower = yield from choose_text(inherit_settings(settings, run), dataset, run)
    if encode:
        settings, autoencoder = yield from choose_autoencoder(settings, dataset, run, device)
    else:
        autoencoder = blank_autoencoder(settings)
    model = model_settings(settings, dataset, clip=tower.settings if tower else None, autoencoder=autoencoder)
    model = with_known_words(model, settings, run)
    if (limit := caption_limit(model.text)) is not None:
        fix = "--set text.max_tokens={tokens} reads all of them" if model.text.kind == "learned" else ""
        yield from limit.notes(dataset.captions(), what="caption", fix=fix)
    return settings, model, tower


def plan_public_model(
    settings: TrainSettings, dataset: Dataset, device: torch.device, run: Path | None
) -> EventStream[tuple[TrainSettings, ModelSettings, FrozenEncoder | None]]:
    """The settings, the public model to fine-tune and its text encoder, which is not opened yet."""
    settings, model, public = public_settings(settings, dataset, device)
    yield from describe_clips(model, public)
    encoder = StateEncoder(public.folder, model, device, public.dtype)
    yield from encoder.limit.notes(filter(None, dataset.captions()), what="caption")
    return settings, model, encoder


def broadcast_plan(plan: RunPlan | None, dataset: Dataset, parallel: DistributedContext) -> RunPlan:
    """Sends the plan of rank 0 to the other ranks, which pass None.

    Raises VidiffError on a rank whose dataset differs from that of rank 0.
    """
    sent = None
    if plan is not None:
        sent = {
            "train": plan.settings.model_dump(mode="json"),
            "model": plan.model.model_dump(mode="json"),
            "dataset": dataset.digest(),
            "resumed": plan.resumed,
        }
    received = parallel.broadcast_object(sent)
    if plan is not None:
        return plan
    assert received is not None, "rank 0 has a plan"
    if dataset.digest() != received["dataset"]:
        raise VidiffError(f"the dataset {dataset.folder} of process {parallel.rank} differs from that of process 0")
    return RunPlan(
        settings=TrainSettings.model_validate(received["train"]),
        model=ModelSettings.model_validate(received["model"]),
        resumed=received["resumed"],
    )
