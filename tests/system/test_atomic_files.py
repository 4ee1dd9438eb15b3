"""Files and folders appear whole or not at all, and an error leaves what was there before."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from vidiff_cli.checkpoint import write_tensors
from vidiff_cli.dataset.jsonl import write_rows
from vidiff_cli.errors import VidiffError
from vidiff_cli.system.atomic_files import (
    atomic_path,
    remove_folder,
    remove_leftovers,
    replace_folder,
    write_folder,
    write_text,
)
from vidiff_cli.viz.picture_files import whole_picture


def write_picture(path: Path) -> None:
    with whole_picture(path.with_suffix(".png")) as temporary:
        Image.new("RGB", (2, 2)).save(temporary)


WRITERS: dict[str, Callable[[Path], None]] = {
    "text": lambda path: write_text(path, "other"),
    "rows": lambda path: write_rows(path, [{"a": 1}]),
    "tensors": lambda path: write_tensors(path, {"other": torch.zeros(3)}, {}),
    "picture": write_picture,
    "folder": lambda path: write_folder(path.with_name("folder"), lambda place: write_text(place / "a", "text")),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_failed_rename_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, kind):
    path = tmp_path / "file"
    path.write_text("before")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    sentence = "could not be written: found no space left on device; make room or write elsewhere"
    with pytest.raises(VidiffError, match=sentence):
        WRITERS[kind](path)
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError("stopped"), KeyboardInterrupt()])
def test_an_error_in_the_block_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(type(error)), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_bytes_reach_the_disk_before_the_name(tmp_path, monkeypatch):
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (calls.append("fsync"), fsync(descriptor)))
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("replace"), replace(*paths)))
    write_text(tmp_path / "file", "text")
    write_tensors(tmp_path / "tensors", {"a": torch.zeros(1)}, {})
    assert calls == ["fsync", "replace"] * 2
    calls.clear()
    write_folder(tmp_path / "folder", lambda place: (place / "a").write_text("a") and None)
    assert calls == ["fsync", "fsync", "replace", "fsync"], "the file, the folder, the name, the folder around it"


def test_a_file_has_the_permissions_of_any_other(tmp_path):
    (tmp_path / "plain").touch()
    write_picture(tmp_path / "picture")
    write_text(tmp_path / "text", "text")
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "runs" / "step-1"

    def fail(place: Path) -> None:
        write_text(place / "half", "half")
        raise RuntimeError("stopped")

    for before in ([], ["step-1", "whole"]):
        with pytest.raises(RuntimeError, match="stopped"):
            write_folder(folder, fail)
        assert [entry.name for entry in folder.parent.rglob("*")] == before
        write_folder(folder, lambda place: write_text(place / "whole", "text"))
    write_folder(folder, lambda place: write_text(place / "new", "text ☂"))
    assert [entry.name for entry in folder.parent.rglob("*")] == ["step-1", "new"]
    assert (folder / "new").read_text(encoding="utf-8") == "text ☂"


def test_a_replaced_folder_comes_back_and_a_removed_one_never_looks_whole(tmp_path, monkeypatch):
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "old").touch()
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "missing", tmp_path / "target", tmp_path / "aside")
    assert [path.name for path in tmp_path.rglob("*")] == ["target", "old"]
    monkeypatch.setattr("vidiff_cli.system.atomic_files.shutil.rmtree", lambda path: None)  # killed at this moment
    remove_folder(tmp_path / "target")
    assert not (tmp_path / "target").exists()
    monkeypatch.undo()
    remove_leftovers(tmp_path, "target")
    assert not list(tmp_path.iterdir())


def test_leftovers(tmp_path):
    for name in (".a.tmp-12", ".b.old-12", ".c.old-12", ".mine"):
        (tmp_path / name).mkdir()
    (tmp_path / ".[x]*.tmp-1").touch()
    (tmp_path / "c").mkdir()
    remove_leftovers(tmp_path, "[x]*")
    assert not (tmp_path / ".[x]*.tmp-1").exists() and (tmp_path / ".a.tmp-12").exists()
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine", "b", "c"], "what was moved aside is back"
