"""Exact times of a video: when each frame is shown, which frames are given, and which are written.

A rank is an index into the union of given and wanted times. Rates and times are `Fraction`s from end to end.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise

from vidiff_cli.frames import Scheme, Window, plan

ROUNDING_SECONDS = Fraction(1, 1000)  # Matroska and WebM store times in whole milliseconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """When frames are shown, which of them are given, and which are written. Ranks are indices into `times`."""

    times: tuple[Fraction, ...]  # seconds, ascending, the first is 0
    given: Mapping[int, int]  # rank -> index of the source frame
    written: tuple[int, ...]  # the output, frame by frame: held frames repeat, frames only observed are absent
    fps: Fraction  # of the output
    repeats: Mapping[int, int] = field(default_factory=dict)  # rank -> rank of the given frame that it repeats
    segments: tuple[range, ...] = ()  # ranks that are planned for themselves; all of them if not said

    def __post_init__(self) -> None:
        if not self.segments:
            object.__setattr__(self, "segments", (range(len(self.times)),))


def plans(timeline: Timeline, *, window: int, overlap: int, scheme: Scheme = "autoregressive") -> list[Window]:
    """The windows that make every frame of a timeline that is neither given nor a copy, in ranks: one `plan` for every
    scene that lacks frames.

    No window holds frames of two scenes. Copies in a scene may be observed like given frames.
    """
    there = {*timeline.given, *timeline.repeats}
    found: list[Window] = []
    for scene in timeline.segments:
        given = [place for place, rank in enumerate(scene) if rank in there]
        if len(given) < len(scene):
            planned = plan(len(scene), given, window=window, overlap=overlap, scheme=scheme)
            found += [_from(scene.start, each) for each in planned]
    return found


def _from(start: int, window: Window) -> Window:
    return Window(
        frames=tuple(start + frame for frame in window.frames),
        observed=frozenset(start + frame for frame in window.observed),
        makes=frozenset(start + frame for frame in window.makes),
    )


def split_at_cuts(timeline: Timeline, *, starts: Collection[int], same: Collection[int] = ()) -> Timeline:
    """The timeline with scenes of its own, and without making what can be copied. Frames are indices of the source.

    A scene begins at each of `starts`: what lies between the last frame before it and its first frame repeats the
    former and belongs to no scene. `same` are frames equal to the one before in every pixel: what lies between the two
    is equal to both. What an extension adds belongs to the scene that it continues. Of a join, the first frame of the
    second clip is no start, or nothing would be made.
    """
    starts, same = set(starts), set(same)
    copies: dict[int, int] = {}
    scenes: list[range] = []
    first = 0
    for low, high in pairwise(sorted(timeline.given)):
        index = timeline.given[high]
        if timeline.given[low] + 1 != index:
            continue  # the end of a loop meets its beginning
        if index in starts:
            scenes.append(range(first, low + 1))
            first = high
        if index in starts or index in same:
            copies |= dict.fromkeys(range(low + 1, high), low)
    return replace(timeline, repeats=copies, segments=(*scenes, range(first, len(timeline.times))))


def pad_to_groups(timeline: Timeline, group: int) -> Timeline:
    """The timeline of an extension for a model that makes frames in groups: 1 + `group` k in a clip.

    What the model sees of the given frames, and the new ones, fill their groups: the scene that goes on begins later by
    up to group - 1 frames, and up to group - 1 frames are made that are not written.
    Raises ValueError where frames are missing before or between given ones: no group there is known.
    """
    last = max(timeline.given, default=-1)
    if any(rank not in timeline.given and rank not in timeline.repeats for rank in range(last)):
        raise ValueError("frames are missing before or between given ones")
    new = len(timeline.times) - last - 1
    first = timeline.segments[-1].start
    if last >= first:
        first = last - (last - first) // group * group
    more = (-new if last >= 0 else 1 - new) % group
    after = tuple(timeline.times[-1] + step / timeline.fps for step in range(1, more + 1))
    end = len(timeline.times) + more
    segments = (*timeline.segments[:-1], range(timeline.segments[-1].start, first), range(first, end))
    return replace(
        timeline,
        times=(*timeline.times, *after),
        segments=tuple(scene for scene in segments if scene),
    )


def interpolation(
    count: int,
    source_fps: Fraction,
    *,
    times: Sequence[Fraction] | None = None,
    factor: int | None = None,
    fps: Fraction | None = None,
    hold: bool = True,
    last_seconds: Fraction | None = None,
) -> Timeline:
    """The timeline that brings `count` frames to `fps`, or to `factor` times their rate.

    Output frame k is shown at k / fps, up to the last source frame: (count - 1) * factor + 1 frames for a factor. A
    source frame at an output time is that output frame; any other is observed and not written.

    With `times` the source has a variable rate: each of its frames is the output frame whose time is nearest, but where
    another one is nearer still. Its own time is kept, so that the frames between follow from when it was really seen.

    Args:
        count: Number of source frames.
        source_fps: Their rate.
        times: Seconds of source frames that keep no rate, the first 0; a time within a millisecond of the rate's grid
            counts as on it, since some containers round to that.
        factor: Multiple of the rate.
        fps: The wanted rate.
        hold: Repeat the last source frame until the source's duration is over, so that sound stays in step: count *
            factor frames in all.
        last_seconds: Time that the last source frame is shown, if not 1 / source_fps.

    Returns:
        The timeline.

    Raises:
        ValueError: Not exactly one of factor and fps is there, or something is not positive or not ascending.
    """
    if (factor is None) == (fps is None):
        raise ValueError("expected either a factor or a rate")
    source_fps = Fraction(source_fps)
    rate = source_fps * factor if factor is not None else Fraction(fps or 0)
    if count < 1 or source_fps <= 0 or rate <= 0:
        raise ValueError(f"{count} frames at {source_fps} fps cannot become {rate} fps: expected positive numbers")
    source = [k / source_fps for k in range(count)] if times is None else _on_grid(times, source_fps)
    if len(source) != count or source[0] != 0 or not _ascend(source):
        raise ValueError(f"expected {count} ascending times that begin at 0")
    last = source[-1]
    placed = _exact_places(source, rate) if times is None else _nearest_places(source, rate)
    final = max(int(last * rate), *placed)
    wanted = [source[placed[k]] if k in placed else k / rate for k in range(final + 1)]
    union = sorted({*source, *wanted})
    rank = {time: position for position, time in enumerate(union)}
    # The frames of the half-open duration: k / rate < stop. -(-a // b) is the quotient rounded up.
    total = -(-(last + (last_seconds or 1 / source_fps)) * rate // 1) if hold else 0
    return Timeline(
        times=tuple(union),
        given={rank[time]: index for index, time in enumerate(source)},
        written=(*(rank[time] for time in wanted), *[rank[last]] * (total - len(wanted))),
        fps=rate,
    )


def _exact_places(source: Sequence[Fraction], rate: Fraction) -> dict[int, int]:
    """Output frame -> source frame, for those whose time is k / rate."""
    return {int(time * rate): index for index, time in enumerate(source) if (time * rate).denominator == 1}


def _nearest_places(source: Sequence[Fraction], rate: Fraction) -> dict[int, int]:
    """Output frame -> the source frame nearest to it, of those that are nearer to it than to any other output frame."""
    placed: dict[int, int] = {}
    for index, time in enumerate(source):
        place = int(time * rate + Fraction(1, 2))
        rival = placed.get(place)
        if rival is None or abs(time * rate - place) < abs(source[rival] * rate - place):
            placed[place] = index
    return placed


def better_rate(
    count: int, source_fps: Fraction, wanted: Fraction, *, times: Sequence[Fraction] | None = None
) -> Fraction | None:
    """The rate nearest to the wanted one at which half of the source frames or more are output frames, or half of the
    output frames are source frames: a multiple of the source's or of its half, or a part of it.

    None where no such rate is within a factor of two.
    """
    source = [k / source_fps for k in range(count)] if times is None else _on_grid(times, source_fps)
    rates = {source_fps * multiple / 2 for multiple in range(2, 2 + int(4 * wanted / source_fps))}
    rates |= {source_fps / part for part in range(1, 2 + int(2 * source_fps / wanted))}
    near = [rate for rate in rates - {wanted, source_fps} if wanted / 2 <= rate <= wanted * 2]
    for rate in sorted(near, key=lambda rate: max(rate / wanted, wanted / rate)):
        placed = _exact_places(source, rate) if times is None else _nearest_places(source, rate)
        if not leaves_out_most(len(placed), count, int(source[-1] * rate) + 1):
            return rate
    return None


def leaves_out_most(written: int, given: int, total: int) -> bool:
    """True if fewer than half of the given frames are written, though there is room for them among `total`."""
    return 2 * written < min(given, total)


def _on_grid(times: Sequence[Fraction], fps: Fraction) -> list[Fraction]:
    """The times, those within a millisecond of some k / fps moved onto it, unless that would merge two of them."""
    exact = [Fraction(time) for time in times]
    grid = [round(time * fps) / fps for time in exact]
    moved = [near if abs(near - time) <= ROUNDING_SECONDS else time for near, time in zip(grid, exact, strict=True)]
    return moved if _ascend(moved) else exact


def _ascend(times: Sequence[Fraction]) -> bool:
    return all(early < late for early, late in pairwise(times))


def extension(count: int, fps: Fraction, *, new: int, before: bool = False) -> Timeline:
    """The timeline of `count` given frames and `new` ones after them, or before them; all of them are written."""
    if count < 0 or new < 0 or fps <= 0:
        raise ValueError(f"{count} frames and {new} new ones at {fps} fps: expected positive numbers")
    start = new if before else 0
    ranks = range(count + new)
    return Timeline(
        times=tuple(rank / Fraction(fps) for rank in ranks),
        given={start + index: index for index in range(count)},
        written=tuple(ranks),
        fps=Fraction(fps),
    )


def loop(count: int, fps: Fraction, *, new: int, shown: int) -> Timeline:
    """The timeline of `count` given frames, `new` ones after them, and the first `shown` given ones once more, for the
    new ones to lead back to: these are observed and not written, so that the end of the output meets its beginning."""
    if count < 1 or new < 0 or shown < 1 or fps <= 0:
        raise ValueError(f"a loop of {count} frames and {new} new ones at {fps} fps: expected positive numbers")
    again = min(shown, count)
    ranks = range(count + new)
    return Timeline(
        times=tuple(rank / Fraction(fps) for rank in range(count + new + again)),
        given={rank: rank for rank in range(count)} | {count + new + index: index for index in range(again)},
        written=tuple(ranks),
        fps=Fraction(fps),
    )


def join(before: int, after: int, fps: Fraction, *, gap: int) -> Timeline:
    """The timeline of `before` given frames of one clip, `gap` new ones and `after` given ones of another, all of them
    written. Source frame before + j is frame j of the other clip; one frame each will do."""
    if before < 1 or after < 1 or gap < 0 or fps <= 0:
        raise ValueError(f"{before} and {after} frames with {gap} between them at {fps} fps: expected positive numbers")
    ranks = range(before + gap + after)
    return Timeline(
        times=tuple(rank / Fraction(fps) for rank in ranks),
        given={rank: rank for rank in range(before)} | {before + gap + index: before + index for index in range(after)},
        written=tuple(ranks),
        fps=Fraction(fps),
    )
