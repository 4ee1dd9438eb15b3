"""Laws of the learned text encoder: neighbors, padding, unknown words and gradients."""

from collections.abc import Sequence

import pytest
import torch

from vidiff_cli.errors import UsageError
from vidiff_cli.text.encoder import TextEmbedding, TextEncoder
from vidiff_cli.text.learned import LearnedText, collect_vocabulary

CAPTIONS = ["a red square moving left", "a small blue plus, moving up slowly", "green"]


def learned(depth: int = 1, **settings: int) -> LearnedText:
    torch.manual_seed(0)
    return LearnedText(collect_vocabulary(CAPTIONS), depth=depth, **settings)


def embed(encoder: LearnedText, captions: Sequence[str]) -> TextEmbedding:
    text_encoder: TextEncoder = encoder
    return text_encoder(encoder.read(captions))


def same(one: TextEmbedding, row: int, other: TextEmbedding, other_row: int) -> None:
    """Two captions are embedded alike, whatever their padding."""
    first, second = one.tokens[row][one.mask[row]], other.tokens[other_row][other.mask[other_row]]
    torch.testing.assert_close(first, second, atol=1e-5, rtol=0)
    torch.testing.assert_close(one.pooled[row], other.pooled[other_row], atol=1e-5, rtol=0)


def test_the_vocabulary_is_sorted_and_does_not_depend_on_order():
    vocabulary = collect_vocabulary(CAPTIONS)
    assert vocabulary == collect_vocabulary(reversed(CAPTIONS)) == tuple(sorted(set(vocabulary)))
    assert collect_vocabulary([]) == collect_vocabulary([""]) == ()


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_shapes_and_padding(depth):
    encoder = learned(depth, width=24, heads=3)
    embedding = embed(encoder, CAPTIONS)
    assert embedding.tokens.shape == (3, 8, encoder.width) and embedding.pooled.shape == (3, 24)
    assert embedding.mask.sum(dim=1).tolist() == [5, 8, 1]
    assert not embedding.tokens[~embedding.mask].any()


@pytest.mark.parametrize("part", [slice(0, 1), slice(2, 4), slice(1, 4), [2, 0]], ids=str)
def test_a_part_of_a_batch_is_read_as_alone(part):
    """Rows and mask are those of the part's captions alone, no longer than the longest of them."""
    encoder, captions = learned(), [*CAPTIONS, ""]
    of_part = [captions[row] for row in range(4)[part]] if isinstance(part, slice) else [captions[row] for row in part]
    selected, alone = encoder.read(captions).select(part), encoder.read(of_part)
    assert torch.equal(selected.tokens, alone.tokens) and torch.equal(selected.mask, alone.mask)
    assert selected.tokens.is_contiguous() and selected.tokens.dtype == alone.tokens.dtype == torch.int64
    assert selected.pooled is alone.pooled is None


@pytest.mark.parametrize("depth", [0, 2])
def test_a_caption_does_not_see_its_neighbors(depth):
    encoder = learned(depth)
    together = embed(encoder, CAPTIONS)
    for row, caption in enumerate(CAPTIONS):
        same(together, row, embed(encoder, [caption]), 0)


@pytest.mark.parametrize(("depth", "pooled_alone"), [(0, False), (1, False), (1, True)])
def test_every_parameter_learns(depth, pooled_alone):
    encoder = learned(depth)
    embedding = embed(encoder, [*CAPTIONS, ""])
    (embedding.pooled.square().sum() + (0 if pooled_alone else embedding.tokens.sin().sum())).backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    assert encoder.embedding.weight.grad.abs().amax(dim=1).min() > 0, "a word without gradient"


def test_unknown_tokens_are_skipped_and_named():
    encoder = learned()
    same(embed(encoder, ["a crimson square moving left"]), 0, embed(encoder, ["a square moving left"]), 0)
    assert encoder.unknown_words("A crimson square moving zigzag; crimson!") == ("crimson", "zigzag")
    assert encoder.unknown_words(CAPTIONS[1].upper()) == ()


def test_a_caption_without_a_known_word_is_the_empty_one():
    encoder = learned()
    embedding = embed(encoder, ["", "  ", "zigzag"])
    assert embedding.mask.tolist() == [[True]] * 3
    assert embedding.tokens.isfinite().all() and embedding.pooled.isfinite().all()
    same(embedding, 0, embedding, 2)
    assert embed(encoder, []).pooled.shape == (0, encoder.width)


def test_word_order_is_seen_and_long_captions_are_cut():
    pooled = embed(learned(), ["red blue", "blue red"]).pooled
    assert (pooled[0] - pooled[1]).abs().max() > 1e-4
    encoder = learned(max_tokens=6)
    same(embed(encoder, [" ".join(["red"] * 20)]), 0, embed(encoder, [" ".join(["red"] * 6)]), 0)


def test_a_saved_encoder_needs_only_its_vocabulary_and_heads_must_divide_the_width():
    encoder = learned()
    restored = LearnedText(encoder.vocabulary)
    restored.load_state_dict(encoder.state_dict())
    assert torch.equal(embed(restored, CAPTIONS).pooled, embed(encoder, CAPTIONS).pooled)
    with pytest.raises(UsageError, match="64 / 5"):
        learned(heads=5)
