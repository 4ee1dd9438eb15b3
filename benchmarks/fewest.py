"""Sampling steps that lose nothing, and guidance by one pass instead of two.

    python -m benchmarks fewest [--model builtin] [--prompts 4]

Samples of few steps against samples of many from the same noise, two for each held-out caption: distance and spread as
training measures them (generation/fewest_steps.py), of whole clips and beside the first half of a clip. Then CPU
milliseconds of guidance by two passes of b clips and by one of 2b. Writes benchmarks/results/fewest.json.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.machine import save
from vidiff_cli.generation.fewest_steps import COUNTS, REFERENCE, Clips, compare, sample_clips
from vidiff_cli.generation.load_model import open_model
from vidiff_cli.models.families import VideoModel
from vidiff_cli.worlds.splits import draw_scene

FEWER = (1, 2, 3)  # than training tries
BATCHES, REPEATS = (1, 2, 4, 8), 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("builtin"))
    parser.add_argument("--prompts", type=int, default=4)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    model = open_model(asked.model, device="cpu", dtype="fp32")
    captions = [draw_scene("straight", 1, number, side="held-out").caption for number in range(asked.prompts)]
    times = (torch.arange(model.frames) / float(model.fps)).expand(2 * len(captions), -1)
    twice = [caption for caption in captions for _ in range(2)]
    observed = torch.zeros(times.shape, dtype=torch.bool)
    blank = torch.zeros(len(times), model.codec.channels, model.frames, model.height, model.width)
    whole, reference = _measure(model, Clips(video=blank, times=times, captions=twice), observed, 0)
    made = reference[::2].repeat_interleave(2, dim=0)  # the given frames of the second measurement
    observed[:, : model.frames // 2] = True
    beside, _ = _measure(model, Clips(video=made, times=times, captions=twice), observed, model.frames // 2)
    found = {"model": str(asked.model), "prompts": asked.prompts, "reference": REFERENCE}
    save("fewest", found | {"free": whole, "completion": beside, "guidance_cpu_ms": _time_guidance(model)})


def _measure(
    model: VideoModel, clips: Clips, observed: torch.Tensor, first: int
) -> tuple[dict[str, dict[str, float]], torch.Tensor]:
    """Closeness by the number of steps, of the frames from `first` on; and the samples of many steps."""
    reference = sample_clips(model, clips, observed, REFERENCE)
    found = {}
    for steps in FEWER + COUNTS:
        near = compare(sample_clips(model, clips, observed, steps)[:, :, first:], reference[:, :, first:])
        found[str(steps)] = asdict(near)
        print(f"{steps:3} steps: distance {near.distance:.3f}, spread {near.spread:.3f}", flush=True)
    return found, reference


def _time_guidance(model: VideoModel) -> dict[str, dict[str, float]]:
    """CPU milliseconds, the least of a few, of two passes of b clips and of one of 2b."""
    found = {}
    for b in BATCHES:
        two, one = 2 * _time_pass(model, b), _time_pass(model, 2 * b)
        found[str(b)] = {"two passes": two, "one pass": one}
        print(f"b = {b}: two passes {two:.0f} ms, one of 2b {one:.0f} ms", flush=True)
    return found


def _time_pass(model: VideoModel, b: int) -> float:
    times = (torch.arange(model.frames) / float(model.fps)).expand(b, -1)
    z = torch.zeros(b, model.codec.channels, model.frames, model.height, model.width)
    denoise, taken = model.denoiser(times, times < 0, ["a red circle"] * b, scale=1.0), []
    with torch.no_grad():
        for _ in range(REPEATS + 1):
            began = time.process_time()
            denoise(z, torch.zeros(b, model.frames))
            taken.append(1000 * (time.process_time() - began))
    return min(taken[1:])


if __name__ == "__main__":
    main()
