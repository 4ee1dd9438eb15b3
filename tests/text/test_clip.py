"""The names of CLIP encoders, where their weights lie, and the frozen tower: it computes what open_clip computes."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vidiff_cli.config.model import ClipSettings
from vidiff_cli.errors import UsageError, VidiffError
from vidiff_cli.text import clip_names as names
from vidiff_cli.text.adapter import AdaptedText
from vidiff_cli.text.clip_names import (
    DEFAULT_CLIP,
    DEFAULT_REPOSITORY,
    WEIGHT_FILES,
    ClipName,
    complete_name,
    import_open_clip,
    read_name,
    settle_name,
    weights_at_hand,
)
from vidiff_cli.text.clip_tower import ClipTower, open_same_tower, open_tower
from vidiff_cli.text.encoder import CaptionReader, CaptionTensors, TextEncoder, frozen_reader

CAPTIONS = ["", "a red square moving left", "a small blue plus, moving up slowly and for a very long time indeed", "x"]
TOWERS = ["tiny-clip", "tiny-custom", "tiny-last"]


def tower_of(tiny_clip: Any, *which: Any) -> ClipTower:
    return open_tower(read_name(tiny_clip.named(*which)), otherwise="do without")


def tokens_of(name: str, caption: str) -> torch.Tensor:
    import_open_clip()
    import open_clip

    return open_clip.get_tokenizer(name)([caption])


# --- names and weights -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "model", "weights"),
    [
        ("ViT-B/32:openai", "ViT-B-32", "openai"),
        ("ViT-B-32", "ViT-B-32", None),
        ("ViT-B-32:/a b/c:d.pt", "ViT-B-32", "/a b/c:d.pt"),
        ("/weights.pt", None, "/weights.pt"),
        ("./a:b", None, "./a:b"),
        ("mine.safetensors", None, "mine.safetensors"),
    ],
)
def test_names_are_read(asked, model, weights):
    assert read_name(asked) == ClipName(model=model, weights=weights)


@given(st.text(max_size=30))
def test_any_name_is_read_or_refused_in_a_sentence(text):
    try:
        name = read_name(text)
    except UsageError as error:
        assert str(error).startswith("--clip-model")
    else:
        assert name.model or name.weights


def test_what_is_left_out_of_a_name():
    assert str(complete_name(read_name("ViT-B-32"))) == DEFAULT_CLIP
    assert str(complete_name(ClipName(model=None, weights=None))) == DEFAULT_CLIP
    assert str(complete_name(read_name("/w.pt"))) == "ViT-B-32:/w.pt"
    assert str(settle_name(read_name("ViT-B-32:openai"))) == "ViT-B-32-quickgelu:openai", (
        "weights of another activation"
    )
    assert str(settle_name(read_name(DEFAULT_CLIP))) == DEFAULT_CLIP
    with pytest.raises(UsageError, match=r"ViT-L-14 does not say which weights: expected ViT-L-14:openai, .* or ViT"):
        complete_name(read_name("ViT-L-14"))


def test_the_default_is_what_open_clip_has():
    """Its repository stands in the code so that looking for it need not import open_clip."""
    import_open_clip()
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
    from open_clip.pretrained import get_pretrained_cfg

    assert get_pretrained_cfg(*DEFAULT_CLIP.split(":"))["hf_hub"] == DEFAULT_REPOSITORY + "/"
    assert WEIGHT_FILES == (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME)


AT_HAND = """
import socket, sys
from vidiff_cli.text.clip_names import weights_at_hand
def refuse(*args, **more): raise AssertionError("the network was asked")
socket.getaddrinfo = socket.socket.connect = refuse
print(weights_at_hand())
print([name for name in ("torch", "open_clip", "torchvision") if name in sys.modules])
"""


def cached(hub: Path, repository: str, file: str) -> Path:
    """An empty file, as the hub's downloads lie in their cache."""
    place = hub / ("models--" + repository.replace("/", "--"))
    (place / "snapshots" / "abc").mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("abc")
    (place / "snapshots" / "abc" / file).touch()
    return place / "snapshots" / "abc" / file


@pytest.mark.parametrize("file", [*WEIGHT_FILES, None])
def test_the_default_weights_are_found_without_network_or_torch(tmp_path, file):
    path = cached(tmp_path / "hub", DEFAULT_REPOSITORY, file) if file else None
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path / "hub")}
    done = subprocess.run(
        [sys.executable, "-c", AT_HAND], capture_output=True, text=True, timeout=100, check=False, env=environment
    )
    assert (done.stderr, done.stdout.splitlines()) == ("", [str(path), "[]"])


def test_other_weights_are_found_without_network(tmp_path, no_network, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".cache" / "clip").mkdir(parents=True)
    url = tmp_path / ".cache" / "clip" / "rn101-quickgelu-yfcc15m-3e04b30e.pt"
    url.touch()
    file = tmp_path / "mine.safetensors"
    file.touch()
    datacomp = cached(tmp_path / "hub", "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K", WEIGHT_FILES[0])
    assert weights_at_hand("ViT-B-16:datacomp_xl_s13b_b90k") == datacomp
    assert weights_at_hand(str(file)) == weights_at_hand(f"ViT-B-32:{file}") == file
    for nothing in (None, "RN50:yfcc15m", "ViT-B-32:nonsense", "nonsense", "ViT-L-14", "/missing.pt", ":"):
        assert weights_at_hand(nothing) is None
    assert no_network == []


def one_sentence(error: pytest.ExceptionInfo[VidiffError]) -> str:
    text = str(error.value)
    assert text.endswith(".") and "\n" not in text and len(text) < 400
    return text


def test_offline_without_weights_is_one_sentence(no_network, monkeypatch, capfd):
    """With both ways out, soon, and with nothing else on the terminal."""
    monkeypatch.setattr(names, "_in_hub_cache", lambda repository, files: None)
    handlers = logging.root.handlers[:]
    with pytest.raises(VidiffError) as error:
        open_tower(read_name(DEFAULT_CLIP), otherwise="train with --text learned")
    assert one_sentence(error) == (
        f"the CLIP weights {DEFAULT_CLIP} are not on this machine and cannot be downloaded; give them as a file with "
        "--clip-model ViT-B-32:FILE, or train with --text learned."
    )
    assert 1 <= len(no_network) <= 2  # one connection
    assert capfd.readouterr() == ("", "") and logging.root.handlers == handlers


def test_libraries_are_kept_off_the_terminal_and_leave_no_handler(capfd):
    """Also those whose handler holds the terminal itself, as the hub's does."""
    library, handler = logging.getLogger("somebody"), logging.StreamHandler(os.fdopen(os.dup(2), "w"))
    library.addHandler(handler)
    before = logging.root.handlers[:]
    with names.quiet():
        library.error("one")
        logging.error("two")
        warnings.warn("three", stacklevel=1)
        print("four", file=sys.stderr)
    assert logging.root.handlers == before and capfd.readouterr() == ("", "")
    library.error("heard again")
    handler.flush()
    assert "heard again" in capfd.readouterr().err
    library.removeHandler(handler)
    handler.stream.close()


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ("tiny-clip:/nowhere/w.pt", "CLIP weights /nowhere/w.pt do not exist; give them as a file"),
        ("tiny-clip", "tiny-clip does not say which weights: expected tiny-clip:FILE"),
        ("tiny-clap:w.pt", "open_clip has no model 'tiny-clap'; did you mean tiny-clip"),
        ("ViT-B-32:nonsense", "open_clip knows no weights ViT-B-32:nonsense: expected ViT-B-32:openai"),
        ("hf-hub:somebody/something", "open_clip has no model 'hf-hub'"),
        ("tiny-borrowed:w.pt", "the text tower of tiny-borrowed is not one of open_clip's own; use another model"),
    ],
)
def test_what_cannot_be_had_is_one_sentence(tiny_clip, no_network, capfd, asked, sentence):
    with pytest.raises(VidiffError) as error:
        open_tower(read_name(asked), otherwise="do without")
    assert sentence in one_sentence(error)
    assert no_network == [] and capfd.readouterr() == ("", "")


def test_a_tokenizer_that_cannot_be_had_is_one_sentence(tiny_clip, no_network, monkeypatch, capfd):
    def offline(*args: object, **more: object) -> None:
        raise OSError("We couldn't connect\nto a server")

    monkeypatch.setattr("open_clip.get_tokenizer", offline)
    with pytest.raises(
        VidiffError, match=r"tokenizer of tiny-tokens cannot be loaded; connect .* or do without"
    ) as error:
        open_tower(ClipName(model="tiny-tokens", weights=str(tiny_clip.weights())), otherwise="do without")
    one_sentence(error)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("content", ["of another model", "empty", "text", "cut", "a pickle of code"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_that_are_none_are_one_sentence(tiny_clip, tmp_path, capfd, content, suffix):
    path = tmp_path / f"w{suffix}"
    if content == "of another model":
        path = tiny_clip.weights("tiny-custom", 0, suffix)
    elif content == "a pickle of code":
        torch.save({"weights": Path}, path)
    else:
        whole = tiny_clip.weights("tiny-clip", 0, suffix).read_bytes()
        path.write_bytes({"empty": b"", "text": b"version https://git-lfs", "cut": whole[: len(whole) // 2]}[content])
    with pytest.raises(VidiffError) as error:
        open_tower(ClipName(model="tiny-clip", weights=str(path)), otherwise="do without")
    assert one_sentence(error).startswith(f"{path} does not hold the weights of tiny-clip")
    assert capfd.readouterr() == ("", "")


# --- the tower ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("name", TOWERS)
def test_the_pooled_vector_is_open_clips_own(tiny_clip, name, suffix):
    """`encode_text` of the whole model, not normalised; only rounded to half precision."""
    tower, model = tower_of(tiny_clip, name, 0, suffix), tiny_clip.model(name)
    for caption in CAPTIONS:
        with torch.no_grad():
            wanted = model.encode_text(tokens_of(name, caption))[0]
        assert torch.equal(tower.encode(caption).pooled, wanted.half())
        assert wanted.norm() != pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", ["tiny-clip", "tiny-custom"])
def test_the_last_token_projected_is_the_pooled_vector(tiny_clip, name):
    """The states are those after the last norm, and the last real one is the end-of-text mark's."""
    tower, model = tower_of(tiny_clip, name), tiny_clip.model(name)
    projection = getattr(model, "text", model).text_projection
    for caption in CAPTIONS:
        embedding = tower.encode(caption)
        with torch.no_grad():
            last = embedding.tokens[-1].float()
            projected = projection(last) if callable(projection) else last @ projection
        torch.testing.assert_close(projected, embedding.pooled.float(), atol=4e-3, rtol=0)  # rounded before, not after


def test_only_real_tokens_come(tiny_clip):
    """Start, words, end; cut at the context as the tokenizer does."""
    tower = tower_of(tiny_clip)
    assert [len(tower.encode(caption).tokens) for caption in CAPTIONS] == [2, 7, 10, 3]
    assert tower.settings.context == 10 and tower.settings.width == 8 and tower.settings.pooled == 12
    words = CAPTIONS[2].split()
    same = tower.encode(" ".join(words[:7]) + " , whatever follows it")  # start, 8 tokens with the comma, end
    assert torch.equal(tower.encode(CAPTIONS[2]).tokens[:8], same.tokens[:8])
    assert torch.equal(tokens_of("tiny-clip", CAPTIONS[2])[0, -1], torch.tensor(49407))
    assert len(tower_of(tiny_clip, "tiny-last").encode("x").tokens) == 4, "and the first of the padding"


def test_the_pictures_half_is_dropped_nothing_is_trained_and_no_generator_moved(tiny_clip):
    model, before = tiny_clip.model(), torch.get_rng_state()
    tower = tower_of(tiny_clip)
    assert torch.equal(torch.get_rng_state(), before)
    pictures = sum(value.numel() for value in model.visual.parameters())
    assert tower.parameters == sum(value.numel() for value in model.parameters()) - pictures
    assert not tower.encode("x").tokens.requires_grad and not tower.encode("x").tokens.is_inference()


def test_weights_are_known_by_what_they_are_not_by_their_file(tiny_clip):
    one, same, other = (tower_of(tiny_clip, "tiny-clip", *which) for which in ((0,), (0, ".pt"), (1,)))
    assert one.settings.sha256 == same.settings.sha256 != other.settings.sha256
    assert one.settings.weights == "tiny-clip-0.safetensors"
    assert tower_of(tiny_clip, "tiny-custom").settings.sha256 != tower_of(tiny_clip, "tiny-last").settings.sha256


def test_another_encoder_than_the_models_is_refused(tiny_clip, no_network):
    trained = tower_of(tiny_clip).settings

    def opened(asked: str | None) -> ClipTower:
        name = ClipName(model=None, weights=None) if asked is None else read_name(asked)
        return open_same_tower(trained, name, otherwise="leave out the prompt")

    for good in (tiny_clip.named(), str(tiny_clip.weights()), tiny_clip.named("tiny-clip", 0, ".pt")):
        assert opened(good).settings.sha256 == trained.sha256
    for bad, sentence in (
        (tiny_clip.named("tiny-clip", 1), "these are not the CLIP weights that the model was trained with: found hash"),
        (tiny_clip.named("tiny-custom"), "trained with another CLIP: found tiny-custom, expected tiny-clip"),
        (None, "needs the CLIP weights tiny-clip-0.safetensors: found nothing that says where they lie; name their"),
        ("tiny-clip", "needs the CLIP weights tiny-clip-0.safetensors: found nothing that says"),
        ("/nowhere/w.pt", "found no file /nowhere/w.pt; name their file with --clip-model tiny-clip:FILE, or leave"),
    ):
        with pytest.raises(VidiffError) as error:
            opened(bad)
        assert sentence in one_sentence(error)
    assert no_network == []


def test_the_path_in_a_checkpoint_is_no_way_to_weights(tiny_clip):
    """A stranger's checkpoint cannot have a file of this machine opened."""
    trained = tower_of(tiny_clip).settings.model_copy(update={"weights": str(tiny_clip.weights())})
    with pytest.raises(VidiffError, match="nothing that says where they lie"):
        open_same_tower(trained, ClipName(model=None, weights=None), otherwise="leave out the prompt")
    for encoder in ("local-dir:/tmp", "../x", "hf-hub:a/b", "", "a\n"):
        with pytest.raises(ValueError):
            ClipSettings.model_validate(trained.model_dump() | {"encoder": encoder})


# --- the adapter -------------------------------------------------------------------------------------------------


def adapted(tiny_clip: Any, width: int = 6) -> tuple[AdaptedText, CaptionReader]:
    tower = tower_of(tiny_clip)
    torch.manual_seed(0)
    return AdaptedText(tower.settings, width), frozen_reader(tower.encode)


adapted_once = cache(adapted)


def equal(one: CaptionTensors, other: CaptionTensors) -> bool:
    assert one.pooled is not None and other.pooled is not None
    pairs = ((one.tokens, other.tokens), (one.mask, other.mask), (one.pooled, other.pooled))
    return all(torch.equal(*pair) and pair[0].dtype == pair[1].dtype and pair[0].is_contiguous() for pair in pairs)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from(CAPTIONS), min_size=1, max_size=5), st.data())
def test_a_part_of_a_batch_is_read_as_alone(tiny_clip, captions, data):
    """A slice, or rows in any order: the same tensors, of single precision, no longer than its longest caption."""
    _, read = adapted_once(tiny_clip)
    whole = read(captions)
    start = data.draw(st.integers(0, len(captions) - 1))
    stop = data.draw(st.integers(start + 1, len(captions)))
    rows = data.draw(st.lists(st.integers(0, len(captions) - 1), min_size=1, max_size=4))
    assert whole.tokens.dtype == torch.float32
    assert equal(whole.select(slice(start, stop)), read(captions[start:stop]))
    assert equal(whole.select(rows), read([captions[row] for row in rows]))


def test_the_adapter_is_a_text_encoder(tiny_clip):
    adapter, read = adapted(tiny_clip)
    encoder: TextEncoder = adapter
    embedding = encoder(read(CAPTIONS))
    assert embedding.tokens.shape == (4, 10, 6) and embedding.pooled.shape == (4, 6) and encoder.width == 6
    assert embedding.mask.sum(dim=1).tolist() == [2, 7, 10, 3]
    assert not embedding.tokens[~embedding.mask].any()
    assert encoder.unknown_words("zyzzyva qwxk") == ()


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from(CAPTIONS), min_size=1, max_size=5))
def test_a_caption_does_not_see_its_neighbors(tiny_clip, captions):
    """The frozen embedding bit for bit; what the adapter makes of it up to the order of a matrix product's sums."""
    encoder, read = adapted_once(tiny_clip)
    together = encoder(read(captions))
    for row, caption in enumerate(captions):
        alone = encoder(read([caption]))
        torch.testing.assert_close(together.tokens[row][together.mask[row]], alone.tokens[0], atol=1e-6, rtol=0)
        torch.testing.assert_close(together.pooled[row], alone.pooled[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_the_adapter_under_autocast(tiny_clip, dtype):
    encoder, read = adapted_once(tiny_clip)
    captions = read(CAPTIONS)
    wanted = encoder(captions)
    with torch.autocast("cpu", dtype):
        embedding = encoder(captions)
    torch.testing.assert_close(embedding.tokens.float(), wanted.tokens, atol=0.08, rtol=0)
    torch.testing.assert_close(embedding.pooled.float(), wanted.pooled, atol=0.08, rtol=0)


def test_every_parameter_of_the_adapter_learns(tiny_clip):
    encoder, read = adapted(tiny_clip)
    embedding = encoder(read(CAPTIONS))
    (embedding.tokens.sin().sum() + embedding.pooled.square().sum()).backward()
    assert {name.partition(".")[0] for name, _ in encoder.named_parameters()} == {"to_tokens", "to_pooled"}
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
