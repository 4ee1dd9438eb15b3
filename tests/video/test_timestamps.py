"""Counting frames agrees with decoding them, and says of every real clip what is true of it."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidiff_cli.errors import VidiffError
from vidiff_cli.video import encode, ffmpeg
from vidiff_cli.video.decode import decode
from vidiff_cli.video.ffmpeg_features import DECODERS, ENCODERS, ffmpeg_version, missing_decoders, missing_encoders
from vidiff_cli.video.probe import probe
from vidiff_cli.video.timestamps import Timing, measure_timing

# (clip, frames, constant) as another decoder measured them; corrupted.mp4 has one frame that is lost
MEASURED = [
    ("clips/awesome movie.mov", 123, False),
    ("clips/newtonscradle.gif", 36, False),
    ("clips/no_duration.webm", 74, False),
    ("clips/bear-vp9.webm", 82, True),
    ("clips/sample_h262_mpeg_audio.ts", 3, True),
]


def timing_of(path: Path, *, patience_seconds: float = 60) -> Timing:
    *_, last = measure_timing(probe(path), patience_seconds=patience_seconds)
    assert isinstance(last, Timing)
    return last


@settings(max_examples=8, deadline=None)
@given(
    frames=st.integers(1, 40),
    fps=st.sampled_from([Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(60), Fraction(1, 2)]),
    suffix=st.sampled_from([".mp4", ".mkv", ".webm"]),
)
def test_counting_agrees_with_writing(tmp_path_factory, frames: int, fps: Fraction, suffix: str) -> None:
    path = tmp_path_factory.mktemp("made") / f"clip{suffix}"
    rng = np.random.default_rng(frames)
    encode(path, rng.integers(0, 256, (frames, 16, 16, 3), np.uint8), fps)
    found = timing_of(path)
    assert (found.frames, found.fps, found.complete, found.damage) == (frames, fps, True, None)
    assert found.constant is (True if frames > 2 else None)
    assert abs(found.seconds - frames / fps) < Fraction(1, 400)  # a tick of 1 ms at both ends


@pytest.mark.parametrize("name", ["unordered.mov", "newtonscradle.gif"])
def test_counting_agrees_with_decoding(data_dir: Path, name: str) -> None:
    found, decoded = timing_of(data_dir / "clips" / name), decode(data_dir / "clips" / name, decoder="ffmpeg")
    gaps = [later - earlier for earlier, later in pairwise(decoded.times)]
    assert (found.frames, found.fps) == (len(decoded.frames), decoded.fps)
    assert (found.shortest_gap, found.longest_gap) == (min(gaps), max(gaps))


@pytest.mark.parametrize(("name", "frames", "constant"), MEASURED)
def test_real_clips(data_dir: Path, name: str, frames: int, constant: bool) -> None:
    found = timing_of(data_dir / name)
    assert (found.frames, found.constant, found.damage) == (frames, constant, None)


def test_damage_is_said_and_what_came_before_it_counted(data_dir: Path) -> None:
    found = timing_of(data_dir / "derived" / "truncated_moov_first.mp4")
    assert found.damage and found.complete and 60 <= found.frames <= 75


def test_impatience(data_dir: Path) -> None:
    """Counting stops, and what is known by then is given."""
    found = timing_of(data_dir / "clips" / "bikes.mp4", patience_seconds=0)
    assert not found.complete and 100 <= found.frames < 250 and found.damage is None and found.fps == 25


def test_the_ffmpeg_here_has_what_is_used() -> None:
    assert ffmpeg_version() and missing_encoders() == {} and missing_decoders() == ()


@pytest.fixture
def speak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """An ffmpeg that answers every question with one text."""

    def make(text: str) -> None:
        (tmp_path / "answer.txt").write_text(text)
        script = tmp_path / "ffmpeg"
        script.write_text(f"#!/bin/sh\ncat {tmp_path}/answer.txt\n")
        script.chmod(0o755)
        monkeypatch.setattr(ffmpeg, "executable", lambda: str(script))

    return make


def test_an_ffmpeg_without_codecs(speak: Callable[[str], None]) -> None:
    speak(" V....D libx264              H.264\n A....D aac                  AAC\n V....D av1   needs a card\n")
    assert missing_encoders().keys() == ENCODERS.keys() - {"libx264", "aac"}
    assert set(missing_decoders()) == set(DECODERS.values())


def test_something_that_is_no_ffmpeg(speak: Callable[[str], None]) -> None:
    speak("hello")
    with pytest.raises(VidiffError, match="is not ffmpeg: found 'hello"):
        ffmpeg_version()
