"""What an evaluation says of itself: what to be careful about, what is compared, and the protocol for the record."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

import torch

from vidiff_cli import __version__
from vidiff_cli.config.evaluate import EvaluateSettings
from vidiff_cli.evaluation.clip_score import Similarity
from vidiff_cli.evaluation.distances import FEWEST
from vidiff_cli.evaluation.measure_videos import MeasureContext, Measured
from vidiff_cli.evaluation.motion import METHOD
from vidiff_cli.evaluation.video_sets import Item, VideoSet
from vidiff_cli.evaluation.view import RESIZING, View
from vidiff_cli.events import Note
from vidiff_cli.metrics.extractors import Extractor
from vidiff_cli.metrics.fidelity import scales


def cautions(real: VideoSet, generated: VideoSet, tools: MeasureContext, paired: bool) -> Iterator[str]:
    """What makes the numbers say less than they seem to."""
    few = min(len(real.items), len(generated.items))
    if tools.extractors and few < FEWEST:
        yield (
            f"{few} videos are few for a Frechet distance: below {FEWEST:,} it comes out clearly too high; compare it "
            "only with others of the same numbers of videos, and look at the kernel distance."
        )
    for extractor in tools.extractors:
        if few <= extractor.dimension:
            features = f"{extractor.dimension} features of the {extractor.name} extractor"
            yield f"{few} videos are no more than the {features}: covariances are not of full rank."
    if few < 2:
        yield "One video is no distribution: no distances."
    for what, side in (("real", real), ("generated", generated)):
        if side.lossy:
            codecs = ", ".join(side.lossy)
            yield f"The {what} videos went through a lossy codec ({codecs}): what it changed counts as a difference."
        if side.left_out:
            yield f"{side.left_out} files or images of the {what} side are no videos and were left out."
    if len(real.items) != len(generated.items) and not paired:
        yield f"The sides are not equally many: {len(real.items)} real and {len(generated.items)} generated videos."


def explained(
    view: View, given: frozenset[int], truth: Sequence[Item] | None, similarity: Similarity | None
) -> Iterator[Note]:
    rate = "" if view.fps is None else f" at {float(view.fps):g} fps"
    excluded = f"; frames {_ranges(given)} were given and do not count" if given else ""
    pairs = ", one by one" if truth is not None else ""
    yield Note(f"Comparing {view.frames} frames of {view.width}x{view.height}{rate}{pairs}{excluded}.")
    if similarity is None:
        yield Note("No CLIP similarity: there are no CLIP weights at hand (--clip-model names them).")


def describe_protocol(
    settings: EvaluateSettings,
    real: VideoSet,
    generated: VideoSet,
    tools: MeasureContext,
    truth: Sequence[Item] | None,
    measured: tuple[Measured, Measured],
) -> dict[str, Any]:
    """All that another person needs to take the same numbers again."""
    view = tools.view
    return {
        "real": _side(real, measured[0]),
        "generated": _side(generated, measured[1]),
        "frames": view.frames,
        "which_frames": "the first ones of each video",
        "width": view.width,
        "height": view.height,
        "resizing": RESIZING,
        "fps": view.fps,
        "given_frames": sorted(tools.given),
        "given_frames_count_in": "distances alone",
        "paired": truth is not None,
        "equal_frames": measured[1].equal_frames if truth is not None else None,
        "extractors": [_extractor(each) for each in tools.extractors],
        "frechet": "covariances divided by n - 1; float64",
        "kernel": "(x.y / d + 1)^3, unbiased, all pairs",
        "real_column_of_distances": "two random halves of the real videos: half as many, so higher than for all",
        "intervals": {
            "level": 0.95,
            "frechet": f"bootstrap over videos, {settings.bootstrap} replicates, centerd on the value",
            "kernel": "jackknife over videos",
            "others": "bootstrap over videos, 1000 replicates, percentiles",
        },
        "optical_flow": METHOD if tools.temporal else None,
        "ms_ssim_scales": scales(view.height, view.width) if truth is not None else None,
        "clip": None
        if tools.similarity is None
        else {"name": tools.similarity.name, "sha256": tools.similarity.sha256},
        "seed": settings.seed,
        "device": str(tools.device),
        "argv": sys.argv,
        "versions": {"vidiff": __version__, "torch": torch.__version__, "numpy": version("numpy")},
    }


def _side(side: VideoSet, found: Measured) -> dict[str, Any]:
    videos = {"title": side.title, "videos": len(side.items), "pixels": side.pixels, "lossy": list(side.lossy)}
    return videos | {"pixels_sha256": found.sha256, "left_out": side.left_out} | dict(side.facts)


def _extractor(extractor: Extractor) -> dict[str, Any]:
    return {
        "name": extractor.name,
        "sha256": extractor.sha256,
        "features": extractor.dimension,
        "trained_on": extractor.trained_on,
        "short_side": extractor.side,
        "proxy": extractor.is_proxy,
    }


def _ranges(numbers: frozenset[int]) -> str:
    """0, 1, 2, 3, 15 -> "0-3, 15"."""
    parts, there = list[list[int]](), sorted(numbers)
    for number in there:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)
