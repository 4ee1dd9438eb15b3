"""Samplers against the number of times that they call the network.

    python -m benchmarks paper.samplers [--work DIR] [--count 128]

The same model, captions and seeds, no guidance: one call per step. `right`, `distance` and `images` as in guidance.py;
`off_limit`: dpmpp-2m and ddim solve one equation from the same noise, and this is how far (root mean square, pixels in
[-1, 1]) a video is from the one that dpmpp-2m makes of it with 128 calls. ddpm draws noise and has no such limit.
Writes benchmarks/results/paper-samplers.json and docs/results/samplers.png.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.paper import common, measuring, models

CALLS = {"dpmpp-2m": (8, 16, 32, 64), "ddim": (8, 16, 32, 64), "ddpm": (64, 256)}
LIMIT = 128


def main() -> None:
    asked = common.arguments(__doc__, count=128).parse_args()
    model, about = models.open_trained("long", asked.work)
    truth = measuring.true_videos(asked.count, models.FRAMES, seed=measuring.TESTED, moved=True)
    yardsticks = measuring.of_windows()
    facts = {"model": about, "guidance_scale": 1, "distances": yardsticks.facts, "videos": asked.count}
    results = common.Results("samplers", facts)
    results.row("truth", lambda: yardsticks.measure(truth.scenes, truth.frames))
    captions = [scene.caption for scene in truth.scenes]
    limit, _ = common.sampled(model, captions, asked.work / "samples", sampler="dpmpp-2m", steps=LIMIT)
    for sampler, counts in CALLS.items():
        for steps in counts:
            videos, seconds = common.sampled(model, captions, asked.work / "samples", sampler=sampler, steps=steps)
            results.row(
                f"{sampler} {steps}",
                lambda videos=videos, seconds=seconds, sampler=sampler: {
                    **yardsticks.measure(truth.scenes, videos),
                    "off_limit": None if sampler == "ddpm" else off(videos, limit),
                    "cpu_seconds": round(seconds, 1),
                },
            )
    plot(results.rows)


def off(videos: np.ndarray, limit: np.ndarray) -> list[float | None]:
    """Root mean square difference of two sets of the same videos, with its interval."""
    squares = np.square((videos.astype(np.float64) - limit) / 127.5).mean(axis=(1, 2, 3, 4))
    return [None if value is None else float(f"{value**0.5:.4g}") for value in measuring.mean(squares)]


def plot(rows: dict[str, Any]) -> None:
    with common.drawn("samplers", size=(11, 3.4)) as figure:
        distance, limit, right = figure.subplots(1, 3)
        for number, (sampler, counts) in enumerate(CALLS.items()):
            found = [rows[f"{sampler} {steps}"]["distance"]["random"]["frechet"] for steps in counts]
            middle = np.array([value[0] for value in found])
            reach = np.abs(np.array([value[1:] for value in found]).T - middle)
            shifted = np.array(counts) * 1.06 ** (number - 1)
            distance.errorbar(shifted, middle, reach, marker="o", color=f"C{number}", label=sampler)
            values = [100 * rows[f"{sampler} {steps}"]["right"]["all"][0] for steps in counts]
            right.plot(counts, values, "o-", color=f"C{number}", label=sampler)
            if sampler != "ddpm":
                away = [rows[f"{sampler} {steps}"]["off_limit"][0] for steps in counts]
                limit.loglog(counts, away, "o-", color=f"C{number}", label=sampler)
        distance.axhline(rows["truth"]["distance"]["random"]["frechet"][0], color="black", linestyle=":", label="true")
        distance.set(title="Frechet distance (random)", xscale="log", ylim=(0, None))
        limit.set_title("off the same videos with 128 calls\n(root mean square)")
        right.axhline(100 * rows["truth"]["right"]["all"][0], color="black", linestyle=":")
        right.set(title="all words read back, %", xscale="log", ylim=(0, 102))
        for axes in (distance, limit, right):
            axes.set_xlabel("calls of the network")
            axes.set_xticks((8, 16, 32, 64, 256), ("8", "16", "32", "64", "256"))
            axes.minorticks_off()
        distance.legend(fontsize=7)
