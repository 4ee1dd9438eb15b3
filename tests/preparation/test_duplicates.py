"""Near-duplicates: what comparing each with each finds, no more and no less; re-encoded clips are found."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidiff_cli.errors import VidiffError
from vidiff_cli.preparation import near_duplicates as module
from vidiff_cli.preparation.near_duplicates import TOLERANCE, near_duplicates
from vidiff_cli.preparation.quality_filters import fingerprint
from vidiff_cli.video.decode import decode
from vidiff_cli.worlds.shapes import COLORS, draw_numbered, render


def each_with_each(prints: list[bytes], groups: list[int], tolerance: int) -> dict[int, int]:
    rows = [np.frombuffer(each, np.uint8).astype(int) for each in prints]
    repeats: dict[int, int] = {}
    for late in range(len(rows)):
        for early in range(late):
            alike = abs(rows[late] - rows[early]).max(initial=0) <= tolerance
            if early not in repeats and groups[late] != groups[early] and alike:
                repeats[late] = early
                break
    return repeats


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(0, 120),
    different=st.integers(1, 60),
    sources=st.sampled_from([1, 2, 10, 1000]),
    spread=st.integers(0, 14),
    tolerance=st.sampled_from([0, 1, 5, 12, 255]),
    small=st.booleans(),
)
def test_the_index_finds_what_comparing_each_with_each_finds(seed, count, different, sources, spread, tolerance, small):
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 256, (different, 30))
    rows = base[rng.integers(0, different, count)] + rng.integers(-spread, spread + 1, (count, 30))
    prints = [row.clip(0, 255).astype(np.uint8).tobytes() for row in rows]
    groups = rng.integers(0, sources, count).tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PART", 2 if small else 48)  # the tree is deep
        patch.setattr(module, "MOST", 4 if small else 128)  # and has crowds
        patch.setattr(module, "CHUNK", 3 if small else 256)
        found = near_duplicates(prints, groups, tolerance=tolerance)
    assert found == each_with_each(prints, groups, tolerance)
    assert list(found) == sorted(found)
    assert all(early < late and early not in found for late, early in found.items())


def test_many_alike_clips_are_compared_with_the_first_alone():
    """A million frames of one empty street: each is alike each other, but no million pairs are made."""
    rng = np.random.default_rng(0)
    prints = [row.tobytes() for row in rng.integers(100, 106, (3000, 432)).astype(np.uint8)]
    assert near_duplicates(prints, range(3000)) == dict.fromkeys(range(1, 3000), 0)
    assert near_duplicates(prints, [0] * 3000) == {}
    assert near_duplicates(prints, [0] * 2000 + [1] * 1000) == dict.fromkeys(range(2000, 3000), 0)


def test_odd_input_is_a_clear_error():
    assert near_duplicates([], []) == {}
    with pytest.raises(VidiffError, match="differ in length"):
        near_duplicates([b"ab", b"abc"], [0, 1])
    with pytest.raises(VidiffError, match="needs a group"):
        near_duplicates([b"ab", b"ac"], [0])


def test_shapes_on_one_path_in_other_colors_are_different_clips():
    scenes = [replace(draw_numbered(1, number), color=color) for number in range(30) for color in COLORS]
    assert near_duplicates([fingerprint(render(scene)) for scene in scenes], range(len(scenes))) == {}


ENCODINGS: dict[str, list[str]] = {
    "worse.mp4": ["-c:v", "libx264", "-crf", "35", "-preset", "veryfast"],
    "smaller.mkv": ["-vf", "scale=trunc(iw/4)*2:trunc(ih/4)*2", "-c:v", "libx264", "-preset", "veryfast"],
    "older.avi": ["-c:v", "mpeg4", "-q:v", "8"],
}


@pytest.mark.parametrize("name", ["derived/flower_vfr.mp4", "corpus/asl_gestures/bird.mkv"])
def test_the_same_material_encoded_anew_is_found(data_dir, tmp_path, name):
    original = _prints(data_dir / name)
    for file, options in ENCODINGS.items():
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(data_dir / name), "-an", *options]
        subprocess.run([*command, str(tmp_path / file)], check=True, stdin=subprocess.DEVNULL)
        again = _prints(tmp_path / file)
        count = len(original)
        assert len(again) == count > 0
        groups = ["original"] * count + [file] * count
        assert near_duplicates([*original, *again], groups) == {count + index: index for index in range(count)}


def test_different_films_of_one_kind_are_not_found(data_dir):
    """Signs by the same person at the same place; radar loops of neighboring squares."""
    files = [*sorted((data_dir / "corpus/asl_gestures").glob("*.mkv"))[:6]]
    files += sorted((data_dir / "corpus/fmi_radar").glob("*.mp4"))[:12]
    prints = [(each, path.name) for path in files for each in _prints(path)]
    assert len(prints) >= 14
    assert near_duplicates([each for each, _ in prints], [name for _, name in prints], tolerance=TOLERANCE) == {}


def _prints(path: Path) -> list[bytes]:
    frames = decode(path, size=(64, 64), fps=Fraction(8)).frames
    return [fingerprint(frames[start : start + 16]) for start in range(0, len(frames) - 15, 16)]
