"""Datasets of other programs are read where they lie: videofolder, LeRobot, Parquet tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from vidiff_cli.commands.prep import prep
from vidiff_cli.config.prep import PrepSettings
from vidiff_cli.dataset.dataset import open_dataset
from vidiff_cli.errors import VidiffError
from vidiff_cli.preparation.captions import Captions, read_captions
from vidiff_cli.preparation.scan import scan

MakeClip = Callable[..., Path]
TOP, WRIST = "observation.images.top", "observation.images.wrist"


def prepared(folder: Path, **settings: Any) -> list[Any]:
    """The clips of a dataset made of a folder."""
    values = {"sources": (str(folder),), "output": folder.parent / "out", "size": 16, "frames": 4, "preview": 0}
    values |= {"workers": 1, "min_difference": 0, "min_motion": 0, "scenes": False}
    list(prep.events(PrepSettings.model_validate(values | settings)))
    return list(open_dataset(folder.parent / "out").clips)


def said(found: Captions) -> dict[str, list[str]]:
    return {name: [text for part in parts for text in part.captions] for name, parts in found.by_source.items()}


def write_table(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def test_a_videofolder_keeps_its_captions_and_its_splits(tmp_path: Path, make_clip: MakeClip) -> None:
    folder = tmp_path / "in"
    for split in ("train", "validation", "test"):
        for name in ("a", "b"):
            make_clip(folder / split / "videos" / f"{name}.mp4")
    rows = "file_name,text\nvideos/a.mp4,{0} a\nvideos/b.mp4,{0} b\n"
    (folder / "train" / "metadata.csv").write_text(rows.format("train"))
    (folder / "test" / "metadata.csv").write_text(rows.format("test"))
    lines = [json.dumps({"file_name": f"videos/{name}.mp4", "text": f"validation {name}"}) for name in "ab"]
    (folder / "validation" / "metadata.jsonl").write_text("\n".join(lines))
    clips = prepared(folder, split_by="folder", hold_out=("validation", "test"))
    for clip in clips:
        split, _, name = clip.source.partition("/videos/")
        assert clip.captions == [f"{split} {name[0]}"]
        assert clip.split == ("train" if split == "train" else "val")
    assert len({clip.source for clip in clips}) == 6


def test_a_column_named_folder_wins(tmp_path: Path, make_clip: MakeClip) -> None:
    for name in ("a", "b"):
        make_clip(tmp_path / "in" / "x" / f"{name}.mp4")
    (tmp_path / "in" / "metadata.csv").write_text("file_name,text,folder\nx/a.mp4,a,one\nx/b.mp4,b,two\n")
    clips = prepared(tmp_path / "in", split_by="folder", hold_out=("two",))
    assert {clip.source: clip.split for clip in clips} == {"x/a.mp4": "train", "x/b.mp4": "val"}


def lerobot(
    folder: Path, episodes: list[dict[str, Any]], *, version: str = "v3.0", cameras: Any = (TOP, WRIST)
) -> Path:
    features = {camera: {"dtype": "video", "shape": [32, 48, 3]} for camera in cameras}
    features |= {"action": {"dtype": "float32", "shape": [6]}}
    info = {"codebase_version": version, "fps": 10, "features": features}
    (folder / "meta").mkdir(parents=True)
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    write_table(folder / "meta" / "episodes" / "chunk-000" / "file-000.parquet", episodes)
    return folder / "meta" / "info.json"


def episode(number: int, tasks: Any, file: int, frames: tuple[int, int], cameras: Any = (TOP, WRIST)) -> dict[str, Any]:
    row: dict[str, Any] = {"episode_index": number, "tasks": tasks, "length": frames[1] - frames[0]}
    for camera in cameras:
        row |= {f"videos/{camera}/chunk_index": 0, f"videos/{camera}/file_index": file}
        row |= {f"videos/{camera}/from_timestamp": frames[0] / 10, f"videos/{camera}/to_timestamp": frames[1] / 10}
    return row


def test_episodes_of_lerobot_are_segments_with_their_tasks(tmp_path: Path, make_clip: MakeClip) -> None:
    folder = tmp_path / "in"
    for camera in (TOP, WRIST):
        make_clip(folder / "videos" / camera / "chunk-000" / "file-000.mp4", frames=20)
        make_clip(folder / "videos" / camera / "chunk-000" / "file-001.mp4", frames=8)
    episodes = [
        episode(0, ["pick the cube"], 0, (0, 7)),
        episode(1, ["open the drawer", "close it"], 0, (7, 20)),
        episode(2, ["pick the cube"], 1, (0, 8)),
    ]
    lerobot(folder, episodes)
    clips = prepared(folder)
    found = sorted({(clip.source, round(clip.start_seconds, 3), tuple(clip.captions)) for clip in clips})
    per_camera = [
        ("file-000.mp4", 0.0, ("pick the cube",)),
        ("file-000.mp4", 0.7, ("open the drawer", "close it")),
        ("file-000.mp4", 1.1, ("open the drawer", "close it")),
        ("file-000.mp4", 1.5, ("open the drawer", "close it")),
        ("file-001.mp4", 0.0, ("pick the cube",)),
        ("file-001.mp4", 0.4, ("pick the cube",)),
    ]
    wanted = [(f"videos/{camera}/chunk-000/{name}", *rest) for camera in (TOP, WRIST) for name, *rest in per_camera]
    assert found == wanted  # no clip crosses from one episode into another


def test_times_of_lerobot_are_the_frames_they_stand_for(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    source = folder / "videos" / TOP / "chunk-000" / "file-000.mp4"
    source.parent.mkdir(parents=True)
    source.write_bytes(b"x")
    row = episode(0, "one task as text", 0, (0, 1), (TOP,))
    row |= {f"videos/{TOP}/from_timestamp": 184 / 15, f"videos/{TOP}/to_timestamp": 1001 / 29.97}
    lerobot(folder, [row], cameras=(TOP,))
    (segment,) = read_captions(scan([str(folder)]).sources).by_source[source.relative_to(folder).as_posix()]
    assert segment.start_seconds == Fraction(184, 15) and segment.captions == ("one task as text",)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"file_index": -1}, "no number of a video file"),
        ({"file_index": None}, "no number of a video file"),
        ({"from_timestamp": float("nan")}, "no times"),
        ({"from_timestamp": 3.0}, "a segment from 3 to 1 s"),
        ({"to_timestamp": 1e300}, "a segment from"),
    ],
)
def test_a_broken_episode_is_a_row_of_the_ledger(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    folder = tmp_path / "in"
    source = folder / "videos" / TOP / "chunk-000" / "file-000.mp4"
    source.parent.mkdir(parents=True)
    source.write_bytes(b"x")
    broken = episode(1, ["lost"], 0, (0, 10), (TOP,)) | {
        f"videos/{TOP}/{name}": value for name, value in change.items()
    }
    lerobot(folder, [episode(0, ["kept"], 0, (0, 10), (TOP,)), broken], cameras=(TOP,))
    found = read_captions(scan([str(folder)]).sources)
    assert list(said(found).values()) == [["kept"]]
    assert any(reason in row.reason for row in found.missing)


@pytest.mark.parametrize("camera", ["../../../outside", "/etc", "a\0b", "..", "x" * 300])
def test_no_path_from_a_file_leads_anywhere(tmp_path: Path, camera: str) -> None:
    folder = tmp_path / "in"
    for path in (tmp_path / "outside" / "chunk-000" / "file-000.mp4", folder / "other.mp4"):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
    lerobot(folder, [episode(0, ["a task"], 0, (0, 10), (camera,))], cameras=(camera,))
    found = read_captions(scan([str(folder)]).sources)
    assert said(found) == {"other.mp4": []}


def test_an_older_lerobot_dataset_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mp4").write_bytes(b"x")
    info = lerobot(tmp_path / "in", [episode(0, ["x"], 0, (0, 1))], version="v2.1")
    with pytest.raises(VidiffError, match=r"version of LeRobot: found v2\.1, expected v3"):
        read_captions(scan([str(tmp_path / "in")]).sources, (str(info),))


COLUMNS = [{"file_name": "a.mp4", "text": "a cat"}, {"video": "a.mp4", "caption": "a cat"}]
COLUMNS += [{"path": "a.mp4", "captions": ["a cat"], "score": 0.5, "blob": b"\0" * 9}]


@pytest.mark.parametrize("row", COLUMNS)
@pytest.mark.parametrize("name", ["metadata.parquet", "given.parquet", "given.bin"])
def test_a_parquet_table_has_the_columns_of_a_csv_table(tmp_path: Path, row: dict[str, Any], name: str) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    path = write_table(tmp_path / name, [row])
    choices = ("auto",) if name.startswith("metadata") else (str(path),)
    assert said(read_captions(scan([str(tmp_path)]).sources, choices)) == {"a.mp4": ["a cat"]}


def test_parquet_columns_that_are_missing_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    path = write_table(tmp_path / "t.parquet", [{"file_name": "a.mp4", "words": "a cat"}])
    with pytest.raises(VidiffError, match="no column for the caption"):
        read_captions(scan([str(tmp_path)]).sources, (str(path),))


@pytest.mark.parametrize("content", [b"PAR1", b"PAR1" + b"\xff" * 200 + b"PAR1"])
def test_a_damaged_parquet_file_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "t.parquet").write_bytes(content)
    with pytest.raises(VidiffError, match="is not a Parquet file that can be read"):
        read_captions(scan([str(tmp_path)]).sources, (str(tmp_path / "t.parquet"),))


def test_without_pyarrow_the_sentence_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    path = write_table(tmp_path / "metadata.parquet", [{"file_name": "a.mp4", "text": "a cat"}])
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(VidiffError, match=r"needs pyarrow.*pip install pyarrow"):
        read_captions(scan([str(tmp_path)]).sources, (str(path),))
    found = read_captions(scan([str(tmp_path)]).sources)  # found, not named: a note
    assert any("pip install pyarrow" in note for note in found.notes)
