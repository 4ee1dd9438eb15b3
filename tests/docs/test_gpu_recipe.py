"""The scripts of examples/gpu/: commands with work to share go through torchrun, on one machine or several."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "gpu"


@pytest.fixture
def run(tmp_path):
    """Runs entry.sh with a torchrun and a vidiff that print their arguments."""
    for name in ("torchrun", "vidiff"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$OMP_NUM_THREADS:" "$@"\n')
        (tmp_path / name).chmod(0o755)

    def entry(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        kept = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        return subprocess.run(
            [str(FOLDER / "entry.sh"), *words], env=kept | variables, capture_output=True, text=True, check=False
        )

    return entry


@pytest.mark.parametrize(
    "command", ["train", "distill", "prep", "sample", "extend", "interpolate", "upscale", "evaluate"]
)
def test_work_is_shared(run, command):
    done = run(command, "a b", "-o", "out", GPUS="2", OMP_NUM_THREADS="3")
    assert done.stdout == f"torchrun 3: --nproc-per-node 2 --standalone -m vidiff_cli {command} a b -o out\n"


def test_threads_are_shared_too(run):
    assert run("train", "d", GPUS="1000").stdout.startswith("torchrun 1:")


def test_several_machines_meet(run):
    known = {"GPUS": "8", "NODES": "2", "OMP_NUM_THREADS": "1"}
    done = run("train", "d", **known, RENDEZVOUS="first:20007", JOB="7")
    assert done.stdout == (
        "torchrun 1: --nproc-per-node 8 --nnodes 2 --rdzv-backend c10d --rdzv-endpoint first:20007 --rdzv-id 7 "
        "-m vidiff_cli train d\n"
    )
    lost = run("train", "d", **known)
    assert lost.returncode != 0 and "RENDEZVOUS" in lost.stderr and not lost.stdout


@pytest.mark.parametrize("words", [("doctor",), ("info", "runs/first"), ("--help",), ()])
def test_what_has_no_work_to_share_runs_once(run, words):
    assert run(*words).stdout.split() == ["vidiff", ":", *words]


def test_the_other_files_start_the_same_script():
    assert "entry.sh" in (FOLDER / "Dockerfile").read_text() and "entry.sh" in (FOLDER / "train.slurm").read_text()
    for script in FOLDER.glob("*.s*"):
        subprocess.run(["bash", "-n", str(script)], check=True)
    copied = [
        line.split()[1:-1] for line in (FOLDER / "Dockerfile").read_text().splitlines() if line.startswith("COPY")
    ]
    sources = [word for words in copied for word in words if not word.startswith("--")]
    assert sources and all((ROOT / source).exists() for source in sources)
