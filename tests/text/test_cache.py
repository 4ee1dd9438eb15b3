"""The cache of embeddings: equal to fresh ones, known by their weights, made once, and none the worse for a kill."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vidiff_cli.config.model import ClipSettings
from vidiff_cli.text import embedding_cache as module
from vidiff_cli.text.embedding_cache import EmbeddingCache
from vidiff_cli.text.encoder import CaptionEmbedding

SETTINGS = ClipSettings(encoder="tiny", weights="w.pt", sha256="a" * 64, width=5, pooled=3, context=9)
CAPTIONS = [f"caption {number}" for number in range(20)]


class Encoder:
    """Random embeddings that follow from the caption and from nothing else; counts what it is asked."""

    def __init__(self, offset: float = 0.0) -> None:
        self.asked: list[str] = []
        self.offset = offset

    def __call__(self, caption: str) -> CaptionEmbedding:
        self.asked.append(caption)
        seed = int.from_bytes(hashlib.sha256(caption.encode()).digest()[:7], "big")
        random = torch.Generator().manual_seed(seed)
        length = int(torch.randint(1, 10, (1,), generator=random))
        tokens, pooled = torch.randn(length, 5, generator=random), torch.randn(3, generator=random)
        return CaptionEmbedding(tokens=(tokens + self.offset).half(), pooled=(pooled + self.offset).half())


def fill(folder: Path, captions: Sequence[str], encoder: Encoder, known: ClipSettings = SETTINGS) -> EmbeddingCache:
    cache = EmbeddingCache(folder, known)
    wanted = len(cache.missing(captions))
    assert list(cache.fill(captions, encoder)) == list(range(1, wanted + 1))
    return cache


def equal(one: CaptionEmbedding, other: CaptionEmbedding) -> bool:
    assert one.tokens.dtype == one.pooled.dtype == torch.float16
    return torch.equal(one.tokens, other.tokens) and torch.equal(one.pooled, other.pooled)


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/shard-*.safetensors"))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.text(max_size=8), max_size=12), min_size=1, max_size=4), st.integers(1, 5))
def test_what_is_read_is_what_was_encoded(tmp_path_factory, runs, size):
    """Over any sequence of runs, shard by shard: each caption once, and the same bits as fresh ones."""
    folder, encoder = tmp_path_factory.mktemp("cache"), Encoder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SHARD_CAPTIONS", size)
        for captions in runs:
            cache = fill(folder, captions, encoder)
            again = EmbeddingCache(folder, SETTINGS)
            for caption in captions:
                assert equal(cache(caption), Encoder()(caption)) and equal(again(caption), Encoder()(caption))
    assert len(encoder.asked) == len({caption for captions in runs for caption in captions})
    shutil.rmtree(folder)


def test_other_weights_have_other_embeddings(tmp_path):
    """Also where the folder's short name does not tell them apart; the name of the weights' file has no part in it."""
    fill(tmp_path, CAPTIONS, Encoder())
    for change in ({"sha256": "a" * 12 + "b" * 52}, {"encoder": "other"}, {"width": 5, "context": 8}):
        other = Encoder(offset=1.0)
        cache = fill(tmp_path, CAPTIONS, other, SETTINGS.model_copy(update=change))
        assert other.asked == CAPTIONS and equal(cache("caption 3"), Encoder(1.0)("caption 3"))
    same = Encoder()
    fill(tmp_path / "again", CAPTIONS, Encoder())
    fill(tmp_path / "again", CAPTIONS, same, SETTINGS.model_copy(update={"weights": "moved.safetensors"}))
    assert same.asked == []


@pytest.mark.parametrize(("how", "kept"), [("stopped", 7), ("failed", 7), ("killed", 4)])
def test_what_was_done_stays(tmp_path, monkeypatch, how, kept):
    """All of it where there is a moment left to write; a kill costs the last shard at most."""
    monkeypatch.setattr(module, "SHARD_CAPTIONS", 4)
    encoder = Encoder()

    def failing(caption: str) -> CaptionEmbedding:
        if how == "failed" and len(encoder.asked) == 7:
            raise KeyboardInterrupt
        return encoder(caption)

    filling = EmbeddingCache(tmp_path, SETTINGS).fill(CAPTIONS, failing)
    if how == "failed":
        with pytest.raises(KeyboardInterrupt):
            list(filling)
    else:
        assert [next(filling) for _ in range(7)][-1] == 7
    if how == "stopped":
        filling.close()
    rest = Encoder()
    cache = fill(tmp_path, CAPTIONS, rest)
    assert rest.asked == CAPTIONS[kept:] and cache.damaged == 0


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))


DAMAGE = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "empty": lambda path: path.write_bytes(b""),
    "header": lambda path: flip(path, 9),
    "flipped": lambda path: flip(path, -100),
    "missing": lambda path: path.unlink(),
    "of another": lambda path: path.write_bytes(other_shard(path.parents[1] / "other").read_bytes()),
}


def other_shard(folder: Path) -> Path:
    fill(folder, CAPTIONS, Encoder(1.0), SETTINGS.model_copy(update={"sha256": "c" * 64}))
    return shards(folder)[0]


@pytest.mark.parametrize("how", DAMAGE)
def test_damage_is_noticed_and_made_again(tmp_path, monkeypatch, how):
    monkeypatch.setattr(module, "SHARD_CAPTIONS", 10)
    fill(tmp_path, CAPTIONS, Encoder())
    DAMAGE[how](min(shards(tmp_path)))
    cache, encoder = EmbeddingCache(tmp_path, SETTINGS), Encoder()
    assert cache.damaged == (how != "missing")
    list(cache.fill(CAPTIONS[::-1], encoder))
    assert len(encoder.asked) == 10
    again = EmbeddingCache(tmp_path, SETTINGS)
    assert again.damaged == 0 and again.missing(CAPTIONS) == []
    assert all(equal(again(caption), Encoder()(caption)) for caption in CAPTIONS)


def test_a_damaged_file_does_not_stay_beside_what_replaces_it(tmp_path):
    fill(tmp_path, CAPTIONS, Encoder())
    flip(shards(tmp_path)[0], -1)
    cache = fill(tmp_path, CAPTIONS[:5], Encoder())
    assert cache.damaged == 0 and EmbeddingCache(tmp_path, SETTINGS).damaged == 0 and len(shards(tmp_path)) == 1


def test_a_folder_that_cannot_be_written_costs_only_the_next_run(tmp_path):
    """A file in the place of the folder: as root nothing is read-only."""
    (tmp_path / "text").write_text("in the way")
    cache = fill(tmp_path / "text", CAPTIONS, Encoder())
    assert cache.unwritable and "\n" not in cache.unwritable
    assert all(equal(cache(caption), Encoder()(caption)) for caption in CAPTIONS)
    again = Encoder()
    fill(tmp_path / "text", CAPTIONS, again)
    assert again.asked == CAPTIONS


def test_a_full_disk_in_the_middle(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SHARD_CAPTIONS", 6)
    write, count = module.write_tensors, [0]

    def full(*args: object) -> None:
        count[0] += 1
        if count[0] > 1:
            raise OSError(28, "No space left on device")
        write(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "write_tensors", full)
    cache = fill(tmp_path, CAPTIONS, Encoder())
    assert cache.unwritable == "No space left on device" and count == [2] and len(shards(tmp_path)) == 1
    assert all(equal(cache(caption), Encoder()(caption)) for caption in CAPTIONS)


def test_the_cache_is_read_by_memory_map_and_holds_no_pickle(tmp_path):
    from vidiff_cli.checkpoint import read_header

    fill(tmp_path, CAPTIONS, Encoder())
    (path,) = shards(tmp_path)
    cache = EmbeddingCache(tmp_path, SETTINGS)
    assert cache("caption 1").tokens.numel() and str(path) in Path("/proc/self/maps").read_text()
    assert read_header(path)["encoder"]["sha256"] == "a" * 64
    assert [name.name for name in path.parent.iterdir()] == [path.name]
