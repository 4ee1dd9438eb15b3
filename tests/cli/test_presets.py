"""Presets as documents: what each says of itself, and that its command and its page are true."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from vidiff_cli.config.train import TrainSettings, preset, presets

FOLDER = files("vidiff_cli.config") / "presets"
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", sorted(presets()))
def test_a_preset_opens_with_what_it_makes_needs_takes_and_the_command(name: str) -> None:
    text = (FOLDER / f"{name}.toml").read_text("utf-8")
    opening = text[: text.index("\n" + next(line for line in text.splitlines() if not line.startswith("#")))]
    parts = re.findall(r"^# ([A-Z]\w+): ", opening, re.MULTILINE)
    assert parts == ["Makes", "Hardware", "Time", "Measured", "Command"]
    words = shlex.split(opening.rpartition("Command: ")[2])
    assert words[words.index("--preset") + 1] == name and "train" in words
    TrainSettings.model_validate(preset(name))


def test_the_kinetics_preset_is_the_row_of_the_paper() -> None:
    """Ho et al. 2022, appendix A, Kinetics 16x64x64."""
    settings = TrainSettings.model_validate(preset("kinetics"))
    network = settings.network
    assert (network.base_channels, network.channel_mult, network.num_res_blocks) == (256, (1, 2, 4, 8), 2)
    assert (network.embedding, network.head_dim, network.dropout) == (1024, 64, 0.1)
    assert (settings.batch_size, settings.steps, settings.frames) == (256, 220_000, 16)
    assert (settings.optimizer.lr, settings.optimizer.betas) == (2e-4, (0.9, 0.99))
    assert settings.diffusion.target == "v" and settings.text.kind == "none"
    images = settings.objective.image_fraction * 24
    assert round(images) == 8, "of 16 + 8 frames"


def test_the_page_shows_the_presets_as_they_are() -> None:
    command = [sys.executable, "-m", "tools.docs", "--check", "presets.md"]
    assert subprocess.run(command, cwd=ROOT).returncode == 0
