"""What the processes of one training tell each other, and what those do that write nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from vidiff_cli.config.model import ModelSettings
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.dataset.dataset import Dataset
from vidiff_cli.device import choose_dtype
from vidiff_cli.errors import VidiffError
from vidiff_cli.runs.monitor import is_due
from vidiff_cli.runs.setup import initial_state, open_clip_source
from vidiff_cli.system.signals import DeferredSignals
from vidiff_cli.text.adapter import AdaptedText
from vidiff_cli.text.embedding_cache import EmbeddingCache
from vidiff_cli.training.auxiliary_losses import make_auxiliary_losses
from vidiff_cli.training.distributed import DistributedContext
from vidiff_cli.training.loop import train_steps
from vidiff_cli.training.lr_schedule import LRSchedule


def told(settings: TrainSettings, model: ModelSettings, dataset: Dataset, *, resumed: bool) -> dict[str, Any]:
    """What rank 0 tells the others before they begin: all of it is decided by what lies in the run folder."""
    return {
        "train": settings.model_dump(mode="json"),
        "model": model.model_dump(mode="json"),
        "dataset": dataset.digest(),
        "resumed": resumed,
    }


def run_worker_rank(dataset: Dataset, device: torch.device, parallel: DistributedContext) -> None:
    """What all ranks but the first do: the same steps, without a word or a file. It calls what rank 0 calls (`_train`
    in train.py) in the same order, for ranks wait for each other."""
    orders = parallel.broadcast_object({})
    settings, model = TrainSettings.model_validate(orders["train"]), ModelSettings.model_validate(orders["model"])
    if dataset.digest() != orders["dataset"]:
        raise VidiffError(f"the dataset {dataset.folder} of process {parallel.rank} is not that of the first one")
    dtype = choose_dtype(settings.precision, device)
    auxiliary = make_auxiliary_losses(settings.objective, settings.diffusion, device)
    schedule = LRSchedule.of_run(settings.steps, settings.optimizer)
    state = initial_state(settings, model, device, parallel, resumed=orders["resumed"])
    if orders["resumed"]:
        state.load(None, parallel=parallel)
    if model.text.clip is not None and isinstance(state.video_model.text, AdaptedText):
        parallel.barrier()
        state.video_model.text.frozen = _embeddings(dataset, model)
    with DeferredSignals(several=True) as interrupt:
        if is_due(state.step, settings):
            parallel.gather_full_state(state.ema.shadow)
        for report in train_steps(
            state,
            open_clip_source(settings, dataset),
            settings,
            schedule,
            device=device,
            dtype=dtype,
            parallel=parallel,
            auxiliary=auxiliary,
        ):
            signal = parallel.all_reduce_max(interrupt.number)
            ending = report.step in (schedule.stable, schedule.steps)
            regular = ending or report.step % settings.checkpoint_every == 0
            if regular:
                parallel.gather_full_state(state.ema.shadow)  # `Watch.errors`
            if regular or signal:
                state.save(Path(), clips_seen=0, parallel=parallel)
            if signal:
                interrupt.reraise(signal)
            if is_due(report.step, settings):
                parallel.gather_full_state(state.ema.shadow)


def _embeddings(dataset: Dataset, model: ModelSettings) -> EmbeddingCache:
    """The captions' embeddings that rank 0 has just made or found."""
    assert model.text.clip is not None
    cache = EmbeddingCache(dataset.folder / "text", model.text.clip)
    if missing := cache.missing(["", *dataset.captions()]):
        raise VidiffError(
            "a process cannot see the embeddings of the captions",
            found=f"{len(missing)} that are not in {cache.folder}",
            fix="make the dataset's folder writable for the first process, and the same on all machines",
        )
    return cache
