from __future__ import annotations

import json

import pytest
from annotations import captions_of, said, videos

from vidiff_cli.errors import VidiffError
from vidiff_cli.preparation.captions import Captions


def lost(found: Captions) -> list[str]:
    return [row.what for row in found.missing if row.kind == "video"]


@pytest.fixture
def folder(tmp_path):
    return videos(tmp_path, "a.mp4", "b.mp4", "sub/c.mp4")


def test_each_line_of_a_text_file_is_a_caption(folder):
    (folder / "a.txt").write_bytes("\ufeff  a  red\tball \r\n\r\nanother one\n".encode())
    found = captions_of(folder)
    assert said(found) == {"a": ["a red ball", "another one"], "b": [], "sub/c": []}
    assert found.origin == {"a.mp4": "sidecar", "b.mp4": "none", "sub/c.mp4": "none"}


def test_a_table_is_matched_by_name_in_any_order(folder):
    rows = "file_name,text,person\nsub/c.mp4,see,p1\ngone.mp4,gone,p9\n./a.mp4,ay,p0\na.mp4,ay again,p0\n"
    (folder / "metadata.csv").write_text("\ufeff" + rows, encoding="utf-8")
    found = captions_of(folder)
    assert said(found) == {"a": ["ay", "ay again"], "b": [], "sub/c": ["see"]}
    assert found.columns["sub/c.mp4"]["person"] == "p1"
    assert lost(found) == ["gone.mp4"]
    assert any("gone.mp4" in note for note in found.notes)


def test_jsonl_with_lists_and_a_table_of_a_sub_folder(folder):
    row = {"media_path": "c.mp4", "captions": ["one", "two", "one", ""], "take": 3}
    (folder / "sub" / "metadata.jsonl").write_text(json.dumps(row) + "\nnot json\n", encoding="utf-8")
    found = captions_of(folder)
    assert said(found)["sub/c"] == ["one", "two"]
    assert found.columns["sub/c.mp4"]["take"] == "3"
    table = folder / "sub" / "metadata.jsonl"
    assert [(row.where, row.reason) for row in found.missing if row.kind == "row"] == [
        (f"{table}:1: caption[3]", "the sentence is empty"),
        (f"{table}:2", "not a JSON object"),
    ]
    assert any("2 rows left out; line 1: caption[3]: the sentence is empty" in note for note in found.notes)


def test_a_table_of_one_folder_says_nothing_about_another(folder):
    (folder / "sub" / "metadata.csv").write_text("file_name,text\na.mp4,not that a\n")
    found = captions_of(folder)
    assert said(found)["a"] == []
    assert lost(found) == ["a.mp4"]


def test_bare_names_match_where_they_are_unique(folder, tmp_path_factory):
    (folder / "sub" / "a.mp4").write_bytes(b"x")
    (folder / "sub" / "caf\u00e9.mp4").write_bytes(b"x")
    table = tmp_path_factory.mktemp("elsewhere") / "captions.tsv"
    table.write_text("path\tcaption\nc\tby stem\nd/a.mp4\tother folder\ncafe\u0301.mp4\taccent\n", encoding="utf-8")
    found = captions_of(folder, str(table))
    assert said(found)["sub/c"] == ["by stem"]
    assert said(found)["sub/caf\u00e9"] == ["accent"]
    assert said(found)["a"] == said(found)["sub/a"] == []


def test_an_ambiguous_name_is_given_to_nobody(folder):
    for name in ("x/d.mp4", "y/d.mp4"):
        (folder / name).parent.mkdir()
        (folder / name).write_bytes(b"x")
    (folder / "metadata.csv").write_text("file_name,text\nd.mp4,whose\n")
    found = captions_of(folder)
    assert said(found)["x/d"] == said(found)["y/d"] == []
    assert any("with several files" in note for note in found.notes)


def test_a_given_table_is_the_only_origin(folder):
    (folder / "a.txt").write_text("sidecar")
    (folder / "mine.csv").write_text("file_name;text\nb.mp4;table\n")
    found = captions_of(folder, str(folder / "mine.csv"))
    assert said(found) == {"a": [], "b": ["table"], "sub/c": []}


def test_none_reads_columns_but_no_caption(folder):
    (folder / "metadata.csv").write_text("file_name,text,person\na.mp4,hello,p0\n")
    found = captions_of(folder, "none", columns=True)
    assert said(found)["a"] == []
    assert found.columns["a.mp4"]["person"] == "p0"
    assert captions_of(folder, "none").column_names == ()


def test_text_that_is_not_utf8_is_a_note(folder):
    (folder / "a.txt").write_bytes(b"caf\xe9")
    found = captions_of(folder)
    assert said(found)["a"] == []
    assert any("not UTF-8" in note for note in found.notes)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.csv", "name,text\na.mp4,x\n", "no column for the file"),
        ("t.csv", "file_name,label\na.mp4,x\n", "no column for the caption"),
        ("t.csv", "", "has no row"),
        ("t.xlsx", "a", "unknown format"),
        ("t.csv", None, "cannot be read"),
    ],
)
def test_a_bad_table_is_one_sentence_when_given_and_a_note_when_found(folder, name, content, said):
    if content is not None:
        (folder / name).write_text(content)
        (folder / "metadata.csv").write_text(content if name == "t.csv" else "")
        assert any("not used" in note for note in captions_of(folder).notes)
    with pytest.raises(VidiffError, match=said):
        captions_of(folder, str(folder / name))
