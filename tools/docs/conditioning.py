"""docs/conditioning.md, from the figures in benchmarks/results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
PLOTS = "../benchmarks/results"
FOLLOWED = {
    "px_1": "first 4 frames, px",
    "px_1_2": "first 8, px",
    "px_1_4": "first 16, px",
    "thing_kept": "object kept",
    "motion_kept": "motion kept",
    "seam": "change at joins",
    "inside": "change inside",
    "drift": "no drift",
}
LOOKS = ("mean", "contrast", "saturation", "sharpness", "motion")
OPENING = """# Ways to condition, measured

`vidiff extend` and `vidiff interpolate` sample some frames given others; `--condition` says how the given ones act.
Every table has all three ways on the same checkpoint with the same seeds. `auto` takes `learned` for a model that was
trained on given frames (`--conditioning mixed`, the default of `vidiff train`), else `reconstruction`, and says which.

The seam jump is the change from the last given to the first new frame over the true one: 1 is the target, more is a
visible seam, less is motion that freezes at the join. Intervals are 95 %, by drawing clips again.

<!-- made by `make docs` from benchmarks/results: run the benchmarks named here, not an editor -->
"""


def page() -> str:
    parts = [
        OPENING,
        exact(),
        methods(),
        history(),
        levels(),
        weights(),
        weights_of_people(),
        drift(""),
        drift("-people"),
        interpolation(),
        cost(),
    ]
    return "\n".join(part for part in parts if part)


def found(name: str) -> dict[str, Any] | None:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def exact() -> str:
    rows = found("oracle")["rows"]  # type: ignore[index]
    picked: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        guided = row["condition"] == "reconstruction" and row["weight"] == 5.0
        if row["sampler"] == "dpmpp-2m" and (guided or row["condition"] in ("replacement", "exact")):
            cell = f"{row['seam_jump']:.2f} / {row['distance']:.2f}"
            picked.setdefault((row["process"], row["plan"]), {})[row["condition"]] = cell
    ways = ("replacement", "reconstruction", "exact")
    lines = [[*key, *(cells.get(way, "") for way in ways)] for key, cells in picked.items()]
    return f"""## Where the truth is known exactly

Videos of a Gaussian process have an ideal denoiser, so that what a way to condition gets wrong is its own error
(`python -m benchmarks oracle`): seam jump / Frechet distance, dpmpp-2m, weight 5 for pixels of unit variance. `exact`
is what a perfectly learned condition would do. The tests hold every plan to these.

{table(["process", "plan", *ways], lines)}
"""


def methods() -> str:
    data = found("conditioning-methods")
    if data is None:
        return ""
    lines = [
        [
            way,
            _ranged(row["center_px"]),
            f"{row['center_px_by_frame'][0][0]:.2f}",
            f"{row['center_px_by_frame'][-1][0]:.2f}",
            f"{row['first_frame_mse'][0]:.4f}",
            _ranged(row["seam_jump"]),
            f"{100 * row['identity_kept'][0]:.0f} %",
        ]
        for way, row in data["ways"].items()
    ]
    head = ["", "center off by, px", "first frame", "last frame", "MSE of the first frame", "seam jump", "object kept"]
    return f"""## A trained model that goes on

The demo's model, {data["made"]} frames after {data["given"]} of {data["clips"]} held-out clips, without a caption
(`python -m benchmarks conditioning methods`). Straight motion whose truth is known; "object kept" is the share of clips
whose color, shape and size are read back from the new frames as they were.

{table(head, lines)}

![]({PLOTS}/conditioning-methods.png)
"""


def history() -> str:
    kinds = {"": found("history"), "distilled, ": found("history-distilled")}
    lines, clips = [], set[str]()
    for kind, data in kinds.items():
        for steps, tasks in (data or {"tasks": {}})["tasks"].items():
            for task, ways in tasks.items():
                for way, row in ways.items():
                    error, change = row["error_px"], row["of scale 1"]
                    against = "" if way == "scale 1" else _percent(change)
                    lines.append([f"{kind}{steps}", task, way, _interval(error), against])
                    clips.add(str(error["videos"]))
    if not lines:
        return ""
    return f"""## History guidance

The built-in model on {" or ".join(sorted(clips))} held-out clips of straight motion, half of 16 frames given or every
4th (`python -m benchmarks history`): how far the object's center is off, and the change against scale 1 on the same
clips. `--history-guidance` takes one pass of the network more per step, as guidance by the caption does ("text").
"Distilled" is a student of this model for 4 steps (`vidiff distill builtin`).

{table(["", "frames made", "guidance", "center off by, px", "against scale 1"], lines)}
"""


def levels() -> str:
    if (results := found("levels")) is None:
        return ""
    seeds = max(len(row["models"]) for row in results["rows"].values() if "models" in row)
    videos, frames, given = results["videos"], results["frames"], results["given"]
    return f"""## A noise level for every frame

{videos} true videos of {frames} frames whose first {given} are given, world `lasting`, no text guidance
(`python -m benchmarks levels`). All models are alike and trained for {results["steps"]} steps, without the estimate by
motion; they differ in the shares of `objective.levels` alone: *shared + observed* is the default, *independent* has a
level of its own for every frame of every clip, *mixture* is half of that and a quarter of sloped clips. Seeds of
training: {seeds}. *Sloped* is `--scheme rolling`, *history* is `--history-guidance`. How far the object's center is off
in the first frames, whether object and motion are read back right at the end, the change of pixels across the joins and
inside of windows over that of true videos (1 is right), and the share of videos that stay within the bounds of drift;
the last column is for all {videos} videos.

{_followed(results["rows"])}
{_verdict(results["rows"])}{_free(results.get("free", {}))}{_with_motion()}"""


def _followed(rows: dict[str, Any]) -> str:
    """The table of what became of the object in each row."""
    lines = []
    for row in rows.values():
        figures = [_interval(dict(zip(("value", "low", "high"), row[name]["mean"], strict=True))) for name in FOLLOWED]
        cost = [f"{sum(row['cpu_seconds']) / len(row['cpu_seconds']):.0f}" if "cpu_seconds" in row else ""]
        lines.append([row["training"], row["scheme"], *figures, *cost])
    return table(["trained on", "sampled", *FOLLOWED.values(), "CPU s"], lines)


def _with_motion() -> str:
    """The same with networks that are shown the estimate by motion."""
    if (results := found("levels-motion")) is None:
        return ""
    return f"""
### With the estimate by motion

The same videos by networks that are shown the estimate by motion, the default of `vidiff train` (one seed; `python -m
benchmarks levels sample --name levels-motion`). *Between*: every 4th frame is given.

{_followed(results["rows"])}

- Beyond the given frames, one step fades: the mean of what is possible is blurred, and the next window goes on from it.
  So `extend` takes several steps; `interpolate` takes one, where frames on both sides leave little open.
- History guidance harms: the pass without the frames lacks the estimate too, and what is between the two is no
  direction to go on in. Such a model has none by default.
- *Mixture* keeps more objects and motion beyond the frames, and its joins between frames are right; inside of windows
  less changes. Most differences are no larger than their intervals, so the default is still *shared + observed*.
"""


def _verdict(rows: dict[str, Any]) -> str:
    """The best of the table beside the default of today."""
    best, usual = (rows.get(key) for key in ("independent | sloped + history 1.5", "shared + observed | learned"))
    if best is None or usual is None:
        return ""

    def both(name: str, digits: int, factor: float = 1.0) -> str:
        return f"{factor * best[name]['mean'][0]:.{digits}f} for {factor * usual[name]['mean'][0]:.{digits}f}"

    return f"""
For long videos train with `--set objective.levels.independent=1` and extend with `--scheme rolling`: beside the default
training and scheme without history guidance, {both("motion_kept", 0, 100)} % keep their motion and
{both("thing_kept", 0, 100)} % their object, the change at joins is {both("seam", 2)}, and the first frames are
{both("px_1", 2)} px off. The default is still *shared + observed*, for networks that are shown the estimate by motion
gain less (below). Levels by frame were not measured on films.
"""


def _free(results: dict[str, Any]) -> str:
    """The same trainings without given frames, means over their seeds."""
    rows = []
    for name, row in results.items():
        if name in ("captions", "distances"):
            continue
        measures = row.get("measures", [row])
        figures = [
            _seeds([measure["right"]["all"][0] for measure in measures], 2),
            _seeds([measure["right"]["motion"][0] for measure in measures], 2),
            _seeds([measure["distance"]["random"]["frechet"][0] for measure in measures], 4),
            _seeds([measure["distance"]["shapes"]["frechet"][0] for measure in measures], 1),
        ]
        training, _, how = name.partition(" | ")
        steps, _, shift = (how or "16:0").partition(":")
        steps = "" if name == "truth" else steps if float(shift) == 0 else f"{steps} (shift {shift})"
        rows.append([training, steps, *figures])
    if not rows:
        return ""
    head = ["trained on", "steps", "all words right", "motion right", "distance, random features", "distance, shapes"]
    return f"""
The same models from a caption alone, one window of {results["captions"]} captions, guidance scale 2
(`python -m benchmarks levels free`). Levels by frame take nothing from the words; *independent* has a little more
distance from true videos, *mixture* a little less. Means over seeds, and in brackets each seed.

{table(head, rows)}
"""


def _seeds(values: list[float], digits: int) -> str:
    mean = f"{sum(values) / len(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({', '.join(f'{value:.{digits}f}' for value in values)})"


def _interval(row: dict[str, float]) -> str:
    return f"{row['value']:.2f} ({row['low']:.2f} to {row['high']:.2f})"


def _percent(row: dict[str, float]) -> str:
    return f"{100 * row['value']:+.0f} % ({100 * row['low']:+.0f} to {100 * row['high']:+.0f})"


def weights() -> str:
    data = found("conditioning-weights")
    if data is None:
        return ""
    counts = sorted({row["given"] for row in data["results"]})
    cells: dict[tuple[str, float], dict[int, str]] = {}
    for row in data["results"]:
        cell = f"{row['center_px']:.2f} px, {row['seam_jump']:.2f}"
        cells.setdefault((row["sampler"], row["weight"]), {})[row["given"]] = cell
    lines = [[sampler, f"{weight:g}", *(of[count] for count in counts)] for (sampler, weight), of in cells.items()]
    head = ["sampler", "weight", *(f"{count} given" for count in counts)]
    return f"""## The weight of reconstruction guidance

One window of 8 frames of which the first few are given, {data["clips"]} held-out clips (`python -m
benchmarks conditioning weights`): how far the object's center is off, and the seam jump. Weight 0 is replacement.
`ddpm` has the Langevin correction 0.1 and takes twice the time.

{table(head, lines)}
"""


def weights_of_people() -> str:
    data = found("conditioning-weights-people")
    if data is None:
        return ""
    lines = [
        [
            row["sampler"],
            f"{row['weight']:g}",
            f"{row['psnr']:.2f}",
            f"{row['seam_jump']:.2f}",
            f"{row['motion']:.2f}",
        ]
        for row in data["results"]
    ]
    return f"""The same with films of people, 64x64, {data["clips"]} clips of a person that the model never saw, 4
frames after 4 (`python -m benchmarks conditioning weights --people`). "Motion" is the change from frame to
frame over the true one.

{table(["sampler", "weight", "PSNR, dB", "seam jump", "motion"], lines)}
"""


def drift(people: str) -> str:
    data = found(f"conditioning-drift{people}")
    if data is None:
        return ""
    lines = [["given frames", *(f"{data['given'][name]:.1f}" for name in LOOKS)]]
    lines += [[way, *(f"{curve[-1][name]:.1f}" for name in LOOKS)] for way, curve in data["curves"].items()]
    whose = "people, 64x64" if people else "the demo's model, 16x16"
    seen = f" The model had seen {data['clips_seen']:,} clips; {data['steps']} sampling steps." if people else ""
    return f"""## Drift over {data["windows"]} windows: {whose}

Means over {data["clips"]} clips in the last window, in 8-bit levels
(`python -m benchmarks conditioning drift{" --people" if people else ""}`); "anchored" is `--drift-control first`.{seen}

{table(["", *LOOKS], lines)}

![]({PLOTS}/conditioning-drift{people}.png)
"""


def interpolation() -> str:
    parts = []
    if data := found("interpolation-shapes"):
        bands = data["by_displacement"]
        lines = [[band["sides"], *(_score(band, name) for name in _ways(band))] for band in bands]
        head = ["moved between given frames, in sides of the object", *_ways(bands[0])]
        parts.append(f"""## Frames between, on moving shapes

{data["clips"]} clips, by how far the object moves between two given frames: PSNR in dB / SSIM of the frames that were
held out (`python -m benchmarks interpolation shapes MODEL`). "minterpolate" is ffmpeg's motion-compensated filter as it
comes, "searched" the same with an exhaustive search on enlarged frames.

{table(head, lines)}

![]({PLOTS}/interpolation-shapes.png)
""")
    if data := found("interpolation-clips"):
        for name, content in data["tables"].items():
            ways = _ways(content)
            lines = [[row["clip"], *(_score(row, way) for way in ways)] for row in content["clips"]]
            lines.append(["mean", *(_score(content, way) for way in ways)])
            parts.append(f"""## Frames between, on films: {name}

Losses first: PSNR in dB / SSIM (`python -m benchmarks interpolation clips MODEL CLIPS`), of the people's model and the
person that it never saw. A small model loses where little moves.

{table(["clip", *ways], lines)}
""")
    return "\n".join(parts)


def _ways(row: dict[str, Any]) -> list[str]:
    return list(row["scores"] if "scores" in row else row["means"])


def _score(row: dict[str, Any], way: str) -> str:
    scores = (row["scores"] if "scores" in row else row["means"])[way]
    return f"{scores['psnr']:.1f} / {scores['ssim']:.3f}"


def cost() -> str:
    data = found("conditioning-cost")
    if data is None:
        return ""
    lines = [[kind, f"{ratio:.2f}"] for kind, ratio in data["ratios"].items()]
    return f"""## What it costs

Process time of one network pass over that of free sampling, parameters frozen, no Langevin correction (`python
-m benchmarks conditioning cost`).

{table(["", "of a free pass"], lines)}
"""


def _ranged(values: list[float]) -> str:
    return f"{values[0]:.2f} ({values[1]:.2f} to {values[2]:.2f})"
