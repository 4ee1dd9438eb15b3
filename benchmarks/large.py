"""256x256 with 16 and with 32 frames: the plan, one training step and one sample, and the memory that each took.

    python -m benchmarks large

Each is a fresh process; memory is the largest resident set that the system has seen of it. The network is one that fits
a machine of 8 GB without a GPU: a 4x4 patch stem, so that its feature maps are those of 64x64 and below.
"""

from __future__ import annotations

import json
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import measured, save
from vidiff_cli.video.encode import encode

VIDIFF = [sys.executable, "-m", "vidiff_cli"]
SIDE, CLIPS = 256, 3
NETWORK = [
    "base_channels=32",
    "channel_mult=[1,2,4]",
    "patch_size=4",
    "head_dim=32",
    "embedding=128",
    "attention_max_size=16",
]
SAMPLING_STEPS = 2  # one sample's memory does not depend on them


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        results = [measure(frames, Path(folder)) for frames in (16, 32)]
    save("large", {"network": NETWORK, "results": results})


def measure(frames: int, folder: Path) -> dict[str, Any]:
    clips, dataset, run = folder / f"clips-{frames}", folder / f"dataset-{frames}", folder / f"run-{frames}"
    clips.mkdir()
    for number in range(CLIPS):
        encode(clips / f"{number}.mp4", moving_square(frames, number), Fraction(8))
        (clips / f"{number}.txt").write_text("a square moving right", encoding="utf-8")
    measured([*VIDIFF, "prep", str(clips), "-o", str(dataset), "--size", str(SIDE), "--frames", str(frames), "-q"])
    command = [*VIDIFF, "train", str(dataset), "--preset", "small", "--frames", str(frames), "--batch-size", "1", "-q"]
    command += ["--text", "learned", "--sample-every", "0", "--validate-every", "0", "-o", str(run), "--json"]
    command += [word for name in NETWORK for word in ("--set", f"network.{name}")]
    row: dict[str, Any] = {"frames": frames, "side": SIDE}
    for name, checkpointing in (("plain", "off"), ("checkpointed", "on")):
        asked = [*command, "--gradient-checkpointing", checkpointing]
        planned = json.loads(measured([*asked, "--estimate"])[0])
        row |= {"parameters": planned["parameters"], f"{name}_gflops": round(planned["flops_per_step"] / 1e9)}
        row[f"{name}_plan_mib"] = round(planned["memory_bytes"] / 2**20)
    row["step_mib"] = round(measured([*command, "--steps", "1"])[1] / 2**20)
    sample = [*VIDIFF, "sample", "a square", "-m", str(run), "-o", str(folder / f"{frames}.mp4"), "--seed", "0"]
    row["sample_mib"] = round(measured([*sample, "--steps", str(SAMPLING_STEPS), "-q"])[1] / 2**20)
    print(row, file=sys.stderr, flush=True)
    return row


def moving_square(frames: int, number: int) -> list[np.ndarray]:
    """uint8 frames (h w 3) of a square that moves to the right."""
    made = np.full((frames, SIDE, SIDE, 3), 40, dtype=np.uint8)
    for place in range(frames):
        left = 10 + 3 * place + 20 * number
        made[place, 80:160, left : left + 60] = (200, 60 * number, 90)
    return list(made)
