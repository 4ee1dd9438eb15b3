"""Small files that would be enormous: refused by their numbers, before memory is asked for, and it stays bounded."""

from __future__ import annotations

import struct
import sys
import zlib
from dataclasses import replace
from fractions import Fraction

import pytest

from vidiff_cli.errors import VidiffError
from vidiff_cli.video import ffmpeg
from vidiff_cli.video.decode import decode
from vidiff_cli.video.probe import probe

MEGABYTES = 3000  # of address space; torch and decord alone take about half of it


def png(width: int, height: int, rows: bytes = b"") -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", rows or zlib.compress(bytes(1000))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def gif(width: int, height: int) -> bytes:
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    return screen + b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x44\x01\x00;"


def mp4(sound: bytes, width: int, height: int) -> bytes:
    """The announced sizes of a sound file changed, in the sample description and the track header."""
    changed = bytearray(sound)
    description, track = changed.find(b"avc1", changed.find(b"stsd")), changed.find(b"tkhd")
    changed[description + 28 : description + 32] = struct.pack(">HH", width, height)
    changed[track + 80 : track + 88] = struct.pack(">II", width << 16, height << 16)
    return bytes(changed)


BOMBS = {
    "30000.png": png(30_000, 30_000),
    "most.png": png(2**31 - 1, 2**31 - 1),
    "long.png": png(70_000_000, 1),
    "30000.mp4": png(30_000, 30_000),
    "over.gif": gif(9_000, 9_000),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_huge_frame_is_refused_with_its_size_and_the_limit(name, tmp_path):
    (tmp_path / name).write_bytes(BOMBS[name])
    for read in (probe, decode):
        with pytest.raises(VidiffError, match=r"is too large: found .*\d{4}.*at most 64 megapixels") as error:
            read(tmp_path / name)
        assert "bomb" not in str(error.value)


def test_a_video_that_announces_or_holds_huge_frames_is_refused(tmp_path, clip, make):
    (tmp_path / "announced.mp4").write_bytes(mp4(clip(".mp4").read_bytes(), 65_535, 65_535))
    picture = ["-f", "lavfi", "-i", "color=black:s=9000x9000:d=0.1:r=10", "-frames:v", "1"]
    make(tmp_path / "held.avi", *picture, "-c:v", "mjpeg", "-pix_fmt", "yuvj420p")
    assert (tmp_path / "held.avi").stat().st_size < 3_000_000
    for name in ("announced.mp4", "held.avi"):
        with pytest.raises(VidiffError, match=r"is too large: found \d+x\d+, expected at most 64 megapixels"):
            probe(tmp_path / name)


def test_memory_stays_bounded(tmp_path, apart, sentence, model, quick, clip):
    """Every bomb through prep and some through extend, in a process that may not have more."""
    for name, bomb in BOMBS.items():
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(bomb)
    (tmp_path / "in" / "good.mp4").write_bytes(clip().read_bytes())
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({MEGABYTES << 20},) * 2)"
    settings = ["--size", "16", "--frames", "4", "--preview", "0", "--workers", "2"]
    result = apart("prep", "in", "-o", "dataset", *settings, "--quiet", cwd=tmp_path, setup=limit)
    assert result.code == 0, result
    ledger = (tmp_path / "dataset" / "ledger.jsonl").read_text().splitlines()
    assert sum('"status": "kept"' in line for line in ledger) == 1
    assert sum("is too large" in line for line in ledger) == len(BOMBS), ledger
    result = apart("extend", "in/30000.png", "-m", model, *quick, cwd=tmp_path, setup=limit)
    assert sentence(result) and "900000000 pixels" in result.err


def test_a_frame_within_the_limit_is_decoded_in_bounded_memory(tmp_path, apart):
    """Sixty megapixels out of sixty kilobytes are allowed: less than four copies of them are ever held."""
    side = 7_700
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(3 * side + 1)) for _ in range(side)) + packer.flush()
    (tmp_path / "flat.png").write_bytes(png(side, side, rows))
    assert (tmp_path / "flat.png").stat().st_size < 300_000
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({MEGABYTES << 20},) * 2)"
    result = apart(
        "prep", "flat.png", "-o", "dataset", "--size", "16", "--min-contrast", "0", "--quiet", cwd=tmp_path, setup=limit
    )
    assert result.code == 0, result


def test_pixels_may_not_be_wider_than_films(tmp_path, clip, make, refused, model, quick):
    path = make(tmp_path / "wide.mkv", "-i", ffmpeg.file_url(clip()), "-c", "copy", "-aspect", "100000:1")
    assert "is a strip" in refused("extend", path, "-m", model, *quick, "-o", "out.mp4")


@pytest.fixture
def hours(tmp_path, make):
    """Six thousand seconds in a few kilobytes: one frame in ten minutes."""
    still = ["-f", "lavfi", "-i", "color=black:s=16x16:r=1/400:d=6000"]
    return make(tmp_path / "hours.mp4", *still, "-c:v", "libx264", "-preset", "ultrafast")


def test_a_video_that_is_too_long_is_refused_before_it_is_decoded(hours, monkeypatch):
    module = sys.modules["vidiff_cli.video.decode"]
    monkeypatch.setattr(module, "_collect", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(VidiffError, match=r"too long: found .* frames of 16x16 .* at most .*; cut it"):
        decode(hours, fps=Fraction(1000))


def test_a_video_of_unknown_length_is_stopped_when_it_is_too_long(clip, monkeypatch):
    module = sys.modules["vidiff_cli.video.decode"]
    monkeypatch.setattr(module, "_make_spec", _without_duration(module._make_spec))
    with pytest.raises(VidiffError, match="too long: found 4 frames of 32x32"):
        decode(clip(), max_bytes=3 * 32 * 32 * 3)
    assert len(decode(clip(), max_bytes=8 * 32 * 32 * 3).frames) == 8


def _without_duration(planned):
    return lambda info, *rest: planned(replace(info, duration_seconds=None), *rest)


def test_extend_refuses_a_long_video_and_a_long_result(hours, clip, refused, model, quick, tmp_path):
    for command in (
        ("interpolate", hours, "--fps", "1000"),
        ("extend", clip(), "--num-frames", "1000000000000"),
        ("extend", clip(), "--seconds", "1e300"),
        ("interpolate", clip(), "--factor", "1000000000000"),
        ("interpolate", clip(), "--fps", "1000000000"),
        ("interpolate", clip(), "--slow-motion", "99999999"),
        ("sample", "--num-frames", "1000000000000"),
    ):
        assert "too many frames requested" in refused(*command, "-m", model, *quick, "-o", "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["hours.mp4"]
