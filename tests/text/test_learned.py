"""Laws of the learned text encoder: neighbors, padding, unknown words and gradients."""

import pytest
import torch

from vidiff_cli.errors import UsageError
from vidiff_cli.text.encoder import TextEmbedding, TextEncoder
from vidiff_cli.text.learned import LearnedText, collect_vocabulary

CAPTIONS = ["a red square moving left", "a small blue plus, moving up slowly", "green"]


def learned(depth: int = 1, **settings: int) -> LearnedText:
    torch.manual_seed(0)
    return LearnedText(collect_vocabulary(CAPTIONS), depth=depth, **settings)


def same(one: TextEmbedding, row: int, other: TextEmbedding, other_row: int) -> None:
    """Two captions are embedded alike, whatever their padding."""
    first, second = one.tokens[row][one.mask[row]], other.tokens[other_row][other.mask[other_row]]
    torch.testing.assert_close(first, second, atol=1e-5, rtol=0)
    torch.testing.assert_close(one.pooled[row], other.pooled[other_row], atol=1e-5, rtol=0)


def test_the_vocabulary_is_sorted_and_does_not_depend_on_order() -> None:
    vocabulary = collect_vocabulary(CAPTIONS)
    assert vocabulary == collect_vocabulary(reversed(CAPTIONS)) == tuple(sorted(set(vocabulary)))
    assert collect_vocabulary([]) == collect_vocabulary([""]) == ()


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_shapes_and_padding(depth: int) -> None:
    encoder: TextEncoder = learned(depth, width=24, heads=3)
    embedding = encoder(CAPTIONS)
    assert embedding.tokens.shape == (3, 8, encoder.width) and embedding.pooled.shape == (3, 24)
    assert embedding.mask.sum(dim=1).tolist() == [5, 8, 1]
    assert not embedding.tokens[~embedding.mask].any()


@pytest.mark.parametrize("depth", [0, 2])
def test_a_caption_does_not_see_its_neighbors(depth: int) -> None:
    encoder = learned(depth)
    together = encoder(CAPTIONS)
    for row, caption in enumerate(CAPTIONS):
        same(together, row, encoder([caption]), 0)


@pytest.mark.parametrize("depth", [0, 1])
def test_every_parameter_learns(depth: int) -> None:
    encoder = learned(depth)
    embedding = encoder([*CAPTIONS, ""])
    (embedding.tokens.sin().sum() + embedding.pooled.square().sum()).backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    assert encoder.embedding.weight.grad.abs().amax(dim=1).min() > 0, "a word without gradient"  # pyright: ignore


def test_the_pooled_vector_alone_teaches_everything() -> None:
    encoder = learned()
    encoder([*CAPTIONS, ""]).pooled.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in encoder.parameters())


def test_unknown_tokens_are_skipped_and_named() -> None:
    encoder = learned()
    same(encoder(["a crimson square moving left"]), 0, encoder(["a square moving left"]), 0)
    assert encoder.unknown_words("A crimson square moving zigzag; crimson!") == ("crimson", "zigzag")
    assert encoder.unknown_words(CAPTIONS[1].upper()) == ()


def test_a_caption_without_a_known_word_is_the_empty_one() -> None:
    encoder = learned()
    embedding = encoder(["", "  ", "zigzag"])
    assert embedding.mask.tolist() == [[True]] * 3
    assert embedding.tokens.isfinite().all() and embedding.pooled.isfinite().all()
    same(embedding, 0, embedding, 2)
    assert encoder([]).pooled.shape == (0, encoder.width)


def test_word_order_is_seen() -> None:
    pooled = learned()(["red blue", "blue red"]).pooled
    assert (pooled[0] - pooled[1]).abs().max() > 1e-4


def test_long_captions_are_cut() -> None:
    encoder = learned(max_tokens=6)
    same(encoder([" ".join(["red"] * 20)]), 0, encoder([" ".join(["red"] * 6)]), 0)


def test_a_saved_encoder_needs_only_its_vocabulary() -> None:
    encoder = learned()
    restored = LearnedText(encoder.vocabulary)
    restored.load_state_dict(encoder.state_dict())
    assert torch.equal(restored(CAPTIONS).pooled, encoder(CAPTIONS).pooled)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(UsageError, match="64 / 5"):
        learned(heads=5)
