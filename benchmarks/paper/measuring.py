"""Measures of the small reproductions: true videos, distances to them, words that the oracle reads back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.paper.models import FPS, FRAMES, PART, SIZE
from vidiff_cli.evaluation.extractors import shapes_extractor
from vidiff_cli.metrics.bootstrap import ConfidenceInterval, around, bootstrap_mean, drawn_counts, normal
from vidiff_cli.metrics.distance import frechet, kernel_distance, moments
from vidiff_cli.metrics.extractors import random_extractor
from vidiff_cli.metrics.features import Features
from vidiff_cli.worlds.captions import parse_words
from vidiff_cli.worlds.scene_oracle import detect_objects
from vidiff_cli.worlds.scenes import SECONDS, Scene, render
from vidiff_cli.worlds.splits import draw_scene

REFERENCE, TESTED = 1, 2  # seeds of scenes; 0 is trained on
REFERENCE_VIDEOS, REPLICATES = 512, 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """True videos (b n h w c) uint8, their scenes, and the centers of their things (b n 2) in pixels."""

    scenes: list[Scene]
    frames: np.ndarray
    centers: np.ndarray


def true_videos(count: int, total: int, *, seed: int, moved: bool = False) -> Truth:
    """The first `count` scenes of a seed, none of which is trained on; `moved`: beginning where windows of training
    clips may begin, else with the scene."""
    scenes = [draw_scene(PART, seed, number, side="train") for number in range(count)]
    starts = np.random.default_rng(seed).integers(0, int(SECONDS * FPS) + 2 - total, count) if moved else [0] * count
    when = [(np.arange(total) + start) / FPS for start in starts]
    return Truth(
        scenes=scenes,
        frames=np.stack([render(scene, at, canvas=SIZE) for scene, at in zip(scenes, when, strict=True)]),
        centers=SIZE * np.stack([scene.things[0].centers(at) for scene, at in zip(scenes, when, strict=True)]),
    )


class Yardstick:
    """Distances of sets of videos (b n h w c) from a set of true ones, by the two extractors that come with vidiff.

    `changes` is the `random` extractor on the changes from frame to frame instead of the frames: another look at how
    things move, with the looks of things left out. All are proxies, never FVD: numbers of one table can be compared
    with each other, and with nothing else.
    """

    def __init__(self, reference: np.ndarray) -> None:
        device = torch.device("cpu")
        random = random_extractor(device)
        self.extractors = {"random": random, "shapes": shapes_extractor(device)}
        self.views: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            name: extractor for name, extractor in self.extractors.items()
        }
        if reference.shape[1] > 1:
            self.views["changes"] = lambda video: random(changed(video))
        self.real = {name: _features(view, reference) for name, view in self.views.items()}
        self.videos = len(reference)

    @property
    def facts(self) -> dict[str, Any]:
        """Record of it in the results."""
        hashes = {name: extractor.sha256 for name, extractor in self.extractors.items()}
        return {
            "views": list(self.views),
            "extractors": hashes,
            "reference_videos": self.videos,
            "bootstrap_replicates": REPLICATES,
        }

    def measure(self, videos: np.ndarray) -> dict[str, Any]:
        """By extractor the Frechet and the kernel distance, each [value, low, high] with its 95 % interval."""
        found = {}
        for name, view in self.views.items():
            made = _features(view, videos)
            draws = zip(
                drawn_counts(self.videos, REPLICATES, seed=0, which=0),
                drawn_counts(len(videos), REPLICATES, seed=0, which=1),
                strict=True,
            )
            real = self.real[name]
            spread = [frechet(moments(real.blocks, one), moments(made.blocks, other)) for one, other in draws]
            distance = frechet(moments(real.blocks), moments(made.blocks))
            kernel = kernel_distance(real.blocks, made.blocks)
            found[name] = {
                "frechet": estimate(around(distance, spread, len(videos))),
                "kernel": estimate(normal(kernel.value, kernel.error, len(videos))),
            }
        return found

    def ratio(self, one: np.ndarray, other: np.ndarray, name: str) -> dict[str, Any]:
        """Ratio of the distances of two sets, of the same captions and seeds: both are drawn alike."""
        view, real = self.views[name], self.real[name]
        sets = [_features(view, videos) for videos in (one, other)]

        def of(real_counts: np.ndarray | None, counts: np.ndarray | None) -> float:
            true = moments(real.blocks, real_counts)
            farther, nearer = (frechet(true, moments(made.blocks, counts)) for made in sets)
            return float(np.log(farther / nearer))

        draws = zip(
            drawn_counts(self.videos, REPLICATES, seed=0, which=0),
            drawn_counts(len(one), REPLICATES, seed=0, which=1),
            strict=True,
        )
        spread = np.array([of(real_counts, counts) for real_counts, counts in draws])
        value, reach = of(None, None), np.quantile(spread - spread.mean(), [0.025, 0.975])
        return {
            "frechet": [float(f"{np.exp(value + shift):.4g}") for shift in (0.0, *reach)],
            "farther_in": float((spread > 0).mean()),
        }


def changed(video: np.ndarray) -> np.ndarray:
    """Difference of each frame (t h w c) from the one before: (t - 1 h w c) uint8."""
    return np.abs(np.diff(video.astype(np.int16), axis=0)).astype(np.uint8)


def _features(view: Callable[[np.ndarray], np.ndarray], videos: np.ndarray) -> Features:
    found = Features()
    for video in videos:
        found.append(view(video))
    return found


def stills(videos: np.ndarray, *, every: int) -> np.ndarray:
    """Every so many frames of all videos as videos of one frame (b 1 h w c): what a distance of images is taken on."""
    return np.concatenate([videos[:, frame : frame + 1] for frame in range(0, videos.shape[1], every)])


def estimate(found: ConfidenceInterval) -> list[float | None]:
    return [None if value is None else float(f"{value:.5g}") for value in (found.value, found.low, found.high)]


def mean(values: Sequence[float] | np.ndarray) -> list[float | None]:
    """The mean over videos with its 95 % bootstrap interval: [value, low, high]."""
    return estimate(bootstrap_mean([float(value) for value in values], seed=0))


def right_words(scenes: Sequence[Scene], videos: np.ndarray) -> dict[str, list[float | None]]:
    """The share of captions that the oracle reads back from the videos, by attribute; "all": every word of a caption.

    A bounce may lie outside of a short window: what moves straight is as right for `bouncing`.
    """
    when, marks = np.arange(videos.shape[1]) / FPS, dict[str, list[float]]()
    for scene, video in zip(scenes, videos, strict=True):
        said = parse_words(scene.caption)["things"][0]
        things = detect_objects(video, when).things
        seen: dict[str, str | None] = dict(things[0].words) if things else dict.fromkeys(said)
        if seen["motion"] == "moving" and said["motion"] == "bouncing":
            seen["motion"] = "bouncing"
        right = {name: seen[name] == said[name] for name in ("color", "shape", "size", "motion") if said[name]}
        for name, value in (right | {"all": all(right.values())}).items():
            marks.setdefault(name, []).append(value)
    return {name: mean(values) for name, values in marks.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowYardstick:
    """Measures of single windows: distances of the videos and of their frames, words, wandering of colors."""

    whole: Yardstick
    frames: Yardstick

    @property
    def facts(self) -> dict[str, Any]:
        return self.whole.facts

    def measure(self, scenes: Sequence[Scene], videos: np.ndarray) -> dict[str, Any]:
        colors = videos.astype(np.float64).mean(axis=(2, 3))  # b n c
        return {
            "distance": self.whole.measure(videos),
            "images": self.frames.measure(stills(videos, every=FRAMES // 2)),
            "right": right_words(scenes, videos),
            "color_drift": mean(colors.std(axis=1).mean(axis=1)),
        }


def of_windows() -> WindowYardstick:
    true = true_videos(REFERENCE_VIDEOS, FRAMES, seed=REFERENCE, moved=True).frames
    return WindowYardstick(whole=Yardstick(true), frames=Yardstick(stills(true, every=FRAMES)))
