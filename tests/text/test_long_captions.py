"""Captions that are longer than their encoder reads are told of, and shortened as asked."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vidiff_cli.config.model import LongCaptions, ModelSettings, NetworkSettings, TextSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.models.video_model import new_video_model
from vidiff_cli.text.clip_names import read_name
from vidiff_cli.text.clip_tower import open_tower
from vidiff_cli.text.learned import collect_vocabulary
from vidiff_cli.text.long_captions import CaptionLimit, caption_limit

LIMIT = 8
LONG = "a small red circle and a large blue square beside a green star moving left"


def words_limit(mode: LongCaptions) -> CaptionLimit:
    return CaptionLimit(lambda text: len(text.split()), LIMIT, mode)


def learned(mode: LongCaptions = "cut", words: str = LONG) -> TextSettings:
    return TextSettings(kind="learned", max_tokens=LIMIT, long_captions=mode, vocabulary=collect_vocabulary([words]))


def test_middle_keeps_as_many_words_of_both_ends_as_are_read() -> None:
    limit = words_limit("middle")
    kept = limit.shorten(LONG).split()
    assert len(kept) == LIMIT and kept[:4] == LONG.split()[:4] and kept[-4:] == LONG.split()[-4:]
    assert limit.left_out(LONG).split() == LONG.split()[4:-4]
    assert limit.shorten("a red circle") == "a red circle"


def test_cut_leaves_the_caption_to_the_encoder_and_knows_what_it_loses() -> None:
    limit = words_limit("cut")
    assert limit.shorten(LONG) == LONG
    assert limit.left_out(LONG).split() == LONG.split()[LIMIT:]


@pytest.mark.parametrize("text", ["猫" * 60, "x9" * 60, "!?" * 40])
def test_a_single_word_that_is_too_long_is_shortened_by_letters(text: str) -> None:
    limit = caption_limit(learned("middle", text))
    assert limit is not None and limit.count(text) > LIMIT
    short = limit.shorten(text)
    assert 0 < limit.count(short) <= LIMIT and short[0] == text[0] and short[-1] == text[-1]


def test_unknown_words_take_no_room() -> None:
    limit = caption_limit(learned(words="small red circle moving left"))
    assert limit is not None
    assert list(limit.notes(["very " * 60 + "small red circle moving left"], what="prompt")) == []


def network(text: TextSettings) -> Any:
    settings = ModelSettings(
        network=NetworkSettings(base_channels=8, head_dim=8, embedding=16, context_dim=16), text=text
    )
    return new_video_model(settings, 0)


def test_the_reader_of_a_learned_encoder_sees_both_ends() -> None:
    cut, middle = (network(learned(mode)).caption_reader()([LONG]).tokens for mode in ("cut", "middle"))
    rows = network(learned()).text.read
    assert torch.equal(cut, rows([" ".join(LONG.split()[:LIMIT])]).tokens)
    assert torch.equal(middle, rows([" ".join([*LONG.split()[:4], *LONG.split()[-4:]])]).tokens)
    asked = network(learned("cut")).caption_reader(long_captions="middle")([LONG]).tokens
    assert torch.equal(asked, middle)


def test_the_limit_of_a_clip_is_the_one_that_its_tokenizer_cuts_at(tiny_clip: Any) -> None:
    tower = open_tower(read_name(tiny_clip.named()), otherwise="")
    limit = caption_limit(TextSettings(kind="clip", clip=tower.settings))
    assert limit is not None and limit.limit == 10
    eight, nine = " ".join(LONG.split()[:8]), " ".join(LONG.split()[:9])
    assert limit.count(eight) == 10 and list(limit.notes([eight], what="prompt")) == []
    assert limit.count(nine) == 11
    assert torch.equal(tower.encode(eight).tokens[:-1], tower.encode(nine).tokens[:-1])  # what is cut does not count
    (note,) = limit.notes([nine], what="prompt")
    assert "11 tokens" in note.text and "reads 10" in note.text and f"'{LONG.split()[8]}'" in note.text


def test_the_reader_of_a_clip_sees_both_ends(tiny_clip: Any) -> None:
    tower = open_tower(read_name(tiny_clip.named()), otherwise="")
    text = TextSettings(kind="clip", clip=tower.settings, long_captions="middle")
    read = network(text).caption_reader(tower.encode)([LONG]).tokens[0]
    short = " ".join([*LONG.split()[:4], *LONG.split()[-4:]])
    assert torch.equal(read, tower.encode(short).tokens.float())


def test_one_long_prompt_is_told_of_with_what_is_left_out() -> None:
    (note,) = words_limit("cut").notes([LONG], what="prompt")
    assert note.level == "warning"
    assert (
        "15 tokens" in note.text and "reads 8" in note.text and "'square beside a green star moving left'" in note.text
    )
    assert "--long-captions middle" in note.text
    (note,) = words_limit("middle").notes([LONG], what="prompt")
    assert "'and a large blue square beside a'" in note.text and "--long-captions" not in note.text


def test_many_captions_are_counted_once_each_with_the_longest() -> None:
    texts = [LONG, LONG, f"{LONG} slowly", "a red circle"]
    (note,) = words_limit("cut").notes(texts, what="caption", fix="--set text.max_tokens={tokens} reads all of them")
    assert "2 of 3 captions" in note.text and "the longest has 16" in note.text and "max_tokens=16" in note.text


@pytest.mark.parametrize("texts", [[LONG], [LONG, "a red circle"]])
def test_refuse_is_an_error_only_where_one_is_too_long(texts: list[str]) -> None:
    limit = words_limit("refuse")
    with pytest.raises(VidiffError, match=r"15 tokens.*expected at most 8"):
        list(limit.notes(texts, what="prompt"))
    assert list(limit.notes(["a red circle", ""], what="prompt")) == []
