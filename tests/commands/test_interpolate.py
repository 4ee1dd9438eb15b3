"""interpolate: exact counts, rates and places of the given frames."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from vidiff_cli.commands.interpolate import interpolate
from vidiff_cli.errors import VidiffError
from vidiff_cli.video import ffmpeg
from vidiff_cli.video.decode import decode
from vidiff_cli.video.probe import probe


@pytest.mark.parametrize(
    ("count", "factor", "hold"), [(2, 2, True), (2, 2, False), (5, 2, True), (4, 3, False), (3, 8, True)]
)
def test_factor(settings, clip, frames_of, count: int, factor: int, hold: bool) -> None:
    source = clip(count)
    report = interpolate(settings("interpolate", input=source, factor=factor, hold=hold, lossless=True))
    made, given = frames_of(report.path), frames_of(source)
    span = (count - 1) * factor + 1
    assert report.frames == len(made) == (count * factor if hold else span)
    assert (report.given, report.made, report.held) == (count, span - count, factor - 1 if hold else 0)
    assert np.array_equal(made[:span:factor], given)
    assert all(np.array_equal(frame, given[-1]) for frame in made[span:])
    assert not any(np.array_equal(made[index], made[index + 1]) for index in range(span - 1))
    assert report.fps == probe(report.path).fps == 8 * factor


@pytest.mark.parametrize(
    ("count", "source_fps", "fps", "frames"),
    [
        (5, "8", "24", 15),
        (6, "8", "20", 15),
        (4, "10", "24", 10),
        (3, "30000/1001", "60000/1001", 6),
        (4, "8", "8", 4),
        (4, "8", "4", 2),
    ],
)
def test_any_rate(settings, clip, frames_of, count: int, source_fps: str, fps: str, frames: int) -> None:
    """Output k is shown at k / fps: a given frame there stands exactly there; one at no such time is not written."""
    source = clip(count, fps=source_fps)
    report = interpolate(settings("interpolate", input=source, fps=fps, lossless=True))
    made, given = frames_of(report.path), frames_of(source)
    assert report.frames == len(made) == frames and report.fps == probe(report.path).fps == Fraction(fps)
    places = {Fraction(number) * report.fps / Fraction(source_fps): number for number in range(count)}
    exact = {int(place): number for place, number in places.items() if place.denominator == 1}
    for place, number in exact.items():
        assert np.array_equal(made[place], given[number])
    last = int((count - 1) / Fraction(source_fps) * report.fps)
    for place in range(last + 1):
        if place not in exact:
            assert not any(np.array_equal(made[place], frame) for frame in given)
    assert all(np.array_equal(frame, given[-1]) for frame in made[last + 1 :])
    assert abs(frames / report.fps - count / Fraction(source_fps)) < 1 / report.fps


def test_slow_motion_keeps_the_rate(settings, clip, frames_of) -> None:
    source = clip(4)
    report = interpolate(settings("interpolate", input=source, slow_motion=3, lossless=True))
    assert report.fps == probe(report.path).fps == 8 and report.frames == len(frames_of(report.path)) == 12
    assert np.array_equal(frames_of(report.path)[:10:3], frames_of(source))


@pytest.mark.parametrize(
    ("condition", "sampler"), [("reconstruction", "ddpm"), ("replacement", "ddim"), ("learned", "dpmpp-2m")]
)
def test_every_way_to_condition_with_every_sampler(settings, clip, frames_of, condition: str, sampler: str) -> None:
    source = clip(3)
    asked = settings("interpolate", input=source, factor=2, condition=condition, sampler=sampler, lossless=True)
    report = interpolate(asked)
    assert report.condition == condition and np.array_equal(frames_of(report.path)[:5:2], frames_of(source))


def test_a_variable_rate_keeps_its_times(settings, clip, frames_of, tmp_path: Path) -> None:
    """Frames at 0, 1, 2, 5 eighths of a second, to 16 a second: they stand at 0, 2, 4, 10."""
    source = tmp_path / "uneven.mkv"
    uneven = ["-vf", "setpts='if(gt(N,2),N+2,N)/8/TB'", "-fps_mode", "passthrough", "-c:v", "ffv1", "-pix_fmt", "bgr0"]
    code, log, _ = ffmpeg.run(["-i", ffmpeg.file_url(clip(4)), *uneven, ffmpeg.file_url(source)])
    assert code == 0, log
    assert [round(time * 8) for time in decode(source).times] == [0, 1, 2, 5]
    report = interpolate(settings("interpolate", input=source, fps="16", hold=False, lossless=True))
    assert np.array_equal(frames_of(report.path)[[0, 2, 4, 10]], frames_of(source)) and report.frames == 11


def test_audio_stays(settings, clip, tmp_path: Path) -> None:
    source = tmp_path / "loud.mp4"
    sine = ["-f", "lavfi", "-i", "sine=frequency=440:duration=1"]
    joined = ["-map", "0:v", "-map", "1:a", "-c:v", "libx264", "-c:a", "aac"]
    code, log, _ = ffmpeg.run(["-i", ffmpeg.file_url(clip(8)), *sine, *joined, ffmpeg.file_url(source)])
    assert code == 0, log
    info = probe(interpolate(settings("interpolate", input=source)).path)
    assert info.has_audio and info.fps == 16 and info.duration_seconds == pytest.approx(1, abs=0.1)


def test_the_place_is_checked_first(settings, clip, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate that the format cannot hold is refused before a frame is made."""
    monkeypatch.setattr("vidiff_cli.commands.interpolate.complete", None)
    with pytest.raises(VidiffError, match="a GIF cannot be that fast"):
        interpolate(settings("interpolate", input=clip(3), fps="60", output="out.gif"))


@pytest.mark.parametrize(("name", "count"), [("one.mkv", 1), ("one.gif", 1), ("one.png", 1)])
def test_a_single_frame_has_nothing_between(settings, clip, tmp_path: Path, name: str, count: int) -> None:
    source = clip(count, name=name) if not name.endswith(".png") else tmp_path / name
    if name.endswith(".png"):
        from PIL import Image

        Image.new("RGB", (16, 16)).save(source)
    with pytest.raises(VidiffError, match="single"):
        interpolate(settings("interpolate", input=source))
