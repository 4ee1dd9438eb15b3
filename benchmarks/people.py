"""A longer run on real clips: people who move, 64x64, one person held out; what it learned, in figures and sheets.

    python -m benchmarks people CLIPS [--steps 1600]

CLIPS is a folder of 64x64 clips with a metadata.csv that names the `person` of each (the tests' weizmann_actions). The
commands are those that a user would type: prep with the person held out, train, sample. Then clips of the person that
it never saw, with their captions and without guidance: frames between every 2nd and every 4th by each condition,
against linear blending and the nearest frame (PSNR of the made frames); 8 frames after 8 (PSNR, and the change across
the seam over the true one). Everything lies in runs/people/; goes on where it was interrupted. Writes
benchmarks/results/people.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import save
from examples import shapes_report as report
from vidiff_cli.config.generate import GenerationSettings
from vidiff_cli.dataset.dataset import open_dataset
from vidiff_cli.generation.load_model import open_model
from vidiff_cli.viz.contact_sheet import SheetRow, contact_sheet

FOLDER = Path("runs") / "people"
PERSON, CLIPS_PER_SOURCE = "p6", 1
WAYS = {
    "learned": {"condition": "learned", "history_guidance": 1.0},
    "reconstruction": {"condition": "reconstruction"},
    "replacement": {"condition": "replacement"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--measure-only", action="store_true", help="of the checkpoint that is there")
    given = parser.parse_args()
    run = FOLDER / "run"
    if not given.measure_only:
        prepare = ["--size", 64, "--frames", 16, "--stride", 4, "--split-by", "person", "--hold-out", PERSON]
        vidiff("prep", given.clips, "-o", FOLDER / "dataset", *prepare)
        vidiff("train", FOLDER / "dataset", "-o", run, "--preset", "small", "--steps", given.steps)
    vidiff("sample", "--prompts", prompts(), "-n", 2, "-o", FOLDER / "samples", "-m", run, "--seed", 0, "--overwrite")
    figures = measure(run)
    for name, table in figures["held_out"].items():
        for way, row in table.items():
            print(f"{name:14} {way:22} PSNR {row['psnr']:6.2f} dB  seam {row['seam_jump']:5.2f}", file=sys.stderr)
    save("people", figures)


def vidiff(*arguments: object) -> None:
    """Runs a vidiff command as a person would."""
    words = [sys.executable, "-m", "vidiff_cli", *(str(word) for word in arguments)]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def prompts() -> Path:
    """A file with every caption of the dataset."""
    path = FOLDER / "prompts.txt"
    path.write_text("\n".join(sorted(set(open_dataset(FOLDER / "dataset").captions()))) + "\n", encoding="utf-8")
    return path


def measure(run: Path) -> dict[str, Any]:
    dataset = open_dataset(FOLDER / "dataset")
    by_source: dict[str, list[int]] = {}
    for index in dataset.split("val"):
        by_source.setdefault(dataset.clips[index].source, []).append(index)
    rows = [list_[place] for list_ in by_source.values() for place in spread(len(list_), CLIPS_PER_SOURCE)]
    clips = np.stack([dataset.frames(row, range(16)) for row in rows])
    captions = [dataset.clips[row].captions[0] for row in rows]
    model = open_model(run)
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        "person_held_out": PERSON,
        "clips": len(rows),
        "steps": metrics[-1]["step"],
        "loss": {
            str(step): float(
                np.mean([row["loss"] for row in metrics if "loss" in row and step - 50 < row["step"] <= step])
            )
            for step in range(100, metrics[-1]["step"] + 1, max(100, metrics[-1]["step"] // 10 // 100 * 100))
        },
        "checkpoint_sha256": model.hash,
        "held_out": {
            "between 2": between(model, clips, captions, 2),
            "between 4": between(model, clips, captions, 4),
            "8 after 8": after(model, clips, captions),
        },
    }


def spread(count: int, wanted: int) -> list[int]:
    """`wanted` places of `count`, evenly."""
    return sorted({round(place) for place in np.linspace(0, count - 1, wanted)})


def between(model: Any, clips: np.ndarray, captions: list[str], every: int) -> dict[str, dict[str, float]]:
    length = (clips.shape[1] - 1) // every * every + 1
    clips = clips[:, :length]
    blended, nearest = clips.astype(float), clips.copy()
    for frame in range(length):
        left, share = frame // every * every, frame % every / every
        if share:
            blended[:, frame] = (1 - share) * clips[:, left] + share * clips[:, left + every]
            nearest[:, frame] = clips[:, left + every * (share > 0.5)]
    made = {"blending": np.rint(blended).astype(np.uint8), "nearest frame": nearest}
    return compare(model, clips, captions, range(0, length, every), made, f"between-{every}")


def after(model: Any, clips: np.ndarray, captions: list[str]) -> dict[str, dict[str, float]]:
    frozen = clips.copy()
    frozen[:, 8:] = clips[:, 7:8]
    return compare(model, clips, captions, range(8), {"freezing": frozen}, "after")


def compare(
    model: Any, clips: np.ndarray, captions: list[str], given: range, made: dict[str, np.ndarray], name: str
) -> dict[str, dict[str, float]]:
    for way, choice in WAYS.items():
        settings = GenerationSettings.model_validate({**choice, "guidance_scale": 1.0, "seed": 0})
        made[way] = report.complete(model, clips, given, settings, captions)
    ranks = [frame for frame in range(clips.shape[1]) if frame not in given]
    for number in range(0, len(clips), max(1, len(clips) // 4)):
        sheet = [SheetRow(label="truth", frames=clips[number])]
        sheet += [SheetRow(label=way, frames=frames[number], given=list(given)) for way, frames in made.items()]
        contact_sheet(sheet, FOLDER / f"{name}-{number}.png")
    return {way: scores(frames, clips, ranks) for way, frames in made.items()}


def scores(made: np.ndarray, clips: np.ndarray, ranks: list[int]) -> dict[str, float]:
    """PSNR in dB over the made frames, mean over clips; change into the first made frame over the true change."""
    errors = np.square(made[:, ranks].astype(float) - clips[:, ranks]).mean(axis=(1, 2, 3, 4))
    step = [np.square(v[:, ranks[0]].astype(float) - v[:, ranks[0] - 1]).mean() for v in (made, clips)]
    return {"psnr": float((10 * np.log10(255**2 / errors)).mean()), "seam_jump": float(step[0] / step[1])}
