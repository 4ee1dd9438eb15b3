"""`vidiff train` in two processes, as torchrun starts them: one of them speaks and writes, and they leave together."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vidiff_cli.commands.train import train
from vidiff_cli.config.train import TrainSettings

SMALL = (
    "network.base_channels=8",
    "network.head_dim=8",
    "network.embedding=16",
    "network.context_dim=16",
    "rank_timeout=60",
)


# vidiff with the tests' own open_clip models, whose configs lie in a folder.
WITH_MODELS = """
import sys
from vidiff_cli.text.clip_names import import_open_clip
import_open_clip()
import open_clip
open_clip.add_model_config(sys.argv.pop(1))
from vidiff_cli.cli.app import main
main()
"""


def start(
    dataset: Path, run: Path, *more: str, python: tuple[str, ...] = ("-m", "vidiff_cli")
) -> list[subprocess.Popen[str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    asked = ["train", str(dataset), "-o", str(run), "--batch-size", "4", "--frames", "4", "--precision", "fp32", *more]
    asked += ["--sample-every", "0", "--validate-every", "0", *(word for each in SMALL for word in ("--set", each))]
    told = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [sys.executable, *python, *asked],
            env={**os.environ, **told, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]


def ended(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each; a hang fails."""
    try:
        said = [process.communicate(timeout=400) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [(process.returncode, *each) for process, each in zip(processes, said, strict=True)]


def test_a_signal_to_one_of_two_ends_both_at_the_same_step(dataset: Path, told, tmp_path: Path) -> None:
    run = tmp_path / "run"
    long = ("--steps", "5000", "--checkpoint-every", "5000", "--set", "optimizer.decay=0")
    processes = start(dataset, run, *long)
    rows = run / "metrics.jsonl"
    while not (rows.is_file() and rows.stat().st_size):  # with a row, both are between steps, where signals are put off
        assert all(process.poll() is None for process in processes)
        time.sleep(0.1)
    processes[1].send_signal(signal.SIGUSR1)
    (code, paths, said), silent = ended(processes)
    (checkpoint,) = (run / "checkpoints").glob("step-*")
    step = json.loads((checkpoint / "state.json").read_text())["step"]
    assert code == 128 + signal.SIGUSR1 and paths == ""
    assert said.endswith(f"Saved {run} at step {step}; the same command continues.\nTerminated.\n")
    assert silent == (128 + signal.SIGUSR1, "", "")
    assert step < 5000 and not list(run.rglob(".*"))
    # one process goes on
    settings = TrainSettings.model_validate(json.loads((run / "config.json").read_text())["train"])
    report, notes = told(train.events(settings.model_copy(update={"steps": step + 2})))
    assert any(note.text == f"Continuing {run} at step {step} of {step + 2}." for note in notes)
    assert report.steps == step + 2


def test_two_with_clip_are_one(dataset: Path, tiny_clip, tmp_path: Path) -> None:
    """Rank 0 alone embeds the captions; the losses are those of one process."""
    own = shutil.copytree(dataset, tmp_path / "own")
    asked = ("--steps", "2", "--text", "clip", "--clip-model", tiny_clip.named())
    found = ended(start(own, tmp_path / "two", *asked, python=("-c", WITH_MODELS, str(tiny_clip.folder))))
    assert [code for code, _, _ in found] == [0, 0], found
    (clip,) = {path.parent for path in (own / "text").rglob("shard-*.safetensors")}
    assert clip.name.startswith("tiny-clip-")
    settings = TrainSettings.model_validate(json.loads((tmp_path / "two" / "config.json").read_text())["train"])
    train(settings.model_copy(update={"output": tmp_path / "one"}))
    one, two = ([json.loads(row) for row in (tmp_path / name / "metrics.jsonl").open()] for name in ("one", "two"))
    assert len(one) == len(two) > 0
    for mine, theirs in zip(one, two, strict=True):
        for name in ("loss", "free", "observed", "gradient_norm"):
            assert mine[name] == pytest.approx(theirs[name], rel=1e-4), name


def test_what_is_wrong_is_said_once(tmp_path: Path) -> None:
    """No dataset: both find out, one says it, and neither waits for the other."""
    found = ended(start(tmp_path / "nothing", tmp_path / "run"))
    said = [text for _, _, text in found if text]
    assert [code for code, _, _ in found] == [1, 1] and len(said) == 1 and said[0].count("is not a dataset") == 1
