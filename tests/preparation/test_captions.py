from __future__ import annotations

import json
from pathlib import Path

import pytest

from vidiff_cli.errors import VidiffError
from vidiff_cli.preparation.captions import Captions, read_captions
from vidiff_cli.preparation.scan import scan


def captions_in(folder: Path, choice: str = "auto", *, columns: bool = False) -> Captions:
    return read_captions(scan([str(folder)]).sources, (choice,), columns=columns)


def texts(found: Captions) -> dict[str, tuple[str, ...]]:
    """The captions of each source, all of which must be of the whole file."""
    assert all(part.start_seconds is part.stop_seconds is None for parts in found.by_source.values() for part in parts)
    assert all(len(parts) <= 1 for parts in found.by_source.values())
    return {name: parts[0].captions if parts else () for name, parts in found.by_source.items()}


def lost(found: Captions) -> list[str]:
    return [row.what for row in found.missing if row.kind == "video"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.mp4", "b.mp4", "sub/c.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def test_each_line_of_a_text_file_is_a_caption(folder: Path) -> None:
    (folder / "a.txt").write_bytes("\ufeff  a  red\tball \r\n\r\nanother one\n".encode())
    found = captions_in(folder)
    assert texts(found) == {"a.mp4": ("a red ball", "another one"), "b.mp4": (), "sub/c.mp4": ()}
    assert found.origin == {"a.mp4": "sidecar", "b.mp4": "none", "sub/c.mp4": "none"}


def test_a_table_is_matched_by_name_in_any_order(folder: Path) -> None:
    rows = "file_name,text,person\nsub/c.mp4,see,p1\ngone.mp4,gone,p9\n./a.mp4,ay,p0\na.mp4,ay again,p0\n"
    (folder / "metadata.csv").write_text("\ufeff" + rows, encoding="utf-8")
    found = captions_in(folder)
    assert texts(found) == {"a.mp4": ("ay", "ay again"), "b.mp4": (), "sub/c.mp4": ("see",)}
    assert found.columns["sub/c.mp4"]["person"] == "p1"
    assert lost(found) == ["gone.mp4"]
    assert any("gone.mp4" in note for note in found.notes)


def test_a_table_wins_over_the_text_file_and_says_so(folder: Path) -> None:
    (folder / "metadata.csv").write_text("video,caption\na.mp4,from the table\n")
    (folder / "a.txt").write_text("from the text file")
    (folder / "b.txt").write_text("alone")
    found = captions_in(folder)
    assert texts(found)["a.mp4"] == ("from the table",)
    assert texts(found)["b.mp4"] == ("alone",)
    assert any(note.startswith("1 sources have another caption") for note in found.notes)


def test_jsonl_with_lists_and_a_table_of_a_sub_folder(folder: Path) -> None:
    row = {"media_path": "c.mp4", "captions": ["one", "two", "one", ""], "take": 3}
    (folder / "sub" / "metadata.jsonl").write_text(json.dumps(row) + "\nnot json\n", encoding="utf-8")
    found = captions_in(folder)
    assert texts(found)["sub/c.mp4"] == ("one", "two")
    assert found.columns["sub/c.mp4"]["take"] == "3"
    table = folder / "sub" / "metadata.jsonl"
    assert [(row.where, row.reason) for row in found.missing if row.kind == "row"] == [
        (f"{table}:1: caption[3]", "the sentence is empty"),
        (f"{table}:2", "not a JSON object"),
    ]
    assert any("2 rows left out; line 1: caption[3]: the sentence is empty" in note for note in found.notes)


def test_a_table_of_one_folder_says_nothing_about_another(folder: Path) -> None:
    (folder / "sub" / "metadata.csv").write_text("file_name,text\na.mp4,not that a\n")
    found = captions_in(folder)
    assert texts(found)["a.mp4"] == ()
    assert lost(found) == ["a.mp4"]


def test_bare_names_match_where_they_are_unique(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    (folder / "sub" / "a.mp4").write_bytes(b"x")
    (folder / "sub" / "caf\u00e9.mp4").write_bytes(b"x")
    table = tmp_path_factory.mktemp("elsewhere") / "captions.tsv"
    table.write_text("path\tcaption\nc\tby stem\nd/a.mp4\tother folder\ncafe\u0301.mp4\taccent\n", encoding="utf-8")
    found = captions_in(folder, str(table))
    assert texts(found)["sub/c.mp4"] == ("by stem",)
    assert texts(found)["sub/caf\u00e9.mp4"] == ("accent",)
    assert texts(found)["a.mp4"] == texts(found)["sub/a.mp4"] == ()


def test_an_ambiguous_name_is_given_to_nobody(folder: Path) -> None:
    for name in ("x/d.mp4", "y/d.mp4"):
        (folder / name).parent.mkdir()
        (folder / name).write_bytes(b"x")
    (folder / "metadata.csv").write_text("file_name,text\nd.mp4,whose\n")
    found = captions_in(folder)
    assert texts(found)["x/d.mp4"] == texts(found)["y/d.mp4"] == ()
    assert any("with several files" in note for note in found.notes)


def test_a_row_with_an_unquoted_comma_is_left_out_alone(folder: Path) -> None:
    (folder / "metadata.csv").write_text('file_name,text\na.mp4,red, round\nb.mp4,"red, round"\n')
    found = captions_in(folder)
    assert texts(found)["a.mp4"] == ()
    assert texts(found)["b.mp4"] == ("red, round",)
    assert any("line 2: 3 fields" in note for note in found.notes)


def test_a_given_table_is_the_only_origin(folder: Path) -> None:
    (folder / "a.txt").write_text("sidecar")
    (folder / "mine.csv").write_text("file_name;text\nb.mp4;table\n")
    found = captions_in(folder, str(folder / "mine.csv"))
    assert texts(found) == {"a.mp4": (), "b.mp4": ("table",), "sub/c.mp4": ()}


def test_none_reads_columns_but_no_caption(folder: Path) -> None:
    (folder / "metadata.csv").write_text("file_name,text,person\na.mp4,hello,p0\n")
    found = captions_in(folder, "none", columns=True)
    assert texts(found)["a.mp4"] == ()
    assert found.columns["a.mp4"]["person"] == "p0"
    assert captions_in(folder, "none").column_names == ()


def test_text_that_is_not_utf8_is_a_note(folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"caf\xe9")
    found = captions_in(folder)
    assert texts(found)["a.mp4"] == ()
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
def test_a_bad_table_is_one_sentence_when_given_and_a_note_when_found(
    folder: Path, name: str, content: str | None, said: str
) -> None:
    if content is not None:
        (folder / name).write_text(content)
        (folder / "metadata.csv").write_text(content if name == "t.csv" else "")
        assert any("not used" in note for note in captions_in(folder).notes)
    with pytest.raises(VidiffError, match=said):
        captions_in(folder, str(folder / name))
