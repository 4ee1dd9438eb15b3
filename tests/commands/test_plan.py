"""train --estimate, --batch-size auto, gradient checkpointing and out of memory: what the memory of a step decides."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from vidiff_cli.cli.app import app
from vidiff_cli.commands import estimate as module
from vidiff_cli.commands.estimate import as_rows, estimate_cost
from vidiff_cli.commands.train import train
from vidiff_cli.config.model import ModelSettings
from vidiff_cli.config.train import TrainSettings, preset
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import Note
from vidiff_cli.models.video_model import VideoModel
from vidiff_cli.runs import memory, metrics_log
from vidiff_cli.runs.memory import cheapest_change, resolve_batch_size
from vidiff_cli.training import loop
from vidiff_cli.training.cost_estimate import estimate
from vidiff_cli.training.distributed import SingleProcess

Training = Callable[..., TrainSettings]
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
GIB = 2**30
NETWORK = {"base_channels": 8, "head_dim": 8, "embedding": 16, "context_dim": 16}  # of the fixture `run`


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_log.TrainingLog, "plot", lambda self, **_: None)


def settings_of(name: str = "tiny", **more: Any) -> TrainSettings:
    return TrainSettings.model_validate(preset(name) | {"precision": "bf16"} | more)


def model_of(settings: TrainSettings, side: int = 16) -> ModelSettings:
    network = settings.network.model_copy(update={"motion": settings.motion})
    return ModelSettings(width=side, height=side, frames=settings.frames, network=network, diffusion=settings.diffusion)


def settled(settings: TrainSettings, model: ModelSettings, device: torch.device, **more: Any) -> TrainSettings:
    steps = resolve_batch_size(settings, model, device, **more)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value


def bytes_of(settings: TrainSettings, model: ModelSettings) -> int:
    return estimate(settings, model, half=True).bytes


def test_a_plan_measures_real_steps_and_writes_nothing(training: Training, dataset: Path, tmp_path: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in dataset.rglob("*"))
    settings = training(dataset, tmp_path / "run", steps=1000)
    found = estimate_cost(settings)
    assert not (tmp_path / "run").exists() and not list(tmp_path.iterdir())
    assert sorted((path, path.stat().st_mtime_ns) for path in dataset.rglob("*")) == before
    assert found.fits and found.change is None and found.memory_is == "measured"
    assert found.seconds_per_step is not None and 0 < found.seconds_per_step < 60
    assert found.seconds_to_finish == pytest.approx(1000 * found.seconds_per_step)
    assert 2**26 < found.memory_bytes < found.memory_available_bytes and found.flops_per_step > 1e6
    report = train(settings.model_copy(update={"steps": 1}))
    assert report is not None and report.parameters == found.parameters
    size = sum(path.stat().st_size for path in report.checkpoint.iterdir())
    assert found.checkpoint_bytes == pytest.approx(size, rel=0.5), "of a network of few weights, headers count"
    names = [name for name, _ in as_rows(found)]
    assert names == ["device", "batch", "parameters", "operations", "memory", "step", "to finish", "disk", "fits"]


def test_a_plan_that_does_not_fit_takes_no_step_and_names_a_change_that_does(
    training: Training, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = training(dataset, tmp_path / "run", batch_size=64)
    monkeypatch.setattr(module, "available_memory", lambda device: 2 * 2**20)
    monkeypatch.setattr(module, "_measure_steps", lambda *_: pytest.fail("a step was made"))
    found = estimate_cost(settings)
    assert not found.fits and found.memory_is == "estimated" and found.seconds_per_step is None
    assert found.change is not None and "--accumulate" in found.change
    assert dict(as_rows(found))["fits"] == f"no: the cheapest change is {found.change}"


def test_the_estimate_counts_the_weights_and_grows_with_the_clips() -> None:
    settings = settings_of()
    model = model_of(settings)
    one, two = (estimate(settings.model_copy(update={"batch_size": size}), model, half=False) for size in (1, 2))
    assert one.parameters == sum(value.numel() for value in VideoModel(model).parameters())
    assert two.kept_bytes == 2 * one.kept_bytes and two.fixed_bytes == one.fixed_bytes and two.flops == 2 * one.flops
    parts = estimate(settings.model_copy(update={"batch_size": 2, "grad_accum_steps": 2}), model, half=False)
    assert parts.kept_bytes == one.kept_bytes and parts.flops == two.flops
    again = estimate(settings.model_copy(update={"batch_size": 1, "gradient_checkpointing": "on"}), model, half=False)
    assert again.kept_bytes < 0.6 * one.kept_bytes and again.flops == pytest.approx(4 / 3 * one.flops)
    assert estimate(settings, model, half=True, world=4).bytes < estimate(settings, model, half=True).bytes


@pytest.mark.parametrize("motion", [True, False])
def test_the_operations_are_those_that_torch_counts_in_a_real_step(motion: bool) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    from vidiff_cli.models.conditioning import Conditioning

    settings = settings_of("tiny", batch_size=2, motion=motion)
    model = model_of(settings)
    network, width = VideoModel(model).denoiser.network, settings.network.context_dim
    assert model.network.motion is motion
    told = Conditioning(
        times=torch.rand(2, 8),
        observed=torch.zeros(2, 8, dtype=torch.bool),
        tokens=torch.zeros(2, 32, width),
        token_mask=torch.ones(2, 32, dtype=torch.bool),
        pooled=torch.zeros(2, width),
        estimate=torch.zeros(2, 3, 8, 16, 16),
        uncertainty=torch.zeros(2, 1, 8, 16, 16),
        estimated_from=torch.ones(2, 8, dtype=torch.bool),
    )
    with FlopCounterMode(display=False) as counter:
        network(torch.randn(2, 3, 8, 16, 16), torch.zeros(2, 8), told).sum().backward()
    planned = estimate(settings, model, half=True)
    assert planned.flops == pytest.approx(counter.get_total_flops(), rel=0.03)
    assert planned.parameters == sum(value.numel() for value in VideoModel(model).parameters())


def test_motion_is_counted() -> None:
    with_motion, without = (settings_of(batch_size=2, motion=motion) for motion in (True, False))
    more, less = (estimate(each, model_of(each), half=False) for each in (with_motion, without))
    network = with_motion.network
    stem, gate = (
        9 * (network.channels + 2) * network.patch_size**2 * network.base_channels,
        9 * network.base_channels * network.patch_size**2,
    )
    assert more.parameters - less.parameters == stem + gate + network.patch_size**2
    # forward, and backward for inputs and weights; of the stem, whose input is no weight's, for its weights alone
    cells = 2 * 8 * (16 // network.patch_size) ** 2
    assert more.flops - less.flops == pytest.approx(3 * 2 * cells * (stem + gate), rel=1e-6)
    assert more.kept_bytes > less.kept_bytes


def test_the_batch_of_a_cpu_follows_from_the_size_of_a_clip() -> None:
    asked = settings_of(batch_size="auto")
    sizes = {side: settled(asked, model_of(asked, side), CPU).batch_size for side in (16, 64, 256)}
    assert sizes == {16: 32, 64: 16, 256: 1}
    assert settled(asked, model_of(asked, 256), CPU, world=2).batch_size == 2


@pytest.mark.parametrize("gib", [0.2, 1, 80])
def test_the_batch_of_a_gpu_is_the_largest_power_of_two_that_fits(monkeypatch: pytest.MonkeyPatch, gib: float) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda device: int(gib * GIB))
    asked = settings_of(batch_size="auto")
    model = model_of(asked)
    chosen = settled(asked, model, CUDA)
    assert chosen.batch_size & (chosen.batch_size - 1) == 0 and chosen.gradient_checkpointing == "off"
    assert bytes_of(chosen, model) <= memory.USABLE_FRACTION * gib * GIB
    twice = chosen.model_copy(update={"batch_size": 2 * chosen.batch_size})
    assert chosen.batch_size == memory.MAX_AUTO_BATCH or bytes_of(twice, model) > memory.USABLE_FRACTION * gib * GIB


def test_checkpointing_is_on_where_a_gpu_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = settings_of(batch_size=64)
    model = model_of(asked)
    needed = bytes_of(asked, model)
    for share, device, wanted in ((0.5, CUDA, "on"), (2.0, CUDA, "off"), (0.5, CPU, "off")):
        monkeypatch.setattr(memory, "available_memory", lambda device, share=share: int(share * needed))
        assert settled(asked, model, device).gradient_checkpointing == wanted
        fixed = settled(asked.model_copy(update={"gradient_checkpointing": "off"}), model, device)
        assert fixed.gradient_checkpointing == "off", "who asks for it has it"


def test_the_cheapest_change_is_the_first_that_fits() -> None:
    settings = settings_of(batch_size=16)
    model = model_of(settings)
    whole = bytes_of(settings, model)
    fixed = estimate(settings, model, half=True).fixed_bytes
    assert cheapest_change(settings, model, int(0.7 * whole)) == "--accumulate 2"
    assert cheapest_change(settings, model, fixed + (whole - fixed) // 30) == (
        "--accumulate 16 --gradient-checkpointing on"
    )
    assert cheapest_change(settings, model, fixed // 2) == "a smaller --preset"
    assert cheapest_change(settings, model, int(0.7 * whole), scale=1.8) == "--accumulate 4"


def test_a_step_that_will_not_fit_is_warned_of_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(batch_size=16)
    model = model_of(settings)
    monkeypatch.setattr(memory, "available_memory", lambda device: int(0.7 * bytes_of(settings, model)))
    (note,) = [event for event in resolve_batch_size(settings, model, CPU) if isinstance(event, Note)]
    assert note.level == "warning" and "--accumulate 2 would fit" in note.text


def test_a_run_keeps_the_batch_that_auto_has_chosen(
    training: Training, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "CPU_MAX_CLIPS", 4)
    settings = training(dataset, tmp_path / "run", batch_size="auto", steps=1)
    train(settings)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["train"]["batch_size"] == 4
    monkeypatch.setattr(memory, "CPU_MAX_CLIPS", 2)  # as on another machine
    report = train(settings.model_copy(update={"steps": 2}))
    assert report is not None and report.clips_seen == 8


def test_parts_and_checkpointing_may_be_changed_in_a_run(training: Training, dataset: Path, tmp_path: Path) -> None:
    train(training(dataset, tmp_path / "run", steps=1))
    train(training(dataset, tmp_path / "run", steps=2, grad_accum_steps=2, gradient_checkpointing="on"))


class Full(SingleProcess):
    """Memory ends at a step."""

    def __init__(self, after: int, error: Exception) -> None:
        self.left, self.error = after, error

    def loss(self, video_model: Any, batch: Any, auxiliary: Any = None) -> Any:
        self.left -= 1
        if self.left < 0:
            raise self.error
        return super().loss(video_model, batch, auxiliary)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory. Tried to..."), MemoryError()], ids=repr)
def test_out_of_memory_is_one_sentence_and_loses_nothing(
    training: Training, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    settings = training(dataset, tmp_path / "run", steps=5)
    steps = loop.train_steps
    with monkeypatch.context() as patch:
        full = Full(3, error)
        patch.setattr("vidiff_cli.commands.train.train_steps", lambda *a, **k: steps(*a, **k | {"parallel": full}))
        with pytest.raises(VidiffError) as caught:
            train(settings)
    text = str(caught.value)
    assert text.startswith("out of memory at step 4: found a step of about") and "\n" not in text and len(text) < 400
    for way in ("--accumulate 2", "--batch-size 2", "--gradient-checkpointing on", "--frames", "--preset", "saved"):
        assert way in text
    assert (tmp_path / "run" / "checkpoints" / "latest").read_text().strip() == "step-000003"
    train(settings)
    train(settings.model_copy(update={"output": tmp_path / "whole"}))
    ours, theirs = (
        load_file(tmp_path / name / "checkpoints" / "step-000005-of-000005" / "model.safetensors")
        for name in ("run", "whole")
    )
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_the_command_prints_a_table_or_json_and_takes_auto(dataset: Path, tmp_path: Path) -> None:
    network = [f"--set=network.{name}={value}" for name, value in NETWORK.items()]
    command = ["train", str(dataset), "--estimate", "--batch-size", "auto", "--frames", "4", *network, "-q"]
    made = CliRunner().invoke(app, [*command, "--json"])
    assert made.exit_code == 0, made.output
    found = json.loads(made.stdout)
    assert found["batch_size"] == memory.CPU_MAX_CLIPS and found["fits"] and found["clip"] == "4 frames of 16x16"
    table = CliRunner().invoke(app, [*command, "--preset", "tiny"])
    assert table.exit_code == 0 and "parameters" in table.stdout and "fits        yes" in table.stdout
    assert not list(tmp_path.iterdir())


def test_from_takes_the_network_of_the_checkpoint_unless_a_preset_is_named(dataset: Path, run: Path) -> None:
    plain = CliRunner().invoke(app, ["train", str(dataset), "--from", str(run), "--dry-run"])
    assert plain.exit_code == 0, plain.output
    settings = json.loads(plain.stdout)
    assert settings["network"]["base_channels"] == NETWORK["base_channels"] and settings["start_from"] == str(run)
    named = CliRunner().invoke(app, ["train", str(dataset), "--from", str(run), "--preset", "small", "-q"])
    assert named.exit_code == 1 and "another network." in named.stderr
