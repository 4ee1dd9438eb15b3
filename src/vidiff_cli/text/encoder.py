"""Inputs and outputs of every text encoder: captions as tensors, token embeddings for cross-attention, a pooled vector.

Shapes: b captions, l tokens of the longest caption in the batch, d the encoder's width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vidiff_cli.device import send


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionTensors:
    """A batch of captions as a text encoder reads them; padding comes last and is False in `mask`.

    `tokens` are rows of the table of a learned encoder (b l, int64), or the token states of a frozen one (b l d,
    float32). `pooled` (b d) is of a frozen encoder alone. `lengths` are the real tokens of each caption, on the host.
    """

    tokens: Tensor
    mask: Tensor  # b l, bool: True = a real token
    pooled: Tensor | None = None
    lengths: tuple[int, ...]

    def select(self, rows: slice | Sequence[int]) -> CaptionTensors:
        """The captions `rows`, padded to the longest of them: the tensors that a reader makes of these alone."""
        lengths = self.lengths[rows] if isinstance(rows, slice) else tuple(self.lengths[row] for row in rows)
        longest = max(lengths, default=0)
        return CaptionTensors(
            tokens=self.tokens[rows][:, :longest].contiguous(),
            mask=self.mask[rows][:, :longest].contiguous(),
            pooled=None if self.pooled is None else self.pooled[rows],
            lengths=lengths,
        )

    def to(self, device: torch.device) -> CaptionTensors:
        """The same captions on a device."""
        tokens, mask, pooled = (send(value, device) for value in (self.tokens, self.mask, self.pooled))
        return replace(self, tokens=tokens, mask=mask, pooled=pooled)

    def pinned(self) -> CaptionTensors:
        """The same captions in memory that a GPU copies from while the host goes on."""
        pooled = None if self.pooled is None else self.pooled.pin_memory()
        return replace(self, tokens=self.tokens.pin_memory(), mask=self.mask.pin_memory(), pooled=pooled)


CaptionReader = Callable[[Sequence[str]], CaptionTensors]
"""Captions -> the input of a model's text encoder, on the CPU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextEmbedding:
    """A batch of embedded captions. Padding is zero in `tokens` and False in `mask`; every caption has a real token."""

    tokens: Tensor  # b l d
    mask: Tensor  # b l, bool: True = a real token
    pooled: Tensor  # b d


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionEmbedding:
    """One caption as a frozen encoder sees it, in half precision on the CPU: only its real tokens, in their order."""

    tokens: Tensor  # l d
    pooled: Tensor  # d of the pooled vector, which may be another


EmbedCaption = Callable[[str], CaptionEmbedding]
"""The embedding of a caption by a frozen encoder: from a cache, or by the encoder itself."""


class TextEncoder(Protocol):
    """Captions in, embeddings out; a caption's embedding does not depend on its neighbors in the batch."""

    width: int

    def __call__(self, captions: CaptionTensors) -> TextEmbedding: ...

    def unknown_words(self, caption: str) -> tuple[str, ...]:
        """The caption's words that the encoder has never learned, in order, each once."""
        ...


def frozen_reader(embed: EmbedCaption) -> CaptionReader:
    """A reader over the embeddings of a frozen encoder, in float32."""

    def read(captions: Sequence[str]) -> CaptionTensors:
        parts = [embed(caption) for caption in captions]
        # Single precision before anything else: autocast to another half format cannot stack this one.
        lengths = tuple(len(part.tokens) for part in parts)
        return CaptionTensors(
            tokens=pad_sequence([part.tokens.float() for part in parts], batch_first=True),
            mask=padding_mask(lengths),
            pooled=torch.stack([part.pooled.float() for part in parts]),
            lengths=lengths,
        )

    return read


def padding_mask(lengths: Sequence[int]) -> Tensor:
    """(b, longest) bool: True for the first `lengths[i]` tokens of caption i; one column for no caption."""
    longest = max(lengths, default=1)
    return torch.arange(longest) < torch.tensor(lengths).unsqueeze(1)
