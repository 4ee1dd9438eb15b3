"""What each part of the tiny preset's recipe is worth: the demo's training with one thing changed at a time.

    make demo && python benchmarks/recipe.py [VARIANT ...]

Trains every variant on the demo's dataset from the same seed for the same steps, and measures it as the demo does:
attributes read back from 64 samples, and the error of the object's centre after 4 given frames. Updates
benchmarks/results/recipe.json with the variants that were run. About eight minutes a variant on two cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "examples"))

import shapes_report as report  # noqa: E402
from demo import STEPS  # noqa: E402
from machine import RESULTS, save  # noqa: E402

from vidiff_cli.config.generate import GenerationSettings  # noqa: E402
from vidiff_cli.tasks.generate import open_model  # noqa: E402
from vidiff_cli.video.decode import decode  # noqa: E402

DEMO = HERE.parent / "demo"
VARIANTS = {
    "preset": [],
    "adamw for all weights, lr 2e-3": ["optimiser.muon_lr=0", "optimiser.lr=2e-3"],
    "predicting x": ["diffusion.target='x'"],
    "plain v-loss": ["diffusion.weighting='v'"],
    "no shift of the levels": ["diffusion.shift=0"],
    "temporal attention only": ["network.temporal='attention'"],
}


def main() -> None:
    if not (DEMO / "dataset" / "dataset.json").is_file():
        sys.exit("Error: this needs the demo's dataset; run make demo first.")
    path = RESULTS / "recipe.json"
    results = json.loads(path.read_text(encoding="utf-8"))["results"] if path.is_file() else {}
    for name in sys.argv[1:] or VARIANTS:
        results[name] = run(name, VARIANTS[name])
        print(name, json.dumps(results[name]), file=sys.stderr, flush=True)
        save("recipe", {"steps": STEPS, "results": results})


def run(name: str, changes: list[str]) -> dict[str, object]:
    """Trains and measures one variant."""
    place = DEMO.parent / "runs" / f"recipe-{list(VARIANTS).index(name)}"
    sets = [word for change in changes for word in ("--set", change)]
    command = ["train", str(DEMO / "dataset"), "-o", str(place), "--preset", "tiny", "--steps", str(STEPS)]
    began = time.perf_counter()
    words = [*command, *sets, "--sample-every", "0", "--overwrite"]
    subprocess.run([sys.executable, "-m", "vidiff_cli", *words], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    model = open_model(GenerationSettings(model=place))
    rows = json.loads((DEMO / "held-out" / "trajectories.json").read_text(encoding="utf-8"))
    clips = np.stack([decode(DEMO / "held-out" / row["file"]).frames for row in rows])
    clips, paths = clips[:, :8], np.asarray([row["positions"] for row in rows])[:, :8]
    errors = {}
    for condition in ("learned", "reconstruction"):
        made = report.complete(model, clips, range(4), GenerationSettings(condition=condition, seed=0))
        errors[f"{condition}_centre_px"] = report.errors(made, clips, paths, range(4))["centre_px"]
    right = report.read_back(model, [row["caption"] for row in rows])
    return {"settings": changes, "train_seconds": seconds, "right": right, **errors}


if __name__ == "__main__":
    main()
