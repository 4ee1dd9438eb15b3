"""Checkpoint files and run folders that are damaged or made to do harm: refused before they cost anything."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vidiff_cli.checkpoint import write_tensors

SAMPLE = ("--steps", "1", "--seed", "1", "--device", "cpu", "--quiet", "-o", "out.mp4")


@pytest.fixture
def rejected(refused, tmp_path, hidden):
    """rejected(path): what sample says of a model that it refuses; nothing is written, and it takes no time."""

    def check(path: Path | str) -> str:
        error = refused("sample", "-m", path, *SAMPLE)
        assert not Path("out.mp4").exists() and hidden(tmp_path) == []
        return error

    return check


@pytest.mark.parametrize("length", [0, 1, 2**31, 2**62, 2**63, 2**64 - 1, 60 * 2**20])
def test_a_header_of_any_length(rejected, model, tmp_path, length):
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", length) + model.read_bytes()[8:])
    assert "is damaged" in rejected(path) or length == 1


def test_a_header_of_two_gigabytes_is_not_read(apart, model, tmp_path, sentence):
    """The file is as large as it says, with holes; the process may not have that much."""
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 2**33) + b'{"__metadata__":{')
        file.truncate(2**33 + 100)
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({3 << 30},) * 2)"
    result = apart("sample", "-m", path, *SAMPLE, cwd=tmp_path, setup=limit)
    assert sentence(result) and "8,589,934,592" in result.err


def test_a_file_cut_anywhere(rejected, model, tmp_path):
    raw, path = model.read_bytes(), tmp_path / "model.safetensors"
    for size in (0, 1, 7, 8, 9, 1000, len(raw) // 2, len(raw) - 1):
        path.write_bytes(raw[:size])
        rejected(path)
    path.write_bytes(raw + b"x")
    rejected(path)


@pytest.mark.parametrize("text", [b"{{{{", b"[1]", b"5", b"null", b'"x"', b"[" * 100_000, b"9" * 10_000, b"\xff\xfe"])
def test_a_header_that_is_no_table(rejected, tmp_path, text):
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    assert "was not written by vidiff" in rejected(path)


METADATA = [7, [1], {}, {"vidiff": 5}, {"vidiff": "5"}, {"vidiff": "{"}, {"vidiff": "{}"}, {"vidiff": "[" * 99_999}]


@pytest.mark.parametrize("value", METADATA)
def test_metadata_that_is_not_ours(rejected, rewrite, model, tmp_path, value):
    rejected(rewrite(model, lambda table: table.update(__metadata__=value), tmp_path / "model.safetensors"))


ENTRIES = [
    {"dtype": "X9"},
    {"dtype": None},
    {"shape": [10**12]},
    {"shape": [-1]},
    {"shape": "ab"},
    {"shape": [[1]]},
    {"data_offsets": [0, 10**15]},
    {"data_offsets": [5, 3]},
    {"data_offsets": [0, 4]},
    {"data_offsets": "ab"},
]


@pytest.mark.parametrize("change", ENTRIES)
def test_a_tensor_that_cannot_be(rejected, rewrite, model, tmp_path, change):
    def break_one(table):
        table[min(key for key in table if key != "__metadata__")].update(change)

    rejected(rewrite(model, break_one, tmp_path / "model.safetensors"))


def test_tensors_that_overlap_and_tensors_that_are_missing(rejected, rewrite, model, tmp_path):
    path = tmp_path / "model.safetensors"
    names = [key for key in load_file(model) if "attention" not in key]

    def overlap(table):
        table[names[1]]["data_offsets"] = table[names[2]]["data_offsets"]

    rejected(rewrite(model, overlap, path))
    rejected(rewrite(model, lambda table: table.pop(names[0]), path))
    rejected(rewrite(model, lambda table: table.update(more=table.pop(names[0])), path))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite(rejected, model, tmp_path, value):
    tensors = load_file(model)
    name = next(key for key, each in tensors.items() if each.is_floating_point())
    tensors[name].view(-1)[0] = value
    write_tensors(tmp_path / "model.safetensors", tensors, _header(model))
    assert "not finite" in rejected(tmp_path / "model.safetensors")


def _header(path: Path) -> dict:
    raw = path.read_bytes()
    table = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    return json.loads(table["__metadata__"]["vidiff"])


SETTINGS = [
    ("network.base_channels", 10**6),
    ("network.base_channels", 8192),
    ("network.base_channels", 10**18),
    ("network.embedding", 10**9),
    ("network.embedding", 65_536),
    ("network.channel_mult", [64] * 8),
    ("network.channel_mult", [1] * 100_000),
    ("network.channel_mult", [10**9]),
    ("network.channel_mult", [0]),
    ("network.channel_mult", []),
    ("network.num_res_blocks", 10**9),
    ("network.num_res_blocks", 32),
    ("network.channels", 10**9),
    ("network.patch_size", 10**6),
    ("network.context_dim", 0),
    ("text.depth", 10**9),
    ("text.max_tokens", 10**12),
    ("text.vocabulary", list(range(10_000))),
    ("width", 10**9),
    ("width", 17),
    ("frames", 10**9),
    ("fps", "1e999999999"),
    ("fps", "0"),
    ("fps", "1/0"),
    ("fps", "-3"),
    ("fps", "x"),
    ("fps", 8),
    ("frame_strides", []),
    ("frame_strides", [0]),
    ("frame_strides", [10**30]),
    ("diffusion.high", 1e308),
    ("diffusion.shift", 1e300),
    ("diffusion.low", float("-inf")),
    ("extra", 1),
]


@pytest.mark.parametrize(("name", "value"), SETTINGS, ids=lambda value: str(value)[:24])
def test_settings_that_the_weights_do_not_have(rejected, rewrite, model, tmp_path, name, value, monkeypatch):
    """Refused by numbers: no network is ever built for them, but one without memory."""
    path = tmp_path / "model.safetensors"

    def set_one(table):
        header = json.loads(table["__metadata__"]["vidiff"])
        *above, last = name.split(".")
        place = header["model"]
        for part in above:
            place = place[part]
        place[last] = value
        table["__metadata__"]["vidiff"] = json.dumps(header)

    def build(*_: object, **__: object):
        pytest.fail("a network was built")

    monkeypatch.setattr("vidiff_cli.models.video_model.new_video_model", build)
    rejected(rewrite(model, set_one, path))


def test_a_frame_size_that_no_weight_depends_on(rejected, rewrite, model, tmp_path):
    def enlarge(table):
        header = json.loads(table["__metadata__"]["vidiff"])
        header["model"] |= {"width": 16_384, "height": 16_384}
        header["model"]["network"]["attention_max_size"] = 4096
        table["__metadata__"]["vidiff"] = json.dumps(header)

    rejected(rewrite(model, enlarge, tmp_path / "model.safetensors"))


@pytest.mark.parametrize("value", ["x", -5, [1], None, 1.5, True, 10**400])
def test_counts_that_are_none(rejected, rewrite, model, tmp_path, value):
    def change(table):
        header = json.loads(table["__metadata__"]["vidiff"]) | {"clips_seen": value}
        table["__metadata__"]["vidiff"] = json.dumps(header)

    assert "clips_seen" in rejected(rewrite(model, change, tmp_path / "model.safetensors"))


@pytest.mark.parametrize(
    "value", ["x", [1], {}, {"between": {"1": [0.1, "a"]}, "beyond": {}, "clips": 1, "split": "val"}]
)
def test_errors_that_are_none(rejected, rewrite, model, tmp_path, value):
    def change(table):
        header = json.loads(table["__metadata__"]["vidiff"]) | {"errors": value}
        table["__metadata__"]["vidiff"] = json.dumps(header)

    assert "errors" in rejected(rewrite(model, change, tmp_path / "model.safetensors"))


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def test_a_pickle_is_never_opened(rejected, tmp_path):
    (tmp_path / "model.pt").write_bytes(pickle.dumps(Bomb()))
    torch.save({"state_dict": Bomb()}, tmp_path / "torch.pt")
    shutil.copyfile(tmp_path / "torch.pt", tmp_path / "torch.safetensors")
    for name in ("model.pt", "torch.pt", "torch.safetensors"):
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


POINTERS = ["../../../x", "/etc", "", ".", "..", "a\0b", "x" * 300, b"\xff\xfe", "step-000001/../../../run"]


@pytest.mark.parametrize("pointer", POINTERS)
def test_a_pointer_leads_nowhere_else(vidiff, sentence, copy, pointer, tmp_path):
    """`checkpoints/latest` is a name: what lies outside is not looked at."""
    outside = shutil.copytree(copy / "checkpoints" / "step-000001", tmp_path / "x")
    assert outside.is_dir()
    latest = copy / "checkpoints" / "latest"
    latest.write_bytes(pointer if isinstance(pointer, bytes) else pointer.encode())
    result = vidiff("sample", "-m", copy, *SAMPLE)
    assert sentence(result) and "is not a model" in result.err, result


TEXTS = [b"", b"{", b"[]", b"5", b"\xff", b"[" * 100_000, b'{"train":5,"model":[]}']


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: str(text[:24]))
def test_a_run_without_sound_settings_is_left_as_it_is(refused, made, copy, training, text, files):
    (copy / "config.json").write_bytes(text)
    before = files(copy)
    refused("train", made / "dataset", "-o", copy, "--steps", "2", *training, "--quiet")
    assert files(copy) == before


ROWS = [b"5\n", b"{}\n", b'{"step":"x"}\n', b"\xff\xfe\n", b'{"step":NaN}\n', b'{"step":0,"loss":"x"}\n' * 2]


@pytest.mark.parametrize("rows", ROWS)
def test_a_damaged_log_does_not_stop_a_training(vidiff, made, copy, training, rows):
    (copy / "metrics.jsonl").write_bytes(rows)
    result = vidiff("train", made / "dataset", "-o", copy, "--steps", "2", *training, "--quiet")
    assert result.code == 0, result


STATES = [b"", b"{", b"[]", b"\xff", b'{"step":"x","phase":1}', b'{"step":1e400,"phase":"stable","ema_updates":2}']
STATES += [b'{"step":-5,"phase":"stable","ema_updates":1}', b'{"step":1,"phase":"zzz","ema_updates":1}']


@pytest.mark.parametrize("state", STATES)
def test_a_checkpoint_with_a_damaged_state_is_not_written_over(vidiff, sentence, made, copy, training, state, files):
    (copy / "checkpoints" / "step-000001" / "state.json").write_bytes(state)
    before = files(copy / "checkpoints")
    result = vidiff("train", made / "dataset", "-o", copy, "--steps", "2", *training, "--quiet")
    assert sentence(result), result
    assert files(copy / "checkpoints") == before


@pytest.mark.parametrize("name", ["model", "ema", "optimizer"])
def test_a_checkpoint_with_a_part_cut_or_gone(refused, made, copy, training, name, files):
    part = copy / "checkpoints" / "step-000001" / f"{name}.safetensors"
    part.write_bytes(part.read_bytes()[: part.stat().st_size // 2])
    before = files(copy)
    assert "damaged" in refused("train", made / "dataset", "-o", copy, "--steps", "2", *training, "--quiet")
    assert files(copy) == before
    part.unlink()
    assert "does not exist" in refused("train", made / "dataset", "-o", copy, "--steps", "2", *training, "--quiet")
