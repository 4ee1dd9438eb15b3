"""examples/minimal.py stays minimal, and its model learns and extends."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

EXAMPLE = Path(__file__).parents[2] / "examples" / "minimal.py"
SPEC = importlib.util.spec_from_file_location("minimal_example", EXAMPLE)
assert SPEC and SPEC.loader
minimal = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(minimal)


def test_it_is_short_and_uses_the_core_alone() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    rooms = {line.split(".")[1].split()[0] for line in text.splitlines() if line.startswith("from vidiff_cli.")}
    assert rooms <= {"config", "diffusion", "frames", "models", "sampling"}


def test_it_learns_and_keeps_given_frames() -> None:
    model, losses = minimal.train(24, batch_size=8)
    assert sum(losses[-4:]) / 4 < losses[0] / 2
    clip = minimal.generate(model, minimal.FRAMES, torch.zeros(1, 3, 0, minimal.SIDE, minimal.SIDE), steps=3)
    longer = minimal.generate(model, 2 * minimal.FRAMES, clip, steps=3)
    assert torch.equal(longer[:, :, : minimal.FRAMES], clip)
    assert longer.isfinite().all() and longer.abs().max() <= 1
