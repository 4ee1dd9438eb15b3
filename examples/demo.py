"""The main job, end to end on a plain CPU: video files to a dataset, to a model trained from nothing, to new videos.

    python examples/demo.py                    a world of moving shapes, measured against its known truth
    python examples/demo.py --videos my/clips  the same commands on your own videos, measured on what was held out

Everything it makes lies in demo/ (or --output): datasets, the run, videos, contact sheets, report.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

STEPS, USER_STEPS = 1400, 800
TRAINING_CLIPS, HELD_OUT_CLIPS = 1024, 64
MEASURED_CLIPS, MEASURED_SIDE = 4, 128  # of one's own videos; pixels of a square
MOST_FRAMES, SHOWN_SIDE = 48, 360  # of the piece that is extended and interpolated; pixels of its short side


def main() -> None:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the vidiff command does: threads that spin less share better
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, help="a folder of your own videos, with captions if you have them")
    parser.add_argument("--output", type=Path, default=Path("demo"), help="where everything goes; it is emptied first")
    parser.add_argument("--steps", type=int, help=f"training steps ({STEPS} for shapes, {USER_STEPS} for your videos)")
    given = parser.parse_args()
    if given.videos is not None and not given.videos.is_dir():
        sys.exit(f"Error: the folder of videos {given.videos} does not exist; give one with --videos.")
    began = time.monotonic()
    _empty(given.output)
    if given.videos is not None:
        _own_videos(given.videos, given.output, given.steps or USER_STEPS)
    else:
        _shapes(given.output, given.steps or STEPS)
    print(f"\nDone in {(time.monotonic() - began) / 60:.1f} minutes. Look at:", file=sys.stderr)
    for picture in sorted(given.output.rglob("*.png")):
        print(picture)


def vidiff(*arguments: str | Path | int) -> dict[str, Any]:
    """Runs one vidiff command as a person would, shows it, and returns its --json report."""
    words = [str(word) for word in arguments]
    print(f"\n$ vidiff {shlex.join(words)}", file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, "-m", "vidiff_cli", *words, "--json"], stdout=subprocess.PIPE, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(done.stdout)


def _shapes(folder: Path, steps: int) -> None:
    world, truth = folder / "world", folder / "held-out"
    vidiff("world", "shapes", world, "-n", TRAINING_CLIPS, "--seed", 0)
    vidiff("world", "shapes", truth, "-n", HELD_OUT_CLIPS, "--seed", 1)
    vidiff("prep", world, "-o", folder / "dataset", "--size", 16)
    trained = vidiff("train", folder / "dataset", "-o", folder / "run", "--preset", "tiny", "--steps", steps)
    model = ("-m", folder / "run", "--seed", 0)
    prompts = folder / "prompts.txt"
    prompts.write_text("\n".join(row["caption"] for row in _truth(truth)) + "\n", encoding="utf-8")
    vidiff("sample", "--prompts", prompts, "-o", folder / "samples", *model, "--compare")
    clip = truth / "clip-00000.mp4"
    vidiff("extend", clip, "--seconds", 1, "-o", folder / "extended.mp4", *model, "--compare")
    vidiff("interpolate", clip, "--fps", 16, "-o", folder / "interpolated.mp4", *model, "--compare")

    from shapes_report import measure  # beside this file; imports torch, which the commands did in their own processes

    report = measure(folder, truth, folder / "samples") | {"training": trained}
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _own_videos(videos: Path, folder: Path, steps: int) -> None:
    made = vidiff("prep", videos, "-o", folder / "dataset", "--size", 32, "--fps", 12)
    # four times the pixels of the shapes in patches four times as large: the same time a step; x is predicted then
    coarse = ("--preset", "tiny", "--set", "network.patch_size=4")
    report = {"prep": made}
    report["training"] = vidiff("train", folder / "dataset", "-o", folder / "run", *coarse, "--steps", steps)
    model = ("-m", folder / "run", "--seed", 0)
    rows = [json.loads(row) for row in (folder / "dataset" / "clips.jsonl").read_text("utf-8").splitlines()]
    captions = sorted({text for row in rows for text in row["captions"]})[:8]
    if captions:
        (folder / "prompts.txt").write_text("\n".join(captions) + "\n", encoding="utf-8")
        vidiff("sample", "--prompts", folder / "prompts.txt", "-o", folder / "samples", *model, "--compare")
    else:
        vidiff("sample", "-n", 4, "-o", folder / "samples", *model, "--compare")
    clips = _own_clips(rows, videos)
    if clips:
        report |= _complete(clips, folder, model)
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _own_clips(rows: list[dict[str, Any]], videos: Path) -> list[tuple[dict[str, Any], Path]]:
    """Clips that move and were held out, with their files; where none was, the first of the training."""
    found = [(row, _find(videos, row["source"])) for row in rows if row["frames"] > 1]
    moving = [(row, path) for row, path in found if path.is_file()]  # a folder of pictures is no input of extend
    held_out = [(row, path) for row, path in moving if row["split"] == "val"]
    if moving and not held_out:
        row, _ = moving[0]
        print(
            f"\nNo clip was held out (that takes two videos): what follows is {row['source']} at "
            f"{row['start_seconds']:.1f} s, which the model was trained on.",
            file=sys.stderr,
        )
    return held_out or moving[:1]


def _complete(clips: list[tuple[dict[str, Any], Path]], folder: Path, model: tuple[Any, ...]) -> dict[str, Any]:
    """A short piece of the first clip's video, extended and interpolated, for the eye; then some clips, measured."""
    import clips_report  # beside this file; imports torch, which the commands did in their own processes

    pieces = folder / "held-out"
    pieces.mkdir()
    row, source = clips[0]
    piece = pieces / "piece.mkv"
    clips_report.cut(source, row["start_seconds"], MOST_FRAMES, piece, side=SHOWN_SIDE, fps=Fraction(row["fps"]))
    vidiff("extend", piece, "--seconds", 1, "-o", folder / "extended.mp4", *model, "--compare")
    vidiff("interpolate", piece, "--factor", 2, "-o", folder / "interpolated.mp4", *model, "--compare")
    count, files = min(len(clips), MEASURED_CLIPS), []
    for number in range(count):
        row, source = clips[len(clips) * number // count]
        path, fps = pieces / f"clip-{number}.mkv", Fraction(row["fps"])
        clips_report.cut(source, row["start_seconds"], row["frames"], path, side=MEASURED_SIDE, fps=fps, square=True)
        files.append((f"{row['source']} at {row['start_seconds']:.1f} s", path))
    print(f"\nMeasuring what the model makes of {count} clips that it is given in part.", file=sys.stderr, flush=True)
    measured = clips_report.measure(folder / "run", files, folder / "sheets")
    return {"held_out": clips[0][0]["split"] == "val", "clips": measured}


def _find(videos: Path, source: str) -> Path:
    """A source of the dataset in the folder that it came from."""
    direct = videos / source
    return direct if direct.exists() else next(videos.rglob(Path(source).name))


def _truth(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "trajectories.json").read_text(encoding="utf-8"))


def _empty(folder: Path) -> None:
    """Removes an earlier demo, and nothing else."""
    if folder.exists():
        known = {"world", "held-out", "dataset", "run", "prompts.txt", "samples", "report.json", "sheets"}
        ends = (".mp4", ".json", "_sheet.png", "_compare.mp4")
        known |= {f"{kind}{end}" for kind in ("extended", "interpolated") for end in ends}
        foreign = [entry.name for entry in folder.iterdir() if entry.name not in known]
        if foreign:
            sys.exit(f"Error: {folder} holds {foreign[0]}, which no demo made; give another folder with --output.")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)


if __name__ == "__main__":
    main()
