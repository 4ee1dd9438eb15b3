"""The trained part of a frozen text encoder: two small maps from its widths to the network's.

Shapes: b captions, l tokens of the longest caption in the batch, d width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from vidiff_cli.config.model import ClipSettings
from vidiff_cli.text.encoder import CaptionEmbedding, TextEmbedding

Frozen = Callable[[str], CaptionEmbedding]


class AdaptedText(nn.Module):
    """Captions -> TextEmbedding: the embeddings of a frozen encoder, normalised and mapped to `width`.

    `frozen` gives the embedding of a caption: a cache in training, the encoder itself in generation. Whoever opens the
    model sets it; it is no part of the weights.
    """

    def __init__(self, settings: ClipSettings, width: int) -> None:
        super().__init__()
        self.width = width
        self.to_tokens = nn.Sequential(nn.LayerNorm(settings.width), nn.Linear(settings.width, width))
        self.to_pooled = nn.Sequential(nn.LayerNorm(settings.pooled), nn.Linear(settings.pooled, width))
        self.frozen: Frozen = _nothing

    def forward(self, captions: Sequence[str]) -> TextEmbedding:
        parts = [self.frozen(caption) for caption in captions]
        device = next(self.parameters()).device
        lengths = torch.tensor([len(part.tokens) for part in parts])
        mask = (torch.arange(int(lengths.max())) < lengths.unsqueeze(1)).to(device)
        # Single precision before anything else: autocast to another half format cannot stack this one.
        tokens = pad_sequence([part.tokens.float() for part in parts], batch_first=True).to(device)  # b l d_encoder
        pooled = torch.stack([part.pooled.float() for part in parts]).to(device)
        return TextEmbedding(
            tokens=self.to_tokens(tokens) * mask.unsqueeze(-1), mask=mask, pooled=self.to_pooled(pooled)
        )

    def unknown_words(self, caption: str) -> tuple[str, ...]:
        """None: the encoder has a token for everything."""
        return ()


def _nothing(caption: str) -> CaptionEmbedding:
    raise AssertionError(f"no text encoder was set to embed {caption!r}")
