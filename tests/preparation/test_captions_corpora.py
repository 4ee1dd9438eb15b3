"""The published annotation files: counts against another way of counting, and the ids of real videos."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from annotations import captions_of, videos

from vidiff_cli.preparation.captions import Missing, Segment

TRAIN, VAL_1, VAL_2 = "activitynet_train.json", "activitynet_val_1.json", "activitynet_val_2.first500.json"
ZIP, FIRST_100 = "msrvtt_train_val_annotation.zip", "msrvtt_train_val_videodatainfo.first100.json"
JSFUSION, YOUCOOK2 = "MSRVTT_JSFUSION_test.csv", "youcookii_annotations_trainval.first1300.json"
WEBVID, VATEX = "webvid_results_10M_val.first3000.csv", "vatex_sample3.json"
PANDA = "panda70m_validation.first1200.csv"
PUBLISHED = {  # format, videos, sentences: counted once with regular expressions and line counts
    TRAIN: ("activitynet", 10009, 37421),
    VAL_1: ("activitynet", 4917, 17505),
    VAL_2: ("activitynet", 500, 1777),
    ZIP: ("msrvtt", 7010, 140200),
    FIRST_100: ("msrvtt", 100, 2000),
    JSFUSION: ("msrvtt", 1000, 1000),
    YOUCOOK2: ("youcook2", 1300, 10042),
    WEBVID: ("webvid", 3000, 3000),
    VATEX: ("vatex", 3, 30),
    PANDA: ("panda70m", 1200, 3600),
}
CUT_AWAY = {  # segments of no length or reversed, by their place in the published file
    "v_N7ppHQNikv8: timestamps[2]",
    "v_4rKTw99bM8g: timestamps[1]",
    "v_0bosp4-pyTM: timestamps[3]",
    "v_rhOtqArO-3Y: timestamps[5]",
}


@pytest.fixture(scope="module")
def published(data_dir):
    return data_dir / "captions"


def whole(*captions: str) -> Segment:
    return Segment(start_seconds=None, stop_seconds=None, captions=captions)


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_of_a_published_file_equal_an_independent_count(published, tmp_path, name):
    _, expected_videos, expected_sentences = PUBLISHED[name]
    found = captions_of(videos(tmp_path, "nothing.mp4"), published / name)
    broken = [row for row in found.missing if row.kind == "row"]
    assert {row.where.removeprefix(f"{published / name}: ") for row in broken} == (CUT_AWAY if name == TRAIN else set())
    assert found.annotated_videos == expected_videos
    assert found.sentences == expected_sentences - len(broken)
    assert sum(row.kind == "video" for row in found.missing) == expected_videos
    assert [row.what for row in found.missing if row.kind == "annotation"] == ["nothing.mp4"]
    assert not found.by_source["nothing.mp4"]


def test_every_video_of_activitynet_gets_its_own_segments(published, tmp_path):
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


def test_the_archive_and_a_part_of_it_say_nothing_twice(published, tmp_path):
    folder = videos(tmp_path, "video0.mp4")
    once = captions_of(folder, published / ZIP).by_source
    assert len(once["video0.mp4"][0].captions) == 20
    assert captions_of(folder, published / ZIP, published / FIRST_100).by_source == once


def test_the_page_folder_decides_between_two_files_of_an_id(tmp_path):
    folder = videos(tmp_path, "one/7.mp4", "two/7.mp4", "two/8.mp4", "three/8.mp4")
    header = "videoid,contentUrl,duration,page_dir,name\n"
    table = tmp_path / "webvid.csv"
    table.write_text(f"{header}7,u,PT00H00M01S,two,seven\n8,u,PT00H00M01S,elsewhere,eight\n")
    found = captions_of(folder, table)
    assert found.by_source == {"one/7.mp4": (), "two/7.mp4": (whole("seven"),), "two/8.mp4": (), "three/8.mp4": ()}
    assert [row.what for row in found.missing if row.kind == "video"] == ["8"]


def test_vatex_clips_and_full_videos(published, tmp_path):
    folder = videos(tmp_path, "5-xGskbsBgI_000055_000065.mp4", "uaoC__dKucA.mp4")
    found = captions_of(folder, published / VATEX)
    (clip,) = found.by_source["5-xGskbsBgI_000055_000065.mp4"]
    (part,) = found.by_source["uaoC__dKucA.mp4"]
    assert (clip.start_seconds, clip.stop_seconds, len(clip.captions)) == (None, None, 10)
    assert (part.start_seconds, part.stop_seconds, len(part.captions)) == (518, 528, 10)
    assert [row.what for row in found.missing] == ["nJ6KPT1uwe8_000047_000057"]
    assert found.columns["uaoC__dKucA.mp4"] == {"video": "uaoC__dKucA"}


LYING = [(VAL_2, "v_bXdq2zI1Ms0"), (JSFUSION, "video9770"), (YOUCOOK2, "GLd3aX16zBg"), (WEBVID, "4350377")]


@pytest.mark.parametrize(("name", "stem"), [*LYING, (VATEX, "nJ6KPT1uwe8"), (PANDA, "-1urvnqfnfk"), (ZIP, "video7")])
def test_a_corpus_lying_with_the_videos_is_found_by_its_content(published, tmp_path, name, stem):
    """Under a name that says nothing; the note says which file it is and as what it was read."""
    video = f"sub/{stem}.mp4"
    folder = videos(tmp_path, video, "mine.mp4")
    other = {".json": ".csv", ".csv": ".json", ".zip": ".zip"}[Path(name).suffix]
    shutil.copyfile(published / name, tmp_path / f"stuff{other}")
    (tmp_path / "settings.json").write_text('{"a": [1, 2], "videos": {}}')
    (tmp_path / "mine.txt").write_text("my own")
    found = captions_of(folder)
    assert found.by_source[video]
    assert found.origin == {video: PUBLISHED[name][0], "mine.mp4": "sidecar"}
    assert any(f"using {tmp_path / f'stuff{other}'}" in note and PUBLISHED[name][0] in note for note in found.notes)
    assert not any("settings.json" in note for note in found.notes)
    assert not any(row.kind == "annotation" for row in found.missing)


def test_a_found_corpus_of_other_videos_is_not_used(published, tmp_path):
    shutil.copyfile(published / FIRST_100, tmp_path / "some.json")
    found = captions_of(videos(tmp_path, "holiday.mp4"))
    assert not found.missing
    assert found.annotated_videos == 0
    assert any("none of its 100 videos is here: not used" in note for note in found.notes)


def test_a_video_that_is_there_twice_is_given_to_nobody(published, tmp_path):
    found = captions_of(videos(tmp_path, "a/video0.mp4", "b/video0.avi", "video1.mp4"), published / FIRST_100)
    assert [name for name, parts in found.by_source.items() if parts] == ["video1.mp4"]
    reason = "a/video0.mp4, b/video0.avi"
    where = str(published / FIRST_100)
    expected = Missing(kind="video", what="video0", where=where, reason=f"several files are this video: {reason}")
    assert expected in found.missing
    silent = {row.what: row.reason for row in found.missing if row.kind == "annotation"}
    assert silent == dict.fromkeys(("a/video0.mp4", "b/video0.avi"), f"several files are video0: {reason}")
    assert any("with several files" in note for note in found.notes)


def test_a_thumbnail_is_not_the_video(published, tmp_path):
    found = captions_of(videos(tmp_path, "video0.mp4", "video0.jpg"), published / FIRST_100)
    assert found.by_source["video0.mp4"]
    assert not found.by_source["video0.jpg"]
