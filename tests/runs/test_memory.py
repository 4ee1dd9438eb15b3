"""Memory of a step: its estimate, --batch-size auto, gradient checkpointing, and the cheapest change that fits."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vidiff_cli.config.model import ModelSettings
from vidiff_cli.config.train import TrainSettings, preset
from vidiff_cli.events import Note
from vidiff_cli.models.video_model import VideoNetwork
from vidiff_cli.runs import memory
from vidiff_cli.runs.memory import cheapest_change, resolve_batch_size
from vidiff_cli.training.cost_estimate import estimate

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
GIB = 2**30


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


def test_the_estimate_counts_the_weights_and_grows_with_the_clips() -> None:
    settings = settings_of()
    model = model_of(settings)
    one, two = (estimate(settings.model_copy(update={"batch_size": size}), model, half=False) for size in (1, 2))
    assert one.parameters == sum(value.numel() for value in VideoNetwork(model).parameters())
    assert two.kept_bytes == 2 * one.kept_bytes and two.fixed_bytes == one.fixed_bytes and two.flops == 2 * one.flops
    parts = estimate(settings.model_copy(update={"batch_size": 2, "grad_accum_steps": 2}), model, half=False)
    assert parts.kept_bytes == one.kept_bytes and parts.flops == two.flops
    again = estimate(settings.model_copy(update={"batch_size": 1, "gradient_checkpointing": "on"}), model, half=False)
    assert again.kept_bytes < 0.6 * one.kept_bytes and again.flops == pytest.approx(4 / 3 * one.flops)
    assert estimate(settings, model, half=True, world=4).bytes < estimate(settings, model, half=True).bytes


def test_the_operations_are_those_that_torch_counts_in_a_real_step() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    from vidiff_cli.models.conditioning import Conditioning

    settings = settings_of("tiny", batch_size=2)
    model = model_of(settings)
    network, width = VideoNetwork(model).denoiser.network, settings.network.context_dim
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
    assert planned.parameters == sum(value.numel() for value in VideoNetwork(model).parameters())


def test_motion_is_counted() -> None:
    with_motion, without = (settings_of(batch_size=2, motion=motion) for motion in (True, False))
    more, less = (estimate(each, model_of(each), half=False) for each in (with_motion, without))
    network = with_motion.network
    stem = 9 * (network.channels + 2) * network.patch_size**2 * network.base_channels
    gate = 9 * network.base_channels * network.patch_size**2
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


@pytest.mark.parametrize("gib", [0.2, 80])
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
    assert cheapest_change(settings, model, int(0.7 * whole), scale=1.6) == "--accumulate 4"


def test_a_step_that_will_not_fit_is_warned_of_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(batch_size=16)
    model = model_of(settings)
    monkeypatch.setattr(memory, "available_memory", lambda device: int(0.7 * bytes_of(settings, model)))
    (note,) = [event for event in resolve_batch_size(settings, model, CPU) if isinstance(event, Note)]
    assert note.level == "warning" and "--accumulate 2 would fit" in note.text
