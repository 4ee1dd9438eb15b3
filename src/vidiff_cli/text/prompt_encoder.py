"""Embed prompts and captions by the CLIP that a model was trained with, opened when the first text comes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, cached_property

import torch

from vidiff_cli.config.model import ClipSettings
from vidiff_cli.events import Note
from vidiff_cli.text.clip_names import ClipName, find_weights, is_tag, read_name
from vidiff_cli.text.clip_tower import ClipTower, open_same_tower
from vidiff_cli.text.encoder import CaptionEmbedding, EmbedCaption

OTHERWISE = "train another run with --text learned"


class LazyTower:
    """The tower that a run was started with: opened for the first caption that has no embedding yet, most often never.

    `encode` raises VidiffError where its weights are missing or others.
    """

    def __init__(self, settings: ClipSettings, where: str | None) -> None:
        self.settings, self.where = settings, where
        self._device = torch.device("cpu")

    def to(self, device: torch.device) -> LazyTower:
        """Set the device to encode on."""
        self._device = device
        return self

    def encode(self, caption: str) -> CaptionEmbedding:
        """Embed one caption."""
        return self._opened.encode(caption)

    @cached_property
    def _opened(self) -> ClipTower:
        return open_same_tower(self.settings, parse_clip_arg(self.where), otherwise=OTHERWISE).to(self._device)


def prompt_embedder(clip: ClipSettings, where: str | None, device: torch.device) -> EmbedCaption:
    """A function that embeds prompts, each once; `where` is as for --clip-model.

    The tower is opened when the first prompt comes: a video without one needs no weights.
    """
    name = parse_clip_arg(where)

    @cache
    def tower() -> ClipTower:
        return open_same_tower(clip, name, otherwise="leave out the prompt").to(device)

    @cache
    def embed(prompt: str) -> CaptionEmbedding:
        return tower().encode(prompt)

    return embed


def parse_clip_arg(where: str | None) -> ClipName:
    """The encoder that --clip-model names; nothing of it is fixed where it is left out."""
    return ClipName(model=None, weights=None) if where is None else read_name(where)


def download_note(clip: ClipSettings, where: str | None) -> Iterator[Note]:
    """Say that the weights of a model's CLIP have to be downloaded, where they do."""
    name = parse_clip_arg(where)
    yield from note_download(ClipName(model=name.model or clip.encoder, weights=name.weights or clip.weights))


def note_download(name: ClipName) -> Iterator[Note]:
    """Say that named weights have to be downloaded, where they do."""
    if name.file is None and find_weights(name) is None and is_tag(str(name.model), str(name.weights)):
        yield Note(f"The CLIP weights {name} are not on this machine: downloading them.")
