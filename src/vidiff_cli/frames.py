"""Plans of frame indices: which frames are made, in which order, looking at which others.

Every command samples some frames given others: a `plan` cuts the work into windows that a network can hold. An index is
a rank in the union of given and wanted times (`timeline.py`), so neighboring ranks need not be equally far apart in
time.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

Scheme = Literal["autoregressive", "hierarchical"]


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
    is given, "autoregressive" makes neighboring frames window after window, "hierarchical" first frames spread over
    the whole range, then those between them, level by level.

    Observed are the frames nearest to those that are made, of all that were there before the level began: what other
    windows of the level make is observed only where these are too few. So a level can be
    made at once (`batch_independent_windows`).

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
            available = self.done.copy()  # a level begins
            wide = [(low, high) for low, high in gaps if high - low - 1 > self._room(2)]
            for low, high in wide:
                # The room shrinks after the first window only, so a wide gap stays wide.
                yield self._window(_even(low, high, self._room(2) + 1)[1:-1], available)
            if not wide:
                yield from self._sweep(gaps, available)

    def _sweep(self, gaps: list[tuple[int, int]], available: list[int]) -> Iterator[Window]:
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
            window = self._window(makes, available)
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
        """Number of frames that a window can make beside those it must observe: the overlap, and one for each side."""
        return self.size - min(max(self.overlap, sides), len(self.done))

    def _window(self, makes: list[int], available: list[int]) -> Window:
        """The window that makes these frames, filled up to its full size; they count as done afterwards.

        It observes frames of `there`, all that its level may observe, and others where these are too few.
        """
        makes = sorted(makes)
        lacking = self.size - len(self.done) - len(makes)
        if lacking > 0:
            makes = sorted([*makes, *self._nearest_missing(makes, lacking)])
        count = self.size - len(makes)
        observed = _nearest(available, makes[0], makes[-1], count)
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


def _nearest(available: list[int], low: int, high: int, count: int) -> list[int]:
    """`count` of the available frames: those between low and high, the nearest on either side, then the nearest of
    all."""
    start, stop = bisect_left(available, low), bisect_right(available, high)
    before, after = available[max(0, start - count) : start], available[stop : stop + count]
    first = [*available[start:stop], *before[-1:], *after[:1]]
    others = sorted([*before[:-1], *after[1:]], key=lambda frame: _distance(frame, low, high))
    return [*first, *others][:count]


def _missing(gap: tuple[int, int]) -> int:
    return gap[1] - gap[0] - 1


def _distance(frame: int, low: int, high: int) -> int:
    return max(low - frame, frame - high, 0)


def evenly_spaced(total: int, limit: int, *, to_last: bool = True) -> list[int]:
    """All indices below `total`, or `limit` of them at even distances from the first one, to the last or not."""
    if total <= limit:
        return list(range(total))
    if not to_last:
        return [index * total // limit for index in range(limit)]
    return [round(index * (total - 1) / max(limit - 1, 1)) for index in range(limit)]


def _even(start: int, stop: int, steps: int) -> list[int]:
    """steps + 1 different integers from start to stop, both included, as even as rounding allows."""
    return [start + (2 * i * (stop - start) + steps) // (2 * steps) for i in range(steps + 1)]


def batch_independent_windows(windows: Sequence[Window], most: int) -> list[range]:
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
