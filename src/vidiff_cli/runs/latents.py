"""Latents of the clips of a dataset: encoded before training, with progress."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Sequence

import torch

from vidiff_cli.dataset.dataset import Dataset
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import Event, Note, Progress
from vidiff_cli.models.codec import Codec
from vidiff_cli.training.latent_cache import LatentCache

ESTIMATE_AFTER, LONG_SECONDS = 4, 60  # clips measured before the estimate; shorter times are not worth a note


def cache_latents(
    cache: LatentCache, numbers: Sequence[int], codec: Codec, device: torch.device
) -> Generator[Event, None, None]:
    """Encode the clips that are missing in the cache, by their numbers in the dataset. VidiffError as `fill`."""
    if cache.damaged:
        yield Note(f"{cache.damaged} damaged files in {cache.folder} are made again.", "warning")
    total, began = len(cache.missing(numbers)), time.monotonic()
    if not total:
        return
    yield Progress(what="latents", done=0, total=total)
    with contextlib.closing(cache.fill(numbers, codec, device)) as filling:
        for done in filling:
            yield Progress(what="latents", done=done, total=total)
            remaining = (time.monotonic() - began) / done * (total - done)
            if done == ESTIMATE_AFTER and remaining > LONG_SECONDS:
                yield Note(f"The autoencoder reads {total} clips, once for all: about {remaining / 60:.0f} minutes.")


def check_latents(cache: LatentCache, numbers: Sequence[int]) -> None:
    """VidiffError where a clip is missing that rank 0 has encoded."""
    if missing := cache.missing(numbers):
        raise VidiffError(
            "a process cannot see the latents of the clips",
            found=f"{len(missing)} that are not in {cache.folder}",
            fix="make the dataset's folder the same on all machines",
        )


def require_folder(dataset: Dataset) -> None:
    """VidiffError for the clips of a world, which have no folder for a cache beside them."""
    if not dataset.folder.is_dir():
        raise VidiffError(
            f"the clips of {dataset.folder} are drawn anew and have no folder for their latents",
            fix="make a dataset of them with vidiff world, and train on that",
        )
