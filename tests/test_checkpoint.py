"""Checkpoint files: whole or not there, and every fault is one sentence."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from vidiff_cli.checkpoint import FORMAT, file_hash, read_header, read_tensors, write_tensors
from vidiff_cli.errors import VidiffError

HEADER: dict[str, Any] = {"step": 7, "model": {"fps": "30000/1001", "text": "Straße ☂"}, "list": [1, 2.5, None]}


def tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "float": torch.randn(3, 4, generator=generator),
        "double": torch.randn(2, generator=generator, dtype=torch.float64),
        "bfloat": torch.randn(5, generator=generator).bfloat16(),
        "bytes": torch.arange(256, dtype=torch.uint8),
        "scalar": torch.tensor(3.0),
        "empty": torch.zeros(0, 4),
        "turned": torch.randn(4, 6, generator=generator).T,
        "channels last": torch.randn(2, 3, 4, 4, generator=generator).contiguous(memory_format=torch.channels_last),
        "needs grad": torch.randn(2, generator=generator).requires_grad_(True),
    }


def written(path: Path) -> Path:
    write_tensors(path, tensors(), HEADER)
    return path


def test_a_round_trip_keeps_every_bit_and_the_header(tmp_path):
    path = written(tmp_path / "model.safetensors")
    expected, found = tensors(), read_tensors(path)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value.detach()), name
    assert read_header(path) == HEADER
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]


def test_equal_content_gives_equal_bytes_and_their_hash(tmp_path):
    paths = [written(tmp_path / f"{number}.safetensors") for number in range(16)]
    assert len({path.read_bytes() for path in paths}) == 1
    assert file_hash(paths[0]) == hashlib.sha256(paths[0].read_bytes()).hexdigest()


def test_writing_again_replaces_the_file_or_changes_nothing(tmp_path):
    path = written(tmp_path / "model.safetensors")
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_tensors(path, {}, {"no": {"json", "set"}})
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1
    write_tensors(path, {"one": torch.ones(1)}, {})
    assert list(read_tensors(path)) == ["one"] and read_header(path) == {}


def test_files_with_the_format_beside_the_header_are_read(tmp_path):
    save_file({"a": torch.zeros(3)}, tmp_path / "old", metadata={"format": FORMAT, "vidiff": '{"step": 3}'})
    assert read_header(tmp_path / "old") == {"step": 3} and list(read_tensors(tmp_path / "old")) == ["a"]


def refused(path: Path) -> str:
    """Why a file is refused, by both readers: one sentence that names the file."""
    sentences = []
    for read in (read_header, read_tensors):
        with pytest.raises(VidiffError) as error:
            read(path)
        sentence = str(error.value)
        assert str(path) in sentence and sentence.endswith(".") and "\n" not in sentence and len(sentence) < 400
        sentences.append(sentence)
    assert sentences[0] == sentences[1]
    return sentences[0]


def raw(path: Path, header: object, body: bytes = b"") -> Path:
    """A file in the layout of safetensors with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    return path


def test_what_is_no_checkpoint_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    assert "does not exist" in refused(path)
    path.mkdir()
    assert "does not exist" in refused(path)
    path.rmdir()
    for content in (b"", b"x", b"A text file, and not a short one.\n" * 100, b"\x00" * 4096, b"\x80\x02}q\x00." * 9):
        path.write_bytes(content)
        assert "is damaged" in refused(path)
    path.write_bytes((2**63).to_bytes(8, "little") + b"{}")
    assert "9,223,372,036,854,775,808 bytes" in refused(path)
    path.write_bytes((2**40).to_bytes(8, "little") + b"{}" * 100)
    assert "is damaged" in refused(path)


def test_the_safetensors_of_others_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    assert "was not written by vidiff" in refused(path)
    save_file({"weight": torch.zeros(3)}, path, metadata={"format": "pt"})
    assert "was not written by vidiff" in refused(path)
    save_file({"weight": torch.zeros(3)}, path, metadata={"format": "vidiff-99", "vidiff": "{}"})
    assert "found vidiff-99" in refused(path) and FORMAT in refused(path)


@pytest.mark.parametrize(
    "header",
    [
        b"not json at all",
        b"\xff\xfe\xff",
        b"[" * 100_000,
        [],
        3,
        {"__metadata__": "text"},
        {"__metadata__": ["vidiff"]},
        {"__metadata__": {"format": FORMAT}},
        {"__metadata__": {"format": FORMAT, "vidiff": "{"}},
        {"__metadata__": {"format": FORMAT, "vidiff": 3}},
        {"__metadata__": {"format": FORMAT, "vidiff": {"step": 3}}},
        {"__metadata__": {"format": FORMAT, "vidiff": "3"}},
        {"__metadata__": {"format": FORMAT, "vidiff": "[" * 100_000}},
    ],
    ids=lambda header: repr(header)[:60],
)
def test_a_header_made_by_hand_is_refused(tmp_path, header):
    assert "was not written by vidiff" in refused(raw(tmp_path / "model.safetensors", header))


def test_a_file_cut_off_anywhere_is_damaged(tmp_path):
    path = written(tmp_path / "model.safetensors")
    content = path.read_bytes()
    for keep in (0, 1, 7, 8, 9, 100, len(content) // 3, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:keep])
        with pytest.raises(VidiffError, match="is damaged") as error:
            read_tensors(path)
        sentence = str(error.value)
        assert str(path) in sentence and "use an earlier checkpoint" in sentence and "\n" not in sentence


def test_tensors_that_lie_about_their_place_are_refused(tmp_path):
    metadata = {"format": FORMAT, "vidiff": "{}"}
    for offsets in ([0, 4096], [8, 4], [0, 3], [-1, 3]):
        entry = {"dtype": "F32", "shape": [1], "data_offsets": offsets}
        path = raw(tmp_path / "model.safetensors", {"__metadata__": metadata, "weight": entry}, b"\0" * 4)
        with pytest.raises(VidiffError, match="is damaged"):
            read_tensors(path)
