"""Training in the latent space of a public autoencoder: its choice, the statistics of its values, and the latents of
all clips, encoded before the first step."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

from vidiff_cli.checkpoint import read_header
from vidiff_cli.config.model import AutoencoderSettings
from vidiff_cli.config.run_config import read_run_config
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.dataset.dataset import Dataset
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import Event, Note, Progress
from vidiff_cli.models.codec import Codec
from vidiff_cli.models.public.autoencoder import AutoencoderFolder, open_frame_codec, resolve_autoencoder
from vidiff_cli.models.public.packages import import_package
from vidiff_cli.runs.setup import ReadFrames
from vidiff_cli.training.latent_cache import LatentCache

ESTIMATE_AFTER, LONG_SECONDS = 4, 60  # clips measured before the estimate; shorter times are not worth a note
SAMPLE_CLIPS = 32  # for the statistics of the values


def choose_autoencoder(
    settings: TrainSettings, dataset: Dataset, run: Path | None, device: torch.device
) -> Generator[Event, None, tuple[TrainSettings, AutoencoderSettings | None]]:
    """The settings with the place of the autoencoder written out, and the autoencoder of the model; None without one.

    The statistics of its values are those of an existing `run`, else of the checkpoint to start from, else of some
    clips, which are encoded now. VidiffError: not on this machine, not a frame autoencoder, or clips without a folder.
    """
    if settings.autoencoder is None:
        return settings, None
    if not dataset.folder.is_dir():
        raise VidiffError(
            f"the clips of {dataset.folder} are drawn anew and have no folder for their latents",
            fix="make a dataset of them with vidiff world and vidiff prep, and train on that",
        )
    folder = resolve_autoencoder(settings.autoencoder)
    import_package("diffusers")
    config = read_run_config(run)
    if (known := _recorded(config, folder)) is not None:
        train = config["train"]
        source = train.get("autoencoder") if isinstance(train, dict) else None
        return settings.model_copy(update={"autoencoder": source}), known
    settings = settings.model_copy(update={"autoencoder": folder.source})
    if settings.start_from is not None and (known := _recorded(read_header(settings.start_from), folder)) is not None:
        return settings, known.model_copy(update={"source": folder.source, "commit": folder.commit})
    chosen = np.array(dataset.split("train"), dtype=np.intp)
    places = np.linspace(0, len(chosen) - 1, min(SAMPLE_CLIPS, len(chosen))).round().astype(int)
    numbers = chosen[places].tolist()
    cache = LatentCache(dataset, sha256=folder.sha256, codec=folder)
    if cache.missing(numbers):
        yield from cache_latents(cache, numbers, open_frame_codec(folder, device), device)
    return settings, _describe(folder, *_statistics(dataset, cache, numbers))


def blank_autoencoder(settings: TrainSettings) -> AutoencoderSettings | None:
    """The autoencoder of the model for a measurement, which encodes nothing: with statistics that are not measured."""
    if settings.autoencoder is None:
        return None
    folder = resolve_autoencoder(settings.autoencoder)
    return _describe(folder, (0.0,) * folder.channels, (1.0,) * folder.channels)


def blank_latents(dataset: Dataset, autoencoder: AutoencoderSettings | None) -> ReadFrames | None:
    """Zeros in the place of latents; None for a model of pixels."""
    if autoencoder is None:
        return None
    index, side = dataset.index, autoencoder.spatial

    def read(number: int, frames: range) -> np.ndarray:
        size = int(index.height[number]) // side, int(index.width[number]) // side
        return np.zeros((len(frames), *size, autoencoder.channels), np.float32)

    return read


def open_latents(
    settings: TrainSettings, autoencoder: AutoencoderSettings, dataset: Dataset, device: torch.device, *, encode: bool
) -> Generator[Event, None, ReadFrames]:
    """Latents of all clips of a dataset: those that are missing are made where `encode`, else they are an error.

    Args:
        settings: Settings of the training, as asked for: where the autoencoder is.
        autoencoder: The autoencoder of the model.
        dataset: The clips.
        device: Device that encodes.
        encode: True for the one process that encodes.

    Returns:
        A reader of values as the network works on.

    Raises:
        VidiffError: As `LatentCache.fill`, or clips are missing.
    """
    cache, numbers = LatentCache(dataset, sha256=autoencoder.sha256, codec=autoencoder), range(len(dataset))
    missing = cache.missing(numbers)
    if missing and not encode:
        raise VidiffError(
            "a process cannot see the latents of the clips",
            found=f"{len(missing)} that are not in {cache.folder}",
            fix="make the dataset's folder the same on all machines",
        )
    if missing:
        folder = resolve_autoencoder(settings.autoencoder or autoencoder.source)
        yield from cache_latents(cache, numbers, open_frame_codec(folder, device), device)
    mean, deviation = (np.array(values, dtype=np.float32) for values in (autoencoder.mean, autoencoder.deviation))
    return lambda number, frames: (cache.read(number, frames) - mean) / deviation


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


def _recorded(config: Mapping[str, Any], folder: AutoencoderFolder) -> AutoencoderSettings | None:
    """The autoencoder in the configuration of a run or the header of a checkpoint, if it is the one of the folder."""
    try:
        known = AutoencoderSettings.model_validate(config["model"]["autoencoder"])
    except (LookupError, TypeError, ValidationError):
        return None
    return known if known.sha256 == folder.sha256 else None


def _statistics(
    dataset: Dataset, cache: LatentCache, numbers: Sequence[int]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over some clips."""
    total = squares = count = 0.0
    for number in numbers:
        values = cache.read(number, range(int(dataset.index.frames[number]))).astype(np.float64)
        count += values[..., 0].size
        total, squares = total + values.sum(axis=(0, 1, 2)), squares + np.square(values).sum(axis=(0, 1, 2))
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - np.square(mean), 0.0))
    return tuple(np.atleast_1d(mean).tolist()), tuple(np.where(deviation > 0, deviation, 1.0).tolist())


def _describe(folder: AutoencoderFolder, mean: tuple[float, ...], deviation: tuple[float, ...]) -> AutoencoderSettings:
    return AutoencoderSettings(
        source=folder.source,
        commit=folder.commit,
        sha256=folder.sha256,
        spatial=folder.spatial,
        channels=folder.channels,
        mean=mean,
        deviation=deviation,
    )
