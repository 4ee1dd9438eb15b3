"""Choice of a training's text encoder, and the embeddings of a frozen one: before training, or of prompts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Literal, Protocol

import torch
from pydantic import ValidationError

from vidiff_cli.config.model import ClipSettings
from vidiff_cli.config.run_config import read_run_config
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.dataset.dataset import Dataset
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import Event, Note, Progress
from vidiff_cli.text.clip_names import (
    DEFAULT_CLIP,
    ClipName,
    complete_name,
    weights_at_hand,
)
from vidiff_cli.text.clip_tower import ClipTower, open_same_tower, open_tower
from vidiff_cli.text.embedding_cache import EmbeddingCache
from vidiff_cli.text.encoder import CaptionEmbedding
from vidiff_cli.text.long_captions import CaptionLimit
from vidiff_cli.text.prompt_encoder import OTHERWISE, LazyTower, download_note, note_download, parse_clip_arg

ESTIMATE_AFTER, LONG_SECONDS = 20, 60  # captions measured before the estimate; shorter times are not worth a note
TextKind = Literal["clip", "learned", "none"]


class FrozenEncoder(Protocol):
    """A frozen text encoder: its settings, and the embedding of a caption."""

    @property
    def settings(self) -> ClipSettings: ...

    def to(self, device: torch.device) -> FrozenEncoder:
        """The encoder on a device."""
        ...

    def encode(self, caption: str) -> CaptionEmbedding:
        """Embed one caption."""
        ...


def choose_text(
    settings: TrainSettings, dataset: Dataset, run: Path | None
) -> Generator[Event, None, tuple[TrainSettings, ClipTower | LazyTower | None]]:
    """The settings with `auto` decided, and the tower where that is CLIP.

    A `run` that is there already has decided: the same command continues it, whatever weights have come or gone. Its
    tower is opened when it is needed, or where --clip-model names weights that may be others.
    """
    choice, (kind, clip) = settings.text, _text_config_of_run(run)
    useful = settings.network.context_dim > 0 and len(dataset.captions()) > 0
    if choice.kind != "auto" or choice.clip_model is not None:
        kind = "clip" if choice.kind == "auto" else choice.kind  # who names an encoder wants it
    elif kind is None:
        kind, note = _automatic(useful)
        yield from note
    settings = settings.model_copy(update={"text": choice.model_copy(update={"kind": kind})})
    if kind != "clip" or not useful:
        return settings, None
    name = parse_clip_arg(choice.clip_model)
    if clip is not None and _same_weights(name, clip):
        return settings, LazyTower(clip, choice.clip_model)
    if clip is not None:
        yield from download_note(clip, choice.clip_model)
        return settings, open_same_tower(clip, name, otherwise=OTHERWISE)
    name = complete_name(name)
    yield from note_download(name)
    return settings, open_tower(name, otherwise="train with --text learned")


def _automatic(useful: bool) -> tuple[TextKind, list[Note]]:
    if not useful:
        return "none", []
    if weights_at_hand() is not None:
        return "clip", [Note(f"Captions are read by CLIP ({DEFAULT_CLIP}): its weights are on this machine.")]
    text = "Captions are read by an encoder that learns their words: no CLIP weights are on this machine (--text clip)."
    return "learned", [Note(text)]


def _text_config_of_run(run: Path | None) -> tuple[TextKind | None, ClipSettings | None]:
    """The kind and the CLIP that a run was started with; whatever is wrong with its config is said elsewhere."""
    try:
        config = read_run_config(run)
        kind, clip = config["train"]["text"]["kind"], config["model"]["text"].get("clip")
        kind = kind if kind in ("clip", "learned", "none") else None
        return kind, ClipSettings.model_validate(clip) if kind == "clip" and clip is not None else None
    except (LookupError, TypeError, AttributeError, ValidationError):
        return None, None


def _same_weights(name: ClipName, clip: ClipSettings) -> bool:
    """Return True if a name means the weights of `clip`: without a file, and with the same model and tag or neither."""
    named = (name.model or clip.encoder, name.weights or clip.weights)
    return name.file is None and named == (clip.encoder, clip.weights)


def embed_captions(
    tower: FrozenEncoder,
    dataset: Dataset,
    *,
    more: Sequence[str] = (),
    limit: CaptionLimit | None = None,
) -> Generator[Event, None, EmbeddingCache]:
    """The embeddings of all captions to train on, and of `more` texts, shortened to the `limit`, kept in the dataset's
    folder; only those that are missing are made."""
    store = EmbeddingCache(dataset.folder / "text", tower.settings)
    if store.damaged:
        yield Note(f"{store.damaged} damaged files in {store.folder} are made again.", "warning")
    captions = ["", *_shortened([*dataset.captions(), *more], limit)]
    total, began = len(store.missing(captions)), time.monotonic()
    if total and isinstance(tower, LazyTower):
        yield from download_note(tower.settings, tower.where)
    with contextlib.closing(store.fill(captions, tower.encode)) as filling:
        for done in filling:
            yield Progress(what="captions", done=done, total=total)
            remaining = (time.monotonic() - began) / done * (total - done)
            if done == ESTIMATE_AFTER and remaining > LONG_SECONDS:
                yield Note(
                    f"The text encoder reads {total} captions, once for all runs: about {remaining / 60:.0f} minutes."
                )
    if store.unwritable:
        yield Note(
            f"{store.folder} cannot be written ({store.unwritable}): the embeddings of {total} captions are kept in "
            "memory, and will be made again by the next run."
        )
    return store


def _shortened(captions: Sequence[str], limit: CaptionLimit | None) -> list[str]:
    return list(captions) if limit is None else [limit.shorten(caption) for caption in captions]


def read_embeddings(dataset: Dataset, clip: ClipSettings, *, limit: CaptionLimit | None = None) -> EmbeddingCache:
    """Opens the embeddings of all captions, as rank 0 has written them. VidiffError where some are missing."""
    cache = EmbeddingCache(dataset.folder / "text", clip)
    if missing := cache.missing(["", *_shortened(dataset.captions(), limit)]):
        raise VidiffError(
            "a process cannot see the embeddings of the captions",
            found=f"{len(missing)} that are not in {cache.folder}",
            fix="make the dataset's folder writable for the first process, and the same on all machines",
        )
    return cache
