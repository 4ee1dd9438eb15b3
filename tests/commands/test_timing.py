"""Rates and durations by the times of the frames, whatever the header says: extend, interpolate, info."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidiff_cli.commands.extend import extend
from vidiff_cli.commands.info import info
from vidiff_cli.commands.interpolate import interpolate
from vidiff_cli.config.generate import ExtendSettings, InterpolateSettings
from vidiff_cli.video import ffmpeg
from vidiff_cli.video.encode import encode
from vidiff_cli.video.packets import read_packet_times
from vidiff_cli.video.probe import probe

SIDE = 16


def moving(count: int) -> list[np.ndarray]:
    """Frames of a bar that moves on by a pixel."""
    ramp = np.tile((np.arange(SIDE) * 15).astype(np.uint8)[None, :, None], (SIDE, 1, 3))
    return [np.roll(ramp, shift, axis=1) for shift in range(count)]


def remux(source: Path, target: Path, *arguments: str) -> Path:
    code, log, _ = ffmpeg.run(["-i", ffmpeg.file_url(source), *arguments, ffmpeg.file_url(target)])
    assert code == 0, log
    return target


@pytest.fixture
def jittered(tmp_path: Path) -> Callable[[str], Path]:
    """jittered("ts"): 40 frames with gaps of 17 to 61 ms."""

    def make(suffix: str) -> Path:
        encode(tmp_path / "even.mkv", moving(40), Fraction(25), lossless=True)
        times = "setpts='if(eq(N,0),0,PREV_OUTPTS+17+mod(N*23,45))'"
        codec = ["-pix_fmt", "yuv420p", "-c:v", "libx264"]
        filters = ["-vf", f"settb=1/1000,{times}", "-fps_mode", "passthrough", "-enc_time_base", "1/1000"]
        stamped = remux(tmp_path / "even.mkv", tmp_path / "jittered.mkv", *filters, *codec)
        return stamped if suffix == "mkv" else remux(stamped, tmp_path / f"jittered.{suffix}", "-c", "copy")

    return make


@pytest.mark.parametrize("suffix", ["ts", "mp4", "mkv"])
def test_the_rate_is_measured(jittered: Callable[[str], Path], suffix: str) -> None:
    source = jittered(suffix)
    found, said = probe(source), info(source)
    assert 20 < found.fps < 30 and said.fps == found.fps  # type: ignore[union-attr]
    assert said.fps_announced == found.header_fps != found.fps  # type: ignore[union-attr]
    settings = ExtendSettings(input=source, seconds=0.2, detail="estimate", seed=1, output=Path("more.mkv"))
    report = extend(settings)
    assert (report.made, report.fps) == (5, found.fps)  # type: ignore[union-attr]
    assert 39 <= report.given <= 42  # type: ignore[union-attr]


@pytest.mark.parametrize("suffix", ["ts", "mp4"])
def test_no_frame_of_a_variable_rate_is_lost(jittered: Callable[[str], Path], suffix: str) -> None:
    settings = InterpolateSettings(input=jittered(suffix), detail="estimate", seed=1, output=Path("smooth.mkv"))
    report = interpolate(settings)
    assert report.given >= 38 and abs(report.frames / report.fps - 1.54) < 0.1  # type: ignore[union-attr]


def test_a_rate_that_the_header_has_right_is_kept(tmp_path: Path) -> None:
    for rate in (Fraction(24000, 1001), Fraction(30000, 1001), Fraction(25), Fraction(60)):
        for suffix in ("mp4", "mkv", "webm"):
            encode(tmp_path / f"even.{suffix}", moving(20), rate, overwrite=True)
            found = probe(tmp_path / f"even.{suffix}")
            assert found.fps == found.header_fps == rate


@pytest.fixture
def long_last(tmp_path: Path) -> Callable[[str], Path]:
    """long_last("gif"): 11 frames of 100 ms and one of a second."""

    def make(suffix: str) -> Path:
        first, *others = [Image.fromarray(frame) for frame in moving(12)]
        kind = {"apng": "PNG", "webp": "WEBP"}.get(suffix, "GIF")
        path = tmp_path / ("source." + (suffix if kind != "GIF" else "gif"))
        more = {"lossless": True} if kind == "WEBP" else {}
        first.save(path, kind, save_all=True, append_images=others, duration=[100] * 11 + [1000], loop=0, **more)
        if kind != "GIF" or suffix == "gif":
            return path
        codec = ["libvpx-vp9", "-pix_fmt", "yuv420p"] if suffix == "webm" else ["libx264", "-pix_fmt", "yuv420p"]
        return remux(path, tmp_path / f"source.{suffix}", "-fps_mode", "passthrough", "-c:v", *codec)

    return make


@pytest.mark.parametrize("suffix", ["gif", "apng", "webp", "mp4", "mov", "mkv", "webm"])
def test_the_last_frame_stays(long_last: Callable[[str], Path], suffix: str) -> None:
    source = long_last(suffix)
    common = {"input": source, "detail": "estimate", "seed": 1}
    report = interpolate(InterpolateSettings(**common, factor=2, output=Path("smooth.mkv")))
    assert (report.frames, report.fps, report.given) == (42, 20, 12)  # type: ignore[union-attr]
    slow = interpolate(InterpolateSettings(**common, slow_motion=2, output=Path("slow.mkv")))
    assert (slow.frames, slow.fps) == (42, 10)  # type: ignore[union-attr]
    longer = extend(ExtendSettings(**common, seconds=0.3, output=Path("more.mkv")))
    assert (longer.given, longer.made, longer.fps) == (21, 3, 10)  # type: ignore[union-attr]
    assert info(source).seconds == pytest.approx(2.1, abs=0.002)  # type: ignore[union-attr]


def test_a_pause_says_nothing_about_the_rate(tmp_path: Path) -> None:
    first, *others = [Image.fromarray(frame) for frame in moving(12)]
    pauses = [100, 100, 2000] + [100] * 9
    first.save(tmp_path / "pause.gif", save_all=True, append_images=others, duration=pauses, loop=0)
    settings = InterpolateSettings(input=tmp_path / "pause.gif", detail="estimate", seed=1, output=Path("smooth.mkv"))
    report = interpolate(settings)
    assert (report.fps, report.given, report.frames) == (20, 12, 62)  # type: ignore[union-attr]


def test_a_rate_that_leaves_frames_out_is_warned_of(tmp_path: Path, told) -> None:
    encode(tmp_path / "film.mkv", moving(40), Fraction(24000, 1001), lossless=True)
    for fps, better in (("60", "60000/1001"), ("48", "48000/1001"), ("60000/1001", None)):
        settings = InterpolateSettings.model_validate(
            {"input": tmp_path / "film.mkv", "fps": fps, "detail": "estimate", "dry_run": True}
        )
        _, notes = told(interpolate.events(settings))
        warned = [note.text for note in notes if note.level == "warning"]
        assert warned == [] if better is None else f"--fps {better} " in warned[0], (fps, warned)
        assert better is None or "38 of 40 given frames" in warned[0]  # the last one is held


def test_times_of_packets(tmp_path: Path) -> None:
    encode(tmp_path / "even.mp4", moving(9), Fraction(25))
    found = read_packet_times(tmp_path / "even.mp4")
    assert found.times == tuple(Fraction(k, 25) for k in range(9)) and found.last_seconds == Fraction(1, 25)
    assert len(read_packet_times(tmp_path / "even.mp4", limit=4).times) == 4
