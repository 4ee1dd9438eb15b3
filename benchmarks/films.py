"""Real films at their own size: frames that were taken away, made again, against what needs no learning.

    python -m benchmarks films films --data FOLDER [--model builtin:motion] [--half tuned|reported]
    python -m benchmarks films own NAME FOLDER MODEL         a model on the held-out clips of its own corpus
    python -m benchmarks films worst --data FOLDER                    the worst frames of the reported half as a picture

`films` takes the real clips of the test data, in two halves by source: constants were tuned on one and are reported on
the other. Of each, 33 frames around the middle: the middle of every 2nd, three of every 4th, and 8 after 16 from three
places. Everything runs as a person would run it: `vidiff interpolate` and `vidiff extend` without loss, ffmpeg's
minterpolate as it comes and with overlapping blocks and both directions (its best). `own` does the same with the clips
of a folder (64x64, 8 after 8), with and without the model.

PSNR of a frame is capped at 50 dB (two frames equal but for rounding); that of a clip is the mean over its frames.
`bias` is how much brighter made frames are than true ones, less the same of given frames, in levels of luma: what
flickers at the rate of the given frames. CPU is that of the process and its children, per made frame, decoding and
encoding included. Writes benchmarks/results/films.json or films-NAME.json, and the worst frames as pictures beside it.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.machine import RESULTS, save
from vidiff_cli.commands.extend import extend
from vidiff_cli.commands.interpolate import interpolate
from vidiff_cli.config.generate import ExtendSettings, InterpolateSettings
from vidiff_cli.metrics.baselines import interpolation_baselines
from vidiff_cli.metrics.fidelity import psnr, ssim
from vidiff_cli.video import decode, encode
from vidiff_cli.video.decode import stream_frames
from vidiff_cli.video.ffmpeg import Ffmpeg, input_arguments

TUNED = (
    "corpus/asl_gestures/again.mkv",
    "corpus/asl_gestures/book.mkv",
    "clips/awesome movie.mov",
    "clips/bear-vp9.webm",
    "clips/bikes.mp4",
    "clips/carphone_pristine.mp4",
    "clips/chaplin.mp4",
    "clips/flower.mp4",
    "user_dirs/sidecar_txt/bbaf2n.mpg",
    "user_dirs/sidecar_txt/swiz3n.mpg",
    "clips/pigs_in_a_polka.gif",
    "clips/sample.3gp",
    "clips/sample.flv",
)
REPORTED = (
    "clips/awesome_widescreen.mov",
    "clips/big_buck_bunny_0_30.webm",
    "clips/bulk-water.mov",
    "clips/centered_pair_small.mp4",
    "clips/cockatoo.mp4",
    "clips/sample_with_colr_mdcv_and_clli.mp4",
    "clips/newtonscradle.gif",
    "clips/realshort.mp4",
    "clips/sample.avi",
    "clips/small_robot.mp4",
    "corpus/weizmann_actions/jack_p2_orig.mp4",
    "corpus/fmi_radar/fmi_20160928_y0480_x0288_t00.mp4",
)
FRAMES, MOST_DB = 33, 50.0
WIDE = 300  # pixels of a frame in the picture of the worst
LUMA = np.array([0.299, 0.587, 0.114])
MINTERPOLATE = {"minterpolate": "", "minterpolate, best": ":mi_mode=mci:mc_mode=aobmc:me_mode=bidir:vsbmc=1"}
RATE = Fraction(24)
Scores = dict[str, float]
Made = Mapping[int, np.ndarray]  # frames (h w c) by their number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    films = kinds.add_parser("films")
    films.add_argument("--data", type=Path, required=True, help="folder of the real clips")
    films.add_argument("--model", help="a model for a row of its own")
    films.add_argument("--half", choices=("tuned", "reported"))
    films.add_argument("--only-after", action="store_true", help="measure extension anew, the rest stays as recorded")
    kinds.add_parser("worst").add_argument("--data", type=Path, required=True)
    own = kinds.add_parser("own")
    own.add_argument("name")
    own.add_argument("folder", type=Path)
    own.add_argument("model")
    asked = parser.parse_args()
    if asked.kind == "films":
        halves = {"tuned": TUNED, "reported": REPORTED}
        chosen = [asked.half] if asked.half else list(halves)
        before = json.loads((RESULTS / "films.json").read_text("utf-8"))["halves"] if asked.only_after else {}
        recorded = {row["clip"]: row for half in before.values() for row in half["clips"]}
        found = {
            half: [film(asked.data / path, asked.model, recorded.get(Path(path).name)) for path in halves[half]]
            for half in chosen
        }
        save(
            "films",
            {"frames": FRAMES, "halves": {half: summary(rows) | {"clips": rows} for half, rows in found.items()}},
        )
    elif asked.kind == "worst":
        show_worst(asked.data)
    else:
        rows = [own_clip(path, asked.model) for path in sorted(asked.folder.iterdir())]
        save(f"films-{asked.name}", {"clips": rows, **summary(rows)})


def film(path: Path, model: str | None, recorded: dict | None = None) -> dict:
    """The scores of one clip by task and way; those between given frames as `recorded`, where they are."""
    frames = middle(path)
    ways: dict[str, Callable] = {"estimate": ours("estimate", None)}
    if model is not None:
        ways[model] = ours("both", model)
    row = {"clip": path.name, "size": f"{frames.shape[2]}x{frames.shape[1]}"}
    for task, step in (("every 2nd", 2), ("every 4th", 4)):
        row[task] = recorded[task] if recorded else between(frames, step, ways, rivals=True)
    places = np.linspace(16, len(frames) - 8, 3).round().astype(int).tolist() if len(frames) >= 24 else []
    row["8 after 16"] = _after(frames, sorted(set(places)), 16, 8, {name: way for name, way in ways.items()})
    print(
        path.name,
        {task: {way: score["psnr"] for way, score in row[task].items()} for task in row if " " in task},
        flush=True,
    )
    return row


def own_clip(path: Path, model: str) -> dict:
    """The same of a clip of a model's corpus, all of its frames."""
    frames = decode(path, max_frames=49).frames
    ways = {
        "estimate": ours("estimate", None),
        "both": ours("both", model),
        "both, 4 steps": ours("both", model, steps=4),
        "both, 30 steps": ours("both", model, steps=30),
        "model alone": ours("model", model),
    }
    row = {"clip": path.name, "size": f"{frames.shape[2]}x{frames.shape[1]}"}
    for task, step in (("every 2nd", 2), ("every 4th", 4)):
        row[task] = between(frames, step, ways, rivals=True)
    places = np.linspace(8, len(frames) - 8, 3).round().astype(int).tolist()
    row["8 after 8"] = _after(frames, sorted(set(places)), 8, 8, ways)
    print(
        path.name,
        {task: {way: score["psnr"] for way, score in row[task].items()} for task in row if " " in task},
        flush=True,
    )
    return row


def show_worst(data: Path) -> None:
    """docs/results/films-worst.jpg: of the two clips that gain least between every 4th frame the worst one: truth,
    blending, minterpolate at its best, the estimate. Corpora of people are left out: they may not be shown."""
    rows = json.loads((RESULTS / "films.json").read_text("utf-8"))["halves"]["reported"]["clips"]
    rows = [row for row in rows if f"clips/{row['clip']}" in REPORTED]
    gains = [row["every 4th"]["estimate"]["psnr"] - row["every 4th"]["blending"]["psnr"] for row in rows]
    strips = []
    for place in np.argsort(gains)[:2]:
        frames = middle(data / next(path for path in REPORTED if Path(path).name == rows[place]["clip"]))
        frames = frames[: (len(frames) - 1) // 4 * 4 + 1]
        missing = [number for number in range(len(frames)) if number % 4]
        times = [Fraction(number) for number in range(0, len(frames), 4)]
        blended = interpolation_baselines(frames[::4], times, [Fraction(number) for number in missing])
        blends = dict(zip(missing, blended["blending"], strict=True))
        made = ours("estimate", None)(frames[::4], step=4)
        rival = _minterpolate(frames[::4], 4, MINTERPOLATE["minterpolate, best"])
        scores = {number: float(psnr(made[number][None], frames[number][None])[0]) for number in missing}
        worst = min(scores, key=scores.__getitem__)
        four = [frames[worst], blends[worst], rival[worst], made[worst]]
        height = round(WIDE * frames.shape[1] / frames.shape[2])
        small = [Image.fromarray(each).resize((WIDE, height), Image.Resampling.LANCZOS) for each in four]
        strips.append(np.concatenate([np.asarray(each) for each in small], axis=1))
        others = [round(float(psnr(each[None], frames[worst][None])[0]), 2) for each in four[1:]]
        print(rows[place]["clip"], worst, others)
    Image.fromarray(np.concatenate(strips)).save(
        RESULTS.parents[1] / "docs" / "results" / "films-worst.jpg", quality=88
    )


def middle(path: Path) -> np.ndarray:
    """33 frames around the middle of a clip (n h w c), or all of a shorter one."""
    count = sum(len(block) for attempt in stream_frames(path, size=(16, 16)) for _, block in attempt.blocks)
    first, kept, number = max(0, (count - FRAMES) // 2), [], 0
    for attempt in stream_frames(path):
        kept, number = [], 0
        for _, block in attempt.blocks:
            kept += [frame.copy() for place, frame in enumerate(block, number) if first <= place < first + FRAMES]
            number += len(block)
            if number >= first + FRAMES:
                break
        if kept:
            break
    return np.stack(kept)


def between(frames: np.ndarray, step: int, ways: Mapping[str, Callable], *, rivals: bool) -> dict[str, Scores]:
    """Scores of the frames between every `step`-th."""
    last = (len(frames) - 1) // step * step
    frames = frames[: last + 1]
    given, missing = frames[::step], [number for number in range(last) if number % step]
    found: dict[str, Scores] = {}
    times = [Fraction(number) for number in range(0, last + 1, step)]
    plain = interpolation_baselines(given, times, [Fraction(number) for number in missing])
    for name, made in plain.items():
        found[name] = _scores(dict(zip(missing, made, strict=True)), frames)
    for name, options in MINTERPOLATE.items() if rivals else ():
        with _clock() as clock:
            made = _minterpolate(given, step, options)
        found[name] = _scores({number: made[number] for number in missing if number < len(made)}, frames)
        found[name]["cpu_ms"] = 1000 * clock.seconds / len(missing)
    for name, way in ways.items():
        with _clock() as clock:
            made = way(given, step=step)
        found[name] = _scores({number: made[number] for number in missing}, frames)
        found[name]["cpu_ms"] = 1000 * clock.seconds / len(missing)
    return found


def _after(
    frames: np.ndarray, places: list[int], shown: int, new: int, ways: Mapping[str, Callable]
) -> dict[str, Scores]:
    """Scores of `new` frames after `shown` others that end at each place, by horizon."""
    found: dict[str, list[Scores]] = {}
    for place in places:
        past, true = frames[place - shown : place], frames[place : place + new]
        frozen = {number: past[-1] for number in range(len(true))}
        found.setdefault("freezing", []).append(_horizons(frozen, true))
        for name, way in ways.items():
            made = way(past, new=len(true))
            found.setdefault(name, []).append(
                _horizons({number: made[shown + number] for number in range(len(true))}, true)
            )
    return {name: {key: float(np.mean([row[key] for row in rows])) for key in rows[0]} for name, rows in found.items()}


def _horizons(made: Made, true: np.ndarray) -> Scores:
    each = _psnr(np.stack([made[number] for number in range(len(true))]), true)
    return {"psnr": float(each.mean()), **{f"+{at}": float(each[at - 1]) for at in (1, 2, 4, 8) if at <= len(true)}}


def _psnr(made: np.ndarray, true: np.ndarray) -> np.ndarray:
    return np.minimum(psnr(made, true), MOST_DB)


def _scores(made: Made, frames: np.ndarray) -> Scores:
    numbers = sorted(made)
    ours, true = np.stack([made[number] for number in numbers]), frames[numbers]
    some = slice(None, None, max(1, len(numbers) // 6))
    similar = ssim(ours[some], true[some]) if min(frames.shape[1:3]) >= 11 else np.array([np.nan])
    bias = float((ours.mean(axis=(0, 1, 2)) - true.mean(axis=(0, 1, 2))) @ LUMA)
    each = _psnr(ours, true)
    return {"psnr": float(each.mean()), "worst": float(each.min()), "ssim": float(similar.mean()), "bias": bias}


def ours(detail: str, model: str | None, steps: int | None = None) -> Callable:
    """(given, step= or new=) -> all frames by number, as the command makes them."""

    def make(given: np.ndarray, *, step: int = 0, new: int = 0) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "in.mkv", Path(folder) / "out.mkv"
            encode(source, given, RATE, lossless=True)
            common = {
                "input": source,
                "output": target,
                "lossless": True,
                "detail": detail,
                "model": model,
                "scenes": True,
                "seed": 0,
                "sidecar": False,
                "steps": steps,
            }
            if step:
                interpolate(InterpolateSettings(**common, factor=step, hold=False))
            else:
                extend(ExtendSettings(**common, num_frames=new))
            return decode(target).frames

    return make


def _minterpolate(given: np.ndarray, factor: int, options: str) -> np.ndarray:
    """Frames by number, as far as the filter makes them: it needs frames after the last, which are repeated."""
    shape = given.shape[1:]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.mkv"
        encode(source, np.concatenate([given, *[given[-1:]] * 3]), RATE, lossless=True)
        wanted = f"minterpolate=fps={RATE * factor}{options}"
        words = [*input_arguments(source), "-vf", wanted, "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
        with Ffmpeg(words, stdout=True) as process:
            made = np.frombuffer(process.stdout.read(), np.uint8).reshape(-1, *shape)
            process.process.wait()
    return made


class _clock:
    """CPU seconds of this process and of children that ended, within the block."""

    seconds = 0.0

    def __enter__(self) -> _clock:
        self._began = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = self._now() - self._began

    @staticmethod
    def _now() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.process_time() + children.ru_utime + children.ru_stime


def summary(rows: list[dict]) -> dict:
    """By task and way: means, and against the simple way the worst clip and how many lose."""
    found: dict = {}
    for task in [key for key in rows[0] if " " in key]:
        simple = "freezing" if "after" in task else "blending"
        there = [row[task] for row in rows if row[task]]
        key = "+4" if "after" in task else "psnr"
        for way in there[0]:
            gains = [row[way][key] - row[simple][key] for row in there]
            means = {name: float(np.mean([row[way][name] for row in there])) for name in there[0][way]}
            worst = int(np.argmin(gains))
            found.setdefault(task, {})[way] = means | {
                "gain": float(np.mean(gains)),
                "worst_gain": gains[worst],
                "worst_clip": [row["clip"] for row in rows if row[task]][worst],
                "lost": sum(gain < 0 for gain in gains),
            }
    return {"summary": found}
