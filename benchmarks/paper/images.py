"""Training on images beside clips (VDM table 4), against the same compute spent on clips alone.

    python -m benchmarks paper.images [--work DIR] [--count 256]

J images are shown beside each clip of 8 frames, in as many steps of as many clips; the last has no images and twice
the steps, so that it sees as many frames as J = 8. Captions, no guidance. `right`, `distance` and `images` as in
guidance.py; `training_cpu_seconds` is what each training cost. Writes benchmarks/results/paper-images.json and
docs/results/images.png.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.paper import common

MODELS = {"J = 0": "base", "J = 4": "images-4", "J = 8": "images-8", "J = 0, twice the steps": "twice"}


def main() -> None:
    asked = common.arguments(__doc__, count=256).parse_args()
    plot(common.compare("images", MODELS, asked).rows)


def plot(rows: dict[str, Any]) -> None:
    names = [name for name in MODELS if name in rows]
    places, labels = np.arange(len(names)), [name.replace(", ", ",\n") for name in names]
    with common.drawn("images", size=(11, 3.4)) as figure:
        panels = figure.subplots(1, 3)
        drawn = (("videos", "distance", "random"), ("frames", "images", "random"))
        for axes, (title, key, extractor) in zip(panels, drawn, strict=False):
            found = [rows[name][key][extractor]["frechet"] for name in names]
            floor = rows["truth"][key][extractor]["frechet"][0]
            middle = np.array([value[0] for value in found])
            reach = np.abs(np.array([value[1:] for value in found]).T - middle)
            axes.bar(places, middle / floor, yerr=reach / floor, color="C0")
            axes.axhline(1, color="black", linestyle=":")
            axes.set_title(f"Frechet distance, {title}\n(over that of true ones)")
        for number, word in enumerate(("shape", "motion", "all")):
            found = [rows[name]["right"][word] for name in names]
            middle = 100 * np.array([value[0] for value in found])
            reach = np.abs(100 * np.array([value[1:] for value in found]).T - middle)
            panels[2].bar(places + 0.27 * (number - 1), middle, 0.26, yerr=reach, color=f"C{number + 1}", label=word)
        panels[2].set(title="words read back, %", ylim=(0, 100))
        panels[2].legend(fontsize=7)
        for axes in panels:
            axes.set_xticks(places, labels, fontsize=8)
