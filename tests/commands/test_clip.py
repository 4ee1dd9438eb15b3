"""CLIP from end to end, with weights of random numbers: train, resume, sample, extend; and the way without it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import vidiff
from runs import assert_same_training, config_of, rows_of, weights_of

from vidiff_cli.commands.estimate import estimate_cost
from vidiff_cli.commands.extend import extend
from vidiff_cli.commands.interpolate import interpolate
from vidiff_cli.commands.prep import prep
from vidiff_cli.commands.sample import sample
from vidiff_cli.commands.train import train
from vidiff_cli.config.generate import SampleSettings
from vidiff_cli.config.prep import PrepSettings
from vidiff_cli.config.train import presets
from vidiff_cli.dataset.dataset import open_dataset
from vidiff_cli.errors import UsageError, VidiffError
from vidiff_cli.models.video_model import open_video_model
from vidiff_cli.runs import text_encoder as wiring
from vidiff_cli.text.clip_names import read_name
from vidiff_cli.text.clip_tower import ClipTower

PROMPT = "a red square moving left"


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The captions that go through a tower, but for the empty one, which tells its widths."""
    asked: list[str] = []
    original = ClipTower.encode

    def encode(self: ClipTower, caption: str) -> Any:
        asked.extend([caption] if caption else [])
        return original(self, caption)

    monkeypatch.setattr(ClipTower, "encode", encode)
    return asked


@pytest.fixture
def own(dataset: Path, tmp_path: Path) -> Path:
    """The dataset in a folder of the test's own, without embeddings."""
    return Path(shutil.copytree(dataset, tmp_path / "own"))


@pytest.fixture(scope="module")
def clip_data(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(dataset, tmp_path_factory.mktemp("clip") / "dataset"))


def by_clip(name: str) -> dict[str, Any]:
    return {"text": {"kind": "clip", "clip_model": name}}


@pytest.fixture(scope="module")
def clip_run(clip_data: Path, training: Callable[..., Any], tiny_clip: Any) -> Path:
    """A run of six steps with the tiny CLIP."""
    run = clip_data.parent / "run"
    train(training(clip_data, run, sample_every=6, **by_clip(tiny_clip.named())))
    return run


def assert_unchanged(before: dict[str, Any], run: Path) -> None:
    assert all(before[name].equal(value) for name, value in weights_of(run).items())


def test_a_checkpoint_names_its_encoder_but_no_path(clip_run, tiny_clip) -> None:
    (path,) = (clip_run / "checkpoints").glob("step-000006-*/ema.safetensors")
    video_model, _ = open_video_model(path)
    clip = video_model.settings.text.clip
    assert video_model.settings.text.kind == "clip" and clip is not None
    assert (clip.encoder, clip.weights) == ("tiny-clip", "tiny-clip-0.safetensors")
    assert (clip.width, clip.pooled, clip.context) == (8, 12, 10)
    assert str(tiny_clip.folder).encode() not in path.read_bytes()
    own = {name.split(".")[1] for name in video_model.state_dict() if name.startswith("text.")}
    assert own == {"to_pooled", "to_tokens"}, "the adapter alone, nothing of the tower"
    assert (clip_run / "samples" / "step-000006.png").is_file()


def test_all_texts_of_a_training_are_embedded_once_for_all_runs(own, training, tiny_clip, encoded, tmp_path) -> None:
    """Captions, those of held-out clips and the prompts of sheets; whatever the batch size and the length."""
    (tmp_path / "prompts.txt").write_text("a purple elephant")
    more = {"validate_every": 2, "sample_every": 2, "prompts": tmp_path / "prompts.txt"} | by_clip(tiny_clip.named())
    train(training(own, tmp_path / "one", steps=2, **more))
    opened = open_dataset(own)
    held = {text for number in opened.split("val") for text in opened.clips[number].captions}
    assert held | {"a purple elephant"} <= set(encoded) and len(encoded) == len(set(encoded))
    assert [row["step"] for row in rows_of(tmp_path / "one") if "validation_loss" in row] == [0, 2]
    encoded.clear()
    train(training(own, tmp_path / "two", steps=3, batch_size=3, seed=5, **more))
    assert encoded == []


@pytest.mark.parametrize("cache", ["read", "damaged", "not writable"])
def test_however_captions_are_embedded_the_training_is_the_same(
    own, clip_data, clip_run, training, tiny_clip, told, tmp_path, cache
) -> None:
    if cache == "not writable":
        (own / "text").write_text("in the way")
    else:
        shutil.copytree(clip_data / "text", own / "text")
    if cache == "damaged":
        (path,) = own.glob("text/*/*.safetensors")
        content = bytearray(path.read_bytes())
        content[-40] ^= 64
        path.write_bytes(bytes(content))
    _, notes = told(train.events(training(own, tmp_path / "run", sample_every=6, **by_clip(tiny_clip.named()))))
    said = {"read": "", "damaged": "damaged", "not writable": "kept in memory"}[cache]
    assert [note.level for note in notes if said and said in note.text] == {"read": [], "damaged": ["warning"]}.get(
        cache, ["info"]
    )
    assert_same_training(tmp_path / "run", clip_run)


def test_continued_is_uninterrupted(clip_data, clip_run, training, tiny_clip, signal_at, tmp_path) -> None:
    """Also with the same weights from another file."""
    settings = training(clip_data, tmp_path / "stopped", sample_every=6, **by_clip(tiny_clip.named()))
    signal_at(3, settings)
    assert config_of(tmp_path / "stopped")["train"]["text"]["kind"] == "clip"
    moved = {"clip_model": tiny_clip.named("tiny-clip", 0, ".pt"), "kind": "auto"}
    train(settings.model_copy(update={"text": settings.text.model_copy(update=moved)}))
    assert_same_training(tmp_path / "stopped", clip_run)


def test_in_half_precision(clip_data, training, tiny_clip, tmp_path: Path) -> None:
    """Of another kind than that of the embeddings."""
    report = train(training(clip_data, tmp_path / "run", steps=2, precision="bf16", **by_clip(tiny_clip.named())))
    assert report.precision == "bf16" and report.loss is not None
    asked = {"model": tmp_path / "run", "clip_model": tiny_clip.named(), "prompts": (PROMPT,), "steps": 2}
    assert sample(SampleSettings(dtype="bf16", output=tmp_path / "out.mp4", **asked)).paths[0].is_file()


def test_a_run_keeps_its_encoder(clip_data, clip_run, training, tiny_clip) -> None:
    before = weights_of(clip_run)
    for text, expected in (
        (by_clip(tiny_clip.named("tiny-clip", 1))["text"], "these are not the CLIP weights that the model was trained"),
        ({"kind": "learned"}, "was trained with another text.kind: found learned, expected clip"),
    ):
        with pytest.raises(VidiffError, match=expected):
            train(training(clip_data, clip_run, steps=8, text=text))
    assert_unchanged(before, clip_run)


def test_a_run_goes_on_without_the_weights_where_all_captions_are_embedded(
    own, training, tiny_clip, monkeypatch, tmp_path
) -> None:
    """No tower is opened; where an embedding is missing, what it takes is one sentence."""
    run = tmp_path / "run"
    train(training(own, run, steps=1, **by_clip(tiny_clip.named())))
    with monkeypatch.context() as patch:
        patch.setattr(wiring, "open_same_tower", lambda *_, **__: pytest.fail("a tower was opened"))
        assert train(training(own, run, steps=2, text={"kind": "auto"})).steps == 2
    (shard,) = (own / "text").rglob("shard-*")
    shard.unlink()
    before = weights_of(run)
    with pytest.raises(VidiffError, match=r"needs the CLIP weights tiny-clip-0.safetensors: found nothing .* train "):
        train(training(own, run, steps=3, text={"kind": "auto"}))
    assert_unchanged(before, run)
    assert train(training(own, run, steps=3, **by_clip(tiny_clip.named()))).steps == 3


def test_embeddings_are_no_reason_to_refuse_a_folder(own, dataset, clip_data, clip_run) -> None:
    shutil.copytree(clip_data / "text", own / "text")
    (own / "dataset.json").unlink()
    shutil.rmtree(own / "data")
    prep(PrepSettings(sources=(str(dataset.parent / "clips"),), output=own, size=16, frames=4, preview=0, workers=1))
    assert list((own / "text").glob("*/shard-*"))


def test_an_estimate_embeds_no_caption(own, training, tiny_clip, encoded, tmp_path) -> None:
    """Its steps are measured with blank ones: reading a whole dataset takes longer than the estimate may."""
    found = estimate_cost(training(own, tmp_path / "run", batch_size=2, **by_clip(tiny_clip.named())))
    assert found.memory_is == "measured" and encoded == [] and not (own / "text").exists()


def kinds_of(run: Path) -> tuple[str, str]:
    config = config_of(run)
    return config["train"]["text"]["kind"], config["model"]["text"]["kind"]


def test_auto_takes_what_is_at_hand_and_says_so(
    own, run, training, tiny_clip, told, tmp_path, no_network, monkeypatch
) -> None:
    """Without weights that is `learned` to the bit; a run that has decided keeps to it."""

    def at_hand(there: bool) -> None:
        monkeypatch.setattr(wiring, "weights_at_hand", lambda model=None: tiny_clip.weights() if there else None)
        monkeypatch.setattr(
            wiring, "complete_name", lambda name: name if name.weights else read_name(tiny_clip.named())
        )

    for there, kind, said in ((False, "learned", "no CLIP weights are on this machine"), (True, "clip", "by CLIP")):
        at_hand(there)
        _, notes = told(train.events(training(own, tmp_path / kind, text={"kind": "auto"})))
        assert kinds_of(tmp_path / kind) == (kind, kind)
        assert [note.level for note in notes if said in note.text] == ["info"]
    assert_same_training(tmp_path / "learned", run)
    _, notes = told(train.events(training(own, tmp_path / "learned", steps=7, text={"kind": "auto"})))
    assert kinds_of(tmp_path / "learned") == ("learned", "learned") and not [n for n in notes if "CLIP" in n.text]
    assert no_network == []


def test_without_text_nothing_is_asked_for(dataset, training, encoded, monkeypatch, tmp_path) -> None:
    """Of a training without text, and of a network that takes none."""
    for name in ("weights_at_hand", "open_tower"):
        monkeypatch.setattr(wiring, name, lambda *_: pytest.fail("a model without text has no encoder"))
    none = training(dataset, tmp_path / "none", steps=1, text={"kind": "none"})
    train(none)
    narrow = {"network": none.network.model_copy(update={"context_dim": 0}), "output": tmp_path / "clip"}
    train(none.model_copy(update=narrow | {"text": none.text.model_copy(update={"kind": "clip"})}))
    assert kinds_of(tmp_path / "none")[1] == kinds_of(tmp_path / "clip")[1] == "none"
    assert not (dataset / "text").exists() and encoded == []


def test_the_preset_for_a_demo_learns_its_own_words() -> None:
    kinds = {name: preset.get("text", {}).get("kind") for name, preset in presets().items()}
    own = {"tiny": "learned", "small": None, "base": None, "latent": None, "kinetics": "none"}
    assert kinds == own | {"lora": None, "temporal": None, "upscale": "none", "frames": "none"}


def test_offline_without_weights(own, no_network, monkeypatch, tmp_path: Path) -> None:
    """On the terminal: that it will be downloaded, that it cannot be, both ways out, and nothing else."""
    monkeypatch.setattr("vidiff_cli.text.clip_names._in_hub_cache", lambda repository, files: None)
    result = vidiff("train", own, "-o", tmp_path / "run", "--text", "clip", "--device", "cpu")
    assert result.exit_code == 1 and result.stdout == "" and not (tmp_path / "run").exists()
    assert re.fullmatch(
        r"The CLIP weights (\S+) are not on this machine: downloading them\. Error: the CLIP weights \1 are not on "
        r"this machine and cannot be downloaded; give them as a file with --clip-model ViT-B-32:FILE, or train with "
        r"--text learned\.",
        " ".join(result.stderr.split()),
    )


def test_an_encoder_that_is_not_wanted_is_wrong_usage(own, settings, tiny_clip) -> None:
    result = vidiff("train", own, "--text", "none", "--clip-model", "ViT-B-32:w.pt")
    assert result.exit_code == 2 and "--clip-model goes with --text clip, not with --text none." in result.stderr
    with pytest.raises(UsageError, match=r"has no CLIP encoder: found --clip-model .*; leave it out"):
        sample(settings("sample", prompts=(PROMPT,), clip_model=tiny_clip.named()))


@pytest.fixture
def asked(settings: Callable[..., Any], clip_run: Path, tiny_clip: Any) -> Callable[..., Any]:
    """As `settings`, with the run that has the tiny CLIP."""
    return lambda command, **more: settings(command, model=clip_run, **({"clip_model": tiny_clip.named()} | more))


def test_prompts_are_read_by_clip_each_once(asked, clip, encoded, frames_of, tiny_clip, tmp_path: Path) -> None:
    """Over several windows, steps and videos; and they are heard, a word no dataset had as well."""

    def frames(name: str, *prompts: str, **more: Any) -> np.ndarray:
        encoded.clear()
        common = {"prompts": prompts, "lossless": True, "num_frames": 6, "strict_prompt": True, "guidance_scale": 4.0}
        report = sample(asked("sample", output=tmp_path / f"{name}.mkv", **(common | more)))
        return np.stack([frames_of(path) for path in report.paths])

    plain = frames("plain", "zyzzyva")
    assert encoded == ["zyzzyva"]
    both = frames("both", "zyzzyva", PROMPT, "zyzzyva", clip_model=str(tiny_clip.weights("tiny-clip", 0, ".pt")))
    assert sorted(encoded) == sorted([PROMPT, "zyzzyva"])
    assert np.array_equal(both[0], plain[0]), "the same weights, wherever they lie"
    against = frames("against", "zyzzyva", negative_prompt="a circle")
    assert sorted(encoded) == ["a circle", "zyzzyva"] and not np.array_equal(plain, against)
    frames("none", clip_model=None)
    assert encoded == [], "a video without a prompt needs no weights"

    report = extend(asked("extend", input=clip(6), prompt=(PROMPT, "another"), num_frames=8, overlap=2))
    assert report.windows > 2 and sorted(encoded) == [PROMPT, "another"]


@pytest.mark.parametrize(("task", "command"), [(sample, "sample"), (interpolate, "interpolate")])
def test_the_wrong_weights_are_refused_before_anything_is_made(
    asked, clip, tiny_clip, task, command, no_network, monkeypatch, tmp_path
) -> None:
    network = "vidiff_cli.models.unet_model.UNetModel.denoiser"
    monkeypatch.setattr(network, lambda *_, **__: pytest.fail("the network was used"))
    more = {"prompts": (PROMPT,)} if command == "sample" else {"prompt": PROMPT, "input": clip(6)}
    for where, expected in (
        (tiny_clip.named("tiny-clip", 1), "these are not the CLIP weights that the model was trained with"),
        (None, "needs the CLIP weights tiny-clip-0.safetensors: found nothing .* or leave out the prompt"),
    ):
        with pytest.raises(VidiffError, match=expected) as error:
            task(asked(command, clip_model=where, output=tmp_path / "out.mkv", **more))
        assert str(error.value).endswith(".") and "\n" not in str(error.value)
    assert not list(tmp_path.glob("out*")) and no_network == []
