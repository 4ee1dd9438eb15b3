"""interpolate: exact counts, rates and places of the given frames."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from vidiff_cli.commands.interpolate import interpolate
from vidiff_cli.video import ffmpeg
from vidiff_cli.video.decode import decode
from vidiff_cli.video.probe import probe


@pytest.mark.parametrize(("count", "factor", "hold"), [(2, 2, True), (4, 3, False)])
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
        (6, "8", "20", 15),
        (3, "30000/1001", "60000/1001", 6),
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


def test_a_variable_rate_keeps_its_times(settings, clip, frames_of, tmp_path: Path) -> None:
    """Frames at 0, 1, 2, 5 eighths of a second, to 16 a second: they stand at 0, 2, 4, 10."""
    source = tmp_path / "uneven.mkv"
    uneven = ["-vf", "setpts='if(gt(N,2),N+2,N)/8/TB'", "-fps_mode", "passthrough", "-c:v", "ffv1", "-pix_fmt", "bgr0"]
    code, log, _ = ffmpeg.run(["-i", ffmpeg.file_url(clip(4)), *uneven, ffmpeg.file_url(source)])
    assert code == 0, log
    assert [round(time * 8) for time in decode(source).times] == [0, 1, 2, 5]
    report = interpolate(settings("interpolate", input=source, fps="16", hold=False, lossless=True))
    assert np.array_equal(frames_of(report.path)[[0, 2, 4, 10]], frames_of(source)) and report.frames == 11
