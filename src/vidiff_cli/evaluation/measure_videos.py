"""One pass over the videos of a side: each is read, measured and dropped; its numbers and features are kept.

Legend: n videos, t frames, d features.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from vidiff_cli.errors import VidiffError
from vidiff_cli.evaluation.clip_score import ClipScorer
from vidiff_cli.evaluation.measures import (
    CAPTION_ACCURACY,
    CLIP_SCORE,
    FROM_MIDDLE,
    REAL_WARPING,
    MeasureSpec,
    measure_captions,
    measure_fidelity,
    measure_motion,
    measure_temporal,
    without_given_pairs,
)
from vidiff_cli.evaluation.video_sets import Item, VideoSet
from vidiff_cli.evaluation.view import View
from vidiff_cli.events import EventStream, Progress
from vidiff_cli.metrics.extractors import Extractor
from vidiff_cli.metrics.features import Features
from vidiff_cli.metrics.temporal import warping_error


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasureContext:
    """Tools that each video is measured with; `given` are the frames that do not count."""

    view: View
    extractors: Sequence[Extractor]
    given: frozenset[int]
    temporal: bool
    clip: ClipScorer | None
    device: torch.device
    world: bool = False  # the captions are of the shapes world, whose oracle reads the videos
    folder: Path | None = None  # for features on disk


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Numbers of one side.

    `numbers` by measure, one per video (nan where it is undefined); `features` by the extractor's name; `by_frame`, the
    sum and the count of finite values of a measure in each frame (2 t); `equal_frames`, the number of generated frames
    equal to the real ones; `sha256` of all measured pixels, in order.
    """

    videos: int
    numbers: dict[MeasureSpec, list[float]]
    features: dict[str, Features]
    by_frame: dict[MeasureSpec, np.ndarray] = field(default_factory=dict)
    equal_frames: int = 0
    sha256: str = ""


def measure_videos(
    side: VideoSet, tools: MeasureContext, *, what: str, truth: Sequence[Item] | None = None
) -> EventStream[Measured]:
    """Measures all videos of a side; `truth` are the real videos that they are compared with, one by one.

    Memory: the frames of one or two videos, and a few numbers for each. VidiffError for a video that cannot be read.
    """
    numbers = defaultdict[MeasureSpec, list[float]](list)
    features = {extractor.name: Features(tools.folder) for extractor in tools.extractors}
    sums = dict[MeasureSpec, np.ndarray]()
    equal, digest = 0, hashlib.sha256()
    for done, item in enumerate(side.items):
        yield Progress(what=what, done=done, total=len(side.items))
        frames = item.load(tools.view)
        digest.update(np.ascontiguousarray(frames).data)
        for extractor in tools.extractors:
            features[extractor.name].append(_features(extractor, frames, item))
        found = _measure_one(frames, item, tools)
        if truth is not None:
            real = truth[done].load(tools.view)
            found |= _compare(frames, real, tools, sums)
            equal += sum(bool(np.array_equal(frames[frame], real[frame])) for frame in _generated(frames, tools))
        for measure, value in found.items():
            numbers[measure].append(value)
    yield Progress(what=what, done=len(side.items), total=len(side.items))
    return Measured(
        videos=len(side.items),
        numbers=dict(numbers),
        features=features,
        by_frame=sums,
        equal_frames=equal,
        sha256=digest.hexdigest(),
    )


def _generated(frames: np.ndarray, tools: MeasureContext) -> list[int]:
    return [frame for frame in range(len(frames)) if frame not in tools.given]


def _measure_one(frames: np.ndarray, item: Item, tools: MeasureContext) -> dict[MeasureSpec, float]:
    found = dict[MeasureSpec, float]()
    if tools.temporal and len(frames) > 1:
        found |= measure_temporal(frames, measure_motion(frames, tools.device), tools.given)
    if tools.clip is not None:
        generated = frames[_generated(frames, tools)]
        found[CLIP_SCORE] = tools.clip.measure(generated, item.prompt) if item.prompt else np.nan
    if tools.world and item.prompt and tools.view.fps is not None:
        accuracy = measure_captions(frames, item.prompt, tools.view.fps)
        found |= dict.fromkeys((*CAPTION_ACCURACY.values(), FROM_MIDDLE), np.nan) | accuracy
    return found


def _compare(
    frames: np.ndarray, real: np.ndarray, tools: MeasureContext, sums: dict[MeasureSpec, np.ndarray]
) -> dict[MeasureSpec, float]:
    """Measures a video against its real one; adds the values of each frame to `sums`."""
    found = dict[MeasureSpec, float]()
    if tools.temporal and len(frames) > 1:
        motion = without_given_pairs(measure_motion(real, tools.device), tools.given)
        found[REAL_WARPING] = warping_error(frames, motion)
    generated = _generated(frames, tools)
    for measure, values in measure_fidelity(frames, real, generated).items():
        found[measure] = float(values[generated].mean())
        finite = np.isfinite(values)
        total = sums.setdefault(measure, np.zeros((2, len(frames))))
        total += np.stack([np.where(finite, values, 0.0), finite])
    return found


def _features(extractor: Extractor, frames: np.ndarray, item: Item) -> np.ndarray:
    values = extractor(frames)
    if not np.isfinite(values).all():
        raise VidiffError(f"the features of {item.name} by the {extractor.name} extractor are not finite")
    return values
