"""Held-out frames in between: a model's three conditions against blending, the nearest frame and minterpolate.

    python -m benchmarks interpolation shapes MODEL [--clips 32]
    python -m benchmarks interpolation clips MODEL CLIPS... [--size 64] [--frames 33]

Of a clip every 2nd and every 4th frame is kept (of the shapes world also every 8th and 16th) and written without loss
at the lower rate. `vidiff interpolate` makes the others with each condition, without a caption. minterpolate is that of
the bundled ffmpeg: at its defaults (with smaller blocks where its own do not fit the frame), and "searched": every
vector tried, overlapping blocks of 8, small frames enlarged to 64 pixels for it, which serves it best. PSNR, SSIM and
multi-scale SSIM are those of the held-out frames alone: PSNR of a clip is that of its mean squared error. Given frames
must come back equal.

`shapes` draws clips of the world that the model was trained on, 17 frames, and sorts what it finds by displacement: how
far the object moves between two given frames, in sides of the object. Beside the scores stands how far the object's
center is from the true one. `clips` takes names or patterns of video files, scaled to SIZE on the short side and
cropped to a square, and has one row per clip, the worst for the model first. Sheets go to runs/interpolation/. Writes
benchmarks/results/interpolation-shapes.json or -clips.json and a plot beside it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from fractions import Fraction
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import save
from vidiff_cli.commands.interpolate import interpolate
from vidiff_cli.config.generate import InterpolateSettings
from vidiff_cli.generation.load_model import open_model
from vidiff_cli.metrics.baselines import interpolation_baselines
from vidiff_cli.metrics.fidelity import ms_ssim, psnr, ssim
from vidiff_cli.video import decode, encode, probe
from vidiff_cli.video.ffmpeg import Ffmpeg, input_arguments
from vidiff_cli.viz.contact_sheet import SheetRow, contact_sheet
from vidiff_cli.viz.picture_files import whole_picture
from vidiff_cli.worlds import oracle, shapes

WAYS = ("learned", "reconstruction", "replacement")
SEARCHES = {  # of minterpolate: options, side of its blocks, pixels that frames are enlarged to at least
    "minterpolate": ("", 16, 0),
    "minterpolate, searched": (":mc_mode=aobmc:me_mode=bidir:me=esa:vsbmc=1:search_param=16", 8, 64),
}
RIVALS = ("blending", "nearest frame", *SEARCHES)
SHEETS = Path("runs") / "interpolation"
SHAPES_FRAMES, SHAPES_EVERY, CLIPS_EVERY = 17, (2, 4, 8, 16), (2, 4)
FARTHEST = (0.3, 0.6, 1.0, 1.6, 9.9)  # upper ends of the ranges of displacement
MOST_DB = 100.0  # PSNR of frames that are equal to the bit
SEED = 0
RESAMPLED = 2000  # draws of the bootstrap
Scores = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    world, films = kinds.add_parser("shapes"), kinds.add_parser("clips")
    for kind in (world, films):
        kind.add_argument("model", type=Path)
    world.add_argument("--clips", type=int, default=32)
    films.add_argument("clips", nargs="+")
    films.add_argument("--size", type=int, default=64)
    films.add_argument("--frames", type=int, default=33)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if asked.kind == "shapes":
            of_shapes(asked.model, asked.clips, Path(folder))
        else:
            clips = [Path(name) for pattern in asked.clips for name in sorted(glob(pattern))]
            of_clips(asked.model, clips, asked.size, asked.frames, Path(folder))


def of_shapes(model_path: Path, count: int, folder: Path) -> None:
    model = open_model(model_path)
    side = min(model.settings.width, model.settings.height)
    rows = []
    for number in range(count):
        scene = shapes.draw_numbered(SEED, number, canvas=side, frames=SHAPES_FRAMES, fps=model.fps)
        truth = shapes.render(scene)
        for every in SHAPES_EVERY:
            made = contest(truth, scene.fps, every, model_path, folder)
            held_out = [frame for frame in range(len(truth)) if frame % every]
            pixels = every * float(np.hypot(*(scene.positions[1] - scene.positions[0])))
            far = {name: off_center(frames, scene.positions, held_out) for name, frames in made.items()}
            scores = {name: measured(frames, truth, held_out) | far[name] for name, frames in made.items()}
            rows.append(
                {"caption": scene.caption, "every": every, "displacement": pixels / scene.side_px, "scores": scores}
            )
            tell(f"{number + 1} of {count}, every {every}", scores)
            if number == 0:
                draw_sheet(f"shapes-every-{every}", truth, made, every)
    bands = []
    for low, high in zip((0.0, *FARTHEST), FARTHEST, strict=False):
        inside = [row for row in rows if low < row["displacement"] <= high]
        if inside:
            displacement = float(np.mean([row["displacement"] for row in inside]))
            bands.append({"sides": f"{low:g} to {high:g}", "mean_displacement": displacement, **summary(inside)})
    path = save("interpolation-shapes", {"model": facts(model), "clips": count, "by_displacement": bands, "rows": rows})
    plot_bands(bands, path.with_suffix(".png"))


def of_clips(model_path: Path, clips: Sequence[Path], size: int, frames: int, folder: Path) -> None:
    model = open_model(model_path)
    tables: dict[str, Any] = {}
    for every in CLIPS_EVERY:
        rows = []
        for path in clips:
            truth, fps = square(path, size, frames)
            truth = truth[: (len(truth) - 1) // every * every + 1]
            if len(truth) <= every:
                print(f"{path}: too short", file=sys.stderr)
                continue
            made = contest(truth, fps, every, model_path, folder)
            held_out = [frame for frame in range(len(truth)) if frame % every]
            scores = {name: measured(pixels, truth, held_out) for name, pixels in made.items()}
            ways = [scores[way]["psnr"] for way in WAYS if way in scores]
            rivals = [scores[rival]["psnr"] for rival in RIVALS]
            rows.append({"clip": path.name, "ahead_db": max(ways) - max(rivals), "scores": scores})
            tell(f"{path.name}, every {every}", scores)
            draw_sheet(f"{path.stem}-every-{every}", truth, made, every)
        rows.sort(key=lambda row: row["ahead_db"])  # losses first
        tables[f"every {every}"] = {**summary(rows), "clips": rows}
    path = save("interpolation-clips", {"model": facts(model), "size": size, "frames": frames, "tables": tables})
    plot_clips(tables, path.with_suffix(".png"))


def facts(model: Any) -> dict[str, Any]:
    return {"sha256": model.hash, "clips_seen": model.clips_seen, "window": model.settings.frames}


def square(path: Path, size: int, most: int) -> tuple[np.ndarray, Fraction]:
    """The first frames of a file, (n size size 3), and its rate."""
    info = probe(path)
    scale = Fraction(size, min(info.width, info.height))
    width, height = (max(size, round(side * scale)) for side in (info.width, info.height))
    clip = decode(path, size=(width, height), crop=(size, size), max_frames=most)
    return clip.frames, clip.fps


def contest(truth: np.ndarray, fps: Fraction, every: int, model: Path, folder: Path) -> dict[str, np.ndarray]:
    """All frames (n h w c) by everyone, from every `every`th of them; the last frame is a given one."""
    given = truth[::every]
    source = folder / "given.mkv"
    encode(source, given, fps / every, lossless=True, overwrite=True)
    times = [Fraction(frame) / fps for frame in range(len(truth))]
    made = dict(interpolation_baselines(given, times[::every], times))
    for name, search in SEARCHES.items():
        made[name] = minterpolate(source, fps, len(truth), *search)
        made[name][::every] = given  # it passes through yuv
    for way in WAYS:
        settings = InterpolateSettings(
            input=source,
            output=folder / "made.mkv",
            model=model,
            factor=every,
            hold=False,
            lossless=True,
            condition=way,
            guidance_scale=1.0,
            seed=SEED,
            sidecar=False,
            overwrite=True,
        )
        made[way] = decode(interpolate(settings).path).frames
        if made[way].shape != truth.shape or (made[way][::every] != given).any():
            raise SystemExit(f"{way}: given frames did not come back, {made[way].shape} for {truth.shape}")
    return made


def minterpolate(path: Path, fps: Fraction, count: int, options: str, block: int, enlarged: int) -> np.ndarray:
    """`count` frames (n h w c) at `fps` by ffmpeg's filter. It makes nothing after the last frame but one, so the last
    one is repeated for it."""
    info = probe(path)
    width, height = info.width, info.height
    factor = -(-enlarged // min(width, height)) or 1
    block = min(block, 1 << (min(width, height) * factor // 4).bit_length() - 1)  # it wants four blocks a side or fails
    chain = (
        f"tpad=stop_mode=clone:stop=4,scale={width * factor}:{height * factor}:flags=bicubic,format=yuv444p,"
        f"minterpolate=fps={fps}:mi_mode=mci:mb_size={block}{options},scale={width}:{height}:flags=area"
    )
    arguments = [*input_arguments(path), "-vf", chain, "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
    with Ffmpeg(arguments, stdout=True) as ffmpeg:
        pixels = ffmpeg.stdout.read()
        ffmpeg.process.wait()
        frames = np.frombuffer(pixels, np.uint8).reshape(-1, height, width, 3)
        if len(frames) < count:
            raise SystemExit(f"minterpolate made {len(frames)} frames of {count}: {ffmpeg.first_error()}")
    return frames[:count].copy()


def measured(made: np.ndarray, truth: np.ndarray, held_out: Sequence[int]) -> Scores:
    """Scores of the held-out frames of one clip."""
    pair = made[held_out], truth[held_out]
    error = np.mean(10 ** (-psnr(*pair) / 10))  # mean squared error over 255 squared; equal frames add nothing
    return {
        "psnr": float(min(MOST_DB, -10 * np.log10(max(error, 1e-99)))),
        "ssim": float(ssim(*pair).mean()),
        "ms_ssim": float(ms_ssim(*pair).mean()),
    }


def off_center(made: np.ndarray, positions: np.ndarray, held_out: Sequence[int]) -> Scores:
    """Mean distance of the object's center from the true one in pixels, and the part of frames that show an object."""
    off = np.hypot(*(oracle.positions(made) - positions)[held_out].T)
    seen = np.isfinite(off)
    return {"off_px": float(off[seen].mean()) if seen.any() else float("nan"), "seen": float(seen.mean())}


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over clips; of PSNR also how far each condition is ahead of blending and of minterpolate, clip by clip."""
    names = list(rows[0]["scores"])
    means = {
        name: {key: float(np.nanmean([row["scores"][name][key] for row in rows])) for key in rows[0]["scores"][name]}
        for name in names
    }
    ahead = {
        way: {
            rival: interval([row["scores"][way]["psnr"] - row["scores"][rival]["psnr"] for row in rows])
            for rival in RIVALS
        }
        for way in WAYS
    }
    return {"count": len(rows), "means": means, "ahead_db": ahead}


def interval(values: Sequence[float]) -> dict[str, float]:
    """Mean, and its 95 % interval by bootstrap over clips."""
    draws = np.random.default_rng(SEED).choice(np.asarray(values), (RESAMPLED, len(values))).mean(axis=1)
    low, high = np.percentile(draws, (2.5, 97.5))
    return {"mean": float(np.mean(values)), "low": float(low), "high": float(high)}


def tell(what: str, scores: Mapping[str, Scores]) -> None:
    print(what, *(f"{name} {each['psnr']:.1f}" for name, each in scores.items()), sep="  ", file=sys.stderr, flush=True)


def draw_sheet(name: str, truth: np.ndarray, made: Mapping[str, np.ndarray], every: int) -> None:
    rows = [SheetRow(label="truth", frames=truth)]
    rows += [SheetRow(label=who, frames=frames, given=range(0, len(frames), every)) for who, frames in made.items()]
    contact_sheet(rows, SHEETS / f"{name}.png")


COLORS = ("#1f5fa8", "#d9701a", "#8a5fb0", "#3a3d42", "#9aa0a8", "#3f9b6c", "#9cc9ae")  # of WAYS and RIVALS


def plot_bands(bands: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Every score against displacement, one line for each contestant."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    scores = {"psnr": "PSNR, dB", "ssim": "SSIM", "off_px": "center off by, pixels"}
    where = [band["mean_displacement"] for band in bands]
    for axis, (key, title) in zip(figure.subplots(1, len(scores)), scores.items(), strict=True):
        for name, color in zip((*WAYS, *RIVALS), COLORS, strict=True):
            values = [band["means"][name][key] for band in bands]
            style = "-" if name in WAYS else "--"
            axis.plot(where, values, style, color=color, label=name, marker="o", markersize=3.5)
        axis.set(xlabel="sides of the object between given frames", title=title)
        axis.grid(True, linewidth=0.4, alpha=0.3)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=7, frameon=False)
    with whole_picture(path) as temporary:
        figure.savefig(temporary)
    print(path)


def plot_clips(tables: Mapping[str, Any], path: Path) -> None:
    """For every clip, losses first: PSNR of each condition minus that of the best of the others."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    longest = max(len(table["clips"]) for table in tables.values())
    figure = Figure(figsize=(12, 2 + 0.24 * longest), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for axis, (title, table) in zip(figure.subplots(1, len(tables), squeeze=False)[0], tables.items(), strict=True):
        rows = table["clips"]
        for way, color, mark in zip(WAYS, COLORS, "osD", strict=False):
            ahead = [row["scores"][way]["psnr"] - max(row["scores"][rival]["psnr"] for rival in RIVALS) for row in rows]
            axis.plot(ahead, range(len(rows)), mark, color=color, label=way, markersize=4, alpha=0.8)
        axis.axvline(0, color="#3a3d42", linewidth=0.8)
        axis.set_yticks(range(len(rows)), [row["clip"] for row in rows], fontsize=7)
        axis.invert_yaxis()
        axis.set(title=title, xlabel="PSNR minus that of the best without a model, dB")
        axis.grid(True, linewidth=0.4, alpha=0.3)
        axis.legend(fontsize=8)
    with whole_picture(path) as temporary:
        figure.savefig(temporary)
    print(path)
