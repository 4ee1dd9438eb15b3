"""Accuracy of the estimate of `vidiff train`: its memory and seconds against those of a whole run.

    python -m benchmarks plan

Plan and run are two fresh processes with the same settings; the run's memory is the largest resident set that the
system has seen of it, sample sheets, validation and plots included. Memory does not depend on other load; of seconds,
only those of a quiet machine mean anything.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import measured, save

VIDIFF = [sys.executable, "-m", "vidiff_cli"]
LARGER = "--preset small --batch-size 8 --set network.base_channels=128 --set network.num_res_blocks=2"
CASES = {  # name: side of the frames, steps of the run, options
    "tiny": (16, 15, "--preset tiny"),
    "tiny, in 4 parts": (16, 15, "--preset tiny --accumulate 4"),
    "small": (64, 6, "--preset small"),
    "small, checkpointing": (64, 6, "--preset small --gradient-checkpointing on"),
    "larger": (64, 4, LARGER),
}


def main() -> None:
    names = sys.argv[1:] or list(CASES)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        measured([*VIDIFF, "world", "shapes", str(place / "clips"), "-n", "60", "--seed", "0", "--quiet"])
        for side in {CASES[name][0] for name in names}:
            asked = ["--size", str(side), "--frames", "8", "--preview", "0", "--quiet"]
            measured([*VIDIFF, "prep", str(place / "clips"), "-o", str(place / f"dataset-{side}"), *asked])
        results = []
        for name in names:
            results.append(measure(name, place))
            save("plan", {"results": results, "worst_error": max(abs(row["memory_error"]) for row in results)})


def measure(name: str, place: Path) -> dict[str, Any]:
    side, steps, options = CASES[name]
    command = [*VIDIFF, "train", str(place / f"dataset-{side}"), "--text", "learned", "--quiet", *options.split()]
    output, plan_peak = measured([*command, "--estimate", "--json"])
    planned = json.loads(output)
    report, peak = measured(
        [*command, "--steps", str(steps), "-o", str(place / f"run-{len(os.listdir(place))}"), "--json"]
    )
    took = json.loads(report)
    row = {
        "name": name,
        "options": options,
        "side": side,
        "parameters": planned["parameters"],
        "planned_mib": round(planned["memory_bytes"] / 2**20),
        "plan_process_mib": round(plan_peak / 2**20),
        "run_mib": round(peak / 2**20),
        "memory_error": round(planned["memory_bytes"] / peak - 1, 3),
        "planned_seconds_per_step": planned["seconds_per_step"],
        "run_seconds_per_step": took["seconds_per_step"],
    }
    print(row, file=sys.stderr, flush=True)
    return row
