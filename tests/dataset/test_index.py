"""The derived index: the same dataset with and without it, whatever has happened to its files."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Thread

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vidiff_cli.dataset import dataset as dataset_module
from vidiff_cli.dataset import index as module
from vidiff_cli.dataset.dataset import open_dataset, write_shards, write_spec
from vidiff_cli.dataset.schema import read_spec
from vidiff_cli.errors import VidiffError

COUNT = 9
SHAPES = [(1 if n == 3 else 4, 4, 6 if n % 4 == 1 else 4) for n in range(COUNT)]
fuzzing = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(autouse=True)
def always_saved(monkeypatch):
    monkeypatch.setattr(module, "SAVED_FROM", 1)
    monkeypatch.setattr(module, "SETTLED_SECONDS", -1e9)


@pytest.fixture
def folder(tmp_path, store):
    """Nine clips of two frame sizes in three shards, one an image."""
    rng = np.random.default_rng(0)
    clips = [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in SHAPES]

    def row(n: int) -> dict[str, object]:
        rate = "0" if n == 3 else "25" if n % 2 else "30000/1001"
        values = {"start_seconds": 0.5 * n, "fps": rate, "captions": [f"caption {n}"] * (n % 3)}
        return values | {"scores": {"motion": n / 7}}

    return store(tmp_path, clips, row, shard_bytes=600, aspect="keep")


def told(folder: Path) -> object:
    """All that can be asked of a dataset, or the sentence that it gives instead."""
    try:
        dataset = open_dataset(folder)
        clips = list(dataset.clips)
        frames = [dataset.frames(number).tobytes() for number in range(len(dataset))]
        return clips, frames, dataset.split("train"), dataset.split("val"), dataset.captions()
    except VidiffError as error:
        assert "\n" not in str(error)
        return str(error)


def told_without_index(folder: Path) -> object:
    (folder / module.NAME).unlink(missing_ok=True)
    return told(folder)


def later(path: Path, content: bytes) -> None:
    """Writes a file again, at another moment than before."""
    before = path.stat().st_mtime_ns
    path.write_bytes(content)
    os.utime(path, ns=(before + 10**9, before + 10**9))


def test_the_index_tells_what_the_rows_tell(folder, monkeypatch):
    truth = told(folder)
    assert isinstance(truth, tuple) and (folder / module.NAME).is_file()
    made = open_dataset(folder).index
    monkeypatch.setattr(module, "_build", lambda *_: pytest.fail("the index was made anew"))
    assert told(folder) == truth
    read = open_dataset(folder).index
    assert made.clips_per_size() == read.clips_per_size() == {"4x4": 7, "6x4": 2}
    for name in module.COLUMNS:
        np.testing.assert_array_equal(getattr(made, name), getattr(read, name))
    assert (made.shards, made.rates) == (read.shards, read.rates)
    assert read.captions.tolist() == [n % 3 for n in range(COUNT)]


def test_the_rows_that_are_asked_for_are_parsed_and_no_others(folder, monkeypatch):
    truth = list(open_dataset(folder).clips)
    dataset, parsed = open_dataset(folder), []
    original = dataset_module.clip_from_row
    monkeypatch.setattr(
        dataset_module, "clip_from_row", lambda row, spec: (parsed.append(row["id"]), original(row, spec))[1]
    )
    assert (dataset.clips[7], dataset.clips[-9], dataset.clips[7]) == (truth[7], truth[0], truth[7])
    assert parsed == ["clip-7", "clip-0"]
    assert list(dataset.clips[2:4]) == truth[2:4] and len(dataset.clips) == COUNT
    with pytest.raises(IndexError):
        dataset.clips[COUNT]
    with pytest.raises(IndexError):
        dataset.frames(COUNT)


def edited(folder: Path, line: int, **changed: object) -> bytes:
    rows = [json.loads(text) for text in (folder / "clips.jsonl").read_text().splitlines()]
    rows[line] |= changed
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def test_changed_files_are_looked_at_again(folder):
    """With the index in place, every opening says what it says without one."""
    told(folder)
    original = read_spec(folder)

    def respecified(**changed: object) -> None:
        write_spec(folder, original.model_copy(update=changed))

    shard = folder / "data" / "shard-00001.safetensors"
    whole, rows = shard.read_bytes(), (folder / "clips.jsonl").read_bytes()
    changes: list[tuple[Callable[[], object], str]] = [
        (lambda: later(folder / "clips.jsonl", edited(folder, 0, frames=3)), "for clip clip-0, expected (3, 4, 4, 3)"),
        (lambda: later(folder / "clips.jsonl", rows), ""),
        (lambda: later(shard, whole.replace(b"clip-2", b"clip-x")), "nothing for clip clip-2"),
        (lambda: later(shard, whole), ""),
        (lambda: respecified(clips=8), "found 9 clips, expected 8, as in dataset.json"),
        (lambda: respecified(buckets={"4x4": 9}), "found clips of 4x4 (7), 6x4 (2), expected 4x4 (9)"),
        (lambda: respecified(width=6), "found a size of 6x4, expected 4x4, as most clips have"),
        (lambda: respecified(), ""),
    ]
    for change, sentence in changes:
        change()
        found = told(folder)
        assert sentence in found if sentence else isinstance(found, tuple)
        kept = (folder / module.NAME).read_bytes()
        assert told_without_index(folder) == found
        (folder / module.NAME).write_bytes(kept)


KINDS = st.sampled_from(["flip", "flip", "flip", "cut", "insert", "swap"])
mutations = st.lists(st.tuples(KINDS, st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=3)


def mutated(content: bytes, changes: list[tuple[str, int, int]]) -> bytes:
    for kind, place, value in changes:
        at = place % max(1, len(content))
        if kind == "flip":
            content = content[:at] + bytes([value]) + content[at + 1 :]
        elif kind == "insert":
            content = content[:at] + bytes([value]) * (1 + value % 3) + content[at:]
        elif kind == "swap":
            content = content[at:] + content[:at]
        else:
            content = content[:at] + content[at + 1 + value :]
    return content


@fuzzing
@given(mutations)
def test_a_damaged_index_is_made_anew(folder, changes):
    truth = told_without_index(folder)
    path = folder / module.NAME
    whole = path.read_bytes()
    path.write_bytes(mutated(whole, changes))
    assert told(folder) == truth and path.read_bytes() == whole


@fuzzing
@given(mutations)
def test_an_index_that_only_looks_sound_opens_nothing_else(folder, changes):
    """Its sum set right after the damage: what comes out is a sentence, or clips that lie within the files."""
    told(folder)
    path = folder / module.NAME
    body = mutated(path.read_bytes().split(b"\n", 1)[1], changes)
    path.write_bytes(module.MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    told(folder)  # raises nothing


@fuzzing
@given(st.sampled_from(["clips.jsonl", "dataset.json", "data/shard-00000.safetensors"]), mutations)
def test_damaged_files_are_one_sentence_or_what_they_say(folder, name, changes):
    told(folder)
    path = folder / name
    before = path.read_bytes()
    later(path, mutated(before, changes))
    found = told(folder)
    assert told_without_index(folder) == found
    later(path, before)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)
NAMES = ["width", "height", "scores", "frames", "fps", "id", "captions", "shard", "start_seconds"]


@fuzzing
@given(st.integers(0, COUNT - 1), st.dictionaries(st.sampled_from(NAMES), VALUES, min_size=1, max_size=2))
def test_rows_with_any_value_are_one_sentence_or_what_they_say(folder, line, changed):
    before = (folder / "clips.jsonl").read_bytes()
    told(folder)
    later(folder / "clips.jsonl", edited(folder, line, **changed))
    found = told(folder)
    if isinstance(found, tuple):
        clip = found[0][line]
        assert all(getattr(clip, name) == value for name, value in changed.items())
        assert len(found[1][line]) == clip.frames * clip.height * clip.width * 3
    later(folder / "clips.jsonl", before)


def test_rows_that_change_while_it_is_open_are_noticed(folder):
    told(folder)
    before = (folder / "clips.jsonl").read_bytes()
    for changed in ({"fps": "24"}, {"fps": "25/1"}, {"frames": 5}, {"captions": ["caption 2"]}):
        dataset = open_dataset(folder)
        (folder / "clips.jsonl").write_bytes(edited(folder, 1, **changed))
        with pytest.raises(VidiffError, match=r"clips\.jsonl is damaged"):
            list(dataset.clips)
        (folder / "clips.jsonl").write_bytes(before)
        told(folder)


def test_a_shard_that_goes_after_the_opening_is_noticed_at_its_first_use(folder):
    told(folder)
    dataset = open_dataset(folder)
    shard = folder / "data" / "shard-00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(VidiffError, match=r"shard-00000\.safetensors is damaged: found \d+ bytes, expected \d+"):
        dataset.frames(0)
    shard.unlink()
    with pytest.raises(VidiffError, match=r"shard-00000\.safetensors is damaged: found no such file"):
        dataset.frames(0)


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(28, "No space left on device")])
def test_where_nothing_can_be_written_it_lives_in_memory(folder, monkeypatch, error):
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(module.os, "replace", refuse)
    before = sorted(folder.rglob("*"))
    assert isinstance(told(folder), tuple) and sorted(folder.rglob("*")) == before


def test_small_and_new_datasets_are_read_from_their_rows(folder, monkeypatch):
    """Rows that were written a moment ago could change again within the same tick of the file system's clock."""
    before = sorted(folder.rglob("*"))
    monkeypatch.setattr(module, "SETTLED_SECONDS", 60.0)
    assert isinstance(told(folder), tuple) and sorted(folder.rglob("*")) == before
    monkeypatch.setattr(module, "SETTLED_SECONDS", -1e9)
    monkeypatch.setattr(module, "SAVED_FROM", COUNT + 1)
    assert isinstance(told(folder), tuple) and sorted(folder.rglob("*")) == before


def test_many_may_open_it_at_once(folder):
    truth = told_without_index(folder)
    for _ in range(3):
        (folder / module.NAME).unlink(missing_ok=True)
        barrier, found = Barrier(6), list[object]()

        def opened(barrier: Barrier = barrier, found: list[object] = found) -> None:
            barrier.wait()
            found.append(told(folder))

        threads = [Thread(target=opened) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [truth] * 6
    assert not list(folder.glob(".*"))


def test_what_a_killed_process_left_goes_in_time(folder):
    old, new = folder / ".clips.index.tmp-old1", folder / ".clips.index.tmp-new1"
    for path in (old, new):
        path.write_bytes(b"")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    told(folder)
    assert not old.exists() and new.exists()


def test_a_dataset_of_the_first_format_opens(folder):
    """Without sizes and scores in its rows, without buckets: one size for all, which dataset.json has."""
    for path in (folder / "data").iterdir():
        path.unlink()
    clips = [np.full((4, 4, 4, 3), n, dtype=np.uint8) for n in range(COUNT)]
    write_shards(folder, ((f"clip-{n}", clip) for n, clip in enumerate(clips)))
    lines = []
    for text in (folder / "clips.jsonl").read_text().splitlines():
        row = json.loads(text) | {"frames": 4, "fps": "25", "shard": "shard-00000.safetensors"}
        lines.append(json.dumps({name: row[name] for name in row if name not in ("width", "height", "scores")}))
    (folder / "clips.jsonl").write_text("".join(f"{line}\n" for line in lines))
    whole = read_spec(folder).model_dump(mode="json") | {"format": 1}
    (folder / "dataset.json").write_text(
        json.dumps({key: whole[key] for key in whole if key not in ("aspect", "buckets")})
    )
    for _ in range(2):  # from the rows, then from the index
        dataset = open_dataset(folder)
        assert (dataset.spec.aspect, dataset.spec.buckets, dataset.clips[3].scores) == ("square", {}, {})
        assert {(clip.width, clip.height) for clip in dataset.clips} == {(4, 4)}
        np.testing.assert_array_equal(dataset.frames(5), clips[5])
