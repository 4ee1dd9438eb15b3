"""Which checkpoint a --model names."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from vidiff_cli.generation.load_model import find_checkpoint

RESULT = Path("checkpoints") / "step-000006-of-000006"


def test_a_run_a_checkpoint_folder_and_a_file(run: Path) -> None:
    file = run / RESULT / "ema.safetensors"
    assert find_checkpoint(run) == find_checkpoint(run / RESULT) == find_checkpoint(file) == file
    raw = run / RESULT / "model.safetensors"
    assert find_checkpoint(raw) == raw


def test_the_newest_run(run: Path) -> None:
    """By when it was last saved; a run without a checkpoint yet, or a plain file, does not count."""
    for age, name in enumerate(("new", "old")):
        shutil.copytree(run, Path("runs") / name)
        os.utime(Path("runs") / name / "checkpoints" / "latest", (1e9 - age, 1e9 - age))
    (Path("runs") / "begun" / "checkpoints").mkdir(parents=True)
    (Path("runs") / "notes.txt").write_text("notes")
    assert find_checkpoint(None) == Path("runs/new") / RESULT / "ema.safetensors"
