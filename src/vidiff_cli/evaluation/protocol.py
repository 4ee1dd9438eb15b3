"""Protocol of an evaluation: the common view of both sides, warnings about its numbers, and the record of both."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from importlib.metadata import version
from typing import Any

import torch

from vidiff_cli import __version__
from vidiff_cli.errors import VidiffError
from vidiff_cli.evaluation.clip_score import ClipScorer
from vidiff_cli.evaluation.distances import RECOMMENDED_VIDEOS
from vidiff_cli.evaluation.measure_videos import MeasureContext, Measured
from vidiff_cli.evaluation.measures import FLOW_METHOD
from vidiff_cli.evaluation.video_sets import Item, VideoSet
from vidiff_cli.evaluation.view import RESIZING, View
from vidiff_cli.events import Note
from vidiff_cli.metrics.extractors import Extractor
from vidiff_cli.metrics.fidelity import scales

MAX_DEFAULT_FRAMES = 64  # of a video, where --num-frames is not given


def choose_view(
    items: Sequence[Item], *, frames: int | None, width_height: tuple[int, int] | None, fps: Fraction | None
) -> View:
    """Chooses the view of all videos of both sides: as asked, else what they have in common.

    VidiffError where sizes or rates differ and none was asked for, and where a video is too short or too slow.
    """
    fps = _common_rate(items, fps)
    shortest = min(_frames_at(item, fps) for item in items)
    frames = frames or min(MAX_DEFAULT_FRAMES, shortest)
    for item in items:
        if (count := _frames_at(item, fps)) < frames:
            fix = f"pass --num-frames {max(1, shortest)}, or leave it out"
            raise VidiffError(f"{item.name} is too short", found=f"{count} frames", expected=frames, fix=fix)
    width, height = width_height or _common_size(items)
    return View(frames=frames, width=width, height=height, fps=fps)


def _common_size(items: Sequence[Item]) -> tuple[int, int]:
    first = items[0]
    for item in items:
        if (item.width, item.height) != (first.width, first.height):
            raise VidiffError(
                "the videos differ in size",
                found=f"{first.width}x{first.height} ({first.name}) and {item.width}x{item.height} ({item.name})",
                fix="pass --size, such as --size 64 or --size 128x72",
            )
    return first.width, first.height


def _common_rate(items: Sequence[Item], asked: Fraction | None) -> Fraction | None:
    rates = [(item.fps, item.name) for item in items if item.fps is not None]
    if asked is None:
        for fps, name in rates:
            first, first_name = rates[0]
            if fps != first:
                found = f"{float(first):.6g} fps ({first_name}) and {float(fps):.6g} fps ({name})"
                fix = f"pass --fps, such as --fps {min(fps for fps, _ in rates)}"
                raise VidiffError("the videos differ in frame rate", found=found, fix=fix)
        return rates[0][0] if rates else None
    for fps, name in rates:
        if fps < asked:
            raise VidiffError(f"{name} is too slow", found=f"{float(fps):.6g} fps", expected=f"--fps {asked} or more")
    return asked


def _frames_at(item: Item, fps: Fraction | None) -> int:
    """Frames of a video at a rate: the k for which a frame is shown at k / fps."""
    if fps is None or item.fps is None:
        return item.frames
    return -int(-item.frames * fps // item.fps)


def cautions(real: VideoSet, generated: VideoSet, tools: MeasureContext, paired: bool) -> Iterator[str]:
    """Warnings about limits of the numbers."""
    few = min(len(real.items), len(generated.items))
    if tools.extractors and few < RECOMMENDED_VIDEOS:
        yield (
            f"{few} videos are few for a Frechet distance: below {RECOMMENDED_VIDEOS:,} it comes out clearly too high; "
            "compare it only with others of the same numbers of videos, and look at the kernel distance."
        )
    for extractor in tools.extractors:
        if few <= extractor.dimension:
            features = f"{extractor.dimension} features of the {extractor.name} extractor"
            yield f"{few} videos are no more than the {features}: covariances are not of full rank."
    if few < 2:
        yield "Distances need at least two videos on each side: skipped."
    for what, side in (("real", real), ("generated", generated)):
        if side.lossy:
            codecs = ", ".join(side.lossy)
            yield f"The {what} videos went through a lossy codec ({codecs}): what it changed counts as a difference."
        if side.left_out:
            yield f"{side.left_out} files or images of the {what} side are not videos and were left out."
    if len(real.items) != len(generated.items) and not paired:
        yield f"The sides differ in size: {len(real.items)} real and {len(generated.items)} generated videos."


def describe_comparison(
    view: View, given: frozenset[int], truth: Sequence[Item] | None, clip: ClipScorer | None
) -> Iterator[Note]:
    """Notes what is compared."""
    rate = "" if view.fps is None else f" at {float(view.fps):g} fps"
    excluded = f"; frames {_ranges(given)} were given and do not count" if given else ""
    pairs = ", one by one" if truth is not None else ""
    yield Note(f"Comparing {view.frames} frames of {view.width}x{view.height}{rate}{pairs}{excluded}.")
    if clip is None:
        yield Note("CLIP similarity skipped: CLIP weights not found (--clip-model names them).")


def describe_protocol(
    real: VideoSet,
    generated: VideoSet,
    tools: MeasureContext,
    truth: Sequence[Item] | None,
    measured: tuple[Measured, Measured],
    *,
    bootstrap: int,
    seed: int,
) -> dict[str, Any]:
    """Records everything that is needed to measure the same numbers again.

    Args:
        real, generated: both sides.
        tools: the view and the measures of each video.
        truth: the real video of each generated one, where they are compared one by one.
        measured: the numbers of the real and of the generated side.
        bootstrap: replicates behind the interval of a distance.
        seed: seed of the bootstrap and of samples.
    """
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
            "frechet": f"bootstrap over videos, {bootstrap} replicates, centered on the value",
            "kernel": "jackknife over videos",
            "others": "bootstrap over videos, 1000 replicates, percentiles",
        },
        "optical_flow": FLOW_METHOD if tools.temporal else None,
        "ms_ssim_scales": scales(view.height, view.width) if truth is not None else None,
        "clip": None if tools.clip is None else {"name": tools.clip.name, "sha256": tools.clip.sha256},
        "seed": seed,
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
    parts = list[list[int]]()
    for number in sorted(numbers):
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)
