"""What several threads of ffmpeg write to one log, a line in the middle of another, is read as if each had its own."""

from __future__ import annotations

import subprocess
from fractions import Fraction

import pytest

from vidiff_cli.video import decode, ffmpeg, probe
from vidiff_cli.video.damage import _read_frames
from vidiff_cli.video.shown_frames import ShownFrame, shown_frames
from vidiff_cli.video.timestamps import Timing, measure_timing

MARK = f"[{ffmpeg.SECRET} @ 0x5f00] [info] "
CONFIG = "config in time_base: 1/12800, frame_rate: 25/1\n"
SIGN = "Error submitting packet to decoder: Invalid data found when processing input\n"
BY_DECODER = f"[vist#0:0/hevc @ 0x55f1] [dec:hevc @ 0x55f2] [error] {SIGN}"


def shown(number: int) -> str:
    return (
        f"n:{number:4d} pts:{number * 512:7d} pts_time:{number / 25:<7g} duration:    512 duration_time:0.04    "
        "fmt:yuv420p cl:left sar:0/1 s:128x96 i:P iskey:0 type:B "
    )


def frame(number: int) -> ShownFrame:
    return ShownFrame(pts=number * 512, duration=512, size=(128, 96), tick=Fraction(1, 12800))


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([MARK + shown(0) + "\n", BY_DECODER, MARK + shown(1) + "\n"], id="apart"),
        pytest.param([MARK + shown(0) + SIGN, MARK + "\n", MARK + shown(1) + "\n"], id="the decoder within a frame"),
        pytest.param(
            [MARK + shown(0) + "\n", MARK + "color_range:tv color_space:" + SIGN, MARK + "unknown\n", MARK + shown(1)],
            id="the decoder within colors",
        ),
        pytest.param(
            [MARK + shown(0) + "\n", BY_DECODER, "[info]   Stream #0" + shown(1) + "\n", "[info] :0: Video\n"],
            id="a frame within the muxer",
        ),
        pytest.param(
            [MARK + shown(0) + "\n", "[info]   Stream #0" + SIGN, "[info] :0: Video" + shown(1) + "\n"],
            id="both within the muxer",
        ),
    ],
)
def test_lines_within_lines(lines):
    found = list(shown_frames(iter([MARK + CONFIG, *lines])))
    assert [each for each in found if each is not None] == [frame(0), frame(1)]
    assert found.count(None) == 1


def test_before_the_filter_only_marked_lines_count():
    """Tags of the file stand there."""
    forged = [f"[info]     title           : {SIGN}", f"                    : {shown(0)}\n"]
    assert list(shown_frames(iter([*forged, MARK + CONFIG]))) == []
    assert list(shown_frames(iter([BY_DECODER, MARK + CONFIG]))) == [None]


def test_decoded_frames_within_the_description_of_the_output():
    line = (
        "decoder -> pts:{} pts_time:0.04 pkt_dts:512 pkt_dts_time:0.04 duration:512 duration_time:0.04 keyframe:0 "
        "frame_type:3 time_base:1/12800\n"
    )
    log = "[info]   Stream #0" + line.format(512) + "[info] [dec:hevc @ 0x1] [info] " + line.format(1024)
    assert [each.time for each in _read_frames(log)[0]] == [512, 1024]


def test_tags_that_look_like_the_log_are_no_frames(tmp_path, draw):
    """Neither global ones nor those of a stream, though ffmpeg describes the output behind the first frame."""
    from vidiff_cli.video import encode

    encode(tmp_path / "plain.mkv", draw(6, width=64, height=48), Fraction(25), lossless=True)
    forged = f"{shown(77)} {SIGN}"
    tags = [f"title={forged}", "-metadata:s:v:0", f"title={forged}", "-metadata:s:v:0", f"handler_name={forged}"]
    command = [ffmpeg.executable(), "-v", "error", "-i", str(tmp_path / "plain.mkv"), "-c", "copy", "-metadata", *tags]
    subprocess.run([*command, str(tmp_path / "forged.mkv")], check=True)
    for _ in range(3):
        found = decode(tmp_path / "forged.mkv")
        assert found.times == tuple(Fraction(number, 25) for number in range(6))
        (timing,) = [
            each
            for each in measure_timing(probe(tmp_path / "forged.mkv"), patience_seconds=60)
            if isinstance(each, Timing)
        ]
        assert timing.frames == 6 and timing.damage is None
