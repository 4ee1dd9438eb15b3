"""The section of docs/upscaling.md on the frames between, from benchmarks/results/between-*.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tools.docs.conditioning import table
from vidiff_cli.worlds.accuracy import ALL

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
NAMES = {"both": "model, weighed on the film", "model alone": "model as it is", "estimate": "estimate by motion"}


def section() -> str:
    """The section; a table whose benchmark was not run is left out."""
    return f"""## The frames between

```bash
vidiff train dataset --task frames -o runs/between                          # on crops, any clips of 3 frames or more
vidiff interpolate clip.mp4 --fps 60 -m runs/between                        # at the film's own size
vidiff sample "..." -m runs/base --then runs/between --fps 24 -o out.mp4    # the base makes fewer frames a second
vidiff cascade runs/base runs/between runs/upscale -o runs/all              # all as one model
```

The temporal stage is the same network around another estimate: that by motion between given frames, with the spread
$S$ that it has at each pixel. Beside it the network is shown by how much the later given frame, moved to the same time,
differs from the earlier one; it is told which frames are given. It makes nothing beyond given frames, which stay bit
for bit. One network takes any factor: its windows in training have every pattern of given frames between two given
ends. In a cascade `--fps` sets the factor, and without it the rate of the base doubles; frames are not made across a
cut. The film itself says how much of the network's corrections counts, as of any model that interpolates.

{_shapes()}{_films()}"""


def _read(name: str) -> dict[str, Any] | None:
    path = RESULTS / f"between-{name}.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def _shapes() -> str:
    found = _read("shapes")
    if found is None:
        return ""
    tasks = list(found["true"])
    ways = sorted(found["true"][tasks[0]], key=lambda way: found["true"][tasks[0]][way]["psnr"])
    rows = [
        [
            way,
            *(f"{found['true'][task][way]['psnr']:.2f}" for task in tasks),
            f"{found['true'][tasks[0]][way]['cpu_ms']:.0f}",
        ]
        for way in ways
    ]
    cascade = []
    for name, row in sorted(found["cascade"].items(), key=lambda item: item[1]["words"][ALL]["right"]):
        right = row["words"][ALL]
        low, high = (100 * value for value in right["interval"])
        cascade.append(
            [
                name,
                f"{100 * right['right']:.0f} % ({low:.0f} to {high:.0f})",
                f"{row['distance']['random']['frechet'][0]:.4f}",
                f"{row['distance']['shapes']['frechet'][0]:.1f}",
                f"{row['cpu_seconds']:.2f}" if name != "truth" else "",
            ]
        )
    head = ["frames made", *(f"{task}: PSNR" for task in tasks), "CPU ms a frame"]
    return f"""**Shapes.** A model trained for {found["steps"]} steps ({found["training_cpu_seconds"]:.0f} CPU s) on the
world of the model in the box, one seed; {found["clips"]} true videos of 32x32 that it never saw
(`python -m benchmarks between shapes`):

{table(head, rows)}

In a cascade, {found["captions"]} captions that were not trained on: the model in the box at 16 frames a second, and at
8 with the frames between.

{table(["", "all words right", "distance, random features", "distance, shapes", "CPU s a video"], cascade)}

![The ways by caption](results/between.png)

"""


def _films() -> str:
    found = _read("films")
    if found is None:
        return ""
    parts = []
    for task, ways in found["summary"].items():
        rows = [
            [
                NAMES.get(name, name),
                f"{row['psnr']:.2f}",
                f"{row['gain']:+.2f}",
                f"{row['worst_gain']:+.2f} ({row['worst_clip']})",
                str(row["lost"]),
                f"{row['ssim']:.4f}",
                f"{row['cpu_ms']:.0f}" if "cpu_ms" in row else "",
            ]
            for name, row in sorted(ways.items(), key=lambda item: item[1]["psnr"])
        ]
        head = [task, "PSNR", "over blending", "worst clip", "clips lost", "SSIM", "CPU ms a frame"]
        parts.append(table(head, rows))
    return f"""**Real films.** {len(found["clips"])} clips at their own size that nothing was tuned on,
{found["frames"]} frames around the middle of each (`python -m benchmarks between films`), and a model that has seen
{found["clips_seen"]:,} crops of generated films.

After so short a training it adds nothing to the estimate by motion between frames of real films, at several times its
cost; the weight takes its errors away. `--detail estimate` is the better choice until a model was trained for longer.

{(chr(10) * 2).join(parts)}

"""
