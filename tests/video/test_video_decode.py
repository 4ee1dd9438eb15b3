"""Every decoded frame carries its own index, so a wrong frame is provable; decord reads nothing that it gets wrong."""

from __future__ import annotations

import sys
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from vidiff_cli.errors import VidiffError
from vidiff_cli.video import decode, encode, ffmpeg


def test_plain_h264(long_clip, indices):
    got = decode(long_clip)
    assert got.decoder == "ffmpeg"
    assert indices(got.frames) == list(range(120))
    assert got.times == tuple(Fraction(k, 30) for k in range(120))
    assert (got.fps, got.frames.dtype) == (30, np.uint8)


@pytest.mark.parametrize(
    ("name", "arguments", "first", "why"),
    [
        ("ts.mp4", ["-c", "copy", "-f", "mpegts"], 0, "mpegts"),
        ("cut.mp4", ["-c", "copy"], 39, "negative timestamps"),
    ],
)
def test_frames_are_right_where_decords_are_not(tmp_path, long_clip, make, indices, name, arguments, first, why):
    start = ["-ss", "1.3"] if first else []
    path = make(tmp_path / name, *start, "-i", ffmpeg.file_url(long_clip), *arguments)
    got = decode(path)
    assert indices(got.frames) == list(range(first, 120))
    assert got.times[0] == 0
    assert all(a < b for a, b in pairwise(got.times))
    with pytest.raises(VidiffError, match=f"decord cannot be trusted .*{why}"):
        decode(path, decoder="decord")


def test_a_missing_decord_is_said(long_clip, monkeypatch):
    monkeypatch.setitem(sys.modules, "decord", None)
    with pytest.raises(VidiffError, match="decord is not installed here"):
        decode(long_clip, decoder="decord")
    assert len(decode(long_clip, max_frames=2).frames) == 2


@pytest.mark.parametrize("size", [None, (32, 16), (24, 20), (48, 24), (96, 64)])
def test_both_decoders_agree(long_clip, size):
    ours, theirs = (decode(long_clip, size=size, decoder=name) for name in ("decord", "ffmpeg"))
    assert ours.times == theirs.times
    assert np.abs(ours.frames.astype(int) - theirs.frames).mean() < 1.5  # of 255: only one rounds
    assert (ours.decoder, theirs.decoder) == ("decord", "ffmpeg")


@pytest.mark.parametrize("decoder", ["decord", "ffmpeg"])
def test_scaling_averages_and_does_not_alias(tmp_path, decoder):
    stripes = np.zeros((3, 64, 128, 3), np.uint8)
    stripes[:, :, ::2] = 255
    stripes[1:, :, 1::2] = 20  # so that the last frames differ from the first
    stripes[2, :, ::4] = 200
    encode(tmp_path / "a.mkv", stripes, Fraction(10), lossless=True)
    got = decode(tmp_path / "a.mkv", size=(32, 16), decoder=decoder).frames[0].astype(int)
    assert np.abs(got[:, 2:-2] - 128).max() <= 6


@pytest.mark.parametrize("decoder", ["decord", "ffmpeg"])
def test_scaling_rounds_and_does_not_darken(tmp_path, decoder):
    """Cut off instead of rounded, every pixel would lose 3/8 of a level."""
    frames = np.random.default_rng(0).integers(0, 256, (3, 32, 64, 3), np.uint8)
    encode(tmp_path / "a.mkv", frames, Fraction(10), lossless=True)
    got = decode(tmp_path / "a.mkv", size=(32, 16), decoder=decoder).frames
    error = got - frames.reshape(3, 16, 2, 32, 2, 3).mean(axis=(2, 4))
    assert abs(error).max() <= 0.5 and abs(error.mean()) < 0.15


def test_size_and_crop(long_clip):
    whole = decode(long_clip, size=(40, 24), max_frames=3).frames
    part = decode(long_clip, size=(40, 24), crop=(20, 24), max_frames=3).frames
    assert np.array_equal(part, whole[:, :, 10:30])
    with pytest.raises(VidiffError, match="crop"):
        decode(long_clip, size=(16, 16), crop=(32, 8))


def test_a_cap_stops_early(long_clip, indices):
    for decoder in ("decord", "ffmpeg"):
        assert indices(decode(long_clip, max_frames=5, decoder=decoder).frames) == list(range(5))
        assert indices(decode(long_clip, max_frames=5, fps=Fraction(10), decoder=decoder).frames) == [0, 3, 6, 9, 12]


def test_damage_is_said_with_how_far_it_got(tmp_path, long_clip):
    data = bytearray(long_clip.read_bytes())
    start = data.index(b"mdat")
    middle = start + int.from_bytes(data[start - 4 : start]) // 2
    data[middle : middle + 200] = np.random.default_rng(0).bytes(200)
    (tmp_path / "bad.mp4").write_bytes(data)
    with pytest.raises(VidiffError, match=r"damaged .*at least \d+ frames") as caught:
        decode(tmp_path / "bad.mp4")
    assert "\n" not in str(caught.value)
    assert len(decode(tmp_path / "bad.mp4", max_frames=10).frames) == 10


def test_stills(tmp_path):
    picture = np.zeros((8, 12, 3), np.uint8)
    picture[:4] = 200
    exif = Image.Exif()
    exif[0x0112] = 8  # to be turned counter-clockwise
    Image.fromarray(picture).save(tmp_path / "a.png")
    Image.fromarray(picture).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(np.full((8, 12), 40000, np.uint16)).save(tmp_path / "deep.png")
    got = decode(tmp_path / "a.png")
    assert (got.decoder, got.fps, got.times) == ("pillow", 0, (Fraction(0),))
    assert np.array_equal(got.frames[0], picture)
    assert np.array_equal(decode(tmp_path / "turned.png").frames[0], np.rot90(picture))
    assert np.array_equal(decode(tmp_path / "a.png", size=(6, 4)).frames[0], picture[::2, ::2])
    assert decode(tmp_path / "a.png", size=(6, 4), crop=(2, 2)).frames.shape == (1, 2, 2, 3)
    assert decode(tmp_path / "deep.png").frames[0, 0, 0].tolist() == [156, 156, 156]
