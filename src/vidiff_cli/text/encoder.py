"""Output of every text encoder: token embeddings for cross-attention and one pooled vector per caption.

Shapes: b captions, l tokens of the longest caption in the batch, d the encoder's width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


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


class TextEncoder(Protocol):
    """Captions in, embeddings out; a caption's embedding does not depend on its neighbors in the batch."""

    width: int

    def __call__(self, captions: Sequence[str]) -> TextEmbedding: ...

    def unknown_words(self, caption: str) -> tuple[str, ...]:
        """The caption's words that the encoder has never learned, in order, each once."""
        ...
