"""Plans of frame indices, and exact times: which frames are made, in which order, looking at which others.

Every command samples some frames given others. A `Timeline` says when each frame is shown and which ones are given; a
`plan` cuts the work into windows that a network can hold. An index is a rank in the union of given and wanted times, so
neighbouring ranks need not be equally far apart in time.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from typing import Literal, get_args

Scheme = Literal["autoregressive", "hierarchical"]

ROUNDING_SECONDS = Fraction(1, 1000)  # Matroska and WebM store times in whole milliseconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """Frames that are sampled together. `frames` ascend, need not be adjacent, and are `observed | makes`."""

    frames: tuple[int, ...]
    observed: frozenset[int]  # given, or made by an earlier window
    makes: frozenset[int]


def plan(
    total: int, given: Collection[int], *, window: int, overlap: int, scheme: Scheme = "autoregressive"
) -> list[Window]:
    """The windows that make every frame of `range(total)` that is not `given`, in order.

    Laws: every frame that is not given is made exactly once. A window observes only frames that are given or made
    before it, and holds exactly min(window, total) frames: a last window that has less to make observes more. It
    observes at least `overlap` frames, or all there are. A frame with given frames before and after it is made in a
    window that observes at least one on either side.

    Frames between given ones come first, level by level: while some gap does not fit a window, every such gap is
    filled with evenly spread frames, which is one level; at last all gaps, left to right, several in a window. Then the
    frames after the last given one, forwards, and those before the first, backwards in time. There, and where nothing
    is given, "autoregressive" makes neighbouring frames window after window, "hierarchical" first frames spread over
    the whole range, then those between them, level by level.

    Observed are the frames nearest to those that are made, of all that were there before the level began: what other
    windows of the level make is observed only where these are too few. So a level can be made at once (`together`).

    Raises ValueError for a frame outside the range, an overlap that leaves nothing to make, and a window below 3 where
    frames are made between others.
    """
    if scheme not in get_args(Scheme):
        raise ValueError(f"unknown scheme {scheme!r}, expected one of {', '.join(get_args(Scheme))}")
    if not 0 <= overlap < window:
        raise ValueError(f"an overlap of {overlap} does not fit a window of {window}: expected 0 <= overlap < window")
    if outside := [frame for frame in given if not 0 <= frame < total]:
        raise ValueError(f"given frames {sorted(outside)} lie outside the range of {total} frames")
    planner = _Planner(total, given, min(window, total), overlap, scheme)
    return list(planner.windows())


class _Planner:
    """The frames there are so far (`done`, ascending), and the windows that add to them."""

    def __init__(self, total: int, given: Collection[int], size: int, overlap: int, scheme: Scheme) -> None:
        self.total, self.size, self.overlap, self.scheme = total, size, overlap, scheme
        self.done = sorted(set(given))

    def windows(self) -> Iterator[Window]:
        if not self.done and self.total:
            yield self._first()
        while len(self.done) < self.total:
            yield from self._between()
            if self.done[-1] < self.total - 1:
                yield self._beyond(self.done[-1], self.total - 1)
            elif self.done[0] > 0:
                yield self._beyond(self.done[0], 0)

    def _first(self) -> Window:
        if self.scheme == "autoregressive" or self.size == self.total:
            return self._window(list(range(self.size)), self.done)
        self._check_two_sides()
        return self._window(_even(0, self.total - 1, self.size - 1), self.done)

    def _between(self) -> Iterator[Window]:
        """Fill every gap between two frames that are there: wide gaps coarsely until all fit, then left to right."""
        while gaps := [(low, high) for low, high in pairwise(self.done) if high - low > 1]:
            self._check_two_sides()
            there = self.done.copy()  # a level begins
            wide = [(low, high) for low, high in gaps if high - low - 1 > self._room(2)]
            for low, high in wide:
                # The room shrinks after the first window only, so a wide gap stays wide.
                yield self._window(_even(low, high, self._room(2) + 1)[1:-1], there)
            if not wide:
                yield from self._sweep(gaps, there)

    def _sweep(self, gaps: list[tuple[int, int]], there: list[int]) -> Iterator[Window]:
        """Fill gaps that fit, left to right, as many in a window as stand close enough; may stop early."""
        position = 0
        while position < len(gaps) and _missing(gaps[position]) <= self._room(2):
            start, makes = gaps[position][0], []
            for gap in gaps[position:]:
                if gap[1] - start >= self.size or len(makes) + _missing(gap) > self._room(2):
                    break
                makes += range(gap[0] + 1, gap[1])
                position += 1
            planned = len(makes)
            window = self._window(makes, there)
            yield window
            if len(window.makes) > planned:
                return  # it has reached into other gaps: look at them anew

    def _beyond(self, edge: int, end: int) -> Window:
        """Go on from the outermost frame towards `end`, in either direction of time."""
        step, room = 1 if end > edge else -1, self._room()
        if abs(end - edge) <= room:
            return self._window(list(range(edge + step, end + step, step)), self.done)
        if self.scheme == "autoregressive":
            return self._window(list(range(edge + step, edge + step * (room + 1), step)), self.done)
        self._check_two_sides()
        return self._window(_even(edge, end, room)[1:], self.done)

    def _room(self, sides: int = 0) -> int:
        """How many frames a window can make beside those it must observe: the overlap, and one for each side."""
        return self.size - min(max(self.overlap, sides), len(self.done))

    def _window(self, makes: list[int], there: list[int]) -> Window:
        """The window that makes these frames, filled up to its full size; they count as done afterwards.

        It observes frames of `there`, all that its level may observe, and others where these are too few.
        """
        makes = sorted(makes)
        lacking = self.size - len(self.done) - len(makes)
        if lacking > 0:
            makes = sorted([*makes, *self._nearest_missing(makes, lacking)])
        count = self.size - len(makes)
        observed = _nearest(there, makes[0], makes[-1], count)
        if len(observed) < count:
            others = sorted({*self.done} - {*observed})
            observed += _nearest(others, makes[0], makes[-1], count - len(observed))
        for frame in makes:
            insort(self.done, frame)
        return Window(frames=tuple(sorted([*observed, *makes])), observed=frozenset(observed), makes=frozenset(makes))

    def _nearest_missing(self, makes: list[int], count: int) -> list[int]:
        """Only a first window ever lacks frames to observe: it makes more of them instead."""
        taken = {*self.done, *makes}
        missing = (frame for frame in range(self.total) if frame not in taken)
        return sorted(missing, key=lambda frame: _distance(frame, makes[0], makes[-1]))[:count]

    def _check_two_sides(self) -> None:
        if self.size < 3:
            raise ValueError(f"a window of {self.size} cannot make a frame between two others: expected at least 3")


def _nearest(there: list[int], low: int, high: int, count: int) -> list[int]:
    """`count` of the frames there are: those between low and high, the nearest on either side, then the nearest of
    all."""
    start, stop = bisect_left(there, low), bisect_right(there, high)
    before, after = there[max(0, start - count) : start], there[stop : stop + count]
    first = [*there[start:stop], *before[-1:], *after[:1]]
    others = sorted([*before[:-1], *after[1:]], key=lambda frame: _distance(frame, low, high))
    return [*first, *others][:count]


def _missing(gap: tuple[int, int]) -> int:
    return gap[1] - gap[0] - 1


def _distance(frame: int, low: int, high: int) -> int:
    return max(low - frame, frame - high, 0)


def _even(start: int, stop: int, steps: int) -> list[int]:
    """steps + 1 different integers from start to stop, both included, as even as rounding allows."""
    return [start + (2 * i * (stop - start) + steps) // (2 * steps) for i in range(steps + 1)]


def together(windows: Sequence[Window], most: int) -> list[range]:
    """Runs of consecutive windows, by their numbers, that can be sampled at once, at most `most` each.

    None observes what another of its run makes. They have one length, and all observe nothing, or one frame (which is
    guided by otherwise), or several; how many several are may differ.
    """
    if most < 1:
        raise ValueError(f"runs of {most} windows: expected at least 1")
    runs: list[range] = []
    start, made = 0, set[int]()
    for number, window in enumerate(windows):
        alike = _kind(window) == _kind(windows[start])
        if number - start == most or not alike or not made.isdisjoint(window.observed):
            runs.append(range(start, number))
            start, made = number, set()
        made |= window.makes
    return [*runs, range(start, len(windows))] if windows else []


def _kind(window: Window) -> tuple[int, int]:
    return len(window.frames), min(len(window.observed), 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeline:
    """When frames are shown, which of them are given, and which are written. Ranks are indices into `times`."""

    times: tuple[Fraction, ...]  # seconds, ascending, the first is 0
    given: Mapping[int, int]  # rank -> index of the source frame
    written: tuple[int, ...]  # the output, frame by frame: held frames repeat, frames only observed are absent
    fps: Fraction  # of the output
    copies: Mapping[int, int] = field(default_factory=dict)  # rank -> rank of the given frame that it repeats
    scenes: tuple[range, ...] = ()  # ranks that are planned for themselves; all of them if not said

    def __post_init__(self) -> None:
        if not self.scenes:
            object.__setattr__(self, "scenes", (range(len(self.times)),))


def plans(timeline: Timeline, *, window: int, overlap: int, scheme: Scheme = "autoregressive") -> list[Window]:
    """The windows that make every frame of a timeline that is neither given nor a copy, in ranks: one `plan` for every
    scene that lacks frames.

    No window holds frames of two scenes. Copies in a scene may be observed like given frames.
    """
    there = {*timeline.given, *timeline.copies}
    found: list[Window] = []
    for scene in timeline.scenes:
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


def divided(timeline: Timeline, *, starts: Collection[int], same: Collection[int] = ()) -> Timeline:
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
    return replace(timeline, copies=copies, scenes=(*scenes, range(first, len(timeline.times))))


def interpolation(
    count: int,
    source_fps: Fraction,
    *,
    times: Sequence[Fraction] | None = None,
    factor: int | None = None,
    fps: Fraction | None = None,
    hold: bool = True,
) -> Timeline:
    """The timeline that brings `count` frames to `fps`, or to `factor` times their rate.

    Output frame k is shown at k / fps, for every k / fps up to the last source frame: (count - 1) * factor + 1 frames
    for a factor. `hold` repeats the last source frame until the source's duration is over, so that sound stays in step:
    count * factor frames in all. A source frame at an output time is that output frame; any other is observed and not
    written. `times` (seconds, the first 0) describe a source with a variable rate, whose last frame is shown for
    1 / source_fps; a time within a millisecond of the rate's grid counts as on it, since some containers round to that.
    Raises ValueError unless exactly one of factor and fps is there and everything is positive and ascending.
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
    wanted = [k / rate for k in range(int(last * rate) + 1)]
    union = sorted({*source, *wanted})
    rank = {time: position for position, time in enumerate(union)}
    # The frames of the half-open duration: k / rate < stop. -(-a // b) is the quotient rounded up.
    held = -(-(last + 1 / source_fps) * rate // 1) - len(wanted) if hold else 0
    return Timeline(
        times=tuple(union),
        given={rank[time]: index for index, time in enumerate(source)},
        written=(*(rank[time] for time in wanted), *[len(union) - 1] * held),
        fps=rate,
    )


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
