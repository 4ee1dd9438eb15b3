"""Noise levels by frame: trainings by their levels, and ways to sample 60 frames after 4 (world `lasting`).

    python -m benchmarks levels train  [--trainings NAME ...] [--seeds 0 1 2] [--steps 1800]
    python -m benchmarks levels sample [--trainings NAME ...] [--seeds 0 1 2] [--schemes NAME ...] [--videos 64]
    python -m benchmarks levels free   [--trainings NAME ...] [--seeds 0 1 2] [--captions 128] [--grids 16:0 4:-1 ...]
    python -m benchmarks levels table

Models as in benchmarks/paper/models.py, without the estimate by motion; they differ in the shares of `objective.levels`
alone, and learn for equally many steps. `train` goes on with every run where it was stopped. `sample` takes the seeds
whose training is done. It continues true videos of the world, 64 frames of which 4 are given, with their captions and
no text guidance; videos are kept in the work folder, so that it too goes on where it was stopped, and a scheme or a
training that is added later costs nothing but itself. `free` makes one window from a caption alone, guidance scale 2:
the share of captions whose words are read back, and distances, as in benchmarks/paper. `table` prints what is there.

Rows have means over seeds and videos with 95 % intervals (bootstrap over videos), and the mean of every seed:
`px_1`, `px_1_2`, `px_1_4`: distance of the thing from where it has to be, over the first, two, four windows' frames
(half the canvas where nothing is seen); `thing_kept`: color, shape and size are read back from the last 16 frames;
`motion_kept` alike (`truth` says how often the oracle reads true videos so); `seam` and `inside`: change between frames
across the joins and within windows over that of true videos, 1 is right; `drift`: the share of videos whose windows all
stay in the bounds that real video keeps (metrics/drift.py); `distance`: Frechet distances from true videos; `against`:
paired differences from the same training's `learned`, and from the first training's. Writes
benchmarks/results/levels.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import RESULTS, save
from benchmarks.paper import common, measuring, models
from benchmarks.paper.extension import changes
from vidiff_cli.config.generate import GenerationSettings
from vidiff_cli.frames import plan
from vidiff_cli.generation.generate import generate_clips
from vidiff_cli.generation.load_model import open_model
from vidiff_cli.generation.sampling_setup import resolve_sampling
from vidiff_cli.generation.video_job import VideoJob
from vidiff_cli.metrics.drift import frame_stats, warnings
from vidiff_cli.models.unet_model import UNetModel
from vidiff_cli.rolling import RollingPlan
from vidiff_cli.worlds import oracle
from vidiff_cli.worlds.scene_oracle import detect_objects

WORK = models.WORK.parent / "levels"
TOTAL, GIVEN, LAST, AT_ONCE = 64, models.FRAMES // 2, 16, 32
SAMPLING = {
    "steps": 16,
    "sampler": "dpmpp-2m",
    "guidance_scale": 1.0,
    "history_guidance": 1.0,
    "device": "cpu",
    "seed": 0,
}
WINDOWS = {"px_1": 1, "px_1_2": 2, "px_1_4": 4, "px_all": 15}  # windows of GIVEN frames that an error is over

TRAININGS: Mapping[str, dict[str, Any]] = {  # the first one is the default of today
    "shared + observed": {"objective.levels": {"observed": 0.5}},
    "shared": {"objective.levels": {"observed": 0.0}},
    "independent": {"objective.levels": {"independent": 1.0}},
    "mixture": {"objective.levels": {"independent": 0.5, "sloped": 0.25}},
    "half independent": {"objective.levels": {"independent": 0.5}},
    "independent, attention": {"objective.levels": {"independent": 1.0}, "network.temporal": "both"},
    "shared + observed, attention": {"objective.levels": {"observed": 0.5}, "network.temporal": "both"},
    "shared + observed, motion": {"objective.levels": {"observed": 0.5}, "motion": True},
    "mixture, motion": {"objective.levels": {"independent": 0.5, "sloped": 0.25}, "motion": True},
}
ROLLS = {"scheme": "rolling"}
NAMED = {"windows": [False], "rolling": [True], "between": ["between"]}  # in the names of files: older ones are found
SCHEMES: Mapping[str, dict[str, Any]] = {  # settings of sampling, and the scheme of frames
    "replacement": {"condition": "replacement"},
    "reconstruction": {"condition": "reconstruction"},
    "learned": {"condition": "learned"},
    "learned + history 1.5": {"condition": "learned", "history_guidance": 1.5},
    "learned + history 3": {"condition": "learned", "history_guidance": 3.0},
    "learned + history 1.5 in 2 parts": {"condition": "learned", "history_guidance": 1.5, "history_parts": 2},
    "learned + history 3 in 2 parts": {"condition": "learned", "history_guidance": 3.0, "history_parts": 2},
    "between": {"condition": "learned", "scheme": "between"},
    "between, one step": {"condition": "learned", "scheme": "between", "steps": 1},
    "learned, one step": {"condition": "learned", "steps": 1},
    "sloped": {"condition": "learned", **ROLLS},
    "sloped + history 1.5": {"condition": "learned", "history_guidance": 1.5, **ROLLS},
}
USUAL = ("shared + observed", "independent", "mixture")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "sample", "free", "table"))
    parser.add_argument("--trainings", nargs="*", choices=TRAININGS, default=USUAL, metavar="NAME")
    parser.add_argument("--schemes", nargs="*", choices=SCHEMES, default=["learned"], metavar="NAME")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument("--videos", type=int, default=64)
    parser.add_argument("--captions", type=int, default=128)
    parser.add_argument("--grids", nargs="*", default=["16:0"], metavar="STEPS:SHIFT")
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--name", default="levels", help="of the results")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    {"train": train, "sample": sample, "free": free, "table": table}[asked.what](asked)


def train(asked: argparse.Namespace) -> None:
    """Trains, seed after seed, so that every training has its first seed soon."""
    for seed in asked.seeds:
        for training in asked.trainings:
            done = models.train_run(
                run_folder(asked, training, seed),
                {"motion": False, **TRAININGS[training]},
                steps=asked.steps,
                seed=seed,
            )
            print(f"{training}, seed {seed}: {done.steps} steps, {done.cpu_seconds:.0f} s of process time")


def is_trained(run: Path, steps: int) -> bool:
    return (run / "checkpoints" / f"step-{steps:06d}-of-{steps:06d}").is_dir()


def run_folder(asked: argparse.Namespace, training: str, seed: int) -> Path:
    return asked.work / f"{training.replace(', ', '-').replace(' + ', '-').replace(' ', '-')}-{seed}"


def sample(asked: argparse.Namespace) -> None:
    """Samples and measures all pairs of a training and a scheme whose seeds are trained."""
    truth = measuring.true_videos(asked.videos, TOTAL, seed=measuring.TESTED)
    facts = {"sampling": SAMPLING, "videos": asked.videos, "frames": TOTAL, "given": GIVEN, "steps": asked.steps}
    before = models.content(RESULTS / f"{asked.name}.json")
    same = all(before.get(key) == value for key, value in json.loads(json.dumps(facts)).items())
    rows: dict[str, Any] = before.get("rows", {}) if same else {}
    yardstick: measuring.Yardstick | None = None
    kept: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    truths = {name: value[None] for name, value in followed(truth.frames, truth).items()}
    rows["truth"] = {"training": "truth", "scheme": "", **summary(truths)}
    for scheme in dict.fromkeys(["learned", *asked.schemes]):
        for training in asked.trainings:
            if scheme == "learned" and training == "shared":
                continue  # it is not trained on given frames
            seeds = [seed for seed in asked.seeds if is_trained(run_folder(asked, training, seed), asked.steps)]
            if not seeds:
                print(f"{training}: no seed is trained yet", file=sys.stderr)
                continue
            found = [continued(run_folder(asked, training, seed), scheme, truth, asked) for seed in seeds]
            figures = [followed(videos, truth) for videos, *_ in found]
            kept[training, scheme] = {name: np.stack([each[name] for each in figures]) for name in figures[0]}
            key = f"{training} | {scheme}"
            hashes = [facts["sha256"] for *_, facts in found]
            if rows.get(key, {}).get("models") != hashes:
                yardstick = yardstick or reference()
                rows[key] = {
                    "training": training,
                    "scheme": scheme,
                    "models": hashes,
                    "seeds": seeds,
                    **summary(kept[training, scheme]),
                    "distance": [yardstick.measure(videos) for videos, *_ in found],
                    "cpu_seconds": [round(seconds, 1) for _, seconds, _ in found],
                }
            rows[key]["against"] = {
                f"{first} | learned": differences(kept[training, scheme], kept[first, "learned"])
                for first in dict.fromkeys((training, next(iter(TRAININGS))))
                if (first, "learned") in kept
                and (first, "learned") != (training, scheme)
                and rows[f"{first} | learned"]["seeds"] == seeds
            }
            free_rows = before.get("free", {})
            save(asked.name, {**facts, "trainings": TRAININGS, "schemes": SCHEMES, "rows": rows, "free": free_rows})
    show(rows)


def free(asked: argparse.Namespace) -> None:
    """Samples one window from captions alone with each training, and adds it to the results."""
    results = models.content(RESULTS / f"{asked.name}.json")
    truth = measuring.true_videos(asked.captions, models.FRAMES, seed=measuring.TESTED, moved=True)
    yardstick, captions = measuring.of_windows(), [scene.caption for scene in truth.scenes]
    rows = results.get("free", {}) | {"truth": yardstick.measure(truth.scenes, truth.frames)}
    for training, how in product(asked.trainings, asked.grids):
        seeds = [seed for seed in asked.seeds if is_trained(run_folder(asked, training, seed), asked.steps)]
        measures, (steps, _, shift) = list[dict[str, Any]](), how.partition(":")
        choice: dict[str, Any] = {"guidance_scale": 2.0, "steps": int(steps), "shift": float(shift or 0)}
        for seed in seeds:
            model = open_model(run_folder(asked, training, seed), device="cpu")
            assert isinstance(model, UNetModel)
            videos, seconds = common.sampled(model, captions, asked.work / "free", **choice)
            measures.append({"sha256": model.hash, **yardstick.measure(truth.scenes, videos), "cpu_seconds": seconds})
            print(training, how, seed, json.dumps(measures[-1]["right"]), file=sys.stderr, flush=True)
        rows[training if how == "16:0" else f"{training} | {how}"] = {"seeds": seeds, "measures": measures}
    about = ("command", "machine", "versions")
    results = {key: value for key, value in results.items() if key not in about}
    save(asked.name, {**results, "free": rows | {"captions": asked.captions, "distances": yardstick.facts}})


def reference() -> measuring.Yardstick:
    return measuring.Yardstick(
        measuring.true_videos(measuring.REFERENCE_VIDEOS, TOTAL, seed=measuring.REFERENCE).frames
    )


def continued(
    run: Path, scheme: str, truth: measuring.Truth, asked: argparse.Namespace
) -> tuple[np.ndarray, float, dict[str, Any]]:
    """The true videos continued by a model (b n h w c), the process time, and what the model is. Video i has seed i;
    every 32 videos are kept as they come."""
    model = open_model(run, device="cpu")
    assert isinstance(model, UNetModel)
    chosen_settings = dict(SCHEMES[scheme])
    scheme_of_frames = chosen_settings.pop("scheme", "windows")
    settings = GenerationSettings.model_validate(SAMPLING | chosen_settings)
    parts, seconds = [], 0.0
    for start in range(0, asked.videos, AT_ONCE):
        chosen = range(start, min(start + AT_ONCE, asked.videos))
        # without defaults and in one order, so that a new setting does not hide the files that are there
        asked_for = settings.model_dump(mode="json", exclude_defaults=True)
        place_of = [model.hash, asked_for, [*chosen], TOTAL, GIVEN, *NAMED[scheme_of_frames]]
        key = json.dumps(place_of, sort_keys=True)
        place = asked.work / "videos" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
        if not place.is_file():
            prompts = [truth.scenes[number].caption for number in chosen]
            began = time.process_time()
            frames = extend(
                model, settings, truth.frames[chosen.start : chosen.stop], prompts, chosen, scheme=scheme_of_frames
            )
            place.parent.mkdir(parents=True, exist_ok=True)
            unfinished = place.with_suffix(".tmp.npz")
            np.savez_compressed(unfinished, frames=frames, seconds=time.process_time() - began)
            unfinished.replace(place)
            print(f"{run.name}, {scheme}: {chosen.stop} of {asked.videos} videos", file=sys.stderr, flush=True)
        with np.load(place) as stored:
            parts.append(stored["frames"])
            seconds += float(stored["seconds"])
    return np.concatenate(parts), seconds, {"sha256": model.hash}


def extend(
    model: UNetModel,
    settings: GenerationSettings,
    clips: np.ndarray,
    prompts: list[str],
    seeds: Sequence[int],
    *,
    scheme: str,
) -> np.ndarray:
    """Clips (b n h w c) of which the first frames are kept, window by window or in one that rolls, or every 4th."""
    kept = range(0, TOTAL, GIVEN) if scheme == "between" else range(GIVEN)
    rolling = RollingPlan(way=range(TOTAL), known=GIVEN, window=models.FRAMES, overlap=GIVEN)
    job = VideoJob(
        windows=plan(TOTAL, kept, window=models.FRAMES, overlap=GIVEN),
        times=[Fraction(frame) / model.fps for frame in range(TOTAL)],
        prompts=lambda _: prompts,
        seeds=seeds,
        rolling=rolling if scheme == "rolling" else None,
    )
    return generate_clips(model, resolve_sampling(model, settings), job, clips)


def followed(videos: np.ndarray, truth: measuring.Truth) -> dict[str, np.ndarray]:
    """Measures of every video (b): see the top. `seam` and `inside` have two columns: the change, and the true one."""
    when = np.arange(TOTAL) / models.FPS
    rows = []
    for video, scene, centers in zip(videos, truth.scenes, truth.centers, strict=True):
        thing = scene.things[0]
        off = np.linalg.norm(oracle.positions(video) - centers, axis=1)[GIVEN:]
        off = np.where(np.isnan(off), models.SIZE / 2, off)
        end = detect_objects(video[-LAST:], when[:LAST]).things
        words = end[0].words if end else dict[str, str | None]()
        looks = [frame_stats(video[at : at + GIVEN], video[at - 1]) for at in range(GIVEN, TOTAL, GIVEN)]
        row = {name: float(off[: GIVEN * count].mean()) for name, count in WINDOWS.items()}
        row["thing_kept"] = float(all(words.get(name) == thing.words[name] for name in ("color", "shape", "size")))
        row["motion_kept"] = float(words.get("motion") == thing.motion)
        rows.append(row | {"drift": float(not warnings(looks, frame_stats(video[:GIVEN])))})
    seams = list(range(GIVEN, TOTAL, models.FRAMES - GIVEN))
    inside = [frame for frame in range(GIVEN, TOTAL) if frame not in seams]
    found = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    pairs = {"seam": seams, "inside": inside}
    return found | {name: np.stack([changes(videos, at), changes(truth.frames, at)], 1) for name, at in pairs.items()}


def summary(figures: dict[str, np.ndarray]) -> dict[str, Any]:
    """Of every measure (seeds, videos, ...): the mean, its 95 % interval over videos, and the mean of each seed."""
    return {
        name: {"mean": interval(values, _mean), "seeds": [rounded(_mean(each[None])) for each in values]}
        for name, values in figures.items()
    }


def differences(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> dict[str, list[float]]:
    """Paired differences by video and seed with their 95 % intervals, of the measures that are plain means."""
    return {name: interval(ours[name] - theirs[name], _mean) for name in ours if ours[name].ndim == 2}


def interval(values: np.ndarray, of: Callable[[np.ndarray], float]) -> list[float]:
    """A statistic of (seeds, videos, ...) with its 95 % interval: videos are drawn again, together for all seeds."""
    draws = np.random.default_rng(0).integers(values.shape[1], size=(1000, values.shape[1]))
    low, high = np.quantile([of(values[:, drawn]) for drawn in draws], [0.025, 0.975])
    return [rounded(each) for each in (of(values), low, high)]


def _mean(values: np.ndarray) -> float:
    """The mean, or the ratio of the means of two columns."""
    means = values.reshape(-1, *values.shape[2:]).mean(axis=0)
    return float(means) if means.ndim == 0 else float(means[0] / max(means[1], 1e-9))


def rounded(value: float) -> float:
    return float(f"{value:.4g}")


COLUMNS = ("px_1", "px_1_2", "px_1_4", "thing_kept", "motion_kept", "seam", "inside", "drift")


def table(asked: argparse.Namespace) -> None:
    show(models.content(RESULTS / f"{asked.name}.json").get("rows", {}))


def show(rows: Mapping[str, Any]) -> None:
    print(f"{'':46}" + "".join(f"{name:>20}" for name in COLUMNS))
    for key, row in rows.items():
        cells = ["{:.2f} ({:.2f}-{:.2f})".format(*row[name]["mean"]) for name in COLUMNS]
        print(f"{key:46}" + "".join(f"{cell:>20}" for cell in cells))
