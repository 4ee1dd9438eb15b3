"""Made frames of a completion, taken through the stages of a cascade with the given frames around them.

A stage is shown the small frames in their order and, if it was trained on known frames, the given ones at its own size,
whose detail it takes over. Shapes: t frames, h w pixels, c = 3 RGB; uint8. A rank is a frame's place in a `Timeline`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from vidiff_cli.events import EventStream, task
from vidiff_cli.frames import Window
from vidiff_cli.generation.cascade import final_size
from vidiff_cli.generation.frame_store import DiskFrameArray, FrameStore, MemoryFrameArray
from vidiff_cli.generation.resume_journal import WindowJournal
from vidiff_cli.generation.source_clip import Size, SourceClip, stream_given
from vidiff_cli.generation.upscaling import UpscaleSetup, default_overlap, upscale_into
from vidiff_cli.pixels import clip_from_uint8, clip_to_uint8
from vidiff_cli.resize import resize
from vidiff_cli.timeline import Timeline, plans

ReadGiven = Callable[[Collection[int], Size], Iterable[tuple[int, np.ndarray]]]
"""(numbers, size) -> given frames (h w c) of that size with their numbers, one after the other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LargeFrames:
    """The frames of a store by rank, at `size` (h w)."""

    store: FrameStore
    size: Size

    def __getitem__(self, rank: int) -> np.ndarray:
        """One frame (h w c)."""
        return at_size(self.store[rank][None], self.size)[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class _SmallFrames:
    """The frames of a store as an upscaler reads them: of several clips their mean."""

    store: FrameStore
    fps: Fraction

    @property
    def frames(self) -> _SmallFrames:
        return self

    def read(self, numbers: Sequence[int], /) -> np.ndarray:
        """Frames (n h w c)."""
        return np.stack(list(self.store.in_order(numbers)))


def at_size(frames: np.ndarray, size: Size) -> np.ndarray:
    """Frames (t h w c) at a size, antialiased where they shrink."""
    return frames if frames.shape[1:3] == size else clip_to_uint8(resize(clip_from_uint8(frames), size)[0])


def needed_stages(stages: Sequence[UpscaleSetup], size: Size, result: Size) -> Sequence[UpscaleSetup]:
    """The stages that frames of a size go through until they are as large as the result."""
    for count in range(len(stages)):
        if all(side >= wanted for side, wanted in zip(final_size(stages[:count], size), result, strict=True)):
            return stages[:count]
    return stages


def read_given(
    clip: SourceClip, result: Size, numbers: Collection[int], size: Size
) -> Iterator[tuple[int, np.ndarray]]:
    """Frames of a clip (h w c) with their numbers: as a result of a size shows them, made as small as `size`."""
    last = max(numbers, default=-1)
    for number, frame in enumerate(stream_given(clip, result) if numbers else ()):
        if number in numbers:
            yield number, at_size(frame[None], size)[0]
        if number >= last:
            return


@task
def upscale_made(
    stages: Sequence[UpscaleSetup],
    store: FrameStore,
    line: Timeline,
    made: Collection[int],
    *,
    given: ReadGiven,
    seed: int,
    folder: Path,
    prompt: str = "",
    journals: Sequence[WindowJournal] = (),
) -> EventStream[FrameStore]:
    """Take made frames of a timeline through all stages, each between its neighbors in the same scene.

    Args:
        stages: The upscalers, in order.
        store: All frames of the timeline by rank, given and made.
        line: The timeline.
        made: Ranks of the frames that are wanted.
        given: Reads given frames at the size of a stage.
        seed: Seed of all noise.
        folder: Folder of temporary files.
        prompt: What the frames show; "" for no prompt.
        journals: Those of `stage_journals`, which keep the large frames of finished windows and must stay open for the
            result to be read; none keeps them in memory.

    Returns:
        The large frames of these ranks.

    Raises:
        VidiffError: As `write_windows`.
    """
    for place, (stage, runs) in enumerate(zip(stages, _runs(stages, line, made), strict=True)):
        height, width = store.made.shape[1:3]
        size = final_size([stage], (height, width))
        sources = _sources(line, runs) if _is_shown_frames(stage) else {}
        shape = (1, *size, 3)
        kept = journals[place].frames(shape) if journals else MemoryFrameArray(_none(len(line.times), shape))
        large = FrameStore(kept, _in_a_file(given({*sources.values()}, size), folder, size), sources)
        yield from upscale_into(
            replace(stage, prompt=prompt),
            _SmallFrames(store=store, fps=line.fps),
            _windows(stage, line, runs, sources),
            large,
            seed=seed,
            journal=journals[place] if journals else None,
            what=f"windows of stage {place + 1}",
        )
        store = large
    return store


def _in_a_file(frames: Iterable[tuple[int, np.ndarray]], folder: Path, size: Size) -> DiskFrameArray:
    """Frames by their numbers."""
    array = DiskFrameArray.temporary(folder, (*size, 3))
    for number, frame in frames:
        array.write([number], frame[None])
    return array


def _none(count: int, shape: Sequence[int]) -> np.ndarray:
    return np.zeros((count, *shape), np.uint8)


def _is_shown_frames(stage: UpscaleSetup) -> bool:
    """True for a stage that can be shown large frames."""
    return "learned" in stage.model.conditions


def _sources(line: Timeline, runs: Sequence[range]) -> dict[int, int]:
    """The number of the given frame that each rank of the runs shows, where it shows one."""
    there = {**line.given, **{rank: line.given[repeated] for rank, repeated in line.repeats.items()}}
    return {rank: there[rank] for run in runs for rank in run if rank in there}


def _windows(stage: UpscaleSetup, line: Timeline, runs: Sequence[range], known: Collection[int]) -> list[Window]:
    """The windows of a stage, of neighboring frames: each is shown those known, and a frame that the one before has
    made."""
    alone = Timeline(times=line.times, given={}, written=(), fps=line.fps, segments=tuple(runs))
    overlap = max(default_overlap(stage.model, stage.steps), int(_is_shown_frames(stage)))
    found, known = [], frozenset(known)
    for window in plans(alone, window=stage.model.frames, overlap=min(overlap, stage.model.frames - 1)) if runs else ():
        observed = window.observed | (known & {*window.frames})
        if makes := window.makes - known:
            found.append(Window(frames=window.frames, observed=observed, makes=makes))
    return found


def _runs(stages: Sequence[UpscaleSetup], line: Timeline, made: Collection[int]) -> list[list[range]]:
    """The runs of frames of each stage: around the made ones half a window, which the stage before has to make larger
    too."""
    found: list[list[range]] = []
    for stage in reversed(stages):
        runs = _around(line, made, stage.model.frames // 2)
        found.append(runs)
        made = {rank for run in runs for rank in run}
    return found[::-1]


def _around(line: Timeline, ranks: Collection[int], margin: int) -> list[range]:
    """Runs of neighboring ranks that hold these and, in the same scene, so many others on either side."""
    runs: list[range] = []
    for scene in line.segments:
        first = len(runs)
        for rank in sorted(rank for rank in ranks if rank in scene):
            low, high = max(scene.start, rank - margin), min(scene.stop, rank + margin + 1)
            if len(runs) > first and low <= runs[-1].stop:
                low = runs.pop().start
            runs.append(range(low, high))
    return runs
