"""`vidiff info DATASET`: histograms in the terminal, as numbers, as a picture; also of older datasets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vidiff_cli import __version__
from vidiff_cli.commands.info import info
from vidiff_cli.commands.info.dataset import DatasetInfo
from vidiff_cli.dataset.dataset import Clip, DatasetSpec, write_clips, write_shards, write_spec
from vidiff_cli.errors import VidiffError

COUNT = 30


def make_dataset(folder: Path, *, older: bool = False, images: bool = False) -> Path:
    """30 clips of two rates and two sizes with scores, or as they were before clips had scores and sizes."""
    rng = np.random.default_rng(0)
    sizes = [(8, 8) if older or number % 3 else (12, 8) for number in range(COUNT)]
    frames = [1 if images else 16 for _ in range(COUNT)]
    clips = [
        Clip(
            id=f"clip-{number:05d}",
            source=f"{number}.mp4",
            start_seconds=0.0,
            fps="0" if images else ("8" if number % 5 else "30000/1001"),
            frames=frames[number],
            captions=["a word " * (number % 4)] * (number % 3),
            split="train",
            shard="",
            group=None,
            width=sizes[number][0],
            height=sizes[number][1],
            scores={} if older else {"motion": float(rng.gamma(2, 20)), "contrast": 30.0},
        )
        for number in range(COUNT)
    ]
    pixels = [(clip.id, np.zeros((clip.frames, clip.height, clip.width, 3), np.uint8)) for clip in clips]
    shard_of = write_shards(folder, pixels)
    rows = [{**_row(clip), "shard": shard_of[clip.id]} for clip in clips]
    if older:
        rows = [{key: value for key, value in row.items() if key not in ("width", "height", "scores")} for row in rows]
        (folder / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        write_clips(folder, (Clip(**row) for row in rows))
    spec = DatasetSpec(
        format=1 if older else 2,
        vidiff=__version__,
        width=8,
        height=8,
        frames=16,
        fps="25",
        buckets={} if older else {"8x8": 20, "12x8": 10},
        sources=COUNT,
        kept=COUNT,
        clips=COUNT,
        splits={"train": COUNT, "val": 0},
        captions_matched=20,
        captions_missing=10,
        seconds_of_video=50.0,
        bytes=sum(path.stat().st_size for path in (folder / "data").iterdir()),
        fingerprint="none",
        settings={},
    )
    write_spec(folder, spec)
    return folder


def _row(clip: Clip) -> dict[str, object]:
    return {name: getattr(clip, name) for name in Clip.__slots__}


def test_all_clips_are_counted_once(tmp_path: Path) -> None:
    found = info(make_dataset(tmp_path / "dataset"), plot=tmp_path / "plots" / "dataset.png")
    assert isinstance(found, DatasetInfo)
    by_name = {each.name: each for each in found.histograms}
    assert list(by_name) == ["duration", "motion", "caption length", "frame rate", "frame size"]
    for name in ("duration", "motion", "frame rate", "frame size"):
        assert sum(by_name[name].counts) == COUNT
    assert by_name["caption length"].values == sum(number % 3 for number in range(COUNT))
    assert by_name["frame rate"].labels == ("8", "30000/1001") and by_name["frame rate"].counts == (24, 6)
    assert by_name["frame size"].labels == ("8x8", "12x8") and by_name["frame size"].counts == (20, 10)
    assert by_name["duration"].labels == ("0.534", "2")
    assert (tmp_path / "plots" / "dataset.png").stat().st_size > 5000


def test_an_older_dataset_and_one_of_images_show_what_they_have(tmp_path: Path) -> None:
    older = info(make_dataset(tmp_path / "older", older=True))
    images = info(make_dataset(tmp_path / "images", images=True))
    assert isinstance(older, DatasetInfo) and isinstance(images, DatasetInfo)
    assert [each.name for each in older.histograms] == ["duration", "caption length", "frame rate"]
    assert "duration" not in [each.name for each in images.histograms]


def test_only_datasets_are_plotted(tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "a.mp4").write_bytes(b"")
    with pytest.raises(VidiffError, match="only a dataset has histograms"):
        info(tmp_path / "films", plot=tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()
