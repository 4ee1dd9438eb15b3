"""Noise priors, images beside clips and noisy given frames: the tiny preset with one thing changed, at equal steps.

    python benchmarks/priors.py [--steps 400] [NAME ...]

Each variant trains on the same 1,024 clips of the shapes world (16x16, 8 frames), with the same seed, one thread and
batches of 32. Then, with its own noise in all that is drawn: attributes read back from 128 samples of captions, and the
error of 4 frames after 4 given of 64 held-out clips, by the learned condition and by reconstruction guidance of several
weights. One seed each: small differences are chance. Updates benchmarks/results/priors.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import learning
import torch
from learning import Variant
from machine import RESULTS, save

from vidiff_cli.config.generate import GenerationSettings
from vidiff_cli.config.model import NOISE_STRENGTHS
from vidiff_cli.tasks.device import choose_device, choose_dtype, dtype_name

WEIGHTS = (2.0, 5.0, 10.0)

VARIANTS = {name: Variant(changes={"diffusion.noise": name}) for name in NOISE_STRENGTHS} | {
    "a third images": Variant(changes={"objective.image_fraction": 1 / 3}),
    "context noise": Variant(changes={"objective.context_noise": 0.5}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--steps", type=int, default=400)
    given = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    choose_device("cpu")  # sets the allocator
    path = RESULTS / "priors.json"
    for name in given.names or VARIANTS:
        row = run(VARIANTS[name], given.steps)
        before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        results = before["results"] if before.get("steps") == given.steps else {}
        print(name, json.dumps(row), file=sys.stderr, flush=True)
        save("priors", {"steps": given.steps, "batch": 32, "results": results | {name: row}})


def run(variant: Variant, steps: int) -> dict[str, Any]:
    """Trains a variant and measures it."""
    settings, dtype = learning.settings_of(variant), choose_dtype("auto", torch.device("cpu"))
    state = learning.new_state(variant, settings, told=True)
    began = time.process_time()
    for _ in learning.steps_of(state, settings, steps, dtype):
        pass
    row: dict[str, Any] = {"dtype": dtype_name(dtype), "cpu_seconds": time.process_time() - began}
    diffusion = settings.diffusion
    row |= {"noise": diffusion.noise, "noise_strength": diffusion.noise_strength}
    model = learning.averaged(state, dtype)
    row |= learning.attributes(model)
    videos, _, paths = learning.clips(1, learning.HELD_OUT)
    for weight in WEIGHTS:
        asked = GenerationSettings(
            seed=0, steps=learning.SAMPLING_STEPS, condition="reconstruction", reconstruction_weight=weight
        )
        made = learning.report.complete(model, videos, range(4), asked)
        row[f"reconstruction, weight {weight:g}"] = learning.report.errors(made, videos, paths, range(4))
    return row


if __name__ == "__main__":
    main()
