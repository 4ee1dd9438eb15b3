"""A dataset as a videofolder: rows and videos belong together, it appears whole or not at all, and prep reads it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from vidiff_cli.cli.app import app
from vidiff_cli.commands.export import export
from vidiff_cli.commands.prep import prep
from vidiff_cli.config.export import ExportSettings
from vidiff_cli.config.prep import PrepSettings
from vidiff_cli.dataset.dataset import open_dataset
from vidiff_cli.errors import VidiffError
from vidiff_cli.video.decode import decode

CAPTIONS = [["a red ball"], ["two words", "and more"], [], ['\u4e2d, "quoted" \u2028 here'], ["five"], ["\udcff six"]]


def moving(number: int, frames: int, *, width: int) -> np.ndarray:
    """A smooth pattern of its own for every clip that moves by a pixel a frame (t 16 w 3)."""
    t, y, x, c = np.ogrid[:frames, :16, :width, :3]
    return (128 + 100 * np.sin((x + t) / (2 + number) + c) * np.cos(y / (3 + number))).astype(np.uint8)


@pytest.fixture
def dataset(tmp_path, store):
    """Six clips of two sizes at two rates, one of them an image, one for validation."""
    clips = [moving(n, 1 if n == 4 else 6, width=24 if n == 5 else 16) for n in range(6)]

    def row(n: int) -> dict[str, object]:
        values = {"source": f"{n}/../video \udcff.mp4", "start_seconds": n / 2, "captions": CAPTIONS[n]}
        return values | {"fps": {3: "30000/1001", 4: "0"}.get(n, "8"), "scores": {"motion": 1.5} if n else {}}

    return store(tmp_path / "dataset", clips, row, fps="8")


def settings(dataset: Path, output: Path, **more: object) -> ExportSettings:
    return ExportSettings.model_validate({"dataset": dataset, "output": output} | more)


def rows_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text(encoding="utf-8").split("\n") if line]


def below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_every_clip_is_a_video_with_its_row(dataset, tmp_path):
    report = export(settings(dataset, tmp_path / "out", lossless=True))
    assert report.clips == {"train": 5, "validation": 1}
    opened, seen = open_dataset(dataset), 0
    for split, side in (("train", "train"), ("validation", "val")):
        rows = rows_of(tmp_path / "out" / split)
        for row, index in zip(rows, opened.split(side), strict=True):
            clip = opened.clips[index]
            video = decode(tmp_path / "out" / split / row["file_name"])
            np.testing.assert_array_equal(video.frames, opened.frames(index))
            assert clip.frames == 1 or video.info.fps == Fraction(clip.fps)
            captions = [text.replace("\udcff", "\ufffd") for text in clip.captions]
            assert row["captions"] == captions and row["text"] == (captions or [""])[0]
            assert row["fps"] == clip.fps and row["start_seconds"] == clip.start_seconds
            assert row["source"] == clip.source.replace("\udcff", "\ufffd")
            assert row.get("scores", {}) == clip.scores
            seen += 1
        assert {row["file_name"] for row in rows} | {"metadata.jsonl"} == set(below(tmp_path / "out" / split))
    assert seen == 6 and below(tmp_path / "out")[0] == "train"


def test_prep_of_the_export_gives_the_same_clips(dataset, tmp_path):
    """Captions and, without loss, frames; the image is a video of one frame, which prep leaves out as too short."""
    export(settings(dataset, tmp_path / "out", lossless=True))
    asked = {"sources": [str(tmp_path / "out")], "output": tmp_path / "again", "size": 16, "frames": 6, "fps": "30"}
    prep(PrepSettings.model_validate(asked))
    before, after = open_dataset(dataset), open_dataset(tmp_path / "again")
    kept = {Path(clip.source).stem: number for number, clip in enumerate(after.clips)}
    for index in (0, 1, 2, 3):
        number = kept[f"clip-{index:07d}"]
        np.testing.assert_array_equal(after.frames(number), before.frames(index))
        captions = [" ".join(text.split()) for text in before.clips[index].captions]
        assert after.clips[number].captions[:1] == captions[:1]
        assert after.clips[number].fps == before.clips[index].fps


def test_only_an_earlier_export_is_replaced(dataset, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    result = CliRunner().invoke(app, ["export", str(dataset), "-o", str(out), "--quiet"])  # empty is as good as none
    assert result.exit_code == 0 and result.stdout.strip() == str(out)
    assert {path.suffix for path in out.rglob("clip-*")} == {".mp4"}, "unless lossless is asked for"
    with pytest.raises(VidiffError, match="is not empty: found train; give another folder, or --overwrite"):
        export(settings(dataset, out))
    (out / "train" / "clip-0000000.mp4").write_bytes(b"")
    export(settings(dataset, out, overwrite=True))
    assert (out / "train" / "clip-0000000.mp4").stat().st_size
    (out / "notes.txt").write_text("mine")
    with pytest.raises(VidiffError, match=r"holds more than an export: found notes\.txt"):
        export(settings(dataset, out, overwrite=True))
    with pytest.raises(VidiffError, match="is not a folder"):
        export(settings(dataset, out / "notes.txt"))
    with pytest.raises(VidiffError, match="lies in the dataset"):
        export(settings(dataset, dataset / "export"))
    assert below(tmp_path)[0] == "dataset", "nothing hidden is left"


@pytest.mark.parametrize("step", ["dataset.videofolder.encode", "commands.export.row_bytes"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(dataset, tmp_path, monkeypatch, step):
    export(settings(dataset, tmp_path / "out"))
    before = below(tmp_path)

    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"vidiff_cli.{step}", full)
    for output in ("new", "out"):
        with pytest.raises(VidiffError, match="could not be written: found no space left on device"):
            export(settings(dataset, tmp_path / output, overwrite=True))
        assert below(tmp_path) == before


def test_a_damaged_dataset_is_one_sentence(dataset, tmp_path):
    (dataset / "data" / "shard-00000.safetensors").unlink()
    result = CliRunner().invoke(app, ["export", str(dataset), "-o", str(tmp_path / "out"), "--quiet"])
    assert result.exit_code == 1 and result.stdout == "" and "is damaged: found no such file" in result.stderr
    assert below(tmp_path)[0] == "dataset" and not (tmp_path / "out").exists()


def test_interrupted_it_leaves_nothing(dataset, tmp_path, tmp_path_factory):
    """A real Ctrl-C while the first clips are being encoded."""
    heard = tmp_path_factory.mktemp("heard") / "file"
    code = (
        "import os, sys, time, vidiff_cli.dataset.videofolder as export\n"
        "original, heard = export.encode, sys.argv.pop(1)\n"
        "def slow(*a, **k):\n"
        "    print('begun', flush=True)\n"
        "    while not os.path.exists(heard): time.sleep(0.01)\n"
        "    return original(*a, **k)\n"
        "export.encode = slow\n"
        "from vidiff_cli.cli.app import main\n"
        "main()\n"
    )
    command = [sys.executable, "-c", code, str(heard), "export", str(dataset), "-o", str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline().startswith("begun")
    process.send_signal(signal.SIGINT)
    heard.touch()
    process.communicate(timeout=60)
    assert process.returncode == 130 and os.listdir(tmp_path) == ["dataset"]
