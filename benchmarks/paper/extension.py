"""64 frames from 4, window after window: replacement, reconstruction guidance and the learned condition (VDM table 6).

    python -m benchmarks paper.extension [--work DIR] [--count 64]

The first half second of true videos is given, 60 frames are made with the caption, without guidance, in 15 windows of
8 frames, each shown the 4 before it. The motion never ends and is decided by the given frames, so that the true
continuation is known: `center_px` is how far the thing is from there (half the canvas where nothing is seen).
`seam_jump`: the squared change between frames across the joins of windows over that of the true videos, `inside` the
same within windows; 1 is right. `kept`: color, shape and size are read back from the last 16 frames as they were;
`motion_kept` alike. Then three windows of a quarter as many videos by weight and sampler, with and without the Langevin
correction; weight 0 is replacement. Writes benchmarks/results/paper-extension.json, docs/results/extension.png and
extension-sheet.png.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.paper import common, measuring, models
from vidiff_cli.viz.contact_sheet import SheetRow, contact_sheet
from vidiff_cli.worlds import oracle
from vidiff_cli.worlds.scene_oracle import detect_objects

TOTAL, GIVEN, LAST = 64, models.FRAMES // 2, 16
SHORT = 16  # frames of the scan over weights
WAYS: dict[str, dict[str, Any]] = {
    "replacement": {"condition": "replacement"},
    "reconstruction": {"condition": "reconstruction"},
    "learned": {"condition": "learned", "history_guidance": 1.0},
}
WEIGHTS = (0.0, 5.0, 10.0, 20.0)
SCANNED: dict[str, dict[str, Any]] = {
    "dpmpp-2m": {"sampler": "dpmpp-2m"},
    "ddpm": {"sampler": "ddpm", "langevin": 0.0},
    "ddpm + Langevin": {"sampler": "ddpm", "langevin": 0.1},
}
COLORS = {"truth": "black", "replacement": "C3", "reconstruction": "C0", "learned": "C2"}


def main() -> None:
    asked = common.arguments(__doc__, count=64).parse_args()
    model, about = models.open_trained("long", asked.work)
    truth = measuring.true_videos(asked.count, TOTAL, seed=measuring.TESTED)
    yardstick = measuring.Yardstick(
        measuring.true_videos(measuring.REFERENCE_VIDEOS, TOTAL, seed=measuring.REFERENCE).frames
    )
    firsts = measuring.true_videos(measuring.REFERENCE_VIDEOS, TOTAL, seed=measuring.REFERENCE).frames
    images = measuring.Yardstick(measuring.stills(firsts, every=TOTAL // 4))
    facts = {
        "model": about,
        "sampling": common.SAMPLING,
        "distances": yardstick.facts,
        "videos": asked.count,
        "frames": TOTAL,
        "given": GIVEN,
        "scan": {"videos": asked.count // 4, "frames": SHORT},
    }
    results = common.Results("extension", facts)
    store, made = asked.work / "samples", {"truth": truth.frames}
    captions = [scene.caption for scene in truth.scenes]

    def measured(videos: np.ndarray, seconds: float) -> dict[str, Any]:
        return {
            "distance": yardstick.measure(videos),
            "images": images.measure(measuring.stills(videos, every=8)),
            "first_image": images.measure(videos[:, :1]),
            **followed(videos, truth),
            "cpu_seconds": round(seconds, 1),
        }

    results.row("truth", lambda: measured(truth.frames, 0.0))
    for name, choice in WAYS.items():
        videos, seconds = common.sampled(model, captions, store, total=TOTAL, truth=truth.frames, given=GIVEN, **choice)
        made[name] = videos
        results.row(name, lambda videos=videos, seconds=seconds: measured(videos, seconds))
    pair = made["replacement"], made["reconstruction"]
    results.row("ratio", lambda: {view: yardstick.ratio(*pair, view) for view in yardstick.views})
    sheet(made)
    scan(model, truth, results, store, asked.count // 4)
    plot(results.rows)


def scan(model: Any, truth: measuring.Truth, results: common.Results, store: Any, count: int) -> None:
    captions = [scene.caption for scene in truth.scenes]
    short = measuring.Truth(
        scenes=truth.scenes[:count], frames=truth.frames[:count, :SHORT], centers=truth.centers[:count, :SHORT]
    )
    for sampler, choice in SCANNED.items():
        for weight in WEIGHTS:
            way = {"condition": "reconstruction", "reconstruction_weight": weight} if weight else WAYS["replacement"]
            videos, seconds = common.sampled(
                model, captions[:count], store, total=SHORT, truth=short.frames, given=GIVEN, **choice, **way
            )
            figures = followed(videos, short, last=SHORT - GIVEN) | {"cpu_seconds": round(seconds, 1)}
            results.row(f"scan, {sampler}, {weight:g}", lambda figures=figures: figures)


def followed(videos: np.ndarray, truth: measuring.Truth, *, last: int = LAST) -> dict[str, Any]:
    """Measures of how the made frames continue: see the top."""
    total = videos.shape[1]
    when = np.arange(total) / models.FPS
    distance, kept, moves = [], [], []
    for video, scene, centers in zip(videos, truth.scenes, truth.centers, strict=True):
        thing = scene.things[0]
        off = np.linalg.norm(oracle.positions(video) - centers, axis=1)[GIVEN:]
        distance.append(np.where(np.isnan(off), models.SIZE / 2, off))
        end = detect_objects(video[-last:], when[:last]).things
        words = end[0].words if end else dict[str, str | None]()
        kept.append(all(words.get(name) == thing.words[name] for name in ("color", "shape", "size")))
        moves.append(words.get("motion") == thing.motion)
    off = np.stack(distance)
    seams = [frame for frame in range(GIVEN, total, models.FRAMES - GIVEN)]
    others = [frame for frame in range(GIVEN, total) if frame not in seams]
    return {
        "seam_jump": ratio(changes(videos, seams), changes(truth.frames, seams)),
        "inside": ratio(changes(videos, others), changes(truth.frames, others)),
        "center_px": measuring.mean(off.mean(axis=1)),
        "center_px_first_window": measuring.mean(off[:, : models.FRAMES - GIVEN].mean(axis=1)),
        "center_px_by_frame": [round(float(value), 3) for value in off.mean(axis=0)],
        "kept": measuring.mean(kept),
        "motion_kept": measuring.mean(moves),
    }


def changes(videos: np.ndarray, frames: list[int]) -> np.ndarray:
    """The mean squared change to these frames from the ones before: (b)."""
    pixels = videos.astype(np.float32) / 127.5
    return np.square(pixels[:, frames] - pixels[:, [frame - 1 for frame in frames]]).mean(axis=(1, 2, 3, 4))


def ratio(made: np.ndarray, true: np.ndarray) -> list[float]:
    """Ratio of two means over the same videos, with its 95 % bootstrap interval."""
    draws = np.random.default_rng(0).integers(len(made), size=(1000, len(made)))
    low, high = np.quantile(made[draws].mean(axis=1) / true[draws].mean(axis=1), [0.025, 0.975])
    return [float(f"{value:.4g}") for value in (made.mean() / true.mean(), low, high)]


def sheet(made: dict[str, np.ndarray]) -> None:
    """The first frames of two videos by every way."""
    joins = range(models.FRAMES, SHORT, models.FRAMES - GIVEN)
    rows = [
        SheetRow(label=name, frames=videos[number][:SHORT], given=range(GIVEN), seams=[GIVEN], borders=joins)
        for number in (0, 1)
        for name, videos in made.items()
    ]
    common.PLOTS.mkdir(parents=True, exist_ok=True)
    contact_sheet(rows, common.PLOTS / "extension-sheet.png")


def plot(rows: dict[str, Any]) -> None:
    ways = [name for name in WAYS if name in rows]
    with common.drawn("extension", size=(13, 3.6)) as figure:
        path, bars, weights = figure.subplots(1, 3)
        for name in ["truth", *ways]:
            curve = rows[name]["center_px_by_frame"]
            label = "truth, as read" if name == "truth" else name
            path.plot(range(GIVEN, TOTAL), curve, color=COLORS[name], label=label)
        path.set(title="center off the true path, px", xlabel="frame", ylim=(0, None))
        path.legend(fontsize=7)
        names = ["truth", *ways]
        values = [rows[name]["distance"]["random"]["frechet"] for name in names]
        middle = np.array([value[0] for value in values])
        reach = np.abs(np.array([value[1:] for value in values]).T - middle)
        bars.barh(range(len(names)), middle, xerr=reach, color=[COLORS[name] for name in names], alpha=0.8)
        bars.set_yticks(range(len(names)), names, fontsize=7)
        bars.invert_yaxis()
        bars.set_title("Frechet distance of 64 frames (random)")
        for sampler in SCANNED:
            found = [rows.get(f"scan, {sampler}, {weight:g}", {}).get("seam_jump", [np.nan] * 3) for weight in WEIGHTS]
            middle = np.array([value[0] for value in found])
            reach = np.abs(np.array([value[1:] for value in found]).T - middle)
            weights.errorbar(WEIGHTS, middle, reach, marker="o", label=sampler)
        weights.axhline(1, color="black", linewidth=1)
        weights.set(title="seam jump by weight (1 is right)", xlabel="weight of reconstruction guidance")
        weights.legend(fontsize=7)
