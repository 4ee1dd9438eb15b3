"""`vidiff info DATASET`: histograms in the terminal, as numbers, as a picture; also of older datasets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import write_dataset

from vidiff_cli.commands.info import info
from vidiff_cli.errors import VidiffError

COUNT = 30


def clips(**more: Any) -> list[dict[str, Any]]:
    """Of two rates and two sizes, with scores and up to two captions of up to six words."""
    return [
        {"frames": 16, "width": 8 if number % 3 else 12, "height": 8, "fps": "8" if number % 5 else "30000/1001"}
        | {"captions": ["a word " * (number % 4)] * (number % 3), "scores": {"motion": number, "contrast": 30.0}}
        | more
        for number in range(COUNT)
    ]


def test_all_clips_are_counted_once(tmp_path: Path) -> None:
    found = info(write_dataset(tmp_path / "dataset", clips()), plot=tmp_path / "plots" / "dataset.png")
    by_name = {each.name: each for each in found.histograms}
    assert list(by_name) == ["duration", "motion", "caption length", "frame rate", "frame size"]
    assert all(sum(each.counts) == COUNT for name, each in by_name.items() if name != "caption length")
    assert by_name["caption length"].values == sum(number % 3 for number in range(COUNT))
    for name, labels, counts in (
        ("frame rate", ("8", "30000/1001"), (24, 6)),
        ("frame size", ("8x8", "12x8"), (20, 10)),
    ):
        assert (by_name[name].labels, by_name[name].counts) == (labels, counts)
    assert by_name["duration"].labels == ("0.534", "2")
    assert (tmp_path / "plots" / "dataset.png").stat().st_size > 5000


def test_an_older_dataset_and_one_of_images_show_what_they_have(tmp_path: Path) -> None:
    """Before clips had scores and sizes of their own."""
    older = write_dataset(tmp_path / "older", clips(width=8))
    rows = [json.loads(line) for line in (older / "clips.jsonl").read_text().splitlines()]
    rows = [{key: value for key, value in row.items() if key not in ("width", "height", "scores")} for row in rows]
    (older / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = json.loads((older / "dataset.json").read_text()) | {"format": 1, "buckets": {}}
    (older / "dataset.json").write_text(json.dumps(spec))
    assert [each.name for each in info(older).histograms] == ["duration", "caption length", "frame rate"]
    images = info(write_dataset(tmp_path / "images", clips(frames=1, fps="0")))
    assert "duration" not in [each.name for each in images.histograms]


def test_only_datasets_are_plotted(tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "a.mp4").write_bytes(b"")
    with pytest.raises(VidiffError, match="only a dataset has histograms"):
        info(tmp_path / "films", plot=tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()
