"""Prediction targets: the noise (eps), v or x, each with plain MSE or what suits it, seed and steps the same.

    python -m benchmarks paper.targets [--work DIR] [--count 256]

Captions, no guidance. `right`, `distance` and `images` as in guidance.py; `color_drift` is how much the mean color of
a frame wanders over a clip (standard deviation, 8-bit levels), in which eps is said to be worse. Writes
benchmarks/results/paper-targets.json, docs/results/targets.png and targets-sheet.png.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.paper import common
from vidiff_cli.viz.contact_sheet import SheetRow, contact_sheet

MODELS = {"v": "v", "eps": "eps", "x": "base"}


def main() -> None:
    asked = common.arguments(__doc__, count=256).parse_args()
    made = common.compare("targets", MODELS, asked)
    rows = [
        SheetRow(label=f"{name}: {caption}", frames=videos[number])
        for number, caption in enumerate(made.captions[:2])
        for name, videos in made.videos.items()
    ]
    contact_sheet(rows, common.PLOTS / "targets-sheet.png")
    plot(made.rows)


def plot(rows: dict[str, Any]) -> None:
    names = [name for name in MODELS if name in rows]
    with common.drawn("targets", size=(11, 3.2)) as figure:
        panels = figure.subplots(1, 3)
        for shift, extractor in ((-0.2, "random"), (0.2, "changes")):
            found = [rows[name]["distance"][extractor]["frechet"] for name in names]
            floor = rows["truth"]["distance"][extractor]["frechet"][0]
            middle = np.array([value[0] for value in found])
            reach = np.abs(np.array([value[1:] for value in found]).T - middle)
            panels[0].bar(np.arange(len(names)) + shift, middle / floor, 0.38, yerr=reach / floor, label=extractor)
        panels[0].set_title("Frechet distance, videos\n(over that of true ones)")
        panels[0].set_yscale("log")
        panels[0].legend(fontsize=8)
        panels[1].bar(range(len(names)), [rows[name]["color_drift"][0] for name in names], color="C3")
        panels[1].axhline(rows["truth"]["color_drift"][0], color="black", linestyle=":", label="true clips")
        panels[1].set_title("wandering of the mean color\n(levels of 255)")
        panels[1].legend(fontsize=8)
        panels[2].bar(range(len(names)), [100 * rows[name]["right"]["all"][0] for name in names], color="C2")
        panels[2].set(title="all words read back, %", ylim=(0, 100))
        for axes in panels:
            axes.set_xticks(range(len(names)), names)
