"""One pass over the videos of a side: each is read, measured and dropped; its numbers and features are kept.

Legend: n videos, t frames, d features.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TextIO

import numpy as np
import torch

from vidiff_cli.errors import VidiffError
from vidiff_cli.evaluation.clip_score import ClipScorer
from vidiff_cli.evaluation.measures import (
    CAPTION_ACCURACY,
    CLIP_SCORE,
    FROM_MIDDLE,
    MEASURES,
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
from vidiff_cli.system.ranks import Ranks


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
    equal to the real ones; `sha256` of the sha256 of the measured pixels of each video, in order.
    """

    videos: int
    numbers: dict[MeasureSpec, list[float]]
    features: dict[str, Features]
    by_frame: dict[MeasureSpec, np.ndarray] = field(default_factory=dict)
    equal_frames: int = 0
    sha256: str = ""


def measure_videos(
    side: VideoSet, tools: MeasureContext, ranks: Ranks, *, what: str, truth: Sequence[Item] | None = None
) -> EventStream[Measured]:
    """Measures all videos of a side; `truth` are the real videos that they are compared with, one by one.

    Of several processes each measures its videos, and the first one puts the numbers together, in the order of the
    videos: they are those of one process. The others return none.

    Memory: the frames of one or two videos, and a few numbers for each. VidiffError for a video that cannot be read.
    """
    collected = _Collected(tools)
    if ranks.world == 1:
        yield from _measure_own(side, tools, ranks, collected.add, what=what, truth=truth)
        return collected.measured()
    yield from ranks.together(_measure_into_file(side, tools, ranks, what=what, truth=truth))
    if ranks.is_main:
        for video in _read_rows(side, ranks, what):
            collected.add(video)
    return collected.measured()


def _measure_own(
    side: VideoSet,
    tools: MeasureContext,
    ranks: Ranks,
    keep: Callable[[_MeasuredVideo], None],
    *,
    what: str,
    truth: Sequence[Item] | None,
) -> EventStream[None]:
    """Measures the videos of this process and hands them to `keep`, one after the other."""
    numbers = [number for number in range(len(side.items)) if side.owner(number, ranks.world) == ranks.rank]
    for done, number in enumerate(numbers):
        yield Progress(what=what, done=done, total=len(numbers))
        keep(_measure_video(side.items[number], tools, None if truth is None else truth[number]))
    yield Progress(what=what, done=len(numbers), total=len(numbers))


def _measure_into_file(
    side: VideoSet, tools: MeasureContext, ranks: Ranks, *, what: str, truth: Sequence[Item] | None
) -> EventStream[None]:
    """Measures the videos of this process into its file, which is whole when this ends."""
    with _rows_path(ranks, what, ranks.rank).open("w", encoding="ascii") as rows:
        yield from _measure_own(side, tools, ranks, partial(_write_row, rows), what=what, truth=truth)


@dataclass(frozen=True, kw_only=True, slots=True)
class _MeasuredVideo:
    """Numbers of one video, as `Measured` has those of all; `features` (d) by extractor, `by_frame` (2 t)."""

    numbers: dict[MeasureSpec, float]
    features: dict[str, np.ndarray]
    by_frame: dict[MeasureSpec, np.ndarray]
    equal_frames: int
    sha256: str


def _measure_video(item: Item, tools: MeasureContext, truth: Item | None) -> _MeasuredVideo:
    frames = item.load(tools.view)
    features = {extractor.name: _features(extractor, frames, item) for extractor in tools.extractors}
    numbers, by_frame, equal = _measure_one(frames, item, tools), dict[MeasureSpec, np.ndarray](), 0
    if truth is not None:
        real = truth.load(tools.view)
        numbers |= _compare(frames, real, tools, by_frame)
        equal = sum(bool(np.array_equal(frames[frame], real[frame])) for frame in _generated(frames, tools))
    digest = hashlib.sha256(np.ascontiguousarray(frames).data).hexdigest()
    return _MeasuredVideo(numbers=numbers, features=features, by_frame=by_frame, equal_frames=equal, sha256=digest)


class _Collected:
    """Measured videos put together, in their order."""

    def __init__(self, tools: MeasureContext) -> None:
        self._numbers = defaultdict[MeasureSpec, list[float]](list)
        self._features = {extractor.name: Features(tools.folder) for extractor in tools.extractors}
        self._sums = dict[MeasureSpec, np.ndarray]()
        self._videos, self._equal, self._digest = 0, 0, hashlib.sha256()

    def add(self, video: _MeasuredVideo) -> None:
        self._videos += 1
        self._digest.update(bytes.fromhex(video.sha256))
        self._equal += video.equal_frames
        for name, row in video.features.items():
            self._features[name].append(row)
        for measure, value in video.numbers.items():
            self._numbers[measure].append(value)
        for measure, values in video.by_frame.items():
            total = self._sums.setdefault(measure, np.zeros(values.shape))
            total += values

    def measured(self) -> Measured:
        return Measured(
            videos=self._videos,
            numbers=dict(self._numbers),
            features=self._features,
            by_frame=self._sums,
            equal_frames=self._equal,
            sha256=self._digest.hexdigest(),
        )


def _rows_path(ranks: Ranks, what: str, rank: int) -> Path:
    return ranks.folder / f"{what.replace(' ', '-')}.{rank}"


def _write_row(rows: TextIO, video: _MeasuredVideo) -> None:
    """Writes the numbers of a video as a line of JSON, which keeps every bit of them."""
    data = {
        "numbers": {measure.name: float(value) for measure, value in video.numbers.items()},
        "features": {name: row.astype(np.float32).tobytes().hex() for name, row in video.features.items()},
        "by_frame": {measure.name: values.tolist() for measure, values in video.by_frame.items()},
        "equal_frames": video.equal_frames,
        "sha256": video.sha256,
    }
    rows.write(json.dumps(data) + "\n")


def _read_rows(side: VideoSet, ranks: Ranks, what: str) -> Iterator[_MeasuredVideo]:
    """Reads the numbers of all videos in their order, from the files of all processes."""
    with contextlib.ExitStack() as stack:
        files = [
            stack.enter_context(_rows_path(ranks, what, rank).open(encoding="ascii")) for rank in range(ranks.world)
        ]
        for number in range(len(side.items)):
            data = json.loads(files[side.owner(number, ranks.world)].readline())
            yield _MeasuredVideo(
                numbers={MEASURES[name]: value for name, value in data["numbers"].items()},
                features={
                    name: np.frombuffer(bytes.fromhex(row), np.float32) for name, row in data["features"].items()
                },
                by_frame={MEASURES[name]: np.array(values) for name, values in data["by_frame"].items()},
                equal_frames=data["equal_frames"],
                sha256=data["sha256"],
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
    frames: np.ndarray, real: np.ndarray, tools: MeasureContext, by_frame: dict[MeasureSpec, np.ndarray]
) -> dict[MeasureSpec, float]:
    """Measures a video against its real one; puts the values of each frame into `by_frame`."""
    found = dict[MeasureSpec, float]()
    if tools.temporal and len(frames) > 1:
        motion = without_given_pairs(measure_motion(real, tools.device), tools.given)
        found[REAL_WARPING] = warping_error(frames, motion)
    generated = _generated(frames, tools)
    for measure, values in measure_fidelity(frames, real, generated).items():
        found[measure] = float(values[generated].mean())
        finite = np.isfinite(values)
        by_frame[measure] = np.stack([np.where(finite, values, 0.0), finite])
    return found


def _features(extractor: Extractor, frames: np.ndarray, item: Item) -> np.ndarray:
    values = extractor(frames)
    if not np.isfinite(values).all():
        raise VidiffError(f"the features of {item.name} by the {extractor.name} extractor are not finite")
    return values
