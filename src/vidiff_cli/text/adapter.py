"""The trained part of a frozen text encoder: two small maps from its widths to the network's.

Shapes: b captions, l tokens of the longest caption in the batch, d width.
"""

from __future__ import annotations

from torch import nn

from vidiff_cli.config.model import ClipSettings
from vidiff_cli.text.encoder import CaptionTensors, TextEmbedding


class AdaptedText(nn.Module):
    """Embeddings of a frozen encoder -> TextEmbedding: normalised and mapped to `width`."""

    def __init__(self, settings: ClipSettings, width: int) -> None:
        super().__init__()
        self.width = width
        self.to_tokens = nn.Sequential(nn.LayerNorm(settings.width), nn.Linear(settings.width, width))
        self.to_pooled = nn.Sequential(nn.LayerNorm(settings.pooled), nn.Linear(settings.pooled, width))

    def forward(self, captions: CaptionTensors) -> TextEmbedding:
        """Adapts captions that `frozen_reader` has read."""
        assert captions.pooled is not None, "captions of a learned encoder"
        tokens = self.to_tokens(captions.tokens) * captions.mask.unsqueeze(-1)
        return TextEmbedding(tokens=tokens, mask=captions.mask, pooled=self.to_pooled(captions.pooled))

    def unknown_words(self, caption: str) -> tuple[str, ...]:
        """None: the encoder has a token for everything."""
        return ()
