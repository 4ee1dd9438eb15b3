"""The published annotation files: counts against another way of counting, and the ids of real videos."""

from __future__ import annotations

import csv
import io
import json
import random
import re
import shutil
import zipfile
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from vidiff_cli.preparation.captions import Captions, Missing, Segment, read_captions
from vidiff_cli.preparation.scan import scan

TRAIN, VAL_1, VAL_2 = "activitynet_train.json", "activitynet_val_1.json", "activitynet_val_2.first500.json"
ZIP, FIRST_100 = "msrvtt_train_val_annotation.zip", "msrvtt_train_val_videodatainfo.first100.json"
JSFUSION, YOUCOOK2 = "MSRVTT_JSFUSION_test.csv", "youcookii_annotations_trainval.first1300.json"
WEBVID, VATEX = "webvid_results_10M_val.first3000.csv", "vatex_sample3.json"
PANDA = "panda70m_validation.first1200.csv"
FORMAT_OF = {
    TRAIN: "activitynet",
    VAL_1: "activitynet",
    VAL_2: "activitynet",
    ZIP: "msrvtt",
    FIRST_100: "msrvtt",
    JSFUSION: "msrvtt",
    YOUCOOK2: "youcook2",
    WEBVID: "webvid",
    VATEX: "vatex",
    PANDA: "panda70m",
}
CUT_AWAY = {  # segments of no length or reversed, by their place in the published file
    "v_N7ppHQNikv8: timestamps[2]",
    "v_4rKTw99bM8g: timestamps[1]",
    "v_0bosp4-pyTM: timestamps[3]",
    "v_rhOtqArO-3Y: timestamps[5]",
}


@pytest.fixture(scope="module")
def published(data_dir: Path) -> Path:
    return data_dir / "captions"


def videos(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def captions_of(folder: Path, *files: Path, format: str = "auto") -> Captions:
    choices = tuple(map(str, files)) or ("auto",)
    return read_captions(scan([str(folder)]).sources, choices, format=format)


def cut(start: str | int, stop: str | int, *captions: str) -> Segment:
    return Segment(start_seconds=Fraction(start), stop_seconds=Fraction(stop), captions=captions)


def whole(*captions: str) -> Segment:
    return Segment(start_seconds=None, stop_seconds=None, captions=captions)


def counted_apart(path: Path) -> tuple[int, int]:
    """(videos, sentences) of a published file, with regular expressions and line counts instead of its parser."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            text = archive.read("train_val_videodatainfo.json").decode()
    else:
        text = path.read_text(encoding="utf-8")
    if path.name.startswith("activitynet"):
        lists = re.findall(r'"timestamps": \[(\[.*?\])\], "sentences"', text)
        return len(re.findall(r'"v_[\w-]{11}": \{"duration"', text)), sum(part.count("[") for part in lists)
    if path.name.startswith("msrvtt"):
        return text.count('"start time"'), text.count('"sen_id"')
    if path.name.startswith("youcook"):
        return text.count('"video_url"'), text.count('"segment"')
    if path.name.startswith("vatex"):
        return text.count('"videoID"'), len(re.findall(r'^ {12}"', text, re.MULTILINE))
    if path.name.startswith("panda"):
        return len(text.splitlines()) - 1, len(re.findall(r"\['\d+:\d\d:\d\d\.\d+', '", text))
    starts = r"^\d+,https://ak\.picdn\.net/" if path.name.startswith("webvid") else r"^ret\d+,"
    rows = len(re.findall(starts, text, re.MULTILINE))
    return rows, rows


@pytest.mark.parametrize("name", FORMAT_OF)
def test_counts_of_a_published_file_equal_an_independent_count(published: Path, tmp_path: Path, name: str) -> None:
    expected_videos, expected_sentences = counted_apart(published / name)
    found = captions_of(videos(tmp_path, "nothing.mp4"), published / name)
    broken = [row for row in found.missing if row.kind == "row"]
    assert {row.where.removeprefix(f"{published / name}: ") for row in broken} == (CUT_AWAY if name == TRAIN else set())
    assert found.annotated_videos == expected_videos
    assert found.sentences == expected_sentences - len(broken)
    assert sum(row.kind == "video" for row in found.missing) == expected_videos
    assert [row.what for row in found.missing if row.kind == "annotation"] == ["nothing.mp4"]
    assert not found.by_source["nothing.mp4"]


def test_the_published_counts_are_these(published: Path) -> None:
    counts = {name: counted_apart(published / name) for name in FORMAT_OF}
    assert counts == {
        TRAIN: (10009, 37421),
        VAL_1: (4917, 17505),
        VAL_2: (500, 1777),
        ZIP: (7010, 140200),
        FIRST_100: (100, 2000),
        JSFUSION: (1000, 1000),
        YOUCOOK2: (1300, 10042),
        WEBVID: (3000, 3000),
        VATEX: (3, 30),
        PANDA: (1200, 3600),
    }


def test_every_video_of_activitynet_gets_its_own_segments(published: Path, tmp_path: Path) -> None:
    """All of val_2, against plain json arithmetic."""
    given: dict[str, Any] = json.loads((published / VAL_2).read_text())
    found = captions_of(videos(tmp_path, *(f"{name}.mp4" for name in given)), published / VAL_2)
    for name, entry in given.items():
        expected = Counter(
            (round(start * 1000), round(stop * 1000), " ".join(text.split()))
            for (start, stop), text in zip(entry["timestamps"], entry["sentences"], strict=True)
        )
        assert expected == Counter(
            (round((part.start_seconds or 0) * 1000), round((part.stop_seconds or 0) * 1000), text)
            for part in found.by_source[f"{name}.mp4"]
            for text in part.captions
        )
    assert not found.missing


def test_times_are_exact_and_sentences_lose_their_leading_blank(published: Path, tmp_path: Path) -> None:
    found = captions_of(videos(tmp_path, "v_QOlSCBRmfWY.mp4"), published / TRAIN)
    first, second, _ = found.by_source["v_QOlSCBRmfWY.mp4"]
    lead = "A young woman is seen standing in a room and leads into her dancing."
    assert first == cut("0.83", "19.86", lead)
    assert second.captions[0].startswith("The girl dances")
    assert found.origin["v_QOlSCBRmfWY.mp4"] == "activitynet"


def test_activitynet_without_its_prefix_and_both_validation_files(published: Path, tmp_path: Path) -> None:
    found = captions_of(videos(tmp_path, "uqiMw7tQ1Cc.mkv"), published / VAL_1, published / VAL_2)
    starts = [part.start_seconds for part in found.by_source["uqiMw7tQ1Cc.mkv"]]
    assert starts == [0, Fraction("0.28"), Fraction("4.14"), Fraction("13.79"), Fraction("33.36")]
    assert found.annotated_videos == 4917  # val_2 has the same videos
    assert found.sentences == 17505 + 1777


def test_all_twenty_sentences_of_a_video_are_kept(published: Path, tmp_path: Path) -> None:
    given = json.loads((published / FIRST_100).read_text())
    names = sorted({item["video_id"] for item in given["sentences"]})
    found = captions_of(videos(tmp_path, *(f"{name}.mp4" for name in names)), published / FIRST_100)
    for name in names:
        said = [" ".join(item["caption"].split()) for item in given["sentences"] if item["video_id"] == name]
        assert len(said) == 20
        assert found.by_source[f"{name}.mp4"] == (whole(*said),)
    assert found.columns["video0.mp4"]["category"] == "9"
    assert found.columns["video0.mp4"]["url"].endswith("9lZi22qLlEo")


def test_the_archive_and_a_part_of_it_say_nothing_twice(published: Path, tmp_path: Path) -> None:
    folder = videos(tmp_path, "video0.mp4")
    once = captions_of(folder, published / ZIP).by_source
    assert len(once["video0.mp4"][0].captions) == 20
    assert captions_of(folder, published / ZIP, published / FIRST_100).by_source == once


def test_ids_that_begin_with_a_dash_or_underscore(published: Path, tmp_path: Path) -> None:
    folder = videos(tmp_path, "-1hTK0wGrTg.mp4", "_xOx9hkJoBk.mp4", "-xbTvALWCIg.webm")
    panda = captions_of(folder, published / PANDA)
    first = panda.by_source["-1hTK0wGrTg.mp4"][0]
    assert (first.start_seconds, first.stop_seconds) == (Fraction("19.227"), Fraction("28.278"))
    assert "purple background" in first.captions[0]
    youcook2 = captions_of(folder, published / YOUCOOK2)
    assert [bool(youcook2.by_source[name]) for name in sorted(youcook2.by_source)] == [False, True, True]
    assert {youcook2.columns[name]["subset"] for name in ("_xOx9hkJoBk.mp4", "-xbTvALWCIg.webm")} <= {
        "training",
        "validation",
    }


def test_webvid_flat_and_in_its_folders(published: Path, tmp_path: Path) -> None:
    with (published / WEBVID).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    spread = (next(row for row in rows if "\n" in row["name"]), rows[0], rows[1])
    flat = videos(tmp_path / "flat", *(f"{row['videoid']}.mp4" for row in spread))
    nested = videos(tmp_path / "nested", *(f"{row['page_dir']}/{row['videoid']}.mp4" for row in spread))
    for folder in (flat, nested):
        found = captions_of(folder, published / WEBVID)
        said = {Path(name).stem: parts for name, parts in found.by_source.items()}
        assert said == {row["videoid"]: (whole(" ".join(row["name"].split())),) for row in spread}


def test_the_page_folder_decides_between_two_files_of_an_id(tmp_path: Path) -> None:
    folder = videos(tmp_path, "one/7.mp4", "two/7.mp4", "two/8.mp4", "three/8.mp4")
    header = "videoid,contentUrl,duration,page_dir,name\n"
    table = tmp_path / "webvid.csv"
    table.write_text(f"{header}7,u,PT00H00M01S,two,seven\n8,u,PT00H00M01S,elsewhere,eight\n")
    found = captions_of(folder, table)
    assert found.by_source == {"one/7.mp4": (), "two/7.mp4": (whole("seven"),), "two/8.mp4": (), "three/8.mp4": ()}
    assert [row.what for row in found.missing if row.kind == "video"] == ["8"]


def test_vatex_clips_and_full_videos(published: Path, tmp_path: Path) -> None:
    folder = videos(tmp_path, "5-xGskbsBgI_000055_000065.mp4", "uaoC__dKucA.mp4")
    found = captions_of(folder, published / VATEX)
    (clip,) = found.by_source["5-xGskbsBgI_000055_000065.mp4"]
    (part,) = found.by_source["uaoC__dKucA.mp4"]
    assert (clip.start_seconds, clip.stop_seconds, len(clip.captions)) == (None, None, 10)
    assert (part.start_seconds, part.stop_seconds, len(part.captions)) == (518, 528, 10)
    assert [row.what for row in found.missing] == ["nJ6KPT1uwe8_000047_000057"]
    assert found.columns["uaoC__dKucA.mp4"] == {"video": "uaoC__dKucA"}


@pytest.mark.parametrize("name", [VAL_2, FIRST_100, JSFUSION, YOUCOOK2, WEBVID, VATEX, PANDA])
def test_neither_order_nor_absence_moves_a_caption(published: Path, tmp_path: Path, name: str) -> None:
    """The file shuffled and half of its entries gone: what the others say stays the same."""
    content = (published / name).read_text(encoding="utf-8")
    shuffled, ids = shuffle_and_drop(name, content, random.Random(7))
    assert len(ids) > 1
    other = tmp_path / "elsewhere" / "any.name"
    other.parent.mkdir()
    other.write_text(shuffled, encoding="utf-8", newline="")
    some = [*ids[:25], "not-annotated"]
    folder = videos(tmp_path / "videos", *(f"{video}.mp4" for video in some))
    before, after = captions_of(folder, published / name), captions_of(folder, other)
    assert {key: sorted_captions(parts) for key, parts in before.by_source.items()} == {
        key: sorted_captions(parts) for key, parts in after.by_source.items()
    }
    assert all(after.by_source[f"{video}.mp4"] for video in some[:-1])
    (folder / f"{some[0]}.mp4").unlink()
    fewer = captions_of(folder, other).by_source
    assert fewer == {key: parts for key, parts in after.by_source.items() if key in fewer}


def sorted_captions(parts: tuple[Segment, ...]) -> list[tuple[Any, Any, list[str]]]:
    return [(part.start_seconds, part.stop_seconds, sorted(part.captions)) for part in parts]


def shuffle_and_drop(name: str, content: str, draw: random.Random) -> tuple[str, list[str]]:
    """The file in another order with about half of its videos, and the ids of those."""
    if name.endswith(".csv"):
        reader = csv.DictReader(io.StringIO(content, newline=""))
        rows = list(reader)
        draw.shuffle(rows)
        rows = rows[: len(rows) // 2]
        out = io.StringIO(newline="")
        writer = csv.DictWriter(out, list(reader.fieldnames or ()), lineterminator="\r\n", quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)
        column = {JSFUSION: "video_id", WEBVID: "videoid", PANDA: "videoID"}[name]
        return "\ufeff" + out.getvalue(), [row[column] for row in rows]
    value = json.loads(content)
    if name == VATEX:
        draw.shuffle(value)
        return json.dumps(value[:2], indent=1), [item["videoID"] for item in value[:2]]
    if name == FIRST_100:
        for key in ("videos", "sentences"):
            draw.shuffle(value[key])
        kept = {item["video_id"] for item in value["videos"][:50]}
        value = {key: [item for item in value[key] if item["video_id"] in kept] for key in ("sentences", "videos")}
        return json.dumps(value, ensure_ascii=False), sorted(kept)
    entries = value["database"] if name == YOUCOOK2 else value
    ids = draw.sample(sorted(entries), len(entries) // 2)
    fewer = {key: entries[key] for key in ids}
    return json.dumps({"database": fewer} if name == YOUCOOK2 else fewer), ids


@pytest.mark.parametrize("name", [VAL_2, FIRST_100, JSFUSION, YOUCOOK2, WEBVID, VATEX, PANDA, ZIP])
def test_a_corpus_lying_with_the_videos_is_found_by_its_content(published: Path, tmp_path: Path, name: str) -> None:
    """Under a name that says nothing; the note says which file it is and as what it was read."""
    ids = {
        VAL_2: "v_bXdq2zI1Ms0",
        FIRST_100: "video7",
        JSFUSION: "video9770",
        YOUCOOK2: "GLd3aX16zBg",
        WEBVID: "4350377",
        VATEX: "nJ6KPT1uwe8",
        PANDA: "-1urvnqfnfk",
        ZIP: "video7",
    }
    video = f"sub/{ids[name]}.mp4"
    folder = videos(tmp_path, video, "mine.mp4")
    other = {".json": ".csv", ".csv": ".json", ".zip": ".zip"}[Path(name).suffix]
    shutil.copyfile(published / name, tmp_path / f"stuff{other}")
    (tmp_path / "settings.json").write_text('{"a": [1, 2], "videos": {}}')
    (tmp_path / "mine.txt").write_text("my own")
    found = captions_of(folder)
    assert found.by_source[video]
    assert found.origin == {video: FORMAT_OF[name], "mine.mp4": "sidecar"}
    assert any(f"using {tmp_path / f'stuff{other}'}" in note and FORMAT_OF[name] in note for note in found.notes)
    assert not any("settings.json" in note for note in found.notes)
    assert not any(row.kind == "annotation" for row in found.missing)


def test_a_found_corpus_of_other_videos_is_not_used(published: Path, tmp_path: Path) -> None:
    shutil.copyfile(published / FIRST_100, tmp_path / "some.json")
    found = captions_of(videos(tmp_path, "holiday.mp4"))
    assert not found.missing
    assert found.annotated_videos == 0
    assert any("none of its 100 videos is here: not used" in note for note in found.notes)


def test_a_video_that_is_there_twice_is_given_to_nobody(published: Path, tmp_path: Path) -> None:
    found = captions_of(videos(tmp_path, "a/video0.mp4", "b/video0.avi", "video1.mp4"), published / FIRST_100)
    assert [bool(found.by_source[name]) for name in ("a/video0.mp4", "b/video0.avi", "video1.mp4")] == [
        False,
        False,
        True,
    ]
    reason = "a/video0.mp4, b/video0.avi"
    where = str(published / FIRST_100)
    expected = Missing(kind="video", what="video0", where=where, reason=f"several files are this video: {reason}")
    assert expected in found.missing
    silent = {row.what: row.reason for row in found.missing if row.kind == "annotation"}
    assert silent == dict.fromkeys(("a/video0.mp4", "b/video0.avi"), f"several files are video0: {reason}")
    assert any("with several files" in note for note in found.notes)


def test_a_thumbnail_is_not_the_video(published: Path, tmp_path: Path) -> None:
    found = captions_of(videos(tmp_path, "video0.mp4", "video0.jpg"), published / FIRST_100)
    assert found.by_source["video0.mp4"]
    assert not found.by_source["video0.jpg"]


def test_text_files_of_a_real_folder(data_dir: Path) -> None:
    folder = data_dir / "user_dirs" / "sidecar_txt"
    found = captions_of(folder)
    assert len(found.by_source) == 4
    for name, parts in found.by_source.items():
        assert parts == (whole((folder / name).with_suffix(".txt").read_text().strip()),)
    assert set(found.origin.values()) == {"sidecar"}
    assert not found.missing
    assert captions_of(folder, format="sidecar").by_source == found.by_source
