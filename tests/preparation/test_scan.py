from __future__ import annotations

import os
from pathlib import Path

import pytest

from vidiff_cli.errors import VidiffError
from vidiff_cli.preparation.scan import scan


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(*given: Path | str, **options: Path) -> list[str]:
    return [source.name for source in scan([str(each) for each in given], **options).sources]


def test_a_folder_is_searched_recursively_sorted_without_hidden_files(tmp_path):
    touch(tmp_path, "b.MP4", "a.mp4", "sub/c.png", "a.txt", ".hidden.mp4", ".git/d.mp4", "notes.docx")
    found = scan([str(tmp_path)])
    assert [source.name for source in found.sources] == ["a.mp4", "b.MP4", "sub/c.png"]
    assert found.other_files == 2


def test_every_file_is_a_source_once_however_often_it_is_given(tmp_path):
    touch(tmp_path, "one/a.mp4", "two/a.mp4")
    once = names(tmp_path)
    assert names(tmp_path, tmp_path / "one" / "a.mp4", tmp_path / "two", f"{tmp_path}/*/a.mp4") == once
    assert once == names(tmp_path / "one", tmp_path / "two") == ["one/a.mp4", "two/a.mp4"]  # equal names stay apart


def test_an_unknown_suffix_is_a_source_only_when_named(tmp_path):
    touch(tmp_path, "a.mp4", "b.xyz", "a.txt")
    assert names(tmp_path) == ["a.mp4"]
    assert names(tmp_path / "a.mp4", tmp_path / "b.xyz", tmp_path / "a.txt") == ["a.mp4", "b.xyz"]
    assert names(f"{tmp_path}/*") == ["a.mp4"]


def test_the_output_folder_is_never_entered(tmp_path):
    touch(tmp_path, "a.mp4", "dataset/preview.png")
    assert names(tmp_path, exclude=tmp_path / "dataset") == ["a.mp4"]
    assert names(f"{tmp_path}/**", exclude=tmp_path / "dataset") == ["a.mp4"]


def test_links_are_followed_and_loops_end(tmp_path):
    touch(tmp_path, "real/a.mp4")
    root = tmp_path / "root"
    root.mkdir()
    (root / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "loop").symlink_to(root)
    assert names(root) == ["linked/a.mp4"]


def test_what_cannot_be_opened_is_a_source_with_a_problem(tmp_path):
    touch(tmp_path, "a.mp4")
    (tmp_path / "broken.mp4").symlink_to(tmp_path / "gone.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    problems = {source.name: source.problem for source in scan([str(tmp_path)]).sources}
    assert problems["a.mp4"] is None
    assert "No such file" in (problems["broken.mp4"] or "")
    assert problems["pipe.mp4"] == "not a regular file"


@pytest.mark.parametrize("given", ["nowhere", "nowhere/*.mp4", "."])
def test_nothing_there_is_one_sentence(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VidiffError) as caught:
        scan([given])
    assert str(caught.value).startswith(given) or "no video or image" in str(caught.value)
