"""The scale of classifier-free guidance against accuracy and distance (VDM table 5).

    python -m benchmarks paper.guidance [--work DIR] [--count 128]

Captions as in training, one window each. `right`: the share of captions whose words the oracle reads back from the
frames; `distance` of the videos and `images` of their single frames to true ones. Writes
benchmarks/results/paper-guidance.json and docs/results/guidance.png.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.paper import common, measuring, models

SCALES = (1.0, 1.5, 2.0, 3.0, 5.0, 8.0)


def main() -> None:
    asked = common.arguments(__doc__, count=128).parse_args()
    model, about = models.open_trained("long", asked.work)
    truth = measuring.true_videos(asked.count, models.FRAMES, seed=measuring.TESTED, moved=True)
    yardsticks = measuring.of_windows()
    facts = {"model": about, "sampling": common.SAMPLING, "distances": yardsticks.facts, "videos": asked.count}
    results = common.Results("guidance", facts)
    results.row("truth", lambda: yardsticks.measure(truth.scenes, truth.frames))
    captions = [scene.caption for scene in truth.scenes]
    for scale in SCALES:
        videos, seconds = common.sampled(model, captions, asked.work / "samples", guidance_scale=scale)
        results.row(
            f"{scale:g}",
            lambda videos=videos, seconds=seconds: (
                yardsticks.measure(truth.scenes, videos) | {"cpu_seconds": round(seconds, 1)}
            ),
        )
    plot(results.rows)


def plot(rows: dict[str, Any]) -> None:
    with common.drawn("guidance", size=(11, 3.4)) as figure:
        distance, images, right = figure.subplots(1, 3)
        for axes, key in ((distance, "distance"), (images, "images")):
            for extractor, color in (("random", "C0"), ("changes", "C1"), ("shapes", "C2")):
                if extractor not in rows["truth"][key]:
                    continue
                found = [rows[f"{scale:g}"][key][extractor]["frechet"] for scale in SCALES]
                floor = rows["truth"][key][extractor]["frechet"][0]
                middle = np.array([value[0] for value in found])
                reach = np.abs(np.array([value[1:] for value in found]).T - middle)
                axes.errorbar(SCALES, middle / floor, reach / floor, marker="o", color=color, label=extractor)
            axes.set(xscale="log", yscale="log", xlabel="guidance scale")
            axes.set_yticks((1, 2, 4, 8, 16), ("1", "2", "4", "8", "16"))
            axes.set_xticks(SCALES, [f"{scale:g}" for scale in SCALES])
            axes.minorticks_off()
        distance.set_title("Frechet distance, videos\n(over that of true ones)")
        images.set_title("Frechet distance, frames\n(over that of true ones)")
        distance.legend(fontsize=8)
        for number, name in enumerate(("all", "color", "shape", "size", "motion")):
            right.plot(
                SCALES,
                [100 * rows[f"{scale:g}"]["right"][name][0] for scale in SCALES],
                "o-",
                label=name,
                color=f"C{number}",
            )
        right.axhline(100 * rows["truth"]["right"]["all"][0], color="C0", linestyle=":", label="all, true clips")
        right.set(title="words read back, %", xscale="log", xlabel="guidance scale", ylim=(0, 102))
        right.set_xticks(SCALES, [f"{scale:g}" for scale in SCALES])
        right.minorticks_off()
        right.legend(fontsize=7)
