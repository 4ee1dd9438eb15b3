"""Writes docs/films.md: real films against what needs no learning, from benchmarks/results/films*.json.

`--check` fails when the page is out of date instead.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "benchmarks" / "results"
PAGE = HERE / "films.md"
TEXT = HERE / "films.in.md"
OWN = {"people": "People, two of seven held out", "radar": "Weather radar, two of ten places held out"}


def main() -> None:
    page = TEXT.read_text("utf-8").format(films=films(), own=own(), machine=machine())
    if "--check" in sys.argv[1:]:
        if not PAGE.is_file() or PAGE.read_text("utf-8") != page:
            sys.exit(f"{PAGE} is out of date: run `make docs`")
        return
    PAGE.write_text(page, encoding="utf-8")
    print(PAGE)


def read(name: str) -> dict[str, Any] | None:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def machine() -> str:
    found = read("films")
    assert found is not None, "run python benchmarks/films.py films"
    return f"{found['machine']['processor']}, {found['machine']['threads']} thread, torch {found['versions']['torch']}"


def films() -> str:
    found = read("films")
    assert found is not None, "run python benchmarks/films.py films"
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


if __name__ == "__main__":
    main()
