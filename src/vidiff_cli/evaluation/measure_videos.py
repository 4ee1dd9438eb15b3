"""One pass over the videos of a side: each is read, measured and forgotten; its numbers and features are kept.

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
from vidiff_cli.evaluation.clip_score import Similarity
from vidiff_cli.evaluation.measures import (
    CLIP,
    TRUE_WARPING,
    WORDS,
    MeasureSpec,
    counted,
    fidelity,
    over_time,
    words,
)
from vidiff_cli.evaluation.motion import motion
from vidiff_cli.evaluation.video_sets import Item, VideoSet
from vidiff_cli.evaluation.view import View
from vidiff_cli.events import EventStream, Progress
from vidiff_cli.metrics.extractors import Extractor
from vidiff_cli.metrics.features import Features
from vidiff_cli.metrics.temporal import warping_error


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasureContext:
    """What each video is measured with; `given` are the frames that do not count."""

    view: View
    extractors: Sequence[Extractor]
    given: frozenset[int]
    temporal: bool
    similarity: Similarity | None
    device: torch.device
    world: bool = False  # the captions are of the shapes world, whose oracle reads the videos
    folder: Path | None = None  # for features on disk


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Of one side: `numbers` by measure, one per video (nan where there is none), `features` by the extractor's name,
    `by_frame` the sum and the count of finite values of a measure in each frame (2 t), `equal_frames` those without
    any difference from the real ones, `sha256` of all pixels that were measured, in order."""

    videos: int
    numbers: dict[MeasureSpec, list[float]]
    features: dict[str, Features]
    by_frame: dict[MeasureSpec, np.ndarray] = field(default_factory=dict)
    equal_frames: int = 0
    sha256: str = ""


def measure_videos(
    side: VideoSet, tools: MeasureContext, *, what: str, truth: Sequence[Item] | None = None
) -> EventStream[Measured]:
    """Measures all videos of a side; `truth`: the real video that each is compared with, one by one.

    Memory: the frames of one or two videos, and a few numbers for each. VidiffError for one that cannot be read.
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
        found = _of_one(frames, item, tools)
        if truth is not None:
            real = truth[done].load(tools.view)
            if tools.temporal and len(frames) > 1:
                found[TRUE_WARPING] = warping_error(frames, counted(motion(real, tools.device), tools.given))
            made = [frame for frame in range(len(frames)) if frame not in tools.given]
            equal += sum(bool(np.array_equal(frames[frame], real[frame])) for frame in made)
            for measure, values in fidelity(frames, real, made).items():
                found[measure] = float(values[made].mean())
                total = sums.setdefault(measure, np.zeros((2, len(frames))))
                known = np.isfinite(values)
                total += np.stack([np.where(known, values, 0.0), known])
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


def _of_one(frames: np.ndarray, item: Item, tools: MeasureContext) -> dict[MeasureSpec, float]:
    found = dict[MeasureSpec, float]()
    if tools.temporal and len(frames) > 1:
        found |= over_time(frames, motion(frames, tools.device), tools.given)
    if tools.similarity is not None:
        made = [frame for frame in range(len(frames)) if frame not in tools.given]
        found[CLIP] = tools.similarity.measure(frames[made], item.prompt) if item.prompt else np.nan
    if tools.world and item.prompt and tools.view.fps is not None:
        found |= dict.fromkeys(WORDS.values(), np.nan) | words(frames, item.prompt, tools.view.fps)
    return found


def _features(extractor: Extractor, frames: np.ndarray, item: Item) -> np.ndarray:
    values = extractor(frames)
    if not np.isfinite(values).all():
        raise VidiffError(f"the {extractor.name} extractor makes no finite numbers of {item.name}")
    return values
