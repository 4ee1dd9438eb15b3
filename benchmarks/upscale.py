"""Real films made small and large again: a model of super-resolution against filters that need no learning.

    python -m benchmarks upscale films --data FOLDER --models 2=RUN 4=RUN [--half tuned|reported] [--frames 5]
    python -m benchmarks upscale augmentation --data FOLDER --models 2=RUN
    python -m benchmarks upscale distilled --data FOLDER --models 2=RUN --teacher RUN [--side 160]
    python -m benchmarks upscale cost|memory --models 2=RUN
    python -m benchmarks upscale uncertainty --data FOLDER
    python -m benchmarks upscale picture --data FOLDER --models 2=RUN
    python -m benchmarks upscale frames --data FOLDER                (benchmarks/upscale_frames.py)

`films` takes the middle of the real clips of benchmarks/films.py, in the same halves: nothing was tuned on the reported
one, and no model has seen any. A frame is made small by an antialiased cubic and rounded to 8 bits, and made large
again by a cubic, by Lanczos (Pillow's), by ffmpeg's scaler at its best (the better of lanczos and spline, with accurate
rounding and full chroma), and by `vidiff upscale` as a person runs it: the posterior mean (the default), the model
without the weight that the film itself gives it (`--detail model`), and one sample in 8 steps.

Per clip, means over frames: PSNR (capped at 50 dB) and SSIM; `sharpness`, the energy of finest detail over that of the
truth; `flicker`, the warping error along the true motion over that of the truth (1 is right, above is flicker that the
film has not). CPU is that of the process and its children per made frame, decoding and encoding included.

Scales that were measured before are kept. `augmentation` does the posterior mean and one sample with noise on the
input, `distilled` one sample by a distilled model and by its teacher. `cost` measures seconds, `memory` the peak, by
size and by length. `uncertainty` compares the RMS error of enlarged pixels with what `resize.with_uncertainty` tells,
by tenths of what it tells. `picture` writes docs/results/upscale.jpg. Writes benchmarks/results/upscale-*.json.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks import upscale_frames
from benchmarks.films import MOST_DB, RATE, REPORTED, TUNED, _clock, middle
from benchmarks.machine import RESULTS, measured, save
from benchmarks.paper.models import content
from vidiff_cli.commands.upscale import upscale
from vidiff_cli.config.upscale import UpscaleSettings
from vidiff_cli.generation.load_model import load_model
from vidiff_cli.metrics.fidelity import psnr, ssim
from vidiff_cli.metrics.temporal import ClipMotion, make_motion, warping_error
from vidiff_cli.motion import forward_backward_mask, full_size_flow
from vidiff_cli.pixels import clip_from_uint8, clip_to_uint8
from vidiff_cli.resize import CERTAIN, LOST, enlarge, low_resolution, shrink, with_uncertainty
from vidiff_cli.video import decode, encode
from vidiff_cli.video.ffmpeg import Ffmpeg, input_arguments

FILTERS = ("lanczos", "spline")
MULTIPLE = 8  # of the sides of a frame, so that every scale is whole
OURS: Mapping[str, dict[str, object]] = {
    "posterior mean": {},
    "posterior mean, unweighted": {"detail": "model"},
    "one sample, 8 steps": {"detail": "model", "steps": 8},
}
SIDES = (800, 1200)  # of the frames by which the growth of memory is measured
PARTS = ("films", "augmentation", "distilled", "cost", "memory", "uncertainty", "picture", "frames")
PLACES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3)  # of noise on the schedule
Way = Callable[[np.ndarray, int], np.ndarray]  # (small frames n h w c, scale) -> large ones


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=PARTS)
    parser.add_argument("--data", type=Path, help="folder of the real clips")
    parser.add_argument("--models", nargs="*", default=[], metavar="SCALE=MODEL")
    parser.add_argument("--half", choices=("tuned", "reported"), default="reported")
    parser.add_argument("--frames", type=int, default=5)
    parser.add_argument("--side", type=int, default=0, help="of the middle of frames that is taken; 0: whole frames")
    parser.add_argument("--name", default="upscale")
    parser.add_argument("--teacher", help="of distilled: the model that it was distilled from")
    parser.add_argument("--trained", help="of frames: a model that was trained for a minute")
    asked = parser.parse_args()
    asked.models = {int(scale): model for scale, _, model in (each.partition("=") for each in asked.models)}
    parts = (films, augmentation, distilled, cost, memory, uncertainty, picture, upscale_frames.frames)
    {part.__name__: part for part in parts}[asked.what](asked)


def films(asked: argparse.Namespace) -> None:
    rows = []
    facts = {"half": asked.half, "frames": asked.frames}
    before = content(RESULTS / f"{asked.name}-films.json")
    same = all(before.get(key) == value for key, value in facts.items())
    known = {row["clip"]: row for row in before.get("clips", [])} if same else {}
    for path, frames in clips(asked):
        row: dict[str, object] = {"clip": path.name, "size": f"{frames.shape[2]}x{frames.shape[1]}"}
        row |= known.get(path.name, {})
        motion = true_motion(frames)
        for scale, model in asked.models.items():
            small = made_small(frames, scale)
            ways: dict[str, Way] = {"bicubic": cubic, "lanczos": lanczos, "ffmpeg, best": ffmpeg_best(frames)}
            ways |= {name: ours(model, **more) for name, more in OURS.items()}
            row[f"x{scale}"] = {name: scores(way, small, scale, frames, motion) for name, way in ways.items()}
            print(path.name, scale, {name: round(each["psnr"], 2) for name, each in row[f"x{scale}"].items()})  # type: ignore[attr-defined]
        rows.append(row)
    save(f"{asked.name}-films", {**facts, **summary(rows), "clips": rows})


def augmentation(asked: argparse.Namespace) -> None:
    """The default and one sample at several levels of noise on the input."""
    ((scale, model),) = asked.models.items()
    found: dict[str, list[dict[str, float]]] = {}
    for _, frames in clips(asked):
        motion, small = true_motion(frames), made_small(frames, scale)
        for place in PLACES:
            for name, more in (("posterior mean", {}), ("one sample", {"steps": 8})):
                way = ours(model, detail="model", augmentation=place, **more)
                found.setdefault(f"{name} | {place:g}", []).append(scores(way, small, scale, frames, motion))
        print(
            {key: round(float(np.mean([each["psnr"] for each in rows])), 2) for key, rows in found.items()}, flush=True
        )
    save(
        f"{asked.name}-augmentation",
        {"half": asked.half, "scale": scale, "rows": {key: means(rows) for key, rows in found.items()}},
    )


def distilled(asked: argparse.Namespace) -> None:
    """One sample of a distilled model, and of its teacher in as many steps and in twice as many; the mean beside."""
    ((scale, model),) = asked.models.items()
    steps = load_model(Path(model), torch.device("cpu"), torch.float32).steps
    ways = {
        "posterior mean": ours(asked.teacher, detail="model"),
        f"teacher, {2 * steps} steps": ours(asked.teacher, detail="model", steps=2 * steps),
        f"teacher, {steps} steps": ours(asked.teacher, detail="model", steps=steps),
        f"distilled, {steps} steps": ours(model, detail="model"),
    }
    found: dict[str, list[dict[str, float]]] = {}
    for _, frames in clips(asked):
        motion, small = true_motion(frames), made_small(frames, scale)
        for name, way in ways.items():
            found.setdefault(name, []).append(scores(way, small, scale, frames, motion))
    rows = {key: means(each) for key, each in found.items()}
    print(rows)
    save(f"{asked.name}-distilled", {"half": asked.half, "side": asked.side, "scale": scale, "rows": rows})


def cost(asked: argparse.Namespace) -> None:
    """Seconds of processor time of the command, by size and by length."""
    ((scale, model),) = asked.models.items()
    sizes = ((160, 96, 8), (320, 184, 8), (640, 360, 8), (320, 184, 16), (320, 184, 48))
    save(f"{asked.name}-cost", {"scale": scale, "rows": [_cost_of(model, scale, *size) for size in sizes]})


def memory(asked: argparse.Namespace) -> None:
    """Peak memory of the command, by size and by length; and by how many tensors of a window's large frames it grows
    with the size, in one step and in several."""
    ((scale, model),) = asked.models.items()
    sizes = ((320, 184, 5), (640, 360, 5), (1280, 720, 5), (320, 184, 48))
    rows = [_cost_of(model, scale, *size) for size in sizes]
    grown = {}
    for steps in (1, 3):  # 1 frame, of so many tiles that one of them has a border on all sides
        options = ("--detail", "model", "--lossless", "--steps", str(steps))
        small, large = (_cost_of(model, scale, side, side, 1, *options)["peak_mb"] * 2**20 for side in SIDES)
        grown[steps] = (large - small) / (4 * 3 * scale**2 * (SIDES[1] ** 2 - SIDES[0] ** 2))
        print(steps, "steps:", grown[steps], flush=True)
    save(f"{asked.name}-memory", {"scale": scale, "rows": rows, "tensors": grown})


def _cost_of(model: str, scale: int, width: int, height: int, count: int, *options: str) -> dict[str, Any]:
    noise = np.random.default_rng(0).integers(0, 256, (count, height // 8, width // 8, 3), np.uint8)
    frames = np.stack([np.asarray(Image.fromarray(each).resize((width, height))) for each in noise])
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.mkv"
        encode(source, frames, RATE, lossless=True)
        words = ["upscale", str(source), "-m", str(model), "--scale", str(scale), "--seed", "0", *options]
        with _clock() as clock:
            _, peak = measured([sys.executable, "-m", "vidiff_cli", *words, "-o", str(Path(folder) / "out.mkv")])
    row = {
        "input": f"{width}x{height}",
        "frames": count,
        "cpu_seconds": clock.seconds,
        "cpu_seconds_per_megapixel": clock.seconds / (count * width * height * scale**2 / 1e6),
        "peak_mb": peak / 2**20,
    }
    print(row, flush=True)
    return row


def uncertainty(asked: argparse.Namespace) -> None:
    """The RMS error of enlarged pixels by the detail around them."""
    rows = {}
    for scale in (2, 4, 8):
        told, off = [], []
        for _, frames in clips(asked):
            video = clip_from_uint8(frames[:2])
            shown = with_uncertainty(low_resolution(video, scale), scale)
            error = (video - shown[:, :3]).square().mean(dim=1).sqrt()
            told.append(shown[:, -1].flatten()[::5])
            off.append(error.flatten()[::5])
        expected, found = torch.cat(told), torch.cat(off)
        order = expected.argsort().chunk(10)
        rows[f"x{scale}"] = [
            {name: float(each[part].square().mean().sqrt()) for name, each in (("told", expected), ("found", found))}
            for part in order
        ]
        print(scale, [f"{row['told']:.4f}: {row['found']:.4f}" for row in rows[f"x{scale}"]])
    save(f"{asked.name}-uncertainty", {"half": asked.half, "certain": CERTAIN, "lost": LOST, "rows": rows})


def picture(asked: argparse.Namespace) -> None:
    """docs/results/upscale.jpg: a part of a frame of some clips: small, cubic, Lanczos, posterior mean, truth."""
    ((scale, model),) = asked.models.items()
    strips = []
    for name in ("big_buck_bunny_0_30.webm", "cockatoo.mp4", "small_robot.mp4"):
        frames = whole_cells(middle(asked.data / "clips" / name))[:5]
        small = made_small(frames, scale)
        size = frames.shape[2], frames.shape[1]
        nearest = np.asarray(Image.fromarray(small[2]).resize(size, Image.Resampling.NEAREST))
        each = [nearest, cubic(small, scale)[2], lanczos(small, scale)[2], ours(model)(small, scale)[2], frames[2]]
        top, left = (max(0, (side - 160) // 2) for side in frames.shape[1:3])
        strips.append(np.concatenate([one[top : top + 160, left : left + 240] for one in each], axis=1))
    Image.fromarray(np.concatenate(strips)).save(RESULTS.parents[1] / "docs" / "results" / "upscale.jpg", quality=90)


def clips(asked: argparse.Namespace) -> Iterator[tuple[Path, np.ndarray]]:
    """The clips of a half, and the frames around the middle of each."""
    for name in TUNED if asked.half == "tuned" else REPORTED:
        frames = whole_cells(middle(asked.data / name), asked.side)
        first = max(0, (len(frames) - asked.frames) // 2)
        yield asked.data / name, frames[first : first + asked.frames]


def whole_cells(frames: np.ndarray, most: int = 0) -> np.ndarray:
    """The middle of frames, with sides that every scale divides, of `most` pixels if it is not 0."""
    height, width = (min(side, most or side) // MULTIPLE * MULTIPLE for side in frames.shape[1:3])
    top, left = (frames.shape[1] - height) // 2, (frames.shape[2] - width) // 2
    return np.ascontiguousarray(frames[:, top : top + height, left : left + width])


def made_small(frames: np.ndarray, scale: int) -> np.ndarray:
    return clip_to_uint8(low_resolution(clip_from_uint8(frames), scale)[0])


def cubic(small: np.ndarray, scale: int) -> np.ndarray:
    return clip_to_uint8(enlarge(clip_from_uint8(small), scale)[0])


def lanczos(small: np.ndarray, scale: int) -> np.ndarray:
    size = scale * small.shape[2], scale * small.shape[1]
    return np.stack([np.asarray(Image.fromarray(each).resize(size, Image.Resampling.LANCZOS)) for each in small])


def ffmpeg_best(truth: np.ndarray) -> Way:
    """ffmpeg's scaler with the filter that is nearest to the truth."""

    def way(small: np.ndarray, scale: int) -> np.ndarray:
        made = [_ffmpeg(small, scale, name) for name in FILTERS]
        return max(made, key=lambda each: float(np.minimum(psnr(each, truth), MOST_DB).mean()))

    return way


def _ffmpeg(small: np.ndarray, scale: int, name: str) -> np.ndarray:
    height, width = (scale * side for side in small.shape[1:3])
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.mkv"
        encode(source, small, RATE, lossless=True)
        wanted = f"scale={width}:{height}:flags={name}+accurate_rnd+full_chroma_int+full_chroma_inp"
        words = [*input_arguments(source), "-vf", wanted, "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
        with Ffmpeg(words, stdout=True) as process:
            made = np.frombuffer(process.stdout.read(), np.uint8).reshape(-1, height, width, 3)
            process.process.wait()
    return made


def ours(model: str, **more: object) -> Way:
    """Frames as the command makes them."""

    def way(small: np.ndarray, scale: int) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "in.mkv", Path(folder) / "out.mkv"
            encode(source, small, Fraction(RATE), lossless=True)
            common = {"input": source, "output": target, "scale": scale, "model": model, "lossless": True, "seed": 0}
            upscale(UpscaleSettings.model_validate(common | {"sidecar": False} | more))
            return decode(target).frames

    return way


def scores(way: Way, small: np.ndarray, scale: int, truth: np.ndarray, motion: ClipMotion) -> dict[str, float]:
    with _clock() as clock:
        made = way(small, scale)
    error = warping_error(truth, motion)
    return {
        "psnr": float(np.minimum(psnr(made, truth), MOST_DB).mean()),
        "ssim": float(ssim(made[::4], truth[::4]).mean()),
        "sharpness": finest(made) / max(finest(truth), 1e-9),
        "flicker": warping_error(made, motion) / error if error > 1e-9 else 1.0,
        "cpu_ms": 1000 * clock.seconds / len(made),
    }


def finest(frames: np.ndarray) -> float:
    """Energy of what is lost when frames are made half as large."""
    video = clip_from_uint8(frames)
    return float((video - enlarge(shrink(video, 2), 2)).square().mean())


def true_motion(frames: np.ndarray) -> ClipMotion:
    """The motion of the true frames."""
    video = clip_from_uint8(frames)[0].permute(1, 0, 2, 3)
    flows, seen = [], []
    for first, second in pairwise(video):
        forward, backward = full_size_flow(first[None], second[None])
        flows.append(forward[0].numpy())
        seen.append(forward_backward_mask(forward, backward)[0, 0].numpy())
    return make_motion(np.stack(flows), np.stack(seen))


def means(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def summary(rows: list[dict]) -> dict[str, object]:
    """By scale and way: means, gain over Lanczos, the worst clip and how many lose."""
    found: dict[str, dict[str, dict[str, object]]] = {}
    for scale in [key for key in rows[0] if key.startswith("x")]:
        for way in rows[0][scale]:
            gains = [row[scale][way]["psnr"] - row[scale]["lanczos"]["psnr"] for row in rows]
            worst = int(np.argmin(gains))
            found.setdefault(scale, {})[way] = means([row[scale][way] for row in rows]) | {
                "gain": float(np.mean(gains)),
                "worst": gains[worst],
                "worst_clip": rows[worst]["clip"],
                "lost": sum(gain < -0.005 for gain in gains),
            }
    return {"summary": found}


if __name__ == "__main__":
    main()
