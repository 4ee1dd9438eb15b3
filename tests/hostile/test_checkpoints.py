"""Checkpoint files and run folders that are damaged or made to do harm: refused before they cost anything.

What the file format itself refuses is in tests/test_checkpoint.py."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vidiff_cli.checkpoint import read_header, write_tensors

SAMPLE = ("--steps", "1", "--seed", "1", "--device", "cpu", "--quiet", "-o", "out.mp4")


@pytest.fixture
def rejected(refused, tmp_path, hidden):
    """rejected(path): what sample says of a model that it refuses; nothing is written."""

    def check(path: Path | str) -> str:
        error = refused("sample", "-m", path, *SAMPLE)
        assert not Path("out.mp4").exists() and hidden(tmp_path) == []
        return error

    return check


def test_a_header_of_two_gigabytes_is_not_read(apart, tmp_path, sentence):
    """The file is as large as it says, with holes; the process may not have that much."""
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 2**33) + b'{"__metadata__":{')
        file.truncate(2**33 + 100)
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({3 << 30},) * 2)"
    result = apart("sample", "-m", path, *SAMPLE, cwd=tmp_path, setup=limit)
    assert sentence(result) and "8,589,934,592" in result.err


def names(table: dict) -> list[str]:
    return sorted(key for key in table if key != "__metadata__")


def entry(**change: object) -> Callable[[dict], object]:
    return lambda table: table[names(table)[0]].update(change)


TENSORS: dict[str, Callable[[dict], object]] = {
    "dtype": entry(dtype="X9"),
    "size": entry(shape=[10**12]),
    "negative": entry(shape=[-1]),
    "nested": entry(shape=[[1]]),
    "far": entry(data_offsets=[0, 10**15]),
    "short": entry(data_offsets=[0, 4]),
    "text": entry(data_offsets="ab"),
    "overlap": lambda table: table[names(table)[0]].update(table[names(table)[1]]),
    "missing": lambda table: table.pop(names(table)[0]),
    "unknown": lambda table: table.update(more=table.pop(names(table)[0])),
}


@pytest.mark.parametrize("kind", TENSORS)
def test_a_tensor_that_cannot_be(rejected, rewrite, model, tmp_path, kind):
    rejected(rewrite(model, TENSORS[kind], tmp_path / "model.safetensors"))


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite(rejected, model, tmp_path, value):
    tensors = load_file(model)
    next(each for each in tensors.values() if each.is_floating_point()).view(-1)[0] = value
    write_tensors(tmp_path / "model.safetensors", tensors, read_header(model))
    assert "not finite" in rejected(tmp_path / "model.safetensors")


HEADERS = [
    ("model.network.base_channels", 8192),
    ("model.network.base_channels", 10**18),
    ("model.network.embedding", 65_536),
    ("model.network.channel_mult", [64] * 8),
    ("model.network.channel_mult", [1] * 100_000),
    ("model.network.channel_mult", [0]),
    ("model.network.channel_mult", []),
    ("model.network.num_res_blocks", 32),
    ("model.network.channels", 10**9),
    ("model.network.patch_size", 10**6),
    ("model.network.context_dim", 0),
    ("model.text.depth", 10**9),
    ("model.text.max_tokens", 10**12),
    ("model.text.vocabulary", list(range(10_000))),
    ("model.width", 10**9),
    ("model.width", 17),
    ("model.frames", 10**9),
    ("model.fps", "1e999999999"),
    ("model.fps", 8),
    ("model.frame_strides", []),
    ("model.frame_strides", [10**30]),
    ("model.diffusion.high", 1e308),
    ("model.diffusion.low", float("-inf")),
    ("model.extra", 1),
    *(("clips_seen", value) for value in ("x", -5, None, 1.5, True, 10**400)),
    *(("errors", value) for value in ([1], {"between": {"1": [0.1, "a"]}, "beyond": {}, "clips": 1, "split": "val"})),
]


def set_header(name: str, value: object) -> Callable[[dict], object]:
    def change(table: dict) -> None:
        header = json.loads(table["__metadata__"]["vidiff"])
        *above, last = name.split(".")
        place = header
        for part in above:
            place = place[part]
        place[last] = value
        table["__metadata__"]["vidiff"] = json.dumps(header)

    return change


@pytest.mark.parametrize(("name", "value"), HEADERS, ids=lambda value: str(value)[:24])
def test_a_header_that_the_weights_do_not_have(rejected, rewrite, model, tmp_path, name, value, monkeypatch):
    """Refused by numbers: no network is ever built, but one without memory; a bad count is named."""
    monkeypatch.setattr("vidiff_cli.models.video_model.new_video_model", lambda *_, **__: pytest.fail("it was built"))
    error = rejected(rewrite(model, set_header(name, value), tmp_path / "model.safetensors"))
    assert name.startswith("model.") or name in error


def test_a_frame_size_that_no_weight_depends_on(rejected, rewrite, model, tmp_path):
    def enlarge(table):
        for name in ("width", "height"):
            set_header(f"model.{name}", 16_384)(table)
        set_header("model.network.attention_max_size", 4096)(table)

    rejected(rewrite(model, enlarge, tmp_path / "model.safetensors"))


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def test_a_pickle_is_never_opened(rejected, tmp_path):
    (tmp_path / "model.pt").write_bytes(pickle.dumps(Bomb()))
    torch.save({"state_dict": Bomb()}, tmp_path / "torch.safetensors")
    for name in ("model.pt", "torch.safetensors"):
        assert "is damaged" in rejected(tmp_path / name)
    assert not Path("pwned").exists()


def test_what_is_no_file(rejected, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "loop", "pipe", "/dev/zero", "/dev/null", "no\nsuch", "x" * 300, "\x1b[31m", "../../.."):
        rejected(name)


# --- run folders -------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(made, tmp_path):
    """A copy of the run, to be damaged."""
    return Path(shutil.copytree(made / "run", tmp_path / "run"))


@pytest.mark.parametrize("pointer", [b"../../../x", b"/etc", b"", b".", b"a\0b", b"x" * 300, b"\xff\xfe"])
def test_a_pointer_leads_nowhere_else(refused, copy, pointer, tmp_path):
    """`checkpoints/latest` is a name: what lies outside is not looked at."""
    shutil.copytree(copy / "checkpoints" / "step-000001", tmp_path / "x")
    (copy / "checkpoints" / "latest").write_bytes(pointer)
    assert "is not a model" in refused("sample", "-m", copy, *SAMPLE)


STATE = "checkpoints/step-000001/state.json"
DAMAGE = [
    *(("config.json", text) for text in (b"", b"[]", b"\xff", b"[" * 100_000, b'{"train":5,"model":[]}')),
    *((STATE, text) for text in (b"", b"[]", b'{"step":1e400,"phase":"stable","ema_updates":2}')),
    *((STATE, b'{"step":%d,"phase":"%s","ema_updates":1}' % each) for each in ((-5, b"stable"), (1, b"zzz"))),
    *((f"checkpoints/step-000001/{name}.safetensors", b"\0" * 99) for name in ("model", "ema", "optimizer")),
    ("checkpoints/step-000001/optimizer.safetensors", None),
]


@pytest.mark.parametrize(("name", "content"), DAMAGE, ids=lambda value: str(value)[-24:])
def test_a_damaged_run_is_refused_and_left_as_it_is(refused, made, copy, training, name, content, files):
    (copy / name).unlink() if content is None else (copy / name).write_bytes(content)
    before = files(copy)
    refused("train", made / "dataset", "-o", copy, "--steps", "2", *training, "--quiet")
    assert files(copy) == before


@pytest.mark.parametrize("rows", [b"5\n", b"\xff\xfe\n", b'{"step":NaN}\n', b'{"step":0,"loss":"x"}\n' * 2])
def test_a_damaged_log_does_not_stop_a_training(vidiff, made, copy, training, rows):
    (copy / "metrics.jsonl").write_bytes(rows)
    result = vidiff("train", made / "dataset", "-o", copy, "--steps", "2", *training, "--quiet")
    assert result.code == 0, result
