"""Fine-tuning of public models: adapters and temporal layers, on tiny random models of three families."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import json_of, sentence_of, vidiff
from datasets import write_dataset
from public_models import save_model
from runs import assert_same_training, newest, rows_of
from safetensors.torch import load_file

from vidiff_cli.checkpoint import read_header
from vidiff_cli.commands.train import train
from vidiff_cli.config.train import TrainSettings, preset
from vidiff_cli.dataset.dataset import open_dataset
from vidiff_cli.events import Event
from vidiff_cli.generation.load_model import open_model
from vidiff_cli.models.conditioning import Conditioning
from vidiff_cli.models.public.adapters import is_temporal
from vidiff_cli.models.public.cost import public_clip_cost
from vidiff_cli.models.public.open import resolve_folder
from vidiff_cli.models.public.parts import open_network
from vidiff_cli.models.public.trained import PREFIX, open_public_network
from vidiff_cli.runs.metrics_log import TrainingLog
from vidiff_cli.runs.public_finetune import public_settings
from vidiff_cli.training.loop import StepReport
from vidiff_cli.video.decode import decode

pytestmark = pytest.mark.skipif(find_spec("peft") is None, reason="needs the extra [public]")
FAMILIES = ("modelscope", "animatediff", "wan")
SIDE = 16  # pixels: as few as the networks can halve
CAPTIONS = ("a cat surfing", "a red circle moving left", "a dog", "")


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {family: save_model(family, folder / family) for family in FAMILIES}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """Four clips of five frames, one of them without a caption, and a held-out one that shows what the first shows."""
    clips = [{"frames": 5, "height": SIDE, "width": SIDE, "captions": [text] if text else []} for text in CAPTIONS]
    return write_dataset(tmp_path_factory.mktemp("clips") / "dataset", [*clips, clips[0] | {"split": "val"}])


def settings_of(dataset: Path, base: Path, run: Path, *, temporal: bool = False, **changes: object) -> TrainSettings:
    name = "temporal" if temporal else "lora"
    own = {"layers": "temporal"} if temporal else {"lora": {"rank": 4}}
    quiet = {"precision": "fp32", "sample_every": 0, "validate_every": 0, "loader": {"workers": 0}, "steps": 4}
    return TrainSettings.model_validate(
        preset(name) | own | quiet | {"dataset": dataset, "start_from": base, "output": run, "preset": name} | changes
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fresh_adapter_changes_nothing_and_only_its_weights_are_parameters(family, bases, dataset) -> None:
    """The prediction is that of the public network, bit for bit, and every weight of the adapter has a gradient once
    its second factor is not zero."""
    _, model, public = public_settings(
        settings_of(dataset, bases[family], Path("run")), open_dataset(dataset), torch.device("cpu")
    )
    network = open_public_network(model, device=public.device, dtype=torch.float32, seed=0)
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2, public.codec.channels, 2, 8, 8, generator=generator)
    level = torch.tensor([[-3.0] * 2, [1.0] * 2])
    network.denoiser.null = public.prompts.states([""])[0]
    conditioning = Conditioning(times=level, observed=torch.zeros(2, 2, dtype=torch.bool))
    tuned = network.denoiser(z, level, conditioning)
    plain = public.denoiser(level, conditioning.observed, ["", ""], scale=1.0)(z, level)
    assert tuned.equal(plain)
    names = dict(network.named_parameters())
    assert names and all(".lora_" in name for name in names) and network.state_dict().keys() == names.keys()
    with torch.no_grad():
        for value in names.values():
            value.add_(0.05)
    assert not network.denoiser(z, level, conditioning).equal(tuned)
    network.denoiser(z, level, conditioning).square().sum().backward()
    assert all(value.grad is not None and bool(value.grad.any()) for value in names.values())
    other = network.with_weights({name: torch.zeros_like(value) for name, value in names.items()}, public.device)
    assert other.denoiser(z, level, conditioning).equal(tuned), "with a zero second factor"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_short_training_lowers_the_held_out_loss(family, bases, dataset, tmp_path: Path) -> None:
    """The held-out clip is as random as the others: what is learned is their statistics, which the model lacks."""
    optimizer = preset("lora")["optimizer"] | {"lr": 3e-2, "warmup": 2}
    asked = settings_of(
        dataset, bases[family], tmp_path / "run", steps=30, batch_size=4, validate_every=30, optimizer=optimizer
    )
    train(asked)
    losses = [row["validation_loss"] for row in rows_of(tmp_path / "run") if "validation_loss" in row]
    assert len(losses) == 2 and losses[1] < 0.93 * losses[0], losses


@pytest.fixture(scope="module")
def tuned(bases, dataset, tmp_path_factory) -> Path:
    """A run of four steps of Wan's, the fastest here, with samples and validation."""
    run = tmp_path_factory.mktemp("runs") / "tuned"
    train(settings_of(dataset, bases["wan"], run, sample_every=4, validate_every=2))
    return run


def test_checkpoints_hold_the_adapter_and_name_the_base(tuned, bases, dataset) -> None:
    base = read_header(newest(tuned) / "ema.safetensors")["model"]["base"]
    assert (base["path"], base["family"], base["rank"]) == (str(bases["wan"].resolve()), "Wan 2.1", 4)
    assert len(base["sha256"]) == 64 and base["licence"] is None
    for name in ("model", "ema"):
        tensors = load_file(newest(tuned) / f"{name}.safetensors")
        assert tensors and all(".lora_" in key for key in tensors)
        assert all(4 in value.shape and value.dtype == torch.float32 for value in tensors.values())
    assert (tuned / "samples" / "step-000004.png").is_file()
    assert {path.name for path in dataset.iterdir()} >= {"latents", "text"}


def test_a_continued_training_is_an_uninterrupted_one(tuned, bases, dataset, signal_at, tmp_path: Path) -> None:
    """Ctrl-C in step 3 and the same command again: weights, averages and optimizer are equal bit for bit."""
    asked = settings_of(dataset, bases["wan"], tmp_path / "run", sample_every=4, validate_every=2)
    signal_at(3, asked)
    assert newest(tmp_path / "run").name == "step-000003"
    train(asked)
    assert_same_training(tmp_path / "run", tuned)
    assert rows_of(tmp_path / "run") == rows_of(tuned)


def test_a_training_that_was_killed_goes_on(tuned, bases, dataset, tmp_path: Path) -> None:
    """SIGKILL in step 3, after a checkpoint of step 2."""
    asked = settings_of(dataset, bases["wan"], tmp_path / "run", sample_every=4, validate_every=2, checkpoint_every=2)
    if not (child := os.fork()):
        original = TrainingLog.add

        def add(self: TrainingLog, report: StepReport) -> Iterator[Event]:
            if report.step == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            yield from original(self, report)

        TrainingLog.add = add  # type: ignore[method-assign]
        train(asked)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert [path.name for path in (tmp_path / "run" / "checkpoints").glob("step-*")] == ["step-000002"]
    train(asked)
    assert_same_training(tmp_path / "run", tuned)


def test_the_temporal_layers_alone_are_trained(bases, dataset, tmp_path: Path) -> None:
    """Every saved weight is one of the network's temporal layers and differs from the base's; there are no others."""
    for family in ("modelscope", "animatediff"):
        optimizer = preset("temporal")["optimizer"] | {"lr": 1e-2, "warmup": 0}
        asked = settings_of(
            dataset, bases[family], tmp_path / family, temporal=True, steps=2, sample_every=2, optimizer=optimizer
        )
        train(asked)
        network = open_network(resolve_folder(bases[family]), torch.float32, torch.device("cpu"))
        own = {name: value for name, value in network.named_parameters() if is_temporal(name)}
        saved = load_file(newest(tmp_path / family) / "model.safetensors")
        assert {name.removeprefix(PREFIX) for name in saved} == own.keys() and 0 < len(own) < len(network.state_dict())
        same = [name for name, value in own.items() if value.equal(saved[PREFIX + name])]
        assert len(same) < 0.1 * len(own), same
    model = open_model(tmp_path / "animatediff", device="cpu", dtype="bf16")
    model.embed_prompts(["a dog"])
    z = torch.zeros(1, 4, 5, 8, 8)
    made = model.denoiser(z[0, 0, :, 0], z[0, 0, :, 0] > 1, ["a dog"], scale=1.0)(z, torch.zeros(1, 5))
    assert bool(made.isfinite().all())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_samples_and_extends_by_the_command_line(family, bases, dataset, clip, tmp_path: Path) -> None:
    """The result is not that of the base, and its sidecar says what made it."""
    run = tmp_path / "run"
    optimizer = preset("lora")["optimizer"] | {"lr": 1e-1, "warmup": 0}
    train(settings_of(dataset, bases[family], run, steps=3, optimizer=optimizer))
    common = ["--steps", "2", "--seed", "3", "--dtype", "fp32", "--lossless", "--device", "cpu"]
    plain = ["--model-size", f"{SIDE}x{SIDE}", "--model-frames", "5"]
    frames = {}
    for name, model in (("run", [run]), ("base", [bases[family], *plain])):
        json_of("sample", "a cat surfing", "-m", *model, "-o", tmp_path / f"{name}.mkv", *common)
        frames[name] = decode(tmp_path / f"{name}.mkv").frames
    assert frames["run"].shape == frames["base"].shape == (5, SIDE, SIDE, 3)
    assert not np.array_equal(frames["run"], frames["base"])
    about = json.loads((tmp_path / "run.json").read_text())["checkpoint"]
    assert about["clips_seen"] == 3 and about["base"]["path"] == str(bases[family])
    source = clip(5)
    json_of("extend", source, "--num-frames", "4", "-m", run, "-o", tmp_path / "more.mkv", *common)
    extended = decode(tmp_path / "more.mkv").frames
    assert len(extended) == 9 and np.array_equal(extended[:5], decode(source).frames)


def test_info_says_base_rank_and_licence(tuned, bases) -> None:
    said = vidiff("info", tuned).stdout
    for part in (f"Wan 2.1, {bases['wan'].resolve()}", "adapters of rank 4", "not known, of the base"):
        assert part in said
    assert "hardly trained" not in vidiff("info", tuned).stderr
    assert json_of("info", tuned)["model"]["base"]["rank"] == 4
    assert f"--from {bases['wan']}" in said or "start_from" in said


def test_a_base_that_is_absent_or_other_is_said(tuned, bases, tmp_path: Path) -> None:
    moved = bases["wan"].rename(tmp_path / "moved")
    try:
        said = sentence_of(vidiff("sample", "-m", tuned, "-o", tmp_path / "x.mp4"))
        assert "was trained from" in said and "does not exist" in said
        shutil.copytree(bases["animatediff"], bases["wan"])
        said = sentence_of(vidiff("sample", "-m", tuned, "-o", tmp_path / "x.mp4"))
        assert "has other weights now" in said
    finally:
        shutil.rmtree(bases["wan"], ignore_errors=True)
        moved.rename(bases["wan"])


def test_a_family_with_levels_by_frame_learns_all_kinds(dataset, tmp_path: Path) -> None:
    """SkyReels-V2-DF: given, independent and sloped levels of its groups of frames; by default one level, as the
    others."""
    base = save_model("skyreels", tmp_path / "skyreels")
    _, plain, _ = public_settings(
        settings_of(dataset, base, tmp_path / "plain"), open_dataset(dataset), torch.device("cpu")
    )
    assert not plain.frame_levels
    levels = {"levels": {"observed": 0.25, "independent": 0.5, "sloped": 0.25, "shared": 0}}
    report = train(settings_of(dataset, base, tmp_path / "run", objective=levels, steps=3, validate_every=3))
    header = read_header(report.checkpoint / "ema.safetensors")
    assert header["model"]["frame_levels"]
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["validation_frame_levels"] > 0 and "length" in header
    assert any(row.get("frame_levels") for row in rows)


def test_what_cannot_be_fine_tuned_is_refused(tuned, bases, dataset, tmp_path: Path) -> None:
    """One sentence, before anything is written."""
    base, wan = bases["modelscope"], bases["wan"]
    odd = write_dataset(tmp_path / "odd", [{"frames": 5, "height": 18, "width": 18}])
    cases = [
        (["--lora", "4"], 2, "--lora 4 is for public models"),
        (["--train", "temporal"], 2, "--train temporal is for public models"),
        (["--from", base], 2, "which is not trained whole"),
        (["--from", base, "--lora", "4", "--preset", "tiny"], 2, "--preset tiny describes a network of vidiff's own"),
        (["--from", base, "--lora", "4", "--motion"], 2, "--motion is for networks of vidiff's own"),
        (["--from", base, "--lora", "4", "--text", "learned"], 2, "--text is for networks of vidiff's own"),
        (["--from", base, "--lora", "4", "--set", "network.base_channels=16"], 2, "network.base_channels is for"),
        (["--from", base, "--lora", "4", "--parallel", "fsdp"], 2, "fsdp"),
        (
            ["--from", base, "--lora", "4", "--set", "objective.levels.observed=0.5"],
            2,
            "one noise level for all",
        ),
        (
            ["--from", wan, "--lora", "4", "--set", "objective.levels.independent=1"],
            2,
            "one noise level for all",
        ),
        (["--from", wan, "--train", "temporal"], 1, "no temporal layers"),
        (["--from", wan, "--lora", "4", "--frames", "4"], 1, "groups of frames"),
        (["--from", bases["animatediff"], "--lora", "4", "--frames", "40"], 1, "at most 32"),
        (["--from", tuned, "--lora", "4"], 2, "is for public models"),
        (["--from", tuned], 1, "fine-tuned from a public model"),
        (["--from", "hf:nobody/nothing", "--lora", "4"], 1, "not on this machine"),
    ]
    for words, code, expected in cases:
        said = sentence_of(vidiff("train", dataset, "-o", tmp_path / "new", *words), code)
        assert expected in said, (words, said)
    said = sentence_of(vidiff("train", odd, "--from", base, "--lora", "4", "-o", tmp_path / "new"))
    assert "vidiff prep" in said and "18x18" in said
    said = sentence_of(vidiff("train", "world:shapes", "--from", base, "--lora", "4", "-o", tmp_path / "new"))
    assert "vidiff world" in said
    assert not (tmp_path / "new").exists()


def test_an_estimate_counts_what_is_trained_and_what_is_frozen(bases, dataset, tmp_path: Path) -> None:
    """The parameters are the adapter's alone; recomputation keeps less; nothing is written."""
    before = sorted(path.name for path in dataset.iterdir())
    found = json_of(
        "train",
        dataset,
        "--from",
        bases["wan"],
        "--lora",
        "4",
        "--estimate",
        "-o",
        tmp_path / "x",
        "--precision",
        "fp32",
    )
    assert 0 < found["parameters"] < 10_000 and found["memory_is"] == "measured" and found["seconds_per_step"] > 0
    assert sorted(path.name for path in dataset.iterdir()) == before and not (tmp_path / "x").exists()
    _, model, _ = public_settings(
        settings_of(dataset, bases["modelscope"], Path("run")), open_dataset(dataset), torch.device("cpu")
    )
    plain, again = (public_clip_cost(model, half=False, recompute=recompute) for recompute in (False, True))
    assert plain.frozen_bytes == again.frozen_bytes > 4 * plain.parameters
    assert again.kept_bytes < 0.5 * plain.kept_bytes and again.flops == 1.5 * plain.flops


def test_recomputation_changes_no_bit(tuned, bases, dataset, tmp_path: Path) -> None:
    asked = settings_of(
        dataset,
        bases["wan"],
        tmp_path / "run",
        sample_every=4,
        validate_every=2,
        gradient_checkpointing="on",
    )
    train(asked)
    ours, theirs = (load_file(newest(run) / "model.safetensors") for run in (tmp_path / "run", tuned))
    assert ours.keys() == theirs.keys() and all(value.equal(theirs[name]) for name, value in ours.items())
