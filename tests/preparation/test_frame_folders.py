"""Which folders of pictures are a video, and its frames at any rate."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vidiff_cli.errors import VidiffError
from vidiff_cli.preparation.image_folders import FrameFolder, frame_folders
from vidiff_cli.video.image_sequence import image_sequence_info, stream_image_sequence


def picture(path: Path, value: int = 0, size: tuple[int, int] = (6, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)
    return path


def numbered(folder: Path, count: int = 10, name: str = "{:03d}.png", first: int = 0) -> list[Path]:
    return [picture(folder / name.format(number), 20 * (number - first)) for number in range(first, first + count)]


@pytest.mark.parametrize("name", ["{:05d}.png", "{}.png", "frame {:02d}.jpg", "take2_{}.bmp"])
@pytest.mark.parametrize("first", [0, 1, 95])
def test_numbered_pictures_are_a_video_in_the_order_of_their_numbers(tmp_path, name, first):
    if first == 95 and ":02d" in name:
        first = 85
    frames = numbered(tmp_path / "a", name=name, first=first)
    shuffled = [frames[index] for index in np.random.default_rng(0).permutation(len(frames))]
    others = [picture(tmp_path / "b.png"), tmp_path / "a" / "film.mp4", tmp_path / "a" / "notes.txt"]
    assert frame_folders([*shuffled, *others]) == [FrameFolder(folder=tmp_path / "a", frames=tuple(frames))]


def test_folders_come_sorted_and_each_by_itself(tmp_path):
    second, first = numbered(tmp_path / "b"), numbered(tmp_path / "a" / "c", first=7)
    assert [found.folder.name for found in frame_folders([*second, *first])] == ["c", "b"]
    assert frame_folders([]) == []


def damaged(frames):
    frames[0].write_bytes(b"no picture")
    return frames


def captioned(frames):
    frames[3].with_suffix(".txt").write_text("a gray square", encoding="utf-8")
    return frames


CHANGES = {
    "gap": lambda frames: [*frames[:4], *frames[5:]],
    "few": lambda frames: frames[:7],
    "another name": lambda frames: [*frames, picture(frames[0].with_name("cover.png"))],
    "another row": lambda frames: [*frames, *numbered(frames[0].parent, name="b{:03d}.png")],
    "another suffix": lambda frames: [*frames[:-1], picture(frames[-1].with_suffix(".jpg"))],
    "twice": lambda frames: [*frames, picture(frames[0].with_name("7.png"))],
    "another size": lambda frames: [*frames[:-1], picture(frames[-1], size=(4, 6))],
    "damaged": damaged,
    "captioned": captioned,
}


@pytest.mark.parametrize("kind", CHANGES)
def test_other_folders_are_single_pictures(tmp_path, kind):
    assert frame_folders(CHANGES[kind](numbered(tmp_path))) == []


def test_a_text_about_the_whole_folder_is_no_caption_of_a_frame(tmp_path):
    frames = numbered(tmp_path / "a")
    (tmp_path / "a" / "notes.txt").write_text("x", encoding="utf-8")
    (tmp_path / "a.txt").write_text("x", encoding="utf-8")
    assert len(frame_folders(frames)) == 1


def test_frames_of_a_folder_at_any_rate(tmp_path):
    frames = numbered(tmp_path, count=12)
    rates = st.fractions(min_value=1, max_value=60, max_denominator=7)

    @settings(max_examples=25, deadline=None)
    @given(fps_in=rates, fps=st.none() | rates)
    def law(fps_in, fps):
        reading = read_frames(frames, fps_in=fps_in, fps=fps)
        assert (reading.decoder, reading.fps) == ("pillow", fps or fps_in)
        times, pixels = joined(reading)
        assert times == [k / (fps or fps_in) for k in range(len(times))]
        assert len(times) == -(-12 * (fps or fps_in) // fps_in)
        assert [round(value / 20) for value in pixels[:, 0, 0, 0]] == [int(time * fps_in) for time in times]

    law()


def read_frames(frames, *, fps_in, size=(6, 4), crop=None, fps=None):
    info = image_sequence_info(frames[0].parent, frames, fps_in)
    return stream_image_sequence(info, frames, size=size, crop=crop or size, fps=fps or fps_in)


def joined(reading) -> tuple[list[Fraction], np.ndarray]:
    blocks = list(reading.blocks)
    return [time for times, _ in blocks for time in times], np.concatenate([frames for _, frames in blocks])


def test_frames_are_scaled_and_cropped(tmp_path):
    frames = numbered(tmp_path, count=40)
    reading = read_frames(frames, size=(3, 2), crop=(2, 2), fps_in=Fraction(10))
    assert (reading.info.width, reading.info.height, reading.info.duration_seconds) == (6, 4, 4.0)
    assert [len(times) for times, _ in read_frames(frames, fps_in=Fraction(10)).blocks] == [32, 8]
    assert joined(reading)[1].shape == (40, 2, 2, 3)


def test_a_frame_that_is_bad_is_named(tmp_path):
    frames = numbered(tmp_path)
    picture(frames[4], size=(4, 4))
    with pytest.raises(VidiffError, match=r"004.png has another size: found 4x4, expected 6x4"):
        joined(read_frames(frames, fps_in=Fraction(10)))
    picture(frames[4])
    frames[2].write_bytes(frames[2].read_bytes()[:45])
    with pytest.raises(VidiffError, match=r"002\.png"):
        joined(read_frames(frames, fps_in=Fraction(10)))
