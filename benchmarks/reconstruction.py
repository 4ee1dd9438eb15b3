"""Reconstruction guidance by sampler and weight, on the demo's model and its held-out clips: where the default is from.

    make demo && python benchmarks/reconstruction.py

4 frames of each of 64 clips are given and the next 4 made without a caption. Writes the error of the
object's centre and the seam jump of every combination to benchmarks/results/reconstruction.json.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "examples"))

import shapes_report as report  # noqa: E402
from machine import save  # noqa: E402

from vidiff_cli.config.generate import GenerationSettings  # noqa: E402
from vidiff_cli.tasks.generate import open_model  # noqa: E402
from vidiff_cli.video.decode import decode  # noqa: E402

DEMO = HERE.parent / "demo"
GRID = {
    "dpmpp-2m": (0.0, 2.0, 5.0, 10.0, 15.0, 20.0),
    "ddim": (5.0, 10.0, 20.0),
    "ddpm": (2.0, 5.0, 10.0, 20.0),
}


def main() -> None:
    if not (DEMO / "run" / "checkpoints").is_dir():
        sys.exit("Error: this needs the demo's model; run make demo first.")
    rows = json.loads((DEMO / "held-out" / "trajectories.json").read_text(encoding="utf-8"))
    clips = np.stack([decode(DEMO / "held-out" / row["file"]).frames for row in rows])
    clips, paths = clips[:, :8], np.asarray([row["positions"] for row in rows])[:, :8]
    model = open_model(GenerationSettings(model=DEMO / "run"))
    given = range(4)
    results = []
    for sampler, weights in GRID.items():
        for weight in weights:
            settings = GenerationSettings(
                condition="reconstruction", sampler=sampler, reconstruction_weight=weight, seed=0
            )
            began = time.perf_counter()
            made = report.complete(model, clips, given, settings)
            row = {"sampler": sampler, "weight": weight, "seconds": time.perf_counter() - began}
            results.append(row | report.errors(made, clips, paths, given))
            print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    save("reconstruction", {"clips": len(clips), "steps": settings.steps, "results": results})


if __name__ == "__main__":
    main()
