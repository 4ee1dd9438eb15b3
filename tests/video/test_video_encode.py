"""What is written is what is read: count, order, rate, size, bytes; a failure leaves nothing behind."""

from __future__ import annotations

import os
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vidiff_cli.errors import VidiffError
from vidiff_cli.video import check_output, decode, encode, ffmpeg, probe

RATES = [Fraction(30000, 1001), Fraction(24000, 1001), Fraction(12)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".gif", ".webp"])
@pytest.mark.parametrize("fps", RATES, ids=str)
def test_count_order_and_rate_survive(tmp_path, indexed, indices, suffix, fps):
    frames = indexed(30)
    assert encode(tmp_path / f"a{suffix}", iter(frames), fps) == 30
    back = decode(tmp_path / f"a{suffix}")
    assert indices(back.frames) == list(range(30))
    assert back.frames.shape == frames.shape
    tick = {".mp4": 0, ".gif": 0.005, ".webp": 0.001}.get(suffix, 0.0005)
    assert max(abs(float(time - k / fps)) for k, time in enumerate(back.times)) <= tick + 1e-9
    assert abs(float(back.fps / fps) - 1) < (0.005 if suffix == ".gif" else 1e-9)
    assert sorted(os.listdir(tmp_path)) == [f"a{suffix}"]


@settings(max_examples=8, deadline=None)
@given(
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    count=st.integers(1, 5),
    rate=st.sampled_from([*RATES, Fraction(60), Fraction(10)]),
    seed=st.integers(0, 99),
)
def test_lossless_gives_the_same_bytes(width, height, count, rate, seed):
    frames = np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("a.mkv", "a.webp"):
            encode(Path(folder) / name, frames, rate, lossless=True)
            if name.endswith("mkv") or count > 1:
                assert np.array_equal(decode(Path(folder) / name).frames, frames)
        encode(folder + "/png/", frames, rate)
        files = sorted(Path(folder, "png").iterdir())
        assert np.array_equal(np.stack([np.asarray(Image.open(file)) for file in files]), frames)


@settings(max_examples=6, deadline=None)
@given(width=st.integers(1, 35), height=st.integers(1, 35), suffix=st.sampled_from([".mp4", ".webm", ".gif"]))
def test_no_size_is_ever_rescaled(width, height, suffix):
    frames = np.full((3, height, width, 3), 128, np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        encode(path, frames, Fraction(10))
        info = probe(path)
        assert (info.width, info.height) == (width, height)
        assert abs(decode(path).frames.astype(int) - 128).max() <= 4


def test_colors_are_bt709_and_close(tmp_path):
    frames = np.zeros((4, 32, 64, 3), np.uint8)
    for left, color in ((0, (255, 0, 0)), (16, (0, 255, 0)), (32, (0, 0, 255)), (48, (255, 255, 255))):
        frames[:, :, left : left + 16] = color
    encode(tmp_path / "a.mp4", frames, Fraction(8))
    assert (
        "yuv420p(tv, bt709, progressive)" in ffmpeg.run(ffmpeg.input_arguments(tmp_path / "a.mp4"))[1]
    )  # matrix and tags alike
    back = decode(tmp_path / "a.mp4").frames.astype(int)
    for left in (4, 20, 36, 52):
        assert abs(back[:, 4:-4, left : left + 8] - frames[:, 4:-4, left : left + 8]).max() <= 6


def test_still_frames_are_kept_in_gif(tmp_path):
    encode(tmp_path / "a.gif", np.full((12, 16, 16, 3), 77, np.uint8), Fraction(24))
    back = decode(tmp_path / "a.gif")
    assert len(back.frames) == 12
    assert abs((probe(tmp_path / "a.gif").duration_seconds or 0) - 0.5) < 0.011


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_audio_is_copied_or_encoded_anew(tmp_path, indexed, make, suffix):
    tone = ["-f", "lavfi", "-i", "testsrc2=s=64x32:r=10:d=2", "-f", "lavfi", "-i", "sine=d=2", "-shortest"]
    sound = make(tmp_path / "sound.mp4", *tone)
    target = tmp_path / f"a{suffix}"
    assert encode(target, indexed(20), Fraction(10), audio_from=sound) == 20
    assert probe(target).has_audio
    back = decode(target)
    assert len(back.frames) == 20
    assert (back.decoder, back.fps) == ("ffmpeg", 10)
    if suffix != ".webm":  # aac packets as they were
        make(tmp_path / "1.aac", "-i", ffmpeg.file_url(sound), "-map", "0:a", "-c", "copy")
        make(tmp_path / "2.aac", "-i", ffmpeg.file_url(target), "-map", "0:a", "-c", "copy")
        assert (tmp_path / "1.aac").read_bytes() == (tmp_path / "2.aac").read_bytes()


@pytest.mark.parametrize("name", ["a b.mp4", 'it\'s "q".gif', "-y.mp4", "видео 日本.mkv", "100%d.mp4", "http:x.webm"])
def test_any_name_is_only_a_name(tmp_path, indexed, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    encode(Path(name), indexed(3), Fraction(10))
    assert len(decode(Path(name)).frames) == 3
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        ([], "without frames"),
        ([np.zeros((8, 8, 3), np.float32)], "float32"),
        ([np.zeros((8, 8), np.uint8)], "(8, 8)"),
        ([np.zeros((8, 8, 4), np.uint8)], "(8, 8, 4)"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 10, 3), np.uint8)], "frame 1"),
    ],
)
@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "frames"])
def test_wrong_frames_leave_nothing_behind(tmp_path, frames, said, name):
    with pytest.raises(VidiffError, match=said.replace("(", r"\(").replace(")", r"\)")):
        encode(tmp_path / name, frames, Fraction(10))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["a.mp4", "frames/"])
def test_interrupt_leaves_nothing_behind(tmp_path, indexed, name):
    def interrupted():
        yield from indexed(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(f"{tmp_path}/{name}", interrupted(), Fraction(10))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".gif"])
def test_a_full_disk_is_an_error_and_keeps_the_old_file(tmp_path, monkeypatch, suffix):
    small = tmp_path / "small-disk"
    small.write_text(f'#!/bin/sh\nulimit -f 8\nexec "{ffmpeg.executable()}" "$@"\n')
    small.chmod(0o755)
    monkeypatch.setattr(ffmpeg, "executable", lambda: str(small))
    target = tmp_path / "out" / f"a{suffix}"
    target.parent.mkdir()
    target.write_bytes(b"old")
    noise = np.random.default_rng(0).integers(0, 256, (30, 96, 96, 3), np.uint8)
    with pytest.raises(VidiffError, match="could not be written"):
        encode(target, noise, Fraction(10), overwrite=True, lossless=suffix == ".mkv")
    assert target.read_bytes() == b"old"
    assert os.listdir(target.parent) == [target.name]


def test_nothing_is_overwritten_unless_told(tmp_path, indexed):
    frames = indexed(3)
    for name in ("a.mp4", "frames"):
        encode(tmp_path / name, frames, Fraction(10))
        with pytest.raises(VidiffError, match="--overwrite"):
            encode(tmp_path / name, frames[:2], Fraction(10))
        assert encode(tmp_path / name, frames[:2], Fraction(10), overwrite=True) == 2
    assert len(os.listdir(tmp_path / "frames")) == 2
    (tmp_path / "frames" / "letter.txt").write_text("mine")
    with pytest.raises(VidiffError, match=r"letter\.txt"):
        encode(tmp_path / "frames", frames, Fraction(10), overwrite=True)
    assert (tmp_path / "frames" / "letter.txt").exists()
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "frames"]


def test_parents_are_made_and_bad_targets_are_one_sentence(tmp_path, indexed):
    encode(tmp_path / "x" / "y" / "a.mp4", indexed(2), Fraction(10))
    (tmp_path / "file").write_text("")
    for name, fps, lossless, said in [
        ("a.xyz", 10, False, r"\.mp4"),
        ("a.mp4", 10, True, "cannot be lossless"),
        ("a.gif", 60, False, "at most 50"),
        ("a.mp4", 0, False, "positive"),
        ("file/a.mp4", 10, False, "cannot be written"),
    ]:
        with pytest.raises(VidiffError, match=said) as caught:
            check_output(tmp_path / name, fps=Fraction(fps), lossless=lossless)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind the superuser")
def test_a_locked_folder_is_one_sentence(tmp_path, indexed):
    tmp_path.chmod(0o500)
    with pytest.raises(VidiffError, match="permission"):
        encode(tmp_path / "a.mp4", indexed(2), Fraction(10))
