"""Dataset folders that are damaged or edited: train and prep say so in one sentence and leave them as they are."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from vidiff_cli.dataset.dataset import open_dataset
from vidiff_cli.errors import VidiffError
from vidiff_cli.preparation.captions import read_captions
from vidiff_cli.preparation.scan import scan

SHARD = "data/shard-00000.safetensors"
PREP = ("--size", "16", "--frames", "4", "--quiet")
Change = Callable[[Path], object]


@pytest.fixture
def copy(made, tmp_path):
    """A copy of the dataset, to be damaged."""
    return Path(shutil.copytree(made / "dataset", tmp_path / "dataset"))


@pytest.fixture
def rejected(copy, files):
    """rejected(change): what is said of the dataset after a change; opening it changes nothing."""

    def check(change: Change) -> str:
        change(copy)
        before = files(copy)
        with pytest.raises(VidiffError) as error:
            open_dataset(copy)
        assert "unexpected" not in str(error.value) and "\n" not in str(error.value)
        assert files(copy) == before
        return str(error.value)

    return check


def rows(change: Callable[[list[dict]], object]) -> Change:
    def apply(folder: Path) -> None:
        path = folder / "clips.jsonl"
        found = [json.loads(line) for line in path.read_text().splitlines()]
        change(found)
        path.write_text("".join(json.dumps(row) + "\n" for row in found))

    return apply


IMPOSSIBLE = {
    "frames": [100, -4, "4", 4.0, None, True],
    "fps": ["nan", "-8", "1/0", "1e999999999", 8],
    "id": [5, "none"],
    "shard": ["../clips.jsonl", "../../shard-00000.safetensors", "/etc/passwd", "a\0b", 5],
    "captions": ["abc", [5], None],
    "split": ["test", None],
    "start_seconds": ["x", float("nan"), -5],
    "group": [5],
    "source": [7],
}


@pytest.mark.parametrize("change", [{name: value} for name in IMPOSSIBLE for value in IMPOSSIBLE[name]], ids=str)
def test_a_row_with_a_value_that_cannot_be(rejected, copy, change):
    shutil.copyfile(copy / SHARD, copy.parent / "shard-00000.safetensors")  # even a sound one outside is not read
    assert "is damaged" in rejected(rows(lambda found: found[0].update(change)))


def test_rows_that_are_twice_there_or_lack_a_value(rejected):
    assert "two clips of one id" in rejected(rows(lambda found: found[1].update(id=found[0]["id"])))
    for name in ("group", "captions", "fps", "id"):  # in the order in which they are looked at, from the last
        assert f"no {name} in line 1" in rejected(rows(lambda found, name=name: found[0].pop(name, None)))


DEEP = b"[" * 100_000
CONTENTS = [
    *(("clips.jsonl", content) for content in (b"[1]\n", b"null\n", b"{", b"\xff\xfe\0", DEEP, b"")),
    *(("dataset.json", content) for content in (b"", b"{", b"[]", b"\xff\xfe", DEEP)),
    *((SHARD, struct.pack("<Q", size) + b"x") for size in (2**31, 2**63)),
    *((SHARD, struct.pack("<Q", len(head)) + head) for head in (b"[]", DEEP, b'{"__metadata__":7}')),
    *((SHARD, content) for content in (b"", b"not a shard")),
]


@pytest.mark.parametrize(("name", "content"), CONTENTS, ids=lambda value: str(value)[:20])
def test_a_file_of_other_content(rejected, name, content):
    error = rejected(lambda folder: (folder / name).write_bytes(content))
    assert "is damaged" in error or name == "dataset.json"


OFFSETS = [[0, 4], [-3072, 0], ["a", "b"], [0.5, 3072.5], [5, 3], [0, 10**18], [0]]
SIZES = [[4, 16, 16, 4], [4, 16, 16, 3.0], [4, 16, 48], "abc"]
ENTRIES = [{"data_offsets": value} for value in OFFSETS] + [{"shape": value} for value in SIZES]


@pytest.mark.parametrize("change", [*ENTRIES, {"dtype": "F32"}, {"dtype": None}, "overlap"], ids=str)
def test_a_tensor_that_cannot_be(rejected, rewrite, change):
    def break_one(table):
        first, second, *_ = sorted(key for key in table if key != "__metadata__")
        table[first].update({"data_offsets": table[second]["data_offsets"]} if change == "overlap" else change)

    assert "is damaged" in rejected(lambda folder: rewrite(folder / SHARD, break_one, folder / SHARD))


SPECS = [{"format": 3}, {"format": True}, {"format": "1"}, {"buckets": {"16x16": 1}}, {"buckets": {"16x": 3}}]
SPECS += [{"width": -1}, {"width": 10**9}, {"clips": 10**9}, {"frames": -1}, {"settings": []}, {"extra": 1}]
SPECS += [{"splits": {"train": -1}}, {"seconds_of_video": float("nan")}, {"sources": None}]


@pytest.mark.parametrize("changed", SPECS, ids=str)
def test_a_specification_that_cannot_be(rejected, changed):
    def change(folder):
        path = folder / "dataset.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))

    rejected(change)


def test_the_commands_refuse_and_change_nothing(made, copy, refused, training, files, tmp_path, hidden):
    before = files(copy)
    rows(lambda found: found[0].update(frames="4"))(copy)
    damaged = files(copy)
    for command in (("train", copy, "-o", "run", "--steps", "1", *training), ("prep", made / "clips", "-o", copy)):
        assert "frames = '4' in line 1" in refused(*command, *(PREP if command[0] == "prep" else ["--quiet"]))
    assert files(copy) == damaged and not Path("run").exists() and hidden(tmp_path) == []
    (copy / "clips.jsonl").write_bytes(before["clips.jsonl"])
    for content in (b"[1]\n", b"\xff\n"):
        (copy / "ledger.jsonl").write_bytes(content)
        assert "ledger.jsonl is damaged" in refused("prep", made / "clips", "-o", copy, *PREP)
        assert files(copy) == before | {"ledger.jsonl": content}


def test_a_damaged_journal_costs_time_only(made, vidiff, monkeypatch):
    """What an interrupted prep kept is read again where it is sound, and made again where it is not."""
    with monkeypatch.context() as patch:
        patch.setattr("vidiff_cli.commands.prep.write_dataset", lambda *_: (_ for _ in ()).throw(VidiffError("stop")))
        assert vidiff("prep", made / "clips", "-o", "dataset", *PREP).code == 1
    kept = sorted(Path("dataset/.journal").rglob("*.safetensors"))
    assert len(kept) == 3
    kept[0].write_bytes(b"")
    kept[1].write_bytes(kept[1].read_bytes()[:-100])
    kept[2].write_bytes(struct.pack("<Q", 32) + b'{"__metadata__":{"piece":"[[[["}}')
    assert vidiff("prep", made / "clips", "-o", "dataset", *PREP).code == 0
    assert Path("dataset", SHARD).read_bytes() == (made / "dataset" / SHARD).read_bytes()


TABLES = {
    "binary": b"\xff\xfe\0",
    "a deep row": b'{"file_name": ' + DEEP + b"\n",
    "a long number": b'{"file_name": "clip0.mkv", "text": ' + b"9" * 9999 + b"}\n",
    "a path": b'{"file_name": "../../../etc/passwd", "text": "x"}\n',
    "nul": b'{"file_name": "a\\u0000b", "text": "x"}\n',
    "control": b'{"file_name": "clip0.mkv", "text": "\\u001b[31mred\\u0007 \\u202e"}\n',
    "surrogates": b'{"file_name": "clip0.mkv", "text": "\\ud800"}\n',
    "long": b'{"file_name": "clip0.mkv", "text": "' + b"word " * 20_000 + b'"}\n',
}


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_caption_table_that_should_not_be(made, suffix, no_control):
    shutil.copytree(made / "clips", "clips")
    for kind, table in TABLES.items():
        Path("clips", f"metadata{suffix}").write_bytes(table)
        found = read_captions(scan(["clips"]).sources)
        captions = [text for segments in found.by_source.values() for part in segments for text in part.captions]
        assert captions and not any("root:" in caption for caption in captions), kind
        assert all(no_control(note) for note in found.notes), kind
