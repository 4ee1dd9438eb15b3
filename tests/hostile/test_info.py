"""`vidiff info` looks at anything: what it cannot describe is one sentence, and nothing is changed by looking."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

import pytest

ODD = [b"", b"5", b"\xff\xfe\0", b"[" * 100_000, b'{"step":1e400,"phase":[],"ema_updates":"x"}']
STEP = "run/checkpoints/step-000001"
PARTS = [
    *("dataset/dataset.json", "dataset/clips.jsonl", "dataset/ledger.jsonl", "dataset/data/shard-00000.safetensors"),
    *("run/config.json", "run/metrics.jsonl", "run/checkpoints/latest", f"{STEP}/state.json"),
    *(f"{STEP}/model.safetensors", f"{STEP}/ema.safetensors"),
]


@pytest.fixture
def looked(vidiff, sentence, no_control):
    """looked(path): info describes it or says one sentence; returns what it printed."""

    def look(path: Path | str) -> str:
        result = vidiff("info", path)
        assert result.code == 0 or sentence(result), (path, result)
        assert no_control((result.out + result.err).replace("\n", "")), (path, result)
        return result.out + result.err

    return look


@pytest.mark.parametrize("part", PARTS)
def test_folders_with_any_part_damaged_or_gone(part, made, looked, tmp_path, files):
    kind, _, name = part.partition("/")
    folder = Path(shutil.copytree(made / kind, tmp_path / "copy"))
    for content in ODD:
        (folder / name).write_bytes(content)
        before = files(folder)
        looked(folder)
        assert files(folder) == before
    (folder / name).unlink()
    looked(folder)
    (folder / name).mkdir()
    looked(folder)


def test_files_of_any_content_name_or_kind(model, looked, clip, tmp_path):
    contents = [*ODD, struct.pack("<Q", 2**63) + b"x", model.read_bytes()[:5000], struct.pack("<Q", 2) + b"{}"]
    for suffix, of in ((".safetensors", contents), (".mp4", ODD[:3]), (".png", ODD[:3]), (".json", ODD), ("", ODD[:3])):
        for number, content in enumerate(of):
            (tmp_path / f"{number}{suffix}").write_bytes(content)
            looked(tmp_path / f"{number}{suffix}")
    for name in ("new\nline.mp4", "esc\x1b[31m.mp4", "\u202ertl.mp4", "not \udcff.mp4", "-dash.mp4"):
        shutil.copyfile(clip(), tmp_path / name)
        assert "32x32" in looked(tmp_path / name)
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("pipe.mp4", "loop", "none\x1b[31m", "/dev/zero", "x" * 300):
        looked(name)


def test_a_sidecar_beside_a_video_is_shown_and_not_obeyed(looked, clip, tmp_path):
    shutil.copyfile(clip(), tmp_path / "a.mp4")
    told = b'{"command":"sample","seed":1,"settings":{},"versions":{"vidiff":"\\u001b[2J"},'
    told += b'"checkpoint":{"path":"\\u001b[31m\\n$(touch pwned)","sha256":[]}}'
    for content in (*ODD, told):
        (tmp_path / "a.json").write_bytes(content)
        looked(tmp_path / "a.mp4")
    assert not (tmp_path / "pwned").exists()
