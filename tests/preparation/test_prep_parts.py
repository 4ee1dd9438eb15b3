"""What prep makes of segments, scenes, shapes, folders of frames and several machines: frames that carry their number
show which ones each clip really has."""

from __future__ import annotations

import csv
import json
import math
import zipfile
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
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
def make_numbered() -> Callable[..., Path]:
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


def exact(seconds: float) -> Fraction:
    """As it was written: 2.2 is 11/5."""
    return Fraction(str(seconds))


def check_segments(folder: Path, expected: dict[str, list[tuple[float, float, set[str]]]]) -> int:
    """Each clip lies in a segment of its source and has that segment's sentences, and each segment that a clip fits
    into has one. Returns the number of segments with clips."""
    found: set[tuple[str, float, float]] = set()
    for clip, times in shown(open_dataset(folder)):
        assert times == [times[0] + n / RATE for n in range(len(times))]
        assert clip.start_seconds == pytest.approx(float(times[0]))
        name = Path(clip.source).stem
        fitting = [
            (start, stop)
            for start, stop, sentences in expected[name]
            if exact(start) <= times[0] and times[-1] < exact(stop) and set(clip.captions) == sentences
        ]
        assert fitting, (clip, times)
        found |= {(name, start, stop) for start, stop in fitting}
    for name, segments in expected.items():
        for start, stop, sentences in segments:
            fits = math.ceil(exact(start) * RATE) + 4 <= math.ceil(exact(stop) * RATE)
            if fits and sentences:
                assert (name, start, stop) in found
    return len(found)


def test_activitynet_is_cut_for_real(data_dir: Path, make_numbered: Callable[..., Path], tmp_path: Path) -> None:
    """Two annotation files of the same videos; one video is missing, one is shorter than it was."""
    files = [
        data_dir / "captions" / "activitynet_val_1.json",
        data_dir / "captions" / "activitynet_val_2.first500.json",
    ]
    first, second = (json.loads(path.read_text()) for path in files)
    ids = sorted((name for name in second if name in first), key=lambda name: first[name]["duration"])[5:9]
    expected: dict[str, list[tuple[float, float, set[str]]]] = {}
    for name in ids[:3]:
        # a file's name is the video's id, with or without the letter that the annotations put before it
        stem = name if name != ids[1] else name.removeprefix("v_")
        make_numbered(tmp_path / "videos" / f"{stem}.mkv", first[name]["duration"])
        of_video: dict[tuple[float, float], set[str]] = {}
        for entry in (first[name], second[name]):
            for (start, stop), sentence in zip(entry["timestamps"], entry["sentences"], strict=True):
                of_video.setdefault((start, stop), set()).add(" ".join(sentence.split()))
        expected[stem] = [(start, min(stop, 1e9), said) for (start, stop), said in of_video.items()]
    report = prep(settings(tmp_path / "videos", tmp_path / "out", captions=[str(path) for path in files]))
    assert report.captions_matched == 3 and check_segments(tmp_path / "out", expected) >= 9
    missing = list(read_rows(tmp_path / "out" / "missing.jsonl"))
    absent = {row["what"] for row in missing if row["kind"] == "video"}
    assert ids[3] in absent and not absent & set(ids[:3])
    assert report.missing["video"] == len(absent) == len(first.keys() | second.keys()) - 3


def test_youcook2_is_cut_for_real(data_dir: Path, make_numbered: Callable[..., Path], tmp_path: Path) -> None:
    path = data_dir / "captions" / "youcookii_annotations_trainval.first1300.json"
    database = json.loads(path.read_text())["database"]
    name = min(database, key=lambda each: database[each]["duration"])
    make_numbered(tmp_path / "videos" / f"{name}.mkv", database[name]["duration"])
    annotations = database[name]["annotations"]
    expected = {name: [(*each["segment"], {" ".join(each["sentence"].split())}) for each in annotations]}
    prep(settings(tmp_path / "videos", tmp_path / "out", captions=str(path)))
    assert check_segments(tmp_path / "out", expected) == len(annotations)


def test_msrvtt_clips_keep_all_their_sentences(
    data_dir: Path, make_numbered: Callable[..., Path], tmp_path: Path
) -> None:
    archive = data_dir / "captions" / "msrvtt_train_val_annotation.zip"
    with zipfile.ZipFile(archive) as file:
        inner = next(name for name in file.namelist() if name.endswith(".json"))
        sentences = json.loads(file.read(inner))["sentences"]
    for name in ("video3", "video7009"):
        make_numbered(tmp_path / "videos" / f"{name}.mkv", 2)
    prep(settings(tmp_path / "videos", tmp_path / "out", captions=str(archive)))
    dataset = open_dataset(tmp_path / "out")
    assert {Path(clip.source).stem for clip in dataset.clips} == {"video3", "video7009"}
    for clip, times in shown(dataset):
        said = [row["caption"] for row in sentences if row["video_id"] == Path(clip.source).stem]
        assert clip.captions == [" ".join(text.split()) for text in said] and len(said) == 20
        assert times[0] in (0, Fraction(4, 5))


def test_webvid_and_panda_are_found_by_id(data_dir: Path, make_numbered: Callable[..., Path], tmp_path: Path) -> None:
    webvid = data_dir / "captions" / "webvid_results_10M_val.first3000.csv"
    with webvid.open(newline="", encoding="utf-8") as file:
        row = list(csv.DictReader(file))[1234]
    make_numbered(tmp_path / "webvid" / row["page_dir"] / f"{row['videoid']}.mkv", 2)
    prep(settings(tmp_path / "webvid", tmp_path / "one", captions=str(webvid)))
    assert {tuple(clip.captions) for clip in open_dataset(tmp_path / "one").clips} == {(" ".join(row["name"].split()),)}
    panda = data_dir / "captions" / "panda70m_validation.first1200.csv"
    with panda.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    chosen = next(row for row in rows if row["timestamp"].count("[") >= 3 and "0:01:" not in row["timestamp"])
    spans = json.loads(chosen["timestamp"].replace("'", '"'))
    seconds = [[sum(float(x) * 60**n for n, x in enumerate(reversed(t.split(":")))) for t in span] for span in spans]
    make_numbered(tmp_path / "panda" / f"{chosen['videoID']}.mkv", max(stop for _, stop in seconds))
    prep(settings(tmp_path / "panda", tmp_path / "two", captions=str(panda)))
    for clip, times in shown(open_dataset(tmp_path / "two")):
        assert any(start <= times[0] and times[-1] < stop for start, stop in seconds)
        assert len(clip.captions) == 1


def test_segments_outside_the_file_are_said(make_numbered: Callable[..., Path], tmp_path: Path) -> None:
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
    make_numbered(tmp_path / "videos" / "other.mkv", 2)
    report = prep(settings(tmp_path / "videos", tmp_path / "out", captions=str(tmp_path / "train.json"), stride=1))
    clips = [(clip.captions, [float(time) for time in times]) for clip, times in shown(open_dataset(tmp_path / "out"))]
    assert {caption for captions, _ in clips for caption in captions} == {"first", "second", "third"}
    assert [times[0] for captions, times in clips if captions == ["second"]] == pytest.approx(
        [2.0, 2.2, 2.4, 2.6, 2.8, 3.0, 3.2]
    )
    assert report.missing == {"video": 1, "annotation": 1, "segment": 3}
    reasons = [row["reason"] for row in read_rows(tmp_path / "out" / "missing.jsonl") if row["kind"] == "segment"]
    assert sorted(reasons) == [
        "no clip of 0.8 s without a cut fits into the segment from 1 to 1.3 s",
        "the segment begins at 7 s, the file ends at 6.00 s",
        "the segment ends at 12 s, the file at 6.00 s",
    ]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, make_clip: Callable[..., Path]) -> Path:
    """Seven different sources with captions, one broken, one a near-duplicate."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(6):
        make_clip(folder / f"{number}.mp4", frames=9 + number, size=f"{48 + 16 * number}x{64 - 4 * number}")
        (folder / f"{number}.txt").write_text(f"caption {number}\n")
    (folder / "broken.mp4").write_bytes((folder / "1.mp4").read_bytes()[:500])
    make_clip(folder / "again.mkv", frames=9, size="48x64")
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_however_the_work_is_divided_the_dataset_is_the_same(many: Path, tmp_path: Path, parts: int) -> None:
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
    assert merged.resumed == 8 and files_of(tmp_path / "parts") == files_of(tmp_path / "whole")
    assert prep(settings(many, tmp_path / "parts", shard="1/2", **given)).already_complete


def test_shapes_are_kept_in_buckets(many: Path, tmp_path: Path) -> None:
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


def test_a_folder_of_numbered_pictures_is_a_video(tmp_path: Path) -> None:
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


def test_no_clip_contains_a_cut(tmp_path: Path) -> None:
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


def test_what_is_left_out_is_counted_shown_and_explained(tmp_path: Path, make_clip: Callable[..., Path]) -> None:
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
    with Image.open(tmp_path / "out" / "rejected.png") as picture:
        assert picture.height > 200
    for clip in open_dataset(tmp_path / "out").clips:
        assert clip.scores["motion"] > 1 and clip.scores["contrast"] > 2 and clip.source == "a.mp4"
    rows = {row["source"]: row for row in read_rows(tmp_path / "out" / "ledger.jsonl")}
    assert rows["still.mkv"]["reason"] == "static: 3 of 3 clips"
    everything = prep(settings(tmp_path / "in", tmp_path / "all", fps=10))
    assert everything.clips == 12 and not everything.filtered
