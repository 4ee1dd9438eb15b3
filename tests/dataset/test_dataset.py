from __future__ import annotations

import json
import os
import pickle
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from vidiff_cli.dataset.dataset import open_dataset, read_rows, write_rows, write_shards, write_tensors
from vidiff_cli.errors import VidiffError


@pytest.fixture
def stored(tmp_path, store):
    rng = np.random.default_rng(0)
    clips = [rng.integers(0, 256, (1 if n == 3 else 4, 6, 5, 3), dtype=np.uint8) for n in range(7)]
    return store(tmp_path, clips, lambda n: {"fps": "0"} if n == 3 else {}, shard_bytes=1000), clips


def test_what_is_written_is_read(stored):
    folder, clips = stored
    dataset = open_dataset(folder)
    assert len(dataset) == 7
    assert len(list((folder / "data").iterdir())) == 3  # at most 1000 bytes each; a clip has 360 or 90
    for index, clip in enumerate(clips):
        np.testing.assert_array_equal(dataset.frames(index), clip)
    np.testing.assert_array_equal(dataset.frames(0, [3, 0, 0]), clips[0][[3, 0, 0]])
    assert dataset.split("val") == (1,)
    assert dataset.split("train") == (0, 2, 3, 4, 5, 6)
    assert dataset.captions() == tuple(f"caption {n}" for n in (0, 2, 3, 4, 5, 6))


def test_frames_are_copies_and_the_dataset_travels(stored):
    folder, clips = stored
    dataset = open_dataset(folder)
    dataset.frames(0)[:] = 0
    dataset.frames(0, [0])[:] = 0
    blob = pickle.dumps(dataset)
    assert len(blob) < 1000
    np.testing.assert_array_equal(pickle.loads(blob).frames(0), clips[0])


def test_damage_is_one_sentence_that_names_the_file(stored):
    folder, _ = stored
    shard = folder / "data" / "shard-00001.safetensors"
    whole = shard.read_bytes()
    for content in (whole[:-1], whole + b"x", b"", b"\xff" * 40):
        shard.write_bytes(content)
        with pytest.raises(VidiffError, match=r"shard-00001\.safetensors is damaged"):
            open_dataset(folder)
    shard.unlink()
    with pytest.raises(VidiffError, match="no such file"):
        open_dataset(folder)
    shard.write_bytes((folder / "data" / "shard-00000.safetensors").read_bytes())
    with pytest.raises(VidiffError, match="nothing for clip clip-2"):
        open_dataset(folder)
    shard.write_bytes(whole)
    (folder / "clips.jsonl").write_text((folder / "clips.jsonl").read_text().partition("\n")[0] + "\n")
    with pytest.raises(VidiffError, match="1 clips, expected 7"):
        open_dataset(folder)


def test_what_is_no_dataset_is_said(tmp_path, stored):
    folder, _ = stored
    with pytest.raises(VidiffError, match="no such folder"):
        open_dataset(folder / "elsewhere")
    spec = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(spec | {"format": 99}))
    with pytest.raises(VidiffError, match="found 99, expected 1 or 2"):
        open_dataset(folder)
    (folder / "dataset.json").write_text("{")
    with pytest.raises(VidiffError, match="damaged"):
        open_dataset(folder)
    (folder / "dataset.json").unlink()
    with pytest.raises(VidiffError, match="is not a dataset"):
        open_dataset(folder)
    (folder / ".journal").mkdir()
    with pytest.raises(VidiffError, match="unfinished"):
        open_dataset(folder)


shapes = st.lists(st.integers(0, 5), min_size=1, max_size=4).map(tuple)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(min_size=1, max_size=8), shapes, max_size=6), st.booleans())
def test_shards_are_the_bytes_that_safetensors_writes(tmp_path, wanted, described):
    rng = np.random.default_rng(0)
    tensors = {name: rng.integers(0, 256, shape, dtype=np.uint8) for name, shape in wanted.items()}
    tensors = {name: each[::-1] if each.ndim > 1 else each for name, each in tensors.items()}  # not contiguous
    metadata = {"format": "2"} if described else None
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    write_tensors(ours, tensors, metadata)
    save_file({name: np.ascontiguousarray(each) for name, each in tensors.items()}, theirs, metadata)
    assert ours.read_bytes() == theirs.read_bytes()


def test_files_are_as_readable_as_the_umask_has_it(tmp_path):
    """safetensors alone would keep them from everybody else, on a shared disk too."""
    for mask, mode in ((0o022, 0o644), (0o077, 0o600), (0o002, 0o664)):
        before = os.umask(mask)
        try:
            write_shards(tmp_path, [("a", np.zeros((1, 2, 2, 3), np.uint8))])
            write_rows(tmp_path / "rows.jsonl", [{}])
        finally:
            os.umask(before)
        found = {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()}
        assert found == {mode}
        shutil.rmtree(tmp_path / "data")
        (tmp_path / "rows.jsonl").unlink()


def test_rows_keep_any_text(tmp_path):
    rows = [{"name": "bad \udcff name\nwith lines\u2028and \u4e2d"}]
    write_rows(tmp_path / "rows.jsonl", rows)
    assert list(read_rows(tmp_path / "rows.jsonl")) == rows
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
