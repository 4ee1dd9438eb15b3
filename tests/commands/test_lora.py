"""Fine-tuning of public models: adapters and temporal layers, on tiny random models of three families."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
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
from vidiff_cli.commands import train as train_command
from vidiff_cli.commands.train import train
from vidiff_cli.config.train import TrainSettings, preset
from vidiff_cli.dataset.dataset import open_dataset
from vidiff_cli.models.conditioning import Conditioning
from vidiff_cli.models.public.adapters import is_temporal
from vidiff_cli.models.public.open import resolve_folder
from vidiff_cli.models.public.parts import open_network
from vidiff_cli.models.public.trained import open_public_network
from vidiff_cli.runs.public_finetune import public_settings

pytestmark = pytest.mark.skipif(find_spec("peft") is None, reason="needs the extra [public]")
FAMILIES = ("modelscope", "animatediff", "wan")
SIDE = 16  # pixels: as few as the networks can halve
CAPTIONS = ("a cat surfing", "a red circle moving left", "a dog", "")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
    settings, model, public = public_settings(
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
    optimizer = preset("lora")["optimizer"] | {"lr": 3e-2, "warmup": 2, "ema": 0.9}
    asked = settings_of(
        dataset, bases[family], tmp_path / "run", steps=30, batch_size=4, validate_every=30, optimizer=optimizer
    )
    train(asked)
    losses = [row["validation_loss"] for row in rows_of(tmp_path / "run") if "validation_loss" in row]
    print(family, losses)
    assert len(losses) == 2 and losses[1] < 0.93 * losses[0], losses
