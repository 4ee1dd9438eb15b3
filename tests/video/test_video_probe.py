"""A file is described as it is displayed; what is not a video gets one clear sentence."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidiff_cli.errors import VidiffError
from vidiff_cli.video import encode, ffmpeg, probe
from vidiff_cli.video.probe import snap_ntsc_rate


@pytest.fixture
def plain(tmp_path, indexed) -> Path:
    encode(tmp_path / "plain.mp4", indexed(4), Fraction(30000, 1001))
    return tmp_path / "plain.mp4"


def test_what_was_written_is_described(plain):
    info = probe(plain)
    assert (info.width, info.height, info.coded_width, info.coded_height, info.rotation) == (64, 32, 64, 32, 0)
    assert (info.codec, info.pixel_format, info.fps, info.has_audio) == (
        "h264",
        "yuv420p",
        Fraction(30000, 1001),
        False,
    )
    assert "mp4" in info.container.split(",")
    assert info.duration_seconds == pytest.approx(4 * 1001 / 30000, abs=0.01)


def test_the_container_is_what_is_inside(plain, make):
    stream = make(plain.with_name("stream.mp4"), "-i", ffmpeg.file_url(plain), "-c", "copy", "-f", "mpegts")
    assert probe(stream).container == "mpegts"


def test_stills_are_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save(tmp_path / "a.jpg", exif=exif)
    info = probe(tmp_path / "a.jpg")
    assert (info.is_image, info.width, info.height, info.rotation, info.fps) == (True, 10, 20, 90, 0)


@pytest.mark.parametrize(
    ("printed", "meant"),
    [
        ("29.97", Fraction(30000, 1001)),
        ("23.98", Fraction(24000, 1001)),
        ("23.976", Fraction(24000, 1001)),
        ("59.94", Fraction(60000, 1001)),
        ("119.88", Fraction(120000, 1001)),
        ("14.985", Fraction(15000, 1001)),
        ("12.5", Fraction(25, 2)),
        ("30.02", Fraction(1501, 50)),
        ("24", Fraction(24)),
        ("30", Fraction(30)),
        ("1000", Fraction(1000)),
    ],
)
def test_usual_rate(printed, meant):
    assert snap_ntsc_rate(Fraction(printed)) == meant


def test_bad_inputs_are_each_one_sentence(tmp_path, plain, make):
    (tmp_path / "zero.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("I am not a video.\n" * 20)
    (tmp_path / "notes.txt").write_text("I am not a video.\n" * 20)
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile plain.mp4\n")
    (tmp_path / "photo.png").write_bytes(b"not a photo")
    cut = plain.read_bytes()
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(4096))
    (tmp_path / "head.mp4").write_bytes(cut[: len(cut) // 4])
    make(tmp_path / "sound.mp4", "-f", "lavfi", "-i", "sine=d=0.2", "-c:a", "aac")
    for name, said in [
        ("missing.mp4", "does not exist"),
        (".", "is a folder"),
        ("zero.mp4", "empty"),
        ("text.mp4", "cannot be opened as a video"),
        ("notes.txt", "not a video|cannot be opened"),
        ("list.mp4", "not a video|cannot be opened"),
        ("photo.png", "cannot be read as an image"),
        ("noise.mp4", "cannot be opened|damaged"),
        ("head.mp4", "cannot be opened|damaged"),
        ("sound.mp4", "no pictures: found only audio"),
        ("a\0b.mp4", "cannot be read|does not exist"),
    ]:
        with pytest.raises(VidiffError, match=said) as caught:
            probe(tmp_path / name)
        assert str(caught.value).count("\n") == 0
        assert str(caught.value).endswith(".")


def test_permission_denied(plain, monkeypatch):
    def denied(self, *_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(VidiffError, match="permission denied"):
        probe(plain)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_refused_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(VidiffError, match="not a regular file"):
        probe(tmp_path / "pipe.mp4")


def test_a_bomb_is_refused(tmp_path):
    Image.new("1", (9000, 9000)).save(tmp_path / "a.png")
    with pytest.raises(VidiffError, match="64 megapixels"):
        probe(tmp_path / "a.png")
