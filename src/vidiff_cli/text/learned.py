"""A small text encoder that is trained with the model: the dataset's own tokens, a few layers of attention.

Shapes: b captions, l tokens of the longest caption in the batch, d width.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from vidiff_cli.errors import UsageError
from vidiff_cli.text.encoder import CaptionTensors, TextEmbedding, padding_mask
from vidiff_cli.text.tokenizer import is_punctuation, token_ids, word_ids, words

EMPTY = 0  # row of the embedding table that stands for a caption without a known token


def collect_vocabulary(captions: Iterable[str]) -> tuple[int, ...]:
    """The token ids that occur in the captions, sorted: the vocabulary of a `LearnedText` trained on them."""
    return tuple(sorted({token for caption in captions for token in token_ids(caption)}))


class LearnedText(nn.Module):
    """Rows of its table -> TextEmbedding, over a vocabulary fixed at training; `read` makes the rows of captions.

    Tokens outside the vocabulary are skipped; a caption without any known token (the empty one too) is one learned
    "empty" token. Captions longer than `max_tokens` are cut. The pooled vector sums the plain token embeddings, so that
    every word reaches it directly from the first step, and adds a view of the attended ones.
    """

    def __init__(
        self, vocabulary: Sequence[int], *, width: int = 64, depth: int = 1, heads: int = 4, max_tokens: int = 32
    ) -> None:
        super().__init__()
        if width % heads:
            raise UsageError("The text width does not divide into heads", found=f"{width} / {heads}", fix="Change one")
        self.vocabulary = tuple(sorted(set(vocabulary)))
        self.width, self.max_tokens = width, max_tokens
        self._row = {token: row for row, token in enumerate(self.vocabulary, start=EMPTY + 1)}
        self.embedding = nn.Embedding(len(self.vocabulary) + 1, width)
        self.positions = nn.Parameter(torch.randn(max_tokens, width).mul_(0.1))
        self.layers = nn.ModuleList(_Layer(width, heads) for _ in range(depth))
        self.pool = nn.Linear(width, width)

    def read(self, captions: Sequence[str]) -> CaptionTensors:
        """Captions -> rows of the embedding table, on the CPU."""
        known = [[self._row[token] for token in token_ids(caption) if token in self._row] for caption in captions]
        known = [rows[: self.max_tokens] or [EMPTY] for rows in known]
        lengths = tuple(len(rows) for rows in known)
        mask = padding_mask(lengths)
        table = torch.full(mask.shape, EMPTY)
        table[mask] = torch.tensor([row for rows in known for row in rows], dtype=table.dtype)
        return CaptionTensors(tokens=table, mask=mask, lengths=lengths)

    def forward(self, captions: CaptionTensors) -> TextEmbedding:
        """Embeds captions that `read` has read."""
        rows, mask = captions.tokens, captions.mask  # b l
        real = mask.unsqueeze(-1).to(self.positions.dtype)
        known = self.embedding(rows) * real  # b l d
        tokens = (known + self.positions[: rows.shape[1]]) * real
        for layer in self.layers:
            tokens = layer(tokens, mask) * real
        length = real.sum(dim=1)  # b 1
        # The sum of l independent unit embeddings over sqrt(l) keeps the variance at 1 for any length.
        pooled = known.sum(dim=1) / length.sqrt() + self.pool(tokens.sum(dim=1) / length)
        return TextEmbedding(tokens=tokens, mask=mask, pooled=pooled)

    def unknown_words(self, caption: str) -> tuple[str, ...]:
        """The caption's words with a token outside the vocabulary, in order, each once; punctuation is not named."""
        unknown = (word for word in words(caption) if not all(token in self._row for token in word_ids(word)))
        return tuple(dict.fromkeys(word for word in unknown if not is_punctuation(word)))


class _Layer(nn.Module):
    """A pre-norm transformer layer over real tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.feed_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_qkv, self.to_out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        tokens = tokens + self.to_out(self._attend(self.attention_norm(tokens), mask))
        return tokens + self.feed(self.feed_norm(tokens))

    def _attend(self, tokens: Tensor, mask: Tensor) -> Tensor:
        split = self.to_qkv(tokens).unflatten(-1, (3, self.heads, -1))  # b l 3 heads d/heads
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)  # each b heads l d/heads
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
        return mixed.transpose(1, 2).flatten(2)
