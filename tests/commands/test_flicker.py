"""interpolate measures flicker, warns of it and records it; the color match does not give up."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from vidiff_cli.commands.interpolate import interpolate
from vidiff_cli.generation import made_frames
from vidiff_cli.video.decode import decode
from vidiff_cli.video.encode import encode
from vidiff_cli.video.restore_resolution import match_colors


@pytest.fixture
def dark_model(settings, told, monkeypatch: pytest.MonkeyPatch):
    """dark_model(size=...): interpolates a bright clip with a model whose frames are dark; report and notes."""
    ramp = np.tile(np.linspace(110, 190, 16).astype(np.uint8)[None, :, None], (16, 1, 3))
    encode(Path("bright.mkv"), [np.roll(ramp, shift, axis=1) for shift in range(12)], Fraction(8), lossless=True)
    original = made_frames.to_uint8
    monkeypatch.setattr(made_frames, "to_uint8", lambda frames: original(frames.clamp(-1, 1) * 0.2 - 0.6))

    def make(**more):
        asked = settings("interpolate", input=Path("bright.mkv"), output="out.mkv", lossless=True, **more)
        return told(interpolate.events(asked))

    return make


@pytest.mark.parametrize("factor", [2, 3])
def test_frames_that_are_too_dark_are_named(dark_model, factor: int) -> None:
    report, notes = dark_model(factor=factor)
    assert report.flicker.luma < -40 and report.flicker.peak > 10
    warned = [note.text for note in notes if note.level == "warning"]
    assert any("luma flickers" in text for text in warned) and any("luma swings" in text for text in warned)
    recorded = json.loads(Path("out.json").read_text())["flicker"]
    assert recorded["luma"] == report.flicker.luma and recorded["peak"] == report.flicker.peak


def test_the_color_match_does_not_give_up(dark_model) -> None:
    """At the size of the input, frames 100 levels too dark come back to the given ones."""
    report, _ = dark_model(factor=2, size="film")
    frames = decode(report.path).frames.astype(float)
    assert abs(report.flicker.luma) < 12 and abs(frames[1:-1:2].mean() - frames[::2].mean()) < 12


@pytest.mark.parametrize("offset", [-90, -40, 30, 60])
def test_any_offset_is_matched(offset: int) -> None:
    given = np.random.default_rng(0).integers(100, 160, (16, 16, 3), np.uint8)
    made = (given.astype(int) + offset).astype(np.uint8)
    assert np.abs(match_colors(given, made).apply(made.astype(float)) - given).max() < 1
