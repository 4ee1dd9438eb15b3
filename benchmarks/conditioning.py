"""The ways to condition, compared on one checkpoint with the same seeds.

    make demo && python -m benchmarks conditioning weights
    python -m benchmarks conditioning methods | drift | cost
    python -m benchmarks people CLIPS && python -m benchmarks conditioning drift --people

On the demo's model and its held-out clips, whose trajectories are known. `weights`: reconstruction guidance by sampler,
weight and number of given frames; `methods`: 8 frames after 8, window by window, by every way and by the two that need
no model, with 95 % intervals over the clips (bootstrap); `drift`: 20 windows after the given frames, how each window
differs from those, also with --drift-control first and, for `learned`, noise on the given frames; `cost`: process time
of a network pass of each kind over that of free sampling, on one thread. `--people`: the same of benchmarks/people.py's
model and the person that it never saw. Each writes benchmarks/results/conditioning-WHAT.json, `drift` a plot as well.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.machine import save
from examples import shapes_report as report
from vidiff_cli.config.generate import GenerationSettings
from vidiff_cli.dataset.dataset import open_dataset
from vidiff_cli.diffusion.levels import grid
from vidiff_cli.frames import plan
from vidiff_cli.generation.generate import generate_clips
from vidiff_cli.generation.load_model import open_model
from vidiff_cli.generation.sampling_setup import resolve_sampling
from vidiff_cli.generation.video_job import VideoJob
from vidiff_cli.metrics.drift import frame_stats
from vidiff_cli.models.acceleration import recompute_stages
from vidiff_cli.models.unet_model import UNetModel
from vidiff_cli.sampling.color_anchor import match_color_statistics
from vidiff_cli.video.decode import decode
from vidiff_cli.viz.contact_sheet import SheetRow, contact_sheet
from vidiff_cli.worlds import oracle

HERE = Path(__file__).resolve().parent
PEOPLE = HERE.parent / "runs" / "people"
WEIGHTS = {"dpmpp-2m": (0.0, 5.0, 10.0, 20.0, 40.0), "ddim": (10.0, 20.0), "ddpm": (5.0, 10.0, 20.0)}
WEIGHTS_OF_PEOPLE = {"dpmpp-2m": (0.0, 2.0, 4.0, 6.0, 10.0), "ddim": (4.0, 8.0, 12.0), "ddpm": (2.0, 4.0, 8.0)}
GIVEN = (1, 2, 4)  # frames of a window of 8
WAYS: dict[str, dict[str, Any]] = {
    "learned": {"condition": "learned", "history_guidance": 1.0},
    "reconstruction": {"condition": "reconstruction"},
    "reconstruction, ddpm": {"condition": "reconstruction", "sampler": "ddpm"},
    "reconstruction, snr": {"condition": "reconstruction", "reconstruction_schedule": "snr"},
    "replacement": {"condition": "replacement"},
}
DRIFTING: dict[str, dict[str, Any]] = {
    "learned": {"condition": "learned", "history_guidance": 1.0},
    "learned, anchored": {"condition": "learned", "history_guidance": 1.0, "anchor": True},
    "reconstruction": {"condition": "reconstruction"},
    "reconstruction, anchored": {"condition": "reconstruction", "anchor": True},
    "replacement": {"condition": "replacement"},
    "replacement, anchored": {"condition": "replacement", "anchor": True},
}
WINDOWS, DRIFT_CLIPS = 20, 8
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("weights", "methods", "drift", "cost"))
    parser.add_argument("--demo", type=Path, default=HERE.parent / "demo")
    parser.add_argument("--people", action="store_true")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--steps", type=int, default=GenerationSettings().steps, help="of sampling, for drift")
    asked = parser.parse_args()
    place = PEOPLE / "run" if asked.people else asked.demo / "run"
    if not (place / "checkpoints").is_dir():
        sys.exit(f"Error: cannot find a model at {place}; make it first (see above).")
    model = open_model(place)
    run = {"weights": weights, "methods": methods, "drift": drift, "cost": cost}[asked.what]
    name = f"conditioning-{asked.what}{'-people' if asked.people else ''}"
    figures = run(model, asked, name)
    save(name, {"steps": asked.steps, "clips_seen": model.clips_seen, **figures})


def shapes(asked: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Held-out clips (b n h w c) and the true centers of their objects (b n 2)."""
    rows = json.loads((asked.demo / "held-out" / "trajectories.json").read_text(encoding="utf-8"))[: asked.clips]
    clips = np.stack([decode(asked.demo / "held-out" / row["file"]).frames for row in rows])
    return clips, np.asarray([row["positions"] for row in rows])


def people() -> np.ndarray:
    """Clips of the person held out (b n h w c), one of each source."""
    dataset = open_dataset(PEOPLE / "dataset")
    first = {dataset.clips[number].source: number for number in reversed(dataset.split("val"))}
    return np.stack([dataset.frames(number) for number in sorted(first.values())])


def weights(model: UNetModel, asked: argparse.Namespace, name: str) -> dict[str, Any]:
    window, paths = model.settings.frames, np.empty((0, 0))
    if asked.people:
        clips, counts, scanned = people()[: asked.clips], (window // 2,), WEIGHTS_OF_PEOPLE
    else:
        (clips, paths), counts, scanned = shapes(asked), GIVEN, WEIGHTS
    clips, paths, results = clips[:, :window], paths[:, :window], []
    for count in counts:
        for sampler, values in scanned.items():
            for weight in values:
                settings = GenerationSettings(
                    condition="reconstruction", sampler=sampler, reconstruction_weight=weight, seed=0
                )
                made = report.complete(model, clips, range(count), settings)
                row = {"given": count, "sampler": sampler, "weight": weight}
                judge = fidelity if asked.people else partial(report.errors, paths=paths)
                results.append(row | judge(made, clips, given=range(count)))
                print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    return {"clips": len(clips), "results": results}


def fidelity(made: np.ndarray, clips: np.ndarray, given: range) -> dict[str, float]:
    """Measures of films: PSNR of the made frames, seam jump, and their change from frame to frame over the true one."""
    first, ours, true = given.stop, made.astype(float), clips.astype(float)
    error = np.square(ours[:, first:] - true[:, first:]).mean()
    jump, usual = (np.square(each[:, first] - each[:, first - 1]).mean() for each in (ours, true))
    moved, moves = (np.abs(np.diff(each[:, first:], axis=1)).mean() for each in (ours, true))
    return {
        "psnr": float(10 * np.log10(255**2 / error)),
        "seam_jump": float(jump / usual),
        "motion": float(moved / moves),
    }


def methods(model: UNetModel, asked: argparse.Namespace, name: str) -> dict[str, Any]:
    clips, paths = shapes(asked)
    given = range(clips.shape[1] // 2)
    frozen = clips.copy()
    frozen[:, given.stop :] = clips[:, given.stop - 1 : given.stop]
    made = {"freezing": frozen}
    for way, choice in WAYS.items():
        made[way] = report.complete(model, clips, given, GenerationSettings.model_validate({**choice, "seed": 0}))
    table = {way: judged(frames, clips, paths, given) for way, frames in made.items()}
    for way, row in table.items():
        print(way, json.dumps(row), file=sys.stderr)
    rows = [SheetRow(label="truth", frames=clips[0])]
    rows += [
        SheetRow(label=way, frames=frames[0], given=list(given), seams=[given.stop]) for way, frames in made.items()
    ]
    contact_sheet(rows, HERE / "results" / f"{name}.png")
    return {"clips": len(clips), "given": len(given), "made": clips.shape[1] - len(given), "ways": table}


def judged(made: np.ndarray, clips: np.ndarray, paths: np.ndarray, given: range) -> dict[str, Any]:
    """Means with 95 % intervals: distance of the center by frame after the seam and over all, error of the first new
    frame, seam jump, and the share of clips whose object keeps its color and shape to the end."""
    ranks = range(given.stop, clips.shape[1])
    seen = np.stack([oracle.positions(clip) for clip in made])
    distance = np.linalg.norm(seen - paths, axis=-1)[:, given.stop :]
    distance = np.where(np.isnan(distance), made.shape[2] / 2, distance)
    true = clips.astype(float)
    step = np.square(made[:, ranks[0]].astype(float) - made[:, ranks[0] - 1]).mean(axis=(1, 2, 3))
    usual = np.square(true[:, ranks[0]] - true[:, ranks[0] - 1]).mean(axis=(1, 2, 3))
    first = np.square((made[:, ranks[0]] - true[:, ranks[0]]) / 127.5).mean(axis=(1, 2, 3))
    kept = [
        same(oracle.read_shape(clip[given.stop :]).attributes, oracle.read_shape(truth).attributes)
        for clip, truth in zip(made, clips, strict=True)
    ]
    return {
        "center_px": interval(distance.mean(axis=1)),
        "center_px_by_frame": [interval(column) for column in distance.T],
        "first_frame_mse": interval(first),
        "seam_jump": interval(step, usual),
        "identity_kept": interval(np.asarray(kept, float)),
    }


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one[name] == other[name] for name in ("color", "shape", "size"))


def interval(values: np.ndarray, over: np.ndarray | None = None) -> list[float]:
    """Mean (or ratio of means), and its 2.5 and 97.5 % quantiles when clips are drawn again with replacement."""
    rng, count = np.random.default_rng(0), len(values)
    drawn = rng.integers(0, count, (2000, count))
    below = np.ones(count) if over is None else over
    ratios = values[drawn].mean(axis=1) / below[drawn].mean(axis=1)
    return [float(values.mean() / below.mean()), *(float(edge) for edge in np.quantile(ratios, [0.025, 0.975]))]


def drift(model: UNetModel, asked: argparse.Namespace, name: str) -> dict[str, Any]:
    clips = people() if asked.people else shapes(asked)[0]
    window = model.settings.frames
    clips, overlap = clips[: min(asked.clips, DRIFT_CLIPS), :window], window // 2
    ways = dict(DRIFTING)
    if model.settings.context_noise:
        noise = {"context_noise": min(0.1, model.settings.context_noise)}
        ways["learned, noise 0.1"] = ways["learned"] | noise
    total = window + WINDOWS * (window - overlap)
    curves, sheets = {}, []
    for way, choice in ways.items():
        choice = dict(choice)
        anchor = choice.pop("anchor", False)
        settings = GenerationSettings.model_validate({**choice, "seed": 0, "steps": asked.steps})
        looks = [[] for _ in range(WINDOWS)]
        began = time.monotonic()
        for place in range(0, len(clips), 1 if anchor else len(clips)):
            some = clips[place : place + 1] if anchor else clips
            made = extended(model, some, total, overlap, settings, match_color_statistics(some[0]) if anchor else None)
            for clip in made:
                for number in range(WINDOWS):
                    start = window + number * (window - overlap)
                    looks[number].append(frame_stats(clip[start : start + window - overlap], clip[start - 1]))
            if place == 0:
                sheets.append(SheetRow(label=way, frames=made[0], given=range(window), seams=[window]))
        curves[way] = [mean_look(each) for each in looks]
        print(way, f"{time.monotonic() - began:.0f} s", curves[way][-1], file=sys.stderr, flush=True)
    given = mean_look([frame_stats(clip) for clip in clips])
    contact_sheet(sheets, HERE / "results" / f"{name}-sheet.png")
    draw(given, curves, HERE / "results" / f"{name}.png")
    return {"clips": len(clips), "windows": WINDOWS, "given": given, "curves": curves}


def extended(
    model: UNetModel, clips: np.ndarray, total: int, overlap: int, settings: GenerationSettings, anchor: Any
) -> np.ndarray:
    """Clips (b n h w c) continued to `total` frames, without captions."""
    count, shown = len(clips), clips.shape[1]
    frames = np.zeros((count, total, *clips.shape[2:]), np.uint8)
    frames[:, :shown] = clips
    job = VideoJob(
        windows=plan(total, range(shown), window=model.settings.frames, overlap=overlap),
        times=[Fraction(frame) / model.fps for frame in range(total)],
        prompts=lambda number: [""] * count,
        seeds=list(range(count)),
        anchor=anchor,
    )
    return generate_clips(model, resolve_sampling(model, settings), job, frames)


def mean_look(looks: list[Any]) -> dict[str, float]:
    names = ("mean", "contrast", "saturation", "sharpness", "motion")
    return {name: round(float(np.mean([getattr(each, name) for each in looks])), 3) for name in names}


def draw(given: dict[str, float], curves: dict[str, list[dict[str, float]]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    for place, name in enumerate(given, 1):
        axes = figure.add_subplot(1, len(given), place)
        axes.axhline(given[name], color="black", linewidth=1, label="given frames")
        for way, curve in curves.items():
            color = f"C{['learned', 'reconstruction', 'replacement'].index(way.split(',')[0])}"
            style = "--" if "anchored" in way else ":" if "noise" in way else "-"
            axes.plot(range(1, len(curve) + 1), [each[name] for each in curve], style, color=color, label=way)
        axes.set_title(name)
        axes.set_xlabel("window")
        if place == 1:
            axes.legend(fontsize=6)
    figure.savefig(path, dpi=110)


def cost(model: UNetModel, asked: argparse.Namespace, name: str) -> dict[str, Any]:
    """Process time of one network pass, of each kind, over a free one: parameters frozen, no Langevin correction."""
    torch.set_num_threads(1)
    window, side = model.settings.frames, model.settings.height
    shape = (2, 3, window, side, model.settings.width)
    generator = torch.Generator().manual_seed(0)
    z, known = (torch.randn(shape, generator=generator) for _ in range(2))
    levels = grid(8)[3].expand(2, window).float()
    observed = (torch.arange(window) < window // 2).expand(2, -1)
    times = torch.arange(window).expand(2, -1) / float(model.fps)
    free = model.denoiser(times, observed & False, [""] * 2, scale=1.0)

    def conditioned(name: str) -> Callable[..., Any]:
        setup = resolve_sampling(model, GenerationSettings.model_validate({"condition": name}))
        return partial(setup.conditioner(free, known, observed), z, levels)

    kinds: dict[str, Callable[[], Any]] = {
        "free": partial(free, z, levels),
        "replacement": conditioned("replacement"),
        "learned": conditioned("learned"),
        "reconstruction": conditioned("reconstruction"),
    }
    model.video_model.requires_grad_(False)
    figures = timed(kinds)
    recompute_stages(model.video_model.denoiser.network)
    again = timed({"free": kinds["free"], "reconstruction, checkpointed": kinds["reconstruction"]})
    ratios = {kind: seconds / figures["free"] for kind, seconds in figures.items()}
    ratios["reconstruction, checkpointed"] = again["reconstruction, checkpointed"] / again["free"]
    for kind, ratio in ratios.items():
        print(f"{kind:32} {ratio:.2f}", file=sys.stderr)
    return {"ratios": ratios, "seconds": figures, "shape": list(shape)}


def timed(kinds: dict[str, Callable[[], Any]]) -> dict[str, float]:
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    with torch.no_grad():
        for number in range(ROUNDS + 1):
            for kind, job in kinds.items():
                began = time.process_time()
                for _ in range(4):
                    job()
                if number:
                    taken[kind].append(time.process_time() - began)
    return {kind: median(values) for kind, values in taken.items()}
