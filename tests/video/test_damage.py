"""Of a damaged file whole groups of pictures are kept, before and after the damage, by one rule for all containers."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidiff_cli.errors import VidiffError
from vidiff_cli.video import decode, encode, ffmpeg, probe, stream_frames

FRAMES, GROUP, RATE = 48, 12, Fraction(25)
# No code of CAVLC or MPEG-2 has that many zeros; CABAC may decode anything to something.
X264 = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-x264-params"]
CODECS = {
    "h264": [*X264, "cabac=0:bframes=2:scenecut=0"],
    "open": [*X264, "cabac=0:open-gop=1:bframes=2:scenecut=0"],
    "single": [*X264, "cabac=0:keyint=300:scenecut=0"],
    "hevc": ["-c:v", "libx265", "-pix_fmt", "yuv420p", "-x265-params", f"log-level=none:keyint={GROUP}:scenecut=0"],
    "mpeg2": ["-c:v", "mpeg2video", "-q:v", "2", "-bf", "2", "-sc_threshold", "1000000000"],
}
FILES = [
    "h264.mp4",
    "h264.mov",
    "h264.mkv",
    "h264.ts",
    "open.mp4",
    "open.ts",
    "hevc.mp4",
    "hevc.ts",
    "mpeg2.ts",
    "mpeg2.mkv",
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, draw) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("whole")
    encode(folder / "exact.mkv", busy(draw, FRAMES), RATE, lossless=True)

    def make(name: str) -> Path:
        if not (folder / name).exists():
            codec = CODECS[Path(name).stem]
            source = ["-i", ffmpeg.file_url(folder / "exact.mkv"), "-threads", "1", "-g", str(GROUP)]
            code, log, _ = ffmpeg.run([*source, *codec, ffmpeg.file_url(folder / name)])
            assert code == 0, log
        return folder / name

    return make


def busy(draw, count: int) -> np.ndarray:
    """Indexed frames with noise below the index, so that every packet is long."""
    frames = draw(count, width=128, height=96)
    frames[:, 48:] = np.random.default_rng(0).integers(0, 255, (count, 24, 64, 1), np.uint8).repeat(2, 1).repeat(2, 2)
    return frames


def packets(path: Path) -> list[tuple[int, int, bytes]]:
    """Number in the order of display, size and the last bytes of each packet, in the order of the file."""
    command = [ffmpeg.executable(), "-v", "error", "-i", str(path), "-c", "copy", "-f", "framecrc", "-"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [line.split(",") for line in lines if not line.startswith("#")]
    order = sorted(int(row[2]) for row in rows)
    raw = subprocess.run(
        [*command[:-5], "-map", "0:v:0", "-c", "copy", "-f", "data", "-"], capture_output=True, check=True
    ).stdout
    found, place = [], 0
    for row in rows:
        size = int(row[4])
        found.append((order.index(int(row[2])), size, raw[place : place + size]))
        place += size
    return found


def spoiled(path: Path, target: Path, number: int, *, how: str) -> int:
    """Writes a copy with one damaged packet: the first at or after the `number`-th in display that is long enough.

    Returns its number in the order of display.
    """
    data = bytearray(path.read_bytes())
    shown, _, content = next(packet for packet in packets(path) if packet[0] >= number and packet[1] > 600)
    start = data.find(content[110:150]) - 110  # no two packets have this in common
    assert start > 0
    if how == "length":
        data[start : start + 4] = b"\x7f\xff\xff\xff"
    elif path.suffix == ".ts":
        packet = (start + 110) // 188 * 188 + 188
        stop = packet + 188
        if how == "lost":
            del data[packet:stop]
        else:
            data[packet + 20 : stop - 8] = bytes(160)
    else:
        data[start + 100 : start + 500] = bytes(400)
    target.write_bytes(data)
    return shown


def kept(path: Path, indices, **how) -> tuple[list[int], list[Fraction], list[str], Any]:
    for reading in stream_frames(path, keep_intact=True, **how):
        blocks = list(reading.blocks)
    frames = np.concatenate([frames for _, frames in blocks])
    return indices(frames), [time for times, _ in blocks for time in times], reading.remarks, reading.info.damage


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("hevc")])
@pytest.mark.parametrize("at", [14, 24])
def test_whole_groups_before_and_after_the_damage_are_kept(tmp_path, whole, indices, name, at):
    path = whole(name)
    target = tmp_path / f"bad{path.suffix}"
    hit = spoiled(path, target, at, how="content")
    seen, times, remarks, damage = kept(target, indices)
    lost = sorted(set(range(FRAMES)) - set(seen))
    assert hit in lost and 0 < len(lost) <= 2 * GROUP
    assert lost == list(range(lost[0], lost[-1] + 1)) and seen == sorted(seen)
    assert seen[0] == 0 and seen[-1] == FRAMES - 1
    assert times == [index / RATE for index in seen]
    (remark,) = remarks
    assert remark == damage.describe() and remark.startswith(
        f"damaged: {len(seen)} of {damage.frames} frames kept, lost "
    )
    with pytest.raises(VidiffError, match=r"damaged .*at least \d+ frames"):
        decode(target)


@pytest.mark.parametrize(
    ("name", "how"),
    [("h264.mp4", "length"), ("hevc.mkv", "length"), ("hevc.mp4", "length"), ("h264.ts", "lost"), ("mpeg2.ts", "lost")],
)
@pytest.mark.parametrize("at", [5, 36, 44])
def test_a_missing_picture_takes_its_group_along(tmp_path, whole, indices, name, how, at):
    path = whole(name)
    target = tmp_path / f"bad{path.suffix}"
    hit = spoiled(path, target, at, how=how)
    seen, times, _, damage = kept(target, indices)
    lost = sorted(set(range(FRAMES)) - set(seen))
    assert hit in lost and len(lost) <= 2 * GROUP + 3
    first = seen[0]
    assert all(damage.is_lost(index / RATE, (index + 1) / RATE) for index in lost if index >= first)
    assert not any(damage.is_lost(time, time + 1 / RATE / 2) for time in times)
    held = kept(target, indices, fps=RATE)[0]
    assert all(a <= b for a, b in pairwise(held)) and set(held) == set(seen)


def test_frames_before_the_damage_need_no_rule(tmp_path, whole, indices):
    """A reader that stops early never meets it, at whatever speed the log is read."""
    hit = spoiled(whole("h264.mp4"), tmp_path / "bad.mp4", 30, how="content")
    for count in range(hit - 5, hit - 2):
        assert indices(decode(tmp_path / "bad.mp4", max_frames=count).frames) == list(range(count))
    with pytest.raises(VidiffError, match=f"at least {hit} frames"):
        decode(tmp_path / "bad.mp4", max_frames=hit + 1)


def test_without_an_intact_group_there_is_nothing_to_keep(tmp_path, whole):
    spoiled(whole("single.mp4"), tmp_path / "bad.mp4", 8, how="content")
    with pytest.raises(VidiffError, match="no group of pictures without an error"):
        for reading in stream_frames(tmp_path / "bad.mp4", keep_intact=True):
            list(reading.blocks)


@pytest.mark.parametrize("name", FILES)
def test_a_sound_file_is_not_called_damaged(whole, indices, name):
    seen, _, remarks, damage = kept(whole(name), indices)
    assert (seen, remarks, damage) == (list(range(FRAMES)), [], None)
    assert probe(whole(name)).damage is None


@pytest.mark.parametrize("name", ["h264.ts", "mpeg2.ts", "open.ts"])
def test_a_recording_that_begins_in_a_group_keeps_the_rest(tmp_path, whole, indices, name):
    data = whole(name).read_bytes()
    start = len(data) // 188 // 3 * 188
    (tmp_path / "late.ts").write_bytes(data[:564] + data[start:])
    seen = kept(tmp_path / "late.ts", indices)[0]
    assert seen == list(range(seen[0], FRAMES)) and seen[0] <= 36
