"""CLIP from end to end, with weights of random numbers: train, resume, sample, extend; and the way without it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

from vidiff_cli.cli.app import app
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
from vidiff_cli.runs import metrics_log
from vidiff_cli.runs import text_encoder as wiring
from vidiff_cli.text.clip_names import read_name
from vidiff_cli.text.clip_tower import ClipTower

PROMPT = "a red square moving left"


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_log.TrainingLog, "plot", lambda self, **more: None)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The captions that go through a tower, but for the empty one, which tells its widths."""
    asked: list[str] = []
    original = ClipTower.encode

    def encode(self: ClipTower, caption: str) -> Any:
        asked.append(caption)
        return original(self, caption)

    monkeypatch.setattr(
        ClipTower, "encode", lambda self, caption: encode(self, caption) if caption else original(self, caption)
    )
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


def weights_of(run: Path) -> dict[str, Any]:
    folder = run / "checkpoints" / (run / "checkpoints" / "latest").read_text().strip()
    return {
        f"{path.name}/{name}": value for path in folder.glob("*.safetensors") for name, value in load_file(path).items()
    }


def same(one: Path, other: Path) -> bool:
    ours, theirs = weights_of(one), weights_of(other)
    assert ours.keys() == theirs.keys() and len(ours) > 100
    return all(ours[name].equal(theirs[name]) for name in ours)


def sentence(error: pytest.ExceptionInfo[VidiffError]) -> str:
    text = str(error.value)
    assert text.endswith(".") and "\n" not in text
    return text


# --- training ----------------------------------------------------------------------------------------------------


def test_a_checkpoint_names_its_encoder_but_no_path(clip_run: Path, tiny_clip: Any) -> None:
    (path,) = (clip_run / "checkpoints").glob("step-000006-*/ema.safetensors")
    video_model, _ = open_video_model(path)
    clip = video_model.settings.text.clip
    assert video_model.settings.text.kind == "clip" and clip is not None
    assert (clip.encoder, clip.weights, clip.width, clip.pooled, clip.context) == (
        "tiny-clip",
        "tiny-clip-0.safetensors",
        8,
        12,
        10,
    )
    assert str(tiny_clip.folder).encode() not in path.read_bytes()
    assert sorted(name for name in video_model.state_dict() if name.startswith("text.")) == [
        f"text.to_{part}.{layer}.{value}"
        for part in ("pooled", "tokens")
        for layer in (0, 1)
        for value in ("bias", "weight")
    ]
    assert (clip_run / "samples" / "step-000006.png").is_file()


def test_embeddings_are_made_once_for_all_runs(
    own: Path,
    training: Callable[..., Any],
    tiny_clip: Any,
    encoded: list[str],
    tmp_path: Path,
    told: Callable[..., Any],
) -> None:
    """Whatever their batch size and length; other weights have their own."""
    asked = by_clip(tiny_clip.named())
    train(training(own, tmp_path / "one", steps=1, **asked))
    captions = {line for row in (own / "clips.jsonl").read_text().splitlines() for line in json.loads(row)["captions"]}
    assert len(encoded) == len(set(encoded)) and set(encoded) <= captions and encoded
    encoded.clear()
    train(training(own, tmp_path / "two", steps=2, batch_size=3, seed=5, **asked))
    assert encoded == []
    train(training(own, tmp_path / "three", steps=1, **by_clip(tiny_clip.named("tiny-clip", 1))))
    assert set(encoded) <= captions and encoded
    assert len(list((own / "text").iterdir())) == 2


def test_captions_by_cache_and_fresh_ones_train_the_same(
    clip_data: Path, clip_run: Path, own: Path, training: Callable[..., Any], tiny_clip: Any, tmp_path: Path
) -> None:
    train(training(own, tmp_path / "fresh", **by_clip(tiny_clip.named("tiny-clip", 0, ".pt"))))
    train(training(clip_data, tmp_path / "cached", **by_clip(tiny_clip.named())))
    assert same(tmp_path / "fresh", tmp_path / "cached") and same(tmp_path / "cached", clip_run)


def test_continued_is_uninterrupted(
    clip_data: Path,
    clip_run: Path,
    training: Callable[..., Any],
    tiny_clip: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    settings = training(clip_data, tmp_path / "stopped", sample_every=6, **by_clip(tiny_clip.named()))

    def add(self: Any, report: Any) -> Any:
        if report.step == 3:
            os.kill(os.getpid(), signal.SIGINT)
        yield from original(self, report)

    original = metrics_log.TrainingLog.add
    with monkeypatch.context() as patch:
        patch.setattr(metrics_log.TrainingLog, "add", add)
        with pytest.raises(KeyboardInterrupt):
            train(settings)
    assert json.loads((tmp_path / "stopped" / "config.json").read_text())["train"]["text"]["kind"] == "clip"
    moved = settings.model_copy(
        update={
            "text": settings.text.model_copy(
                update={"clip_model": tiny_clip.named("tiny-clip", 0, ".pt"), "kind": "auto"}
            )
        }
    )
    train(moved)  # the same weights from another file are the same run
    assert same(tmp_path / "stopped", clip_run)


def test_in_half_precision(clip_data: Path, training: Callable[..., Any], tiny_clip: Any, tmp_path: Path) -> None:
    """Of another kind than that of the embeddings."""
    report = train(training(clip_data, tmp_path / "run", steps=2, precision="bf16", **by_clip(tiny_clip.named())))
    assert report.precision == "bf16" and report.loss is not None
    asked = {"model": tmp_path / "run", "clip_model": tiny_clip.named(), "prompts": (PROMPT,), "steps": 2}
    for dtype in ("bf16", "fp32"):
        sample(SampleSettings(dtype=dtype, output=tmp_path / f"{dtype}.mp4", **asked))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ({"kind": "clip", "clip_model": 1}, "these are not the CLIP weights that the model was trained with"),
        ({"kind": "learned"}, "was trained with another text.kind: found learned, expected clip"),
        ({"kind": "none"}, "was trained with another text.kind: found none, expected clip"),
    ],
    ids=["other weights", "learned", "none"],
)
def test_a_run_keeps_its_encoder(
    clip_data: Path, clip_run: Path, training: Callable[..., Any], tiny_clip: Any, text: dict[str, Any], expected: str
) -> None:
    if "clip_model" in text:
        text = text | {"clip_model": tiny_clip.named("tiny-clip", text["clip_model"])}
    before = weights_of(clip_run)
    with pytest.raises(VidiffError, match=expected) as error:
        train(training(clip_data, clip_run, steps=8, text=text))
    sentence(error)
    assert all(before[name].equal(value) for name, value in weights_of(clip_run).items())


def test_a_run_goes_on_without_the_weights_where_all_captions_are_embedded(
    own: Path, training: Callable[..., Any], tiny_clip: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No tower is opened; where an embedding is missing, what it takes is one sentence."""
    run = tmp_path / "run"
    train(training(own, run, steps=1, **by_clip(tiny_clip.named())))
    opened: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(wiring, "open_same_tower", lambda *asked, **more: opened.append(asked))
        report = train(training(own, run, steps=2, text={"kind": "auto"}))
    assert report is not None and report.steps == 2 and not opened
    (shard,) = (own / "text").rglob("shard-*")
    shard.unlink()
    before = weights_of(run)
    with pytest.raises(VidiffError, match=r"needs the CLIP weights tiny-clip-0.safetensors: found nothing .* train "):
        train(training(own, run, steps=3, text={"kind": "auto"}))
    assert all(before[name].equal(value) for name, value in weights_of(run).items())
    report = train(training(own, run, steps=3, **by_clip(tiny_clip.named())))
    assert report is not None and report.steps == 3


def test_a_dataset_that_cannot_be_written_is_said_and_trained_on(
    own: Path, clip_run: Path, training: Callable[..., Any], tiny_clip: Any, told: Callable[..., Any], tmp_path: Path
) -> None:
    (own / "text").write_text("in the way")
    _, notes = told(train.events(training(own, tmp_path / "run", **by_clip(tiny_clip.named()))))
    assert [note for note in notes if "kept in memory" in note.text]
    assert same(tmp_path / "run", clip_run)


def test_damaged_embeddings_are_made_again(
    own: Path,
    clip_data: Path,
    clip_run: Path,
    training: Callable[..., Any],
    tiny_clip: Any,
    told: Callable[..., Any],
    tmp_path: Path,
) -> None:
    shutil.copytree(clip_data / "text", own / "text")
    (path,) = own.glob("text/*/*.safetensors")
    content = bytearray(path.read_bytes())
    content[-40] ^= 64
    path.write_bytes(bytes(content))
    _, notes = told(train.events(training(own, tmp_path / "run", **by_clip(tiny_clip.named()))))
    assert [note.level for note in notes if "damaged" in note.text] == ["warning"]
    assert same(tmp_path / "run", clip_run)
    ours, theirs = load_file(path), load_file(next(clip_data.glob("text/*/*.safetensors")))
    assert all(ours[name].equal(theirs[name]) for name in theirs)


def test_embeddings_are_part_of_a_dataset(
    own: Path, training: Callable[..., Any], tiny_clip: Any, tmp_path: Path
) -> None:
    """They are no reason to refuse the folder, prepared anew or not."""
    train(training(own, tmp_path / "run", steps=1, **by_clip(tiny_clip.named())))
    recorded = json.loads((own / "dataset.json").read_text())["settings"]
    asked = (
        PrepSettings.model_validate(recorded | {"output": own, "preview": 0, "workers": 1})
        if "sources" in recorded
        else None
    )
    if asked is not None:
        prep(asked)
    (own / "dataset.json").unlink()
    shutil.rmtree(own / "data")
    clips = tmp_path / "clips"
    from vidiff_cli.commands.world import world
    from vidiff_cli.config.world import WorldSettings

    world(WorldSettings(folder=clips, clips=3, frames=4, seed=2))
    prep(PrepSettings(sources=(str(clips),), output=own, size=16, frames=4, preview=0, workers=1))
    assert list((own / "text").glob("*/shard-*"))


def test_an_estimate_embeds_no_caption(
    own: Path, training: Callable[..., Any], tiny_clip: Any, encoded: list[str], tmp_path: Path
) -> None:
    """Its steps are measured with blank ones: reading a whole dataset takes longer than the estimate may."""
    found = estimate_cost(training(own, tmp_path / "run", batch_size=2, **by_clip(tiny_clip.named())))
    assert found.memory_is == "measured" and found.seconds_per_step is not None
    assert encoded == [] and not (own / "text").exists() and not (tmp_path / "run").exists()


# --- which encoder -----------------------------------------------------------------------------------------------


@pytest.fixture
def at_hand(monkeypatch: pytest.MonkeyPatch, tiny_clip: Any) -> Callable[[bool], None]:
    """at_hand(True): the default weights, which here are tiny ones, lie on this machine."""

    def set_to(there: bool) -> None:
        monkeypatch.setattr(wiring, "weights_at_hand", lambda model=None: tiny_clip.weights() if there else None)
        monkeypatch.setattr(
            wiring, "complete_name", lambda name: name if name.weights else read_name(tiny_clip.named())
        )

    return set_to


def kind_of(run: Path) -> tuple[str, str]:
    config = json.loads((run / "config.json").read_text())
    return config["train"]["text"]["kind"], config["model"]["text"]["kind"]


def test_auto_takes_what_is_at_hand_and_says_so(
    own: Path,
    training: Callable[..., Any],
    at_hand: Callable[[bool], None],
    told: Callable[..., Any],
    tmp_path: Path,
    no_network: list[str],
) -> None:
    for there, kind, said in ((False, "learned", "no CLIP weights are on this machine"), (True, "clip", "by CLIP")):
        at_hand(there)
        asked = training(own, tmp_path / kind, steps=1, text={"kind": "auto"})
        _, notes = told(train.events(asked))
        assert kind_of(tmp_path / kind) == (kind, kind)
        assert [note.level for note in notes if said in note.text] == ["info"]
        at_hand(not there)
        if kind == "learned":  # the run has decided
            _, notes = told(train.events(asked.model_copy(update={"steps": 2})))
            assert kind_of(tmp_path / kind) == (kind, kind) and not [n for n in notes if "CLIP" in n.text]
    assert no_network == []


def test_auto_without_weights_is_learned_to_the_bit(
    dataset: Path, run: Path, training: Callable[..., Any], at_hand: Callable[[bool], None], tmp_path: Path
) -> None:
    at_hand(False)
    train(training(dataset, tmp_path / "auto", text={"kind": "auto"}))
    assert same(tmp_path / "auto", run)


def test_without_text_nothing_is_asked_for(
    dataset: Path, training: Callable[..., Any], encoded: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def never(*args: object) -> None:
        raise AssertionError("a model without text has no encoder")

    monkeypatch.setattr(wiring, "weights_at_hand", never)
    monkeypatch.setattr(wiring, "open_tower", never)
    none = training(dataset, tmp_path / "none", steps=1, text={"kind": "none"})
    train(none)
    assert kind_of(tmp_path / "none") == ("none", "none")
    narrow = none.model_copy(update={"network": none.network.model_copy(update={"context_dim": 0})})
    for kind in ("auto", "clip"):
        text = none.text.model_copy(update={"kind": kind})
        train(narrow.model_copy(update={"text": text, "output": tmp_path / kind}))
        assert kind_of(tmp_path / kind)[1] == "none"
    assert not (dataset / "text").exists() and encoded == []


def test_the_preset_for_a_demo_learns_its_own_words() -> None:
    assert {name: preset.get("text", {}).get("kind") for name, preset in presets().items()} == {
        "tiny": "learned",
        "small": None,
        "base": None,
        "kinetics": "none",
    }


def vidiff(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="vidiff")


def test_offline_without_weights(
    own: Path, no_network: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On the terminal: that it will be downloaded, that it cannot be, both ways out, and nothing else."""
    monkeypatch.setattr("vidiff_cli.text.clip_names._in_hub_cache", lambda repository, files: None)
    result = vidiff("train", own, "-o", tmp_path / "run", "--text", "clip", "--device", "cpu")
    assert result.exit_code == 1 and result.stdout == "" and not (tmp_path / "run").exists()
    words = " ".join(result.stderr.split())
    assert re.fullmatch(
        r"The CLIP weights (\S+) are not on this machine: downloading them\. Error: the CLIP weights \1 are not on "
        r"this machine and cannot be downloaded; give them as a file with --clip-model ViT-B-32:FILE, or train with "
        r"--text learned\.",
        words,
    )


@pytest.mark.parametrize("kind", ["learned", "none"])
def test_an_encoder_that_is_not_wanted_is_wrong_usage(own: Path, kind: str) -> None:
    result = vidiff("train", own, "--text", kind, "--clip-model", "ViT-B-32:w.pt")
    assert result.exit_code == 2 and f"--clip-model goes with --text clip, not with --text {kind}." in result.stderr


# --- generation --------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(settings: Callable[..., Any], clip_run: Path, tiny_clip: Any) -> Callable[..., Any]:
    """As `settings`, with the run that has the tiny CLIP."""
    return lambda command, **more: settings(command, model=clip_run, **({"clip_model": tiny_clip.named()} | more))


def test_prompts_are_read_by_clip_each_once(
    asked: Callable[..., Any],
    clip: Callable[..., Path],
    encoded: list[str],
    frames_of: Callable[..., Any],
    tmp_path: Path,
) -> None:
    """Over several windows, steps and videos; and they are heard, a word no dataset had as well."""

    def frames(name: str, *prompts: str, **more: Any) -> np.ndarray:
        encoded.clear()
        output = tmp_path / f"{name}.mkv"
        report = sample(
            asked("sample", prompts=prompts, output=output, lossless=True, num_frames=6, strict_prompt=True, **more)
        )
        return np.stack([frames_of(path) for path in report.paths])

    plain = frames("plain", "zyzzyva", guidance_scale=4.0)
    assert encoded == ["zyzzyva"]
    both = frames("both", "zyzzyva", PROMPT, "zyzzyva", guidance_scale=4.0)
    assert sorted(encoded) == sorted([PROMPT, "zyzzyva"])
    assert np.array_equal(both[0], plain[0])
    against = frames("against", "zyzzyva", negative_prompt="a circle", guidance_scale=4.0)
    assert sorted(encoded) == ["a circle", "zyzzyva"]
    frames("none", clip_model=None)
    assert encoded == []
    assert not np.array_equal(plain, against)

    encoded.clear()
    report = extend(asked("extend", input=clip(6), prompt=(PROMPT, "another"), num_frames=8, overlap=2))
    assert report.windows > 2 and sorted(encoded) == [PROMPT, "another"]
    encoded.clear()
    interpolate(asked("interpolate", input=clip(4, name="other.mkv"), prompt=PROMPT))
    assert encoded == [PROMPT]


def test_a_video_without_a_prompt_needs_no_weights(
    asked: Callable[..., Any], clip: Callable[..., Path], encoded: list[str]
) -> None:
    extend(asked("extend", input=clip(6), num_frames=2, clip_model=None))
    assert encoded == []


@pytest.mark.parametrize("command", ["sample", "extend", "interpolate"])
def test_the_wrong_weights_are_refused_before_anything_is_made(
    asked: Callable[..., Any],
    clip: Callable[..., Path],
    tiny_clip: Any,
    command: str,
    no_network: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def never(*args: object, **more: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr("vidiff_cli.generation.load_model.UNetModel.denoiser", never)
    given = clip(6)
    more: dict[str, Any] = {
        "sample": {"prompts": (PROMPT,), "output": tmp_path / "out.mkv"},
        "extend": {"prompt": (PROMPT,), "output": tmp_path / "out.mkv", "input": given},
        "interpolate": {"prompt": PROMPT, "output": tmp_path / "out.mkv", "input": given},
    }[command]
    task = {"sample": sample, "extend": extend, "interpolate": interpolate}[command]
    for where, expected in (
        (tiny_clip.named("tiny-clip", 1), "these are not the CLIP weights that the model was trained with"),
        (None, "needs the CLIP weights tiny-clip-0.safetensors: found nothing .* or leave out the prompt"),
    ):
        with pytest.raises(VidiffError, match=expected) as error:
            task(asked(command, clip_model=where, **more))  # type: ignore[operator]
        sentence(error)
    assert not list(tmp_path.glob("out*")) and no_network == []


def test_the_same_weights_make_the_same_video_wherever_they_lie(
    asked: Callable[..., Any], tiny_clip: Any, frames_of: Callable[..., Any], tmp_path: Path
) -> None:
    made = []
    for number, where in enumerate((tiny_clip.named(), str(tiny_clip.weights("tiny-clip", 0, ".pt")))):
        path = tmp_path / f"{number}.mkv"
        sample(asked("sample", prompts=(PROMPT,), output=path, lossless=True, clip_model=where))
        made.append(frames_of(path))
    assert np.array_equal(*made)


def test_where_clip_lies_is_wrong_usage_for_a_model_without(settings: Callable[..., Any], tiny_clip: Any) -> None:
    with pytest.raises(UsageError, match=r"has no CLIP encoder: found --clip-model .*; leave it out"):
        sample(settings("sample", prompts=(PROMPT,), clip_model=tiny_clip.named()))


def test_held_out_captions_and_prompts_are_embedded_too(
    own: Path, training: Callable[..., Any], tiny_clip: Any, encoded: list[str], tmp_path: Path
) -> None:
    """Validation and sheets ask for texts that no training clip has; a second run has all it needs."""
    (tmp_path / "prompts.txt").write_text("a purple elephant")
    more = {"validate_every": 2, "sample_every": 2, "prompts": tmp_path / "prompts.txt", "steps": 2}
    train(training(own, tmp_path / "run", **more, **by_clip(tiny_clip.named())))
    opened = open_dataset(own)
    held = {text for number in opened.split("val") for text in opened.clips[number].captions}
    assert held | {"a purple elephant"} <= set(encoded)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "validation_loss" in row] == [0, 2]
    count = len(encoded)
    train(training(own, tmp_path / "again", **more, **by_clip(tiny_clip.named())))
    assert len(encoded) == count
