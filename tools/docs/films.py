"""docs/films.md: real films against methods without learning, from benchmarks/results/films*.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
TEXT = """# Real films, measured

<!-- made by `make docs` from benchmarks/results: run the benchmarks named here, not an editor -->

`vidiff interpolate` and `vidiff extend` make new frames at the film's own size in two parts: an *estimate* that needs
no learning, and what a model corrects in it.

**Between two frames** optical flow (dense inverse search, both directions) is projected to the wanted time, both
frames are moved there, and mixed by time and by what is visible; the frames before and after tell how the motion
speeds up. Where the moved frames agree no better than the unmoved ones, their blend is taken. **Beyond the last
frame** its motion goes on as far as the film's own past says that motion goes on: how fast it dies, and how much of
the last frame stays, is what would have predicted the past frames from one another. Across a cut the nearer frame is
repeated, beside a flash the frames around it are taken, between two frames of which one repeats the other nothing is
made. Every pixel has an expected error (`--compare` shows it), calibrated on the same clips.

**A model** sees that estimate and its uncertainty, and corrects it at its own size. Before it is used, some of the
film's own frames are held back and made by it; the share of its corrections that was right of them is the share that
counts. So a model that does not know the film takes next to nothing away. A model that is shown the motion makes
frames between others in one step, the mean of what is possible; `--steps 30` samples one of the possibilities instead,
`--samples K` is the mean of K. Frames beyond the last take several steps, for a mean of means fades
([measured](conditioning.md)).

**Measured** ({machine}): real clips at their own size, 33 frames around the middle of each. A frame's PSNR is capped
at 50 dB, a clip's is the mean over its frames, and a row is the mean over clips. *Bias* is how much brighter made
frames are than true ones, in levels of luma. CPU time is that of the whole command and its children, decoding and
encoding without loss included. "minterpolate" is ffmpeg's, as it comes and with overlapping blocks and both
directions (its best). Losses first.

{films}
The worst frames of the two films of the first table that gain least between every 4th frame (`python
-m benchmarks films worst`): the truth, blending, minterpolate at its best, the estimate. A propeller that turns
further than its blades are apart, particles that wander, and what no motion explains are blended as before.

![Worst frames: truth, blending, minterpolate, estimate](results/films-worst.jpg)

## A model trained on one's own clips

`small` with base 32 (2.4 M parameters), windows of 16 frames of 64x64, 1,500 steps of 6 clips: about 28 CPU minutes.
The clips are of persons or places that it never saw. "both" takes one step, the default between frames (beyond them it
is now as many as were measured for the model, or 6); "model alone" is what the model makes without the weight.

{own}
Made by `python -m benchmarks films films` and `python -m benchmarks films own NAME FOLDER MODEL`.
"""
OWN = {"people": "People, two of seven held out", "radar": "Weather radar, two of ten places held out"}


def page() -> str:
    """Return the page: the text around the tables of films.json and of the files of a corpus's own model."""
    return TEXT.format(films=films(), own=own(), machine=machine())


def read(name: str) -> dict[str, Any] | None:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def machine() -> str:
    found = read("films")
    assert found is not None, "run python -m benchmarks films films"
    return f"{found['machine']['processor']}, {found['machine']['threads']} thread, torch {found['versions']['torch']}"


def films() -> str:
    found = read("films")
    assert found is not None, "run python -m benchmarks films films"
    halves = found["halves"]
    parts = []
    for half, title in (
        ("reported", "Clips that nothing was tuned on"),
        ("tuned", "Clips that constants were tuned on"),
    ):
        if half in halves:
            parts += [
                f"### {title} ({len(halves[half]['clips'])})\n",
                table(halves[half]["summary"]),
                clips(halves[half]),
            ]
    return "\n".join(parts)


def own() -> str:
    parts = []
    for name, title in OWN.items():
        if (found := read(f"films-{name}")) is not None:
            parts += [f"### {title} ({len(found['clips'])} clips)\n", table(found["summary"])]
    return "\n".join(parts)


def table(summary: dict[str, Any]) -> str:
    """A table per task: ways by their gain over the simple one, losers first."""
    lines = []
    for task, ways in summary.items():
        simple = "freezing" if "after" in task else "blending"
        at = " at +4" if "after" in task else ""
        lines += [
            f"| {task} | PSNR{at} | gain over {simple} | worst clip | clips lost | SSIM | bias | CPU ms a frame |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for way, row in sorted(ways.items(), key=lambda each: each[1]["gain"]):
            psnr = row["+4"] if "after" in task else row["psnr"]
            cost = f"{row['cpu_ms']:.0f}" if "cpu_ms" in row else ""
            ssim = f"{row['ssim']:.4f}" if "ssim" in row else ""
            bias = f"{row['bias']:+.2f}" if "bias" in row else ""
            gain = "" if way == simple else f"{row['gain']:+.2f}"
            worst = "" if way == simple else f"{row['worst_gain']:+.2f} ({row['worst_clip']})"
            lost = "" if way == simple else row["lost"]
            lines.append(f"| {way} | {psnr:.2f} | {gain} | {worst} | {lost} | {ssim} | {bias} | {cost} |")
        lines.append("")
    return "\n".join(lines)


def clips(half: dict[str, Any]) -> str:
    """One row per clip: the gain of the estimate and of the better minterpolate."""
    lines = [
        "| clip | size | every 2nd: estimate, minterpolate | every 4th | 8 after 16, at +1, +4, +8 |",
        "|---|---|---|---|---|",
    ]
    for row in half["clips"]:
        cells = []
        for task in ("every 2nd", "every 4th"):
            simple = row[task]["blending"]["psnr"]
            best = max(row[task][way]["psnr"] for way in row[task] if way.startswith("minterpolate"))
            cells.append(f"{row[task]['estimate']['psnr'] - simple:+.2f}, {best - simple:+.2f}")
        after = row.get("8 after 16") or {}
        gains = [
            f"{after['estimate'][at] - after['freezing'][at]:+.2f}"
            for at in ("+1", "+4", "+8")
            if after and at in after["estimate"]
        ]
        lines.append(f"| {row['clip']} | {row['size']} | {cells[0]} | {cells[1]} | {', '.join(gains)} |")
    return "\n".join([*lines, ""])
