"""The time of upscaling, told before it begins where it is long, and the memory that it needs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_model import tiny_network, tiny_settings, write_model
from torch.utils._python_dispatch import TorchDispatchMode

from vidiff_cli.commands.sample import sample
from vidiff_cli.commands.upscale import upscale
from vidiff_cli.config.generate import SampleSettings
from vidiff_cli.config.upscale import UpscaleSettings
from vidiff_cli.device import synchronize
from vidiff_cli.events import Progress
from vidiff_cli.frames import plan
from vidiff_cli.generation import budget, upscale_budget
from vidiff_cli.generation.cascade import estimate_stages, stage_setup
from vidiff_cli.generation.load_model import load_model
from vidiff_cli.generation.upscale_budget import estimate_upscale_seconds
from vidiff_cli.generation.upscaling import UpscaleSetup, upscale_window
from vidiff_cli.models.unet_model import UNetModel
from vidiff_cli.video.encode import encode

LARGE = {"patch_size": 2, "temporal": "convolution", "attention_max_size": 0, "upscale": 2}
WINDOW = 3


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "base.safetensors", tiny_settings(tiny_network(), 8))
    large = tiny_settings(tiny_network(**LARGE), 32, frames=WINDOW, augmentation=0.3)
    write_model(folder / "large.safetensors", large)
    return folder


@pytest.fixture(scope="module")
def setup(models: Path) -> UpscaleSetup:
    model = load_model(models / "large.safetensors", torch.device("cpu"), torch.float32)
    assert isinstance(model, UNetModel)
    return stage_setup(model)


@pytest.fixture
def one_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every measured pass takes a second."""

    def measure(device: torch.device, once: Callable[[], object], times: float) -> float:
        once()
        synchronize(device)
        return times

    for module in (budget, upscale_budget):
        monkeypatch.setattr(module, "measure_seconds", measure)


@pytest.mark.usefixtures("one_second")
def test_it_counts_windows_steps_samples_passes_and_tiles(setup: UpscaleSetup) -> None:
    def seconds(setup: UpscaleSetup, frames: int, *size: int) -> float:
        return estimate_upscale_seconds(setup, plan(frames, (), window=WINDOW, overlap=0), size)

    assert seconds(setup, 3, 16, 24) == 1 and seconds(setup, 9, 16, 24) == 3 and seconds(setup, 2, 16, 24) == 1
    assert estimate_upscale_seconds(setup, plan(4, (), window=WINDOW, overlap=2), (16, 24)) == 2
    assert seconds(replace(setup, steps=5, samples=3), 3, 16, 24) == 15
    assert seconds(replace(setup, passes=2), 3, 16, 16) == 1 + 1 / 4, "measured on the larger frames of the second pass"
    assert seconds(setup, 3, 640, 640) == pytest.approx((1280 / 128) ** 2 * _with_borders(setup, 1280))
    assert estimate_upscale_seconds(setup, [], (16, 16)) == 0


def _with_borders(setup: UpscaleSetup, side: int) -> float:
    """What the network sees of a square frame in sizes of it: tiles of 512, each with its border but at the edges."""
    _, border = setup.model.tile_sides(setup.tile)
    seen = side + 2 * border * (side // setup.tile)
    return (seen / side) ** 2


@pytest.mark.usefixtures("one_second")
def test_stages_grow(setup: UpscaleSetup) -> None:
    assert estimate_stages([setup], (8, 8), 6) == 2
    assert estimate_stages([setup, setup, setup], (8, 8), 6) == 6, "each is measured by itself"


@pytest.mark.usefixtures("one_second")
def test_sample_tells_the_time_of_base_and_stages(models: Path, told) -> None:
    """Of 300 videos in batches of 2, each 2 passes of the base and 2 windows of each of two stages: 150 times 2 seconds
    for the base, 300 times 4 for the stages."""
    values = {"model": models / "base.safetensors", "steps": 2, "num_frames": 4, "count": 300, "batch_size": 2}
    for then, minutes in ((0, 5), (2, 25)):
        stages = [models / "large.safetensors"] * then
        asked = SampleSettings.model_validate(values | {"then": stages, "device": "cpu"})
        with closing(sample.events(asked)) as events:
            notes = [event.text for event in takewhile(lambda event: not isinstance(event, Progress), events)]
        assert f"This will take about {minutes} minutes." in notes


def test_upscale_tells_it_before_it_makes_anything(models: Path, told, monkeypatch: pytest.MonkeyPatch) -> None:
    encode("film.mkv", np.zeros((7, 16, 16, 3), np.uint8), Fraction(8), lossless=True)
    values = {"input": "film.mkv", "model": models / "large.safetensors", "device": "cpu"}
    _, notes = told(upscale.events(UpscaleSettings.model_validate(values | {"output": "short.mkv"})))
    assert not any("This will take" in note.text for note in notes)
    monkeypatch.setattr(budget, "LONG_SECONDS", -1)
    _, notes = told(upscale.events(UpscaleSettings.model_validate(values | {"output": "long.mkv"})))
    texts = [note.text[:14] for note in notes]
    assert texts.index("This will take") < texts.index("The input is t")


class _Large(TorchDispatchMode):
    """The storages of tensors of so many bytes, kept so that none is counted twice."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.bytes, self.storages = size, dict[int, torch.UntypedStorage]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.untyped_storage().nbytes() == self.bytes:
            self.storages[result.untyped_storage().data_ptr()] = result.untyped_storage()
        return result


@pytest.mark.parametrize("observes", [False, True])
def test_in_one_step_next_to_nothing_has_the_size_of_the_frames(setup: UpscaleSetup, observes: bool) -> None:
    """The noise, what is made of it, and the result in 8 bits; with the frames that are observed, and are copied
    there."""
    side, length, known = 96, 3, None
    low, observed = torch.zeros(1, 3, length, side, side), torch.zeros(1, length, dtype=torch.bool)
    if observes:
        observed[:, 0], known = True, torch.zeros(1, 3, length, 2 * side, 2 * side)
    with torch.no_grad(), _Large(4 * 3 * length * (2 * side) ** 2) as large:
        upscale_window(replace(setup, tile=64), low, known, observed, rate=8.0, seeds=(0, 0))
    assert len(large.storages) == (5 if observes else 3)
