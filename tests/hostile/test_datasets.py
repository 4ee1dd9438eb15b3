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


def spec(**changed: object) -> Change:
    def apply(folder: Path) -> None:
        path = folder / "dataset.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))

    return apply


def holds(name: str, content: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(content)


IMPOSSIBLE = {
    "frames": [100, -4, "4", 4.0, None, True, 10**30],
    "fps": ["nan", "-8", "0", "1/0", "1e999999999", 8],
    "id": [5, [1], "none"],
    "shard": ["../clips.jsonl", "../../made/dataset/data/shard-00000.safetensors", "/etc/passwd", "..", "a\0b", 5],
    "captions": ["abc", [5], None],
    "split": ["test", None],
    "start_seconds": ["x", float("nan"), -5],
    "group": [5],
    "source": [7],
}
ROWS = [{name: value} for name, values in IMPOSSIBLE.items() for value in values]


@pytest.mark.parametrize("change", ROWS, ids=str)
def test_a_row_with_a_value_that_cannot_be(rejected, change):
    assert "is damaged" in rejected(rows(lambda found: found[0].update(change)))


def test_rows_that_are_twice_there_or_lack_a_value(rejected):
    assert "two clips of one id" in rejected(rows(lambda found: found[1].update(id=found[0]["id"])))
    for name in ("group", "captions", "fps", "id"):  # in the order in which they are looked at, from the last
        assert f"no {name} in line 1" in rejected(rows(lambda found, name=name: found[0].pop(name, None)))


def test_a_shard_outside_is_not_read(copy, tmp_path):
    """Even a sound one: a name in a row leads nowhere else."""
    shutil.copyfile(copy / SHARD, tmp_path / "shard-00000.safetensors")
    rows(lambda found: [row.update(shard="../../shard-00000.safetensors") for row in found])(copy)
    with pytest.raises(VidiffError, match="shard = "):
        open_dataset(copy)


LINES = [b"[1]\n", b"5\n", b"null\n", b"{", b"\xff\xfe\0", b"[" * 100_000, b"", b'{"id": 9' + b"9" * 9999 + b"}\n"]


@pytest.mark.parametrize("content", LINES, ids=lambda content: str(content[:16]))
def test_rows_that_are_none(rejected, content):
    assert "is damaged" in rejected(holds("clips.jsonl", content))


SHARDS = {
    "empty": b"",
    "two gigabytes": struct.pack("<Q", 2**31) + b"x",
    "more than all": struct.pack("<Q", 2**63) + b"x",
    "a list": struct.pack("<Q", 2) + b"[]",
    "a deep list": struct.pack("<Q", 100_000) + b"[" * 100_000,
    "metadata that is none": struct.pack("<Q", 18) + b'{"__metadata__":7}',
    "text": b"not a shard",
}


@pytest.mark.parametrize("kind", SHARDS)
def test_a_shard_that_is_none(rejected, kind):
    assert "is damaged" in rejected(holds(SHARD, SHARDS[kind]))


OFFSETS = [[0, 4], [-3072, 0], ["a", "b"], [0.5, 3072.5], [5, 3], [0, 10**18], [0]]
SIZES = [[4, 16, 16, 4], [4, 16, 16, 3.0], [4, 16, 48], "abc"]
ENTRIES = [{"data_offsets": value} for value in OFFSETS] + [{"shape": value} for value in SIZES]
ENTRIES += [{"dtype": "F32"}, {"dtype": None}]


@pytest.mark.parametrize("change", ENTRIES, ids=str)
def test_a_tensor_that_cannot_be(rejected, rewrite, change):
    def break_one(folder: Path) -> None:
        def update(table):
            table[min(key for key in table if key != "__metadata__")].update(change)

        rewrite(folder / SHARD, update, folder / SHARD)

    assert "is damaged" in rejected(break_one)


def test_tensors_that_overlap(rejected, rewrite):
    def overlap(table):
        first, second, *_ = (key for key in table if key != "__metadata__")
        table[second]["data_offsets"] = table[first]["data_offsets"]

    assert "overlap" in rejected(lambda folder: rewrite(folder / SHARD, overlap, folder / SHARD))


SPECS = [{"format": 3}, {"format": True}, {"format": "1"}, {"buckets": {"16x16": 1}}, {"buckets": {"16x": 3}}]
SPECS += [{"width": -1}, {"width": 10**9}, {"clips": 10**9}, {"frames": -1}, {"settings": []}, {"extra": 1}]
SPECS += [{"splits": {"train": -1}}, {"seconds_of_video": float("nan")}, {"sources": None}]


@pytest.mark.parametrize("changed", SPECS, ids=str)
def test_a_specification_that_cannot_be(rejected, changed):
    rejected(spec(**changed))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"5", b"\xff\xfe", b"[" * 100_000], ids=lambda c: str(c[:16]))
def test_a_specification_that_is_none(rejected, content):
    rejected(holds("dataset.json", content))


def test_the_commands_refuse_and_change_nothing(made, copy, refused, training, files, tmp_path, hidden):
    rows(lambda found: found[0].update(frames="4"))(copy)
    before = files(copy)
    assert "frames = '4' in line 1" in refused("train", copy, "-o", "run", "--steps", "1", *training, "--quiet")
    assert "frames = '4' in line 1" in refused("prep", made / "clips", "-o", copy, *PREP)
    assert files(copy) == before and not Path("run").exists() and hidden(tmp_path) == []


LEDGERS = [b"[1]\n", b"\xff\n"]


@pytest.mark.parametrize("content", LEDGERS, ids=lambda content: str(content[:16]))
def test_a_damaged_ledger(made, copy, refused, content, files):
    (copy / "ledger.jsonl").write_bytes(content)
    before = files(copy)
    assert "ledger.jsonl is damaged" in refused("prep", made / "clips", "-o", copy, *PREP)
    assert files(copy) == before


def test_a_damaged_journal_costs_time_only(made, vidiff, tmp_path, monkeypatch):
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
    whole = Path("dataset", SHARD).read_bytes()
    assert whole == (made / "dataset" / SHARD).read_bytes()


TABLES = {
    "binary": b"\xff\xfe\0",
    "empty": b"",
    "no columns": b"a,b\n1,2\n",
    "a deep row": b'{"file_name": ' + b"[" * 100_000 + b"\n",
    "a long number": b'{"file_name": "clip0.mkv", "text": ' + b"9" * 9999 + b"}\n",
    "a path": b'{"file_name": "../../../etc/passwd", "text": "x"}\n',
    "an absolute path": b'{"file_name": "/etc/passwd", "text": "x"}\n',
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
