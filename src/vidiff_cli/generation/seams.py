"""Seam jumps and drift of an extension, flicker of an interpolation: numbers that show a fault before an eye does.

Shapes: n frames, h w pixels, c = 3 RGB; uint8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vidiff_cli.frames import Window
from vidiff_cli.generation.completion import CompletedVideo, CompletionPlan
from vidiff_cli.metrics.drift import Drift, frame_stats
from vidiff_cli.metrics.flicker import Flicker, measure_flicker
from vidiff_cli.timeline import Timeline

PAST = 16  # frames of a window that stands for an estimate without a model
COMPARED = 16  # given frames, nearest to the new ones, that drift is measured against

Frames = Callable[[Sequence[int]], np.ndarray]
"""Frames (n h w c) uint8 of these ranks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seams:
    """`jumps` as `seam_jumps` measures them; `drift` of each window, None where nothing is made."""

    jumps: tuple[float, ...] | None
    drift: Drift | None


def measure_seams(plan: CompletionPlan, done: CompletedVideo) -> Seams:
    """Measure a written extension, window by window; without a model by windows of `PAST` frames."""
    line = plan.timeline
    made = [rank for rank in line.written if rank not in line.given]

    def frames(ranks: Sequence[int]) -> np.ndarray:
        return done.store.read(ranks)[:, 0]

    windows = _written(done.windows, set(made)) or _split_into_windows(made, set(line.given))
    given = _given_of_scene(line, windows)
    return Seams(jumps=seam_jumps(frames, windows, given), drift=_drift(frames, windows, given))


def flicker_of(plan: CompletionPlan, done: CompletedVideo) -> Flicker | None:
    """Measure a written interpolation, every frame once; None where nothing is made between given frames.

    Repeats are left out, so that what is made beside a cut is not compared across it.
    """
    line = plan.timeline
    scene_of = {rank: number for number, scene in enumerate(line.segments) for rank in scene}
    ranks = [rank for rank in dict.fromkeys(line.written) if rank not in line.repeats and rank in scene_of]
    if all(rank in line.given for rank in ranks):
        return None
    stats = [frame_stats(frame[None]) for frame in done.store.in_order(ranks)]
    given = [place for place, rank in enumerate(ranks) if rank in line.given]
    return measure_flicker(stats, [float(line.times[rank]) for rank in ranks], set(given)) if given else None


def _written(windows: Sequence[Window], made: set[int]) -> list[Window]:
    """Windows without the frames that they made and that are not written, where a model makes groups of frames."""
    kept = []
    for window in windows:
        makes = window.makes & made
        if makes:
            frames = tuple(frame for frame in window.frames if frame in makes or frame in window.observed)
            kept.append(Window(frames=frames, observed=window.observed, makes=makes))
    return kept


def _split_into_windows(made: Sequence[int], given: set[int]) -> list[Window]:
    """Frames that no model made, as windows of `PAST` that follow from the given ones."""
    windows = []
    for first in range(0, len(made), PAST):
        makes = frozenset(made[first : first + PAST])
        outermost = first == 0 or max(makes) == made[-1]
        observed = frozenset(range(min(makes) - 1, max(makes) + 2)) & given if outermost else frozenset()
        windows.append(Window(frames=tuple(sorted(makes | observed)), observed=observed, makes=makes))
    return windows


def _given_of_scene(line: Timeline, windows: Sequence[Window]) -> list[int]:
    """The given ranks of the scene that goes on: a cut is not a usual change, and frames before it look different."""
    scene = next((scene for scene in line.segments if windows and windows[0].frames[0] in scene), range(0))
    return [rank for rank in sorted(line.given) if rank in scene]


def seam_jumps(frames: Frames, windows: Sequence[Window], given: Sequence[int]) -> tuple[float, ...] | None:
    """Mean square change where a window's frames meet those it observed, over that between neighboring given frames.

    None where there are no two neighboring given frames that differ.
    """
    known = set(given)
    usual = np.mean([_change(frames, frame) for frame in given if frame + 1 in known] or [0.0])
    if usual == 0.0:
        return None
    seams = []
    for window in windows:
        edges = {place for frame in window.makes for place in (frame - 1, frame)}
        meeting = [
            _change(frames, edge)
            for edge in sorted(edges)
            if (edge in window.makes) != (edge + 1 in window.makes) and {edge, edge + 1} & window.observed
        ]
        seams += [round(float(max(meeting) / usual), 3)] if meeting else []
    return tuple(seams)


def _change(frames: Frames, frame: int) -> float:
    """Mean square difference of a frame and the next."""
    before, after = frames([frame, frame + 1]).astype(np.float32)
    return float(np.square(after - before).mean())


def _drift(frames: Frames, windows: Sequence[Window], given: Sequence[int]) -> Drift | None:
    """Statistics of each window and of the given frames that are nearest to what is made; None where nothing is."""
    if not windows or not given:
        return None
    first = min(windows[0].makes)
    nearest = sorted(sorted(given, key=lambda rank: abs(rank - first))[:COMPARED])
    stats = []
    for window in windows:
        made = sorted(window.makes)
        before = frames([made[0] - 1])[0] if made[0] - 1 in window.observed else None
        stats.append(frame_stats(frames(made), before, ranks=made))
    return Drift(given=frame_stats(frames(nearest), ranks=nearest), windows=tuple(stats))
