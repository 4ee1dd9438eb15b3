"""`vidiff info` looks at anything: what it cannot describe is one sentence, and nothing is changed by looking."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

import pytest

ODD = [
    b"",
    b"{",
    b"[]",
    b"5",
    b"\xff\xfe\0",
    b"[" * 100_000,
    b'{"step":1e400,"phase":[],"ema_updates":"x"}',
    b"\0" * 99,
]
PARTS = {
    "dataset": ["dataset.json", "clips.jsonl", "ledger.jsonl", "data/shard-00000.safetensors"],
    "run": [
        "config.json",
        "metrics.jsonl",
        "checkpoints/latest",
        "checkpoints/step-000001/state.json",
        "checkpoints/step-000001/model.safetensors",
        "checkpoints/step-000001/ema.safetensors",
    ],
}


@pytest.fixture
def looked(vidiff, sentence, no_control):
    """looked(path): info describes it or says one sentence; returns what it printed."""

    def look(path: Path | str) -> str:
        result = vidiff("info", path)
        assert result.code == 0 or sentence(result), (path, result)
        assert no_control((result.out + result.err).replace("\n", "")), (path, result)
        return result.out + result.err

    return look


@pytest.mark.parametrize("kind", PARTS)
def test_folders_with_any_part_damaged_or_gone(kind, made, looked, tmp_path, files):
    for part in PARTS[kind]:
        folder = Path(shutil.copytree(made / kind, tmp_path / "copy"))
        for content in ODD:
            (folder / part).write_bytes(content)
            before = files(folder)
            looked(folder)
            assert files(folder) == before
        (folder / part).unlink()
        looked(folder)
        (folder / part).mkdir()
        looked(folder)
        shutil.rmtree(folder)


def test_checkpoints_and_other_files_of_any_content(model, looked, tmp_path):
    contents = [*ODD, struct.pack("<Q", 2**63) + b"x", model.read_bytes()[:5000], struct.pack("<Q", 2) + b"{}"]
    for suffix in (".safetensors", ".mp4", ".png", ".json", ".pt", ""):
        for number, content in enumerate(contents):
            path = tmp_path / f"{number}{suffix}"
            path.write_bytes(content)
            looked(path)


def test_names_links_and_devices(looked, clip, tmp_path):
    for name in ("new\nline.mp4", "esc\x1b[31m.mp4", "\u202ertl.mp4", "not \udcff.mp4", "-dash.mp4"):
        shutil.copyfile(clip(), tmp_path / name)
        assert "32x32" in looked(tmp_path / name)
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("pipe.mp4", "loop", "none\x1b[31m", "/dev/zero", "x" * 300, "/proc/self"):
        looked(name)


def test_a_sidecar_beside_a_video_is_shown_and_not_obeyed(looked, clip, tmp_path):
    shutil.copyfile(clip(), tmp_path / "a.mp4")
    told = b'{"command":"sample","seed":1,"settings":{},"versions":{"vidiff":"\\u001b[2J"},'
    told += b'"checkpoint":{"path":"\\u001b[31m\\n$(touch pwned)","sha256":[]}}'
    for content in (*ODD, told):
        (tmp_path / "a.json").write_bytes(content)
        looked(tmp_path / "a.mp4")
    assert not (tmp_path / "pwned").exists()
