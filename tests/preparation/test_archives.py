"""WebDataset shards are read where they lie, and no name in them leads anywhere."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from vidiff_cli.commands.prep import prep
from vidiff_cli.config.prep import PrepSettings
from vidiff_cli.dataset.dataset import open_dataset, read_rows
from vidiff_cli.errors import VidiffError
from vidiff_cli.preparation.captions import read_captions
from vidiff_cli.preparation.scan import scan

MakeClip = Callable[..., Path]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory, make_clip: MakeClip) -> bytes:
    return make_clip(tmp_path_factory.mktemp("video") / "v.mp4").read_bytes()


def write_tar(path: Path, files: Sequence[tuple[str, bytes]], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def prepare(folder: Path, **settings: Any) -> None:
    values = {"sources": (str(folder),), "output": folder.parent / "out", "size": 16, "frames": 4, "preview": 0}
    values |= {"workers": 1, "min_difference": 0, "min_motion": 0, "scenes": False, "clips_per_source": 1}
    list(prep.events(PrepSettings.model_validate(values | settings)))


def captions(out: Path) -> dict[str, list[str]]:
    return {clip.source: clip.captions for clip in open_dataset(out).clips}


def test_shards_become_the_dataset_that_their_files_would(tmp_path: Path, video: bytes) -> None:
    (tmp_path / "files").mkdir()
    for name in ("a", "b"):
        (tmp_path / "files" / f"{name}.mp4").write_bytes(video)
        (tmp_path / "files" / f"{name}.txt").write_text(f"a clip {name}\nin two lines")
    write_tar(
        tmp_path / "in" / "0.tar",
        [(f"a.{end}", (tmp_path / "files" / f"a.{end}").read_bytes()) for end in ("mp4", "txt")],
    )
    write_tar(
        tmp_path / "in" / "1.tar",
        [(f"b.{end}", (tmp_path / "files" / f"b.{end}").read_bytes()) for end in ("txt", "mp4")],
    )
    prepare(tmp_path / "in")
    dataset = open_dataset(tmp_path / "out")
    assert captions(tmp_path / "out") == {
        f"{n}.tar/{name}.mp4": [f"a clip {name}", "in two lines"] for n, name in ((0, "a"), (1, "b"))
    }
    prepare(tmp_path / "files", output=tmp_path / "plain")
    plain = open_dataset(tmp_path / "plain")
    for index in range(2):
        assert (dataset.frames(index) == plain.frames(index)).all()
    assert not (tmp_path / "out" / ".journal").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ({"caption": "a cat", "url": "x"}, ["a cat"]),
        ({"text": "a cat"}, ["a cat"]),
        ({"captions": ["a cat", " a  dog "]}, ["a cat", "a dog"]),
        ({"other": "a cat"}, []),
        (["a cat"], []),
        ({"caption": 7}, []),
    ],
)
def test_captions_in_json_have_the_names_of_columns(tmp_path: Path, text: object, said: list[str]) -> None:
    path = write_tar(tmp_path / "x.tar", [("k.one.mp4", b"x"), ("k.json", json.dumps(text).encode())])
    sources = scan([str(path)], archives=True).sources
    found = read_captions(sources).by_source["x.tar/k.one.mp4"]
    assert [each for segment in found for each in segment.captions] == said


def test_a_text_beside_the_archive_is_not_of_its_members(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", [("a.mp4", b"x")])
    (tmp_path / "a.txt").write_text("of another")
    (tmp_path / "x.txt").write_text("of another")
    sources = scan([str(tmp_path)], archives=True).sources
    assert read_captions(sources).by_source == {"x.tar/a.mp4": ()}


@pytest.mark.parametrize(
    "name", ["../../out.mp4", "/tmp/out.mp4", "a/../../out.mp4", "new\nline.mp4", "esc\x1b[31m.mp4"]
)
def test_no_name_in_an_archive_leads_out_of_it(tmp_path: Path, video: bytes, name: str) -> None:
    (tmp_path / "out.txt").write_text("not to be read")
    write_tar(tmp_path / "in" / "x.tar", [(name, video), ("good.mp4", video)])
    before = sorted(path.name for path in tmp_path.iterdir())
    prepare(tmp_path / "in")
    assert set(captions(tmp_path / "out")) == {"x.tar/good.mp4"}
    (bad,) = [row for row in read_rows(tmp_path / "out" / "ledger.jsonl") if row["status"] == "rejected"]
    assert "not a plain path" in bad["reason"] and bad["source"] == "x.tar/0.mp4"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*before, "out"])


def test_links_and_folders_in_an_archive_are_no_sources(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE):
            entry = tarfile.TarInfo("a.mp4")
            entry.type, entry.linkname = kind, "/etc/passwd"
            tar.addfile(entry)
    (tmp_path / "b.mp4").write_bytes(b"x")
    assert [source.name for source in scan([str(tmp_path)], archives=True).sources] == ["b.mp4"]


def test_of_two_members_of_one_name_the_later_counts(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [("a.mp4", b"1"), ("a.mp4", b"22")])
    (source,) = scan([str(path)], archives=True).sources
    assert source.bytes == 2


@pytest.mark.parametrize("damage", ["text", "compressed", "cut"])
def test_a_damaged_archive_is_a_row_of_the_ledger(tmp_path: Path, video: bytes, damage: str) -> None:
    path = write_tar(tmp_path / "in" / "x.tar", [("a.mp4", video)], "w:gz" if damage == "compressed" else "w")
    if damage == "text":
        path.write_bytes(b"no archive" * 100)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:1500])
    (tmp_path / "in" / "good.mp4").write_bytes(video)
    prepare(tmp_path / "in")
    assert set(captions(tmp_path / "out")) == {"good.mp4"}
    (bad,) = [row for row in read_rows(tmp_path / "out" / "ledger.jsonl") if row["status"] == "rejected"]
    assert "x.tar" in bad["source"] and str(tmp_path) not in bad["reason"]
    assert ".journal" not in bad["reason"]


def test_an_archive_without_videos_is_one_sentence(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [("a.txt", b"a cat")])
    with pytest.raises(VidiffError, match="no video or image"):
        scan([str(path)], archives=True)
