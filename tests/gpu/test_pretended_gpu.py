"""Laws of the CUDA path on a pretended GPU: nothing meets a tensor of the CPU, attention has the shapes that fused
kernels take, the host rarely waits, and a step launches few kernels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pretended
import pytest
from cases import EVALUATE, FAULTS, GENERATE, TRAIN

LARGEST_BATCH = 65_535  # of a fused attention kernel (pytorch#146704)
# At most so many waits of the host, and so many launches, in a step of training:
LOCAL = ("super-resolution", "frames between")  # networks of convolutions alone
STEP = {
    "tiny": (1, 2900),
    "plain": (1, 2800),
    "images": (1, 2850),
    "images, context noise, noise prior": (1, 2850),
    "dropout, checkpointing": (1, 3650),
    "flow loss, two parts": (1, 7100),
    "levels by frame": (1, 2800),
    "sinusoidal positions, AdamW": (1, 2200),
    "distillation": (1, 6300),
    "super-resolution": (1, 1700),
    "frames between": (1, 1700),
}

pytestmark = pytest.mark.skipif(pretended.unsupported() is not None, reason=str(pretended.unsupported()))


@cache
def counted(group: str) -> dict[str, Any]:
    """What the cases of a group counted, in a process of its own: torch's tables are changed in it."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with TemporaryDirectory() as folder:
        script = [sys.executable, str(Path(__file__).with_name("cases.py")), group, folder]
        done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def result(group: str, name: str) -> dict[str, Any]:
    """The counts of a case that ran without an error, with attention of four dimensions and batches that fit."""
    counts = counted(group)[name]
    assert "error" not in counts, counts["error"]
    for shape, place in counts["attention"]:
        assert len(shape) == 4 and shape[0] <= LARGEST_BATCH, f"attention of {shape} in {place}"
    return counts


def networks_layouts(counts: dict[str, Any]) -> list[str]:
    """Places of the network where a convolution has to copy its input to channels-last memory."""
    return [place for place in counts["layouts"] if place.startswith("models/")]


@pytest.mark.parametrize("name", TRAIN)
def test_a_training_step(name: str) -> None:
    waits, launches = STEP[name]
    counts = result("train", name)
    assert (
        bool(counts["attention"]) == (name not in ("super-resolution", "frames between")) and counts["launches"] > 500
    )
    assert sum(counts["waits"].values()) <= waits, counts["waits"]
    assert counts["launches"] <= launches
    assert networks_layouts(counts) == []


@pytest.mark.parametrize("name", GENERATE)
def test_the_steps_of_sampling_do_not_wait(name: str) -> None:
    counts = result("generate", name)
    assert counts["attention"]
    assert counts["waits"] == {}
    assert networks_layouts(counts) == []


@pytest.mark.parametrize("name", EVALUATE)
def test_evaluation(name: str) -> None:
    assert result("evaluate", name)["launches"] > 500


@pytest.mark.parametrize("name", list(FAULTS)[:7])
def test_a_planted_fault_is_found(name: str) -> None:
    counts = counted("faults")[name]
    assert "error" not in counts, counts["error"]
    assert "found" in counts, f"{name} was not refused"


@pytest.mark.parametrize("name", ["five dimensions", "too many at once"])
def test_attention_that_no_fused_kernel_takes_is_found(name: str) -> None:
    with pytest.raises(AssertionError, match="attention of"):
        result("faults", name)


def test_a_batch_has_the_gradients_that_it_has_on_a_cpu() -> None:
    counts = counted("faults")["the same as on a CPU"]
    assert "error" not in counts, counts["error"]
    assert counts["gradients"] > 200 and counts["difference"] < 1e-4


def test_what_waits_and_what_does_not() -> None:
    counts = result("faults", "waits")
    assert counts["each"] == [1] * 11
    assert counts["waits"] == {}
    assert result("faults", "launches")["launches"] == 2, "ones and mul; views launch nothing"
