"""What prep makes of segments, scenes, shapes, folders of frames and several machines: frames that carry their number
show which ones each clip really has."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from files import content
from PIL import Image

from vidiff_cli.commands.prep import prep
from vidiff_cli.config.prep import PrepSettings
from vidiff_cli.dataset.dataset import Clip, Dataset, open_dataset, read_rows
from vidiff_cli.errors import VidiffError
from vidiff_cli.video.encode import encode

BITS = 16  # of a frame's number, as black and white fields of a picture of 4 by 4
RATE = Fraction(5)


def numbered(count: int, *, side: int = 32) -> np.ndarray:
    """Frames (t h w c) that show their number."""
    bits = (np.arange(count)[:, None] >> np.arange(BITS)) & 1
    fields = np.repeat(np.repeat(bits.reshape(count, 4, 4), side // 4, axis=1), side // 4, axis=2)
    return np.ascontiguousarray(np.repeat(fields[..., None] * 255, 3, axis=3).astype(np.uint8))


def numbers(frames: np.ndarray) -> list[int]:
    """The numbers that frames show."""
    side = frames.shape[1] // 4
    middle = frames[:, side // 2 :: side, side // 2 :: side, 0] > 127
    return [int(value) for value in (middle.reshape(len(frames), BITS) << np.arange(BITS)).sum(axis=1)]


@pytest.fixture(scope="session")
def make_numbered():
    """make_numbered(path, seconds): a video without loss of RATE frames per second that show their number."""

    def make(path: Path, seconds: float) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        encode(path, numbered(math.ceil(seconds * RATE)), RATE, lossless=True)
        return path

    return make


def settings(source: Path, output: Path, **more: Any) -> PrepSettings:
    standard: dict[str, Any] = {"size": 16, "frames": 4, "fps": RATE, "preview": 0, "workers": 2, "scenes": False}
    standard |= {"min_contrast": 0, "min_motion": 0, "min_difference": 0}
    return PrepSettings.model_validate({"sources": (str(source),), "output": output, **standard, **more})


def shown(dataset: Dataset) -> list[tuple[Clip, list[Fraction]]]:
    """Every clip with the times that its frames really have."""
    return [(clip, [n / RATE for n in numbers(dataset.frames(index))]) for index, clip in enumerate(dataset.clips)]


def test_segments_outside_the_file_are_said(make_numbered, tmp_path):
    make_numbered(tmp_path / "videos" / "v_abc.mkv", 6)
    table = {
        "v_abc": {
            "duration": 20.0,
            "timestamps": [[0, 2.5], [2.0, 4.0], [4.8, 12.0], [7.0, 9.0], [1.0, 1.3]],
            "sentences": ["first", "second", "third", "fourth", "fifth"],
        },
        "v_gone": {"duration": 5.0, "timestamps": [[0, 5]], "sentences": ["not here"]},
    }
    (tmp_path / "train.json").write_text(json.dumps(table))
    (tmp_path / "videos" / "notes").mkdir()
    make_numbered(tmp_path / "videos" / "other.mkv", 0.6)
    report = prep(settings(tmp_path / "videos", tmp_path / "out", captions=str(tmp_path / "train.json"), stride=1))
    starts: dict[str, list[float]] = {}
    for clip, times in shown(open_dataset(tmp_path / "out")):
        assert times == [times[0] + n / RATE for n in range(4)] and clip.start_seconds == pytest.approx(float(times[0]))
        starts.setdefault(*clip.captions, []).append(round(times[0] * RATE))
    assert starts == {"first": [*range(10)], "second": [*range(10, 17)], "third": [24, 25, 26]}
    assert report.missing == {"video": 1, "annotation": 1, "segment": 3}
    reasons = [row["reason"] for row in read_rows(tmp_path / "out" / "missing.jsonl") if row["kind"] == "segment"]
    assert sorted(reasons) == [
        "no clip of 0.8 s without a cut fits into the segment from 1 to 1.3 s",
        "the segment begins at 7 s, the file ends at 6.00 s",
        "the segment ends at 12 s, the file at 6.00 s",
    ]


@pytest.fixture(scope="module")
def many(tmp_path_factory, make_clip):
    """Seven different sources with captions, one broken, one a near-duplicate."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(6):
        make_clip(folder / f"{number}.mp4", frames=9 + number, size=f"{48 + 16 * number}x{64 - 4 * number}")
        (folder / f"{number}.txt").write_text(f"caption {number}\n")
    (folder / "broken.mp4").write_bytes((folder / "1.mp4").read_bytes()[:500])
    make_clip(folder / "again.mkv", frames=9, size="48x64")
    return folder


@pytest.mark.parametrize("parts", [1, 3])
def test_however_the_work_is_divided_the_dataset_is_the_same(many, tmp_path, parts):
    given = {"scenes": True, "min_difference": 12, "fps": 10, "aspect": "keep", "preview": 3}
    whole = prep(settings(many, tmp_path / "whole", **given))
    assert whole.filtered == {"near-duplicate": 2} and whole.kept == 6
    for part in range(parts, 0, -1):
        if part == 1 and parts > 1:
            with pytest.raises(VidiffError, match=r"of 8 sources of .* are not done yet: found .* among them"):
                prep(settings(many, tmp_path / "parts", merge=True, **given))
        report = prep(settings(many, tmp_path / "parts", shard=f"{part}/{parts}", **given))
        assert report.shard == f"{part}/{parts}" and not (tmp_path / "parts" / "dataset.json").exists()
    merged = prep(settings(many, tmp_path / "parts", merge=True, **given))
    assert merged.resumed == 8 and content(tmp_path / "parts") == content(tmp_path / "whole")
    assert prep(settings(many, tmp_path / "parts", shard="1/2", **given)).already_complete


def test_shapes_are_kept_in_buckets(many, tmp_path):
    report = prep(settings(many, tmp_path / "keep", aspect="keep", fps=10))
    dataset = open_dataset(tmp_path / "keep")
    assert len(report.buckets) > 2 and sum(report.buckets.values()) == len(dataset)
    for index, clip in enumerate(dataset.clips):
        assert dataset.frames(index).shape == (4, clip.height, clip.width, 3)
        assert min(clip.width, clip.height) == 16 and max(clip.width, clip.height) <= 32
    prep(settings(many, tmp_path / "wide", aspect="16:9", fps=10))
    assert {(clip.width, clip.height) for clip in open_dataset(tmp_path / "wide").clips} == {(32, 16)}
    with pytest.raises(ValueError, match="is not an aspect ratio"):
        settings(many, tmp_path / "x", aspect="1:99")


def test_a_folder_of_numbered_pictures_is_a_video(tmp_path):
    for number, frame in enumerate(numbered(10)):
        (tmp_path / "in" / "walk").mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame).save(tmp_path / "in" / "walk" / f"frame_{number + 7:04}.png")
    (tmp_path / "in" / "walk.txt").write_text("a walk\n")
    report = prep(settings(tmp_path / "in", tmp_path / "out", images_fps=RATE))
    assert (report.sources, report.clips) == (1, 2)
    dataset = open_dataset(tmp_path / "out")
    assert [numbers(dataset.frames(index)) for index in range(2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert {(clip.source, *clip.captions, clip.fps) for clip in dataset.clips} == {("walk", "a walk", "5")}
    slow = prep(settings(tmp_path / "in" / "walk", tmp_path / "slow", images_fps=2 * RATE))
    assert slow.clips == 1
    assert numbers(open_dataset(tmp_path / "slow").frames(0)) == [0, 2, 4, 6]
    stills = prep(settings(tmp_path / "in", tmp_path / "stills", images="stills"))
    assert (stills.sources, stills.clips) == (10, 10)


def test_no_clip_contains_a_cut(tmp_path):
    """Scenes of other colors and patterns, cut at known frames; without scenes the cuts stay inside."""
    rng = np.random.default_rng(1)
    cuts, parts = [13, 22, 24], []
    for start, stop in pairwise([0, *cuts, 40]):
        landscape = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).resize((96, 64))
        parts += [np.asarray(landscape)[:, number : number + 64] for number in range(stop - start)]
    (tmp_path / "in").mkdir()
    encode(tmp_path / "in" / "film.mkv", np.stack(parts), RATE, lossless=True)
    report = prep(settings(tmp_path / "in", tmp_path / "out", scenes=True, size=32))
    starts = [round(clip.start_seconds * RATE) for clip in open_dataset(tmp_path / "out").clips]
    assert starts == [0, 4, 8, 13, 17, 24, 28, 32, 36] and report.clips == 9
    assert next(read_rows(tmp_path / "out" / "ledger.jsonl"))["scenes"] == 4
    prep(settings(tmp_path / "in", tmp_path / "all"))
    assert [round(clip.start_seconds * RATE) for clip in open_dataset(tmp_path / "all").clips] == list(range(0, 40, 4))


def test_what_is_left_out_is_counted_shown_and_explained(tmp_path, make_clip):
    (tmp_path / "in").mkdir()
    make_clip(tmp_path / "in" / "a.mp4", frames=12)
    make_clip(tmp_path / "in" / "b.mp4", frames=12)
    still = np.repeat(np.random.default_rng(2).integers(0, 256, (1, 32, 32, 3), np.uint8), 12, axis=0)
    encode(tmp_path / "in" / "still.mkv", still, Fraction(10), lossless=True)
    encode(tmp_path / "in" / "black.mkv", np.zeros((12, 32, 32, 3), np.uint8), Fraction(10), lossless=True)
    given = {"fps": 10, "preview": 4, "min_motion": 1, "min_contrast": 2, "min_difference": 12}
    report = prep(settings(tmp_path / "in", tmp_path / "out", **given))
    assert report.filtered == {"black": 3, "static": 3, "near-duplicate": 3} and report.clips == 3
    assert report.rejected == {"near-duplicate": 1, "black": 1, "static": 1}
    for name in ("rejected", "preview"):
        with Image.open(tmp_path / "out" / f"{name}.png") as picture:
            assert picture.width > 200
    for clip in open_dataset(tmp_path / "out").clips:
        assert clip.scores["motion"] > 1 and clip.scores["contrast"] > 2 and clip.source == "a.mp4"
    rows = {row["source"]: row for row in read_rows(tmp_path / "out" / "ledger.jsonl")}
    assert rows["still.mkv"]["reason"] == "static: 3 of 3 clips"
    everything = prep(settings(tmp_path / "in", tmp_path / "all", fps=10))
    assert everything.clips == 12 and not everything.filtered
