"""One decision about what a path is, for every command."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidiff_cli.path_kind import path_kind

CASES = {
    "missing": (),
    "dataset": ("data/dataset.json",),
    "dataset in the making": ("data/.journal/ab/x",),
    "run": ("data/checkpoints/latest",),
    "checkpoint folder": ("data/ema.safetensors", "data/state.json"),
    "folder": ("data/a.mp4", "data/config.json"),
    "checkpoint file": ("data.safetensors",),
    "media file": ("data.MP4",),
    "text file": ("data.jsonl",),
    "unknown file": ("data.bin",),
}


@pytest.mark.parametrize("kind", CASES)
def test_names_decide(tmp_path, kind):
    for name in CASES[kind]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    (found,) = set(tmp_path.iterdir()) or {tmp_path / "data"}
    assert path_kind(found) == kind.removesuffix(" in the making")


@pytest.mark.parametrize(
    ("content", "kind"), [('{"train": {}, "model": {}}', "run"), ("[1]", "folder"), ("{", "folder")]
)
def test_a_run_before_its_first_checkpoint_is_known_by_its_config(tmp_path, content, kind):
    (tmp_path / "config.json").write_text(content)
    assert path_kind(tmp_path) == kind


def test_a_file_named_builtin_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert path_kind(Path("builtin")) == "builtin model"
    Path("builtin").touch()
    assert path_kind(Path("builtin")) == "unknown file"
