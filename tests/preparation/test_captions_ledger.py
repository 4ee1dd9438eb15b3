"""What cannot be used is said, by line or entry, and takes nothing else with it."""

from __future__ import annotations

import json
import os
import zipfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from annotations import captions_of, said, videos

from vidiff_cli.errors import VidiffError
from vidiff_cli.preparation.captions import FORMATS, Captions, Segment, read_captions
from vidiff_cli.preparation.captions import document as document_module
from vidiff_cli.preparation.scan import MediaSource


@pytest.fixture
def folder(tmp_path):
    return videos(tmp_path / "videos", "a.mp4", "b.mp4", "c.mp4", "d.mp4")


def rows(found: Captions, path: Path) -> dict[str, str]:
    """Reasons by line or entry."""
    return {row.where.removeprefix(str(path)).lstrip(": "): row.reason for row in found.missing if row.kind == "row"}


def written(folder: Path, value: Any, name: str = "given.json") -> Path:
    path = folder.parent / name
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def activitynet(**entries: Any) -> dict[str, Any]:
    return {
        f"v_{name}": {"duration": 9.5, "timestamps": times, "sentences": sentences}
        for name, (times, sentences) in entries.items()
    }


HEAD = "videoid,contentUrl,duration,page_dir,name\r\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(folder, encoding, ends):
    text = ends.join(["file_name,text", "a.mp4,caf\u00e9 \u4e00", 'b.mp4,"two, and ""three"""', ""])
    table, lines = folder.parent / "t", folder.parent / "lines"
    table.write_bytes(text.encode(encoding))
    lines.write_bytes(ends.join(['{"file_name": "c.mp4", "text": "caf\u00e9"}', ""]).encode(encoding))
    other = folder.parent / "a.json"
    other.write_bytes(json.dumps(activitynet(d=([[0, 1]], ["caf\u00e9"])), ensure_ascii=False).encode(encoding))
    found = captions_of(folder, table, lines, other)
    assert said(found) == {"a": ["caf\u00e9 \u4e00"], "b": ['two, and "three"'], "c": ["caf\u00e9"], "d": ["caf\u00e9"]}
    assert not found.missing
    (folder / "a.txt").write_bytes(f"caf\u00e9{ends}two".encode(encoding))
    assert said(captions_of(folder))["a"] == ["caf\u00e9", "two"]


def test_one_line_in_another_encoding_breaks_alone(folder):
    table = folder.parent / "t.csv"
    good = "b,u,PT1S,p,caf\u00e9\r\nc,u,PT1S,p,see\r\n".encode()
    table.write_bytes(HEAD.encode() + b"a,u,PT1S,p,caf\xe9\r\n" + good)
    found = captions_of(folder, table)
    assert said(found) == {"a": [], "b": ["caf\u00e9"], "c": ["see"], "d": []}
    assert list(rows(found, table)) == ["2"]
    assert "not UTF-8" in rows(found, table)["2"]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ('a,u,PT1S,p,"never closed', "the quotes do not pair up"),
        ('a,u,PT1S,p,"closed" too early', "the quotes do not pair up"),
        ("a,u,PT1S,p,one, two", "6 fields, the header has 5"),
        ("a,u,PT1S", "3 fields"),
        ("a,u,PT1S,p, \t ", "the sentence is empty"),
        (",u,PT1S,p,nobody", "no video id"),
        ("../a,u,PT1S,p,outside", "can be no file name"),
        ("a,u,PT1S,p," + "x" * (1 << 20), "longer than 1 MiB"),
        ("a,u,PT1S,p," + "x" * 200_000, "field larger"),
    ],
)
@pytest.mark.parametrize("last", [False, True])
def test_a_broken_row_takes_no_other_with_it(folder, broken, reason, last):
    good = ["b,u,PT1S,p,bee", 'c,u,PT1S,p,"two\nlines, quoted"', "d,u,PT1S,p,dee"]
    lines = [*good, broken] if last else [good[0], broken, *good[1:]]
    table = written(folder, HEAD + "\r\n".join(lines) + "\r\n", "t.csv")
    found = captions_of(folder, table)
    assert said(found) == {"a": [], "b": ["bee"], "c": ["two lines, quoted"], "d": ["dee"]}
    ((line, why),) = rows(found, table).items()
    assert line == ("6" if last else "3")
    assert reason in why


def test_a_stray_quote_that_another_closes_gives_no_row_to_another(folder):
    lines = ['a,x,"u,PT1S', "b,u,PT1S,p,bee", 'c,u",PT1S,p,see', "d,u,PT1S,p,dee"]
    table = written(folder, HEAD + "\n".join(lines) + "\n", "t.csv")
    found = captions_of(folder, table)
    assert said(found) == {"a": [], "b": ["bee"], "c": ["see"], "d": ["dee"]}
    assert list(rows(found, table)) == ["2"]


def test_control_characters_reach_no_terminal(folder):
    path = written(
        folder, activitynet(a=([[0, 1]], ["a\x1b[31m \x00b\u2003c\x9bd"]), **{"\x1b]0;x": ([[0, 1]], ["x"])})
    )
    found = captions_of(folder, path)
    assert said(found)["a"] == ["a [31m b c d"]
    assert rows(found, path) == {r"'v_\x1b]0;x'": r"the video id 'v_\x1b]0;x' can be no file name"}


def test_segments_that_are_none_are_named_by_their_entry(folder):
    bad = [[5, 4], [4, 4], [-1, 4], ["one", 4], [1, 2, 3], [True, 4], None, [0, 10**12]]
    times = [[1, 2.5], *bad, [2, 3], [2, 3]]
    sentences = [str(number) for number in range(len(times))]
    sentences[-1] = "\n "
    path = written(folder, activitynet(a=(times, sentences), b=([[0, 1]], []), c=([], [])))
    content = path.read_text().replace("[[1, 2.5]", "[[1, 2.5], [0, NaN], [0, 1e999999999999999999999]")
    path.write_text(content.replace('"sentences": ["0"', '"sentences": ["0", "nan", "huge"'))
    found = captions_of(folder, path)
    assert found.by_source["a.mp4"] == (
        Segment(start_seconds=Fraction(1), stop_seconds=Fraction(5, 2), captions=("0",)),
        Segment(start_seconds=Fraction(2), stop_seconds=Fraction(3), captions=("9",)),
    )
    reasons = rows(found, path)
    expected = {f"v_a: timestamps[{number}]" for number in range(1, 11)}
    assert set(reasons) == expected | {"v_a: sentences[12]", "v_b", "v_c"}
    assert reasons["v_a: timestamps[3]"] == "the segment ends at 4, before it begins at 5"
    assert reasons["v_b"] == "1 timestamps and 0 sentences"
    silent = {row.what: row.reason for row in found.missing if row.kind == "annotation"}
    assert silent["b.mp4"] == "its row is broken: 1 timestamps and 0 sentences"
    assert silent["d.mp4"] == "no caption file names it"


def test_equal_segments_are_one_with_all_captions_also_of_two_files(folder):
    one = written(folder, activitynet(a=([[3, 4], [0, 1], [0.0, 1.0]], ["z", "x", "y"])), "1")
    two = written(folder, activitynet(a=([[0, 1], [0, 2]], ["w", "x"])), "2")
    found = captions_of(folder, one, two)
    parts = found.by_source["a.mp4"]
    assert (found.annotated_videos, found.sentences) == (1, 5)
    assert [(part.start_seconds, part.stop_seconds, part.captions) for part in parts] == [
        (0, 1, ("x", "y", "w")),
        (0, 2, ("x",)),
        (3, 4, ("z",)),
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"v_a": {"timestamps": [[0, 1]], "sentences": ["x"]}, "v_a": 1}', "the key 'v_a' twice"),
        ('{"v_a": {"timestamps": [[0, 1]], "timestamps": [], "sentences": ["x"]}}', "'timestamps' twice"),
        ('{"v_a": ' + "[" * 100_000, "nested too deep"),
        ('{"v_a": {"timestamps": [[0, 1]], "sentences": ["x"]}', "not valid JSON"),
        ('{"v_a": {"timestamps": [[0, ' + "9" * 5000 + ']], "sentences": ["x"]}}', "not valid JSON"),
        ("[]", "unknown format"),
        ('"text"', "unknown format"),
        ('{"v_a": 1}', "unknown format"),
        ('{"database": {"a": {"annotations": [{"label": "x", "segment": [0, 1]}]}}}', "unknown format"),
        ("\0\0\0\0", "unknown format"),
        ("name\nx\n", "unknown format"),
        (" \n", "has no row"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence_when_named_and_a_note_when_found(folder, content, reason):
    with pytest.raises(VidiffError, match=reason) as caught:
        captions_of(folder, written(folder, content))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    (folder / "found.json").write_text(content)
    found = captions_of(folder)
    assert not found.missing
    marked = "timestamps" in content and "sentences" in content
    assert len(found.notes) == marked  # a .json about something else is no caption file, and no word is lost on it
    assert all(reason in note for note in found.notes)


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "sidecar"])
@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "5", "a,b\n1,2\n", "[[", '{"videos": 1, "sentences": []}'])
def test_a_format_that_does_not_fit_is_one_sentence(folder, format, content):
    with pytest.raises(VidiffError):
        captions_of(folder, written(folder, content), format=format)


def test_an_unknown_format_and_what_is_no_file(folder):
    with pytest.raises(VidiffError, match=r"found srt, expected auto, sidecar, csv"):
        captions_of(folder, format="srt")
    with pytest.raises(VidiffError, match="not a regular file"):
        captions_of(folder, folder)
    pipe = folder.parent / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(VidiffError, match="not a regular file"):
        captions_of(folder, pipe)
    with pytest.raises(VidiffError, match="beside each source"):
        captions_of(folder, folder / "a.mp4", format="sidecar")


def test_a_large_json_is_refused_when_named_and_noted_when_found(folder, monkeypatch):
    content = json.dumps(activitynet(a=([[0, 1]], ["x" * 100])))
    with monkeypatch.context() as context, pytest.raises(VidiffError, match="too large for a JSON file"):
        context.setattr(document_module, "LARGEST_JSON_BYTES", 60)
        captions_of(folder, written(folder, content))
    monkeypatch.setattr("vidiff_cli.preparation.captions.LARGEST_FOUND_BYTES", 60)
    (folder / "found.json").write_text(content)
    (folder / "other.json").write_text("[" + "1," * 100)
    (note,) = captions_of(folder).notes
    assert "found.json is larger than" in note


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_archives_are_read_without_unpacking(folder, monkeypatch):
    """Annotations are found among other files, also below names that lead out of the folder; bombs are refused."""
    inside = json.dumps(activitynet(a=([[0, 1]], ["x"]))).encode()
    others = {"readme.txt": b"read me", "video.mp4": b"\0" * 5000, "ids.json": b'["v_a"]'}
    path = zipped(folder.parent / "c.zip", {**others, "../../out.json": inside})
    before = sorted(folder.parent.rglob("*"))
    found = captions_of(folder, path)
    assert said(found)["a"] == ["x"]
    assert sorted(folder.parent.rglob("*")) == before
    with pytest.raises(VidiffError, match="unknown format"):
        captions_of(folder, zipped(folder.parent / "none.zip", others))
    monkeypatch.setattr(document_module, "LARGEST_JSON_BYTES", 1 << 20)
    bomb = zipped(folder.parent / "bomb.zip", {"a.json": b" " * (3 << 20)})
    assert bomb.stat().st_size < 1 << 14
    with pytest.raises(VidiffError, match="unpacks to more than 1 MB"):
        captions_of(folder, bomb)
    monkeypatch.setattr(document_module, "LARGEST_ARCHIVE_BYTES", 1 << 20)
    with pytest.raises(VidiffError, match="of text"):
        captions_of(folder, zipped(folder.parent / "many.zip", dict.fromkeys("abcd", b" " * (1 << 19))))
    monkeypatch.setattr(document_module, "MOST_MEMBERS", 3)
    with pytest.raises(VidiffError, match="holds 4 files"):
        captions_of(folder, path)


def test_msrvtt_rows_that_are_broken(folder):
    videos = [{"video_id": "a", "category": 1}, {"video_id": "a"}, {"video_id": 3}, "b", {"video_id": "c"}]
    sentences = [
        {"video_id": "a", "caption": "one"},
        {"video_id": "b", "caption": "not in the list, but here"},
        {"video_id": "a", "caption": None},
        {"video_id": "a", "caption": "\ud800"},
        {"video_id": ["a"], "caption": "x"},
        7,
    ]
    path = written(folder, {"videos": videos, "sentences": sentences})
    found = captions_of(folder, path)
    assert said(found) == {"a": ["one"], "b": ["not in the list, but here"], "c": [], "d": []}
    broken = {f"videos[{number}]" for number in (1, 2, 3)} | {f"sentences[{number}]" for number in (2, 3, 4, 5)}
    assert set(rows(found, path)) == broken | {"c"}
    assert (found.annotated_videos, found.sentences) == (2, 2)
    assert found.columns["a.mp4"] == {"video_id": "a", "category": "1"}


def test_panda_lists_that_are_broken(folder):
    stamps = "[['0:00:01.500', '0:00:02'], ['0:00:03', '0:00:02']]"
    lines = [
        "videoID,url,timestamp,caption,matching_score",
        f"""a,u,"{stamps}","['first ""quoted""', 'second']",[]""",
        """b,u,"[['0:00:01', '0:00:02']]","__import__('os').system('x')",[]""",
        """c,u,"[['0:00:01', '0:00:02']]","['one', 'two']",[]""",
        f"""d,u,{"[" * 5000},['one'],[]""",
    ]
    path = written(folder, "\n".join(lines) + "\n")
    found = captions_of(folder, path)
    assert said(found) == {"a": ['first "quoted"'], "b": [], "c": [], "d": []}
    assert list(rows(found, path)) == ["2: timestamp[1]", "3", "4", "5"]
    assert found.columns["a.mp4"] == {"videoID": "a", "url": "u"}


def test_the_ledger_names_each_absent_video_once(folder):
    (folder / "a.txt").write_text("x")
    alone = captions_of(folder)
    assert not alone.missing and (alone.annotated_videos, alone.sentences) == (1, 1)
    videos(folder, "sub/e.mp4")
    table = written(folder, "file_name;text\ngone.mp4;x\ngone.mp4;y\nsub\\b.mp4;x\na.mp4;y\nsub\\e.mp4;z\n", "t.csv")
    found = captions_of(folder, table)
    where = {row.what: row.where for row in found.missing if row.kind == "video"}
    assert where == {"gone.mp4": f"{table}:2", "sub\\b.mp4": f"{table}:4"}
    assert {row.what for row in found.missing if row.kind == "annotation"} == {"b.mp4", "c.mp4", "d.mp4"}
    assert said(found)["sub/e"] == ["z"], "a path of Windows"


def test_a_corpus_wins_over_the_text_file_and_a_format_limits_what_is_found(folder):
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text("beside")
    (folder / "labels.json").write_text(json.dumps(activitynet(a=([[0, 1]], ["corpus"]))))
    (folder / "metadata.csv").write_text("file_name,text\nb.mp4,table\n")
    found = captions_of(folder)
    assert said(found) == {"a": ["corpus"], "b": ["table"], "c": [], "d": []}
    assert list(found.origin.values()) == ["activitynet", "csv", "none", "none"]
    assert found.notes[-1] == "2 sources have another caption in their .txt than in the table, which wins: a.mp4"
    assert said(captions_of(folder, format="sidecar"))["a"] == ["beside"]
    assert said(captions_of(folder, format="csv")) == {"a": [], "b": ["table"], "c": [], "d": []}
    assert any("format vatex" in note for note in captions_of(folder, format="vatex").notes)


def test_a_folder_of_pictures_is_a_video_by_its_whole_name(folder):
    pictures = folder / "v_x.1"
    source = MediaSource(path=pictures, root=folder, name="v_x.1", bytes=1, mtime_ns=1, pictures=(pictures / "1.png",))
    path = written(
        folder, {**activitynet(x=([[0, 1]], ["another"])), "v_x.1": activitynet(x=([[0, 1]], ["it"]))["v_x"]}
    )
    assert read_captions([source], (str(path),)).by_source["v_x.1"][0].captions == ("it",)
    (folder / "v_x.1.txt").write_text("beside")
    assert read_captions([source]).by_source["v_x.1"][0].captions == ("beside",)
