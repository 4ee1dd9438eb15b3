"""Latents and text embeddings of a training: rank 0 makes them, the other ranks read its files."""

from __future__ import annotations

import torch

from vidiff_cli.config.train import TrainSettings
from vidiff_cli.dataset.dataset import Dataset
from vidiff_cli.device import choose_dtype
from vidiff_cli.events import EventStream
from vidiff_cli.runs.group_latents import latent_reader
from vidiff_cli.runs.latents import cache_latents, open_latents
from vidiff_cli.runs.monitor import TrainingMonitor
from vidiff_cli.runs.public_finetune import check_base_latents, closing_encoder, frozen_text, open_base_latents
from vidiff_cli.runs.run_plan import RunPlan
from vidiff_cli.runs.setup import ReadFrames
from vidiff_cli.runs.text_encoder import FrozenEncoder, embed_captions, read_embeddings
from vidiff_cli.text.embedding_cache import EmbeddingCache
from vidiff_cli.training.distributed import DistributedContext


def share_latents(
    plan: RunPlan, settings: TrainSettings, dataset: Dataset, device: torch.device, parallel: DistributedContext
) -> EventStream[ReadFrames | None]:
    """Opens the latents of all clips, where the model works on them."""
    if plan.model.base is not None:
        return (yield from _share_base_latents(plan, dataset, device, parallel))
    known, latents = plan.model.autoencoder, None
    if known is None:
        return None
    if parallel.is_main:
        latents = yield from open_latents(settings, known, dataset, device, encode=True)
    parallel.barrier()
    if latents is None:
        latents = yield from open_latents(settings, known, dataset, device, encode=False)
    return latents


def share_embeddings(
    plan: RunPlan,
    dataset: Dataset,
    monitor: TrainingMonitor | None,
    encoder: FrozenEncoder | None,
    device: torch.device,
    parallel: DistributedContext,
) -> EventStream[EmbeddingCache | None]:
    """Opens the embeddings of a frozen text encoder.

    Args:
        plan: Settings and model.
        dataset: The clips and their captions.
        monitor: Of rank 0 alone, with the captions that it measures and samples with.
        encoder: The encoder, of rank 0 alone.
        device: Device of the encoder.
        parallel: This rank.

    Returns:
        The embeddings; None for a model without a frozen encoder.
    """
    settings, limit = frozen_text(plan.model)
    if settings is None:
        return None
    embeddings = None
    if monitor is not None:
        assert encoder is not None, "rank 0 opened the encoder"
        with closing_encoder(encoder):
            embeddings = yield from embed_captions(encoder.to(device), dataset, more=monitor.captions, limit=limit)
    parallel.barrier()
    return read_embeddings(dataset, settings, limit=limit) if embeddings is None else embeddings


def _share_base_latents(
    plan: RunPlan, dataset: Dataset, device: torch.device, parallel: DistributedContext
) -> EventStream[ReadFrames]:
    """The same of a public model's own autoencoder."""
    numbers, dtype = range(len(dataset)), choose_dtype(plan.settings.precision, device)
    codec, cache = open_base_latents(plan.model, dataset, device, dtype)
    if parallel.is_main:
        yield from cache_latents(cache, numbers, codec, device)
    parallel.barrier()
    if not parallel.is_main:
        _, cache = open_base_latents(plan.model, dataset, device, dtype)
        check_base_latents(cache, numbers)
    return latent_reader(cache, codec, plan.model.frames)
