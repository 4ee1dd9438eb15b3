"""The plan of a rolling window: it moves on frame by frame, and the frames in it are the noisier the later they come.

Every made frame is sampled in as many slots as the window has places for active frames, one slot after the frame
before it; after each slot the oldest is done, the window moves on, and a new one begins as noise. Ranks as in
`frames.py`; places are those along the way of the window, from the frames that are there to the last one made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vidiff_cli.frames import Window
from vidiff_cli.timeline import Timeline


@dataclass(frozen=True, kw_only=True, slots=True)
class RollingPlan:
    """`way`: the ranks along the way of the window, ascending or descending; the first `known` of them are there.

    The window holds at most `window` frames: `overlap` that are observed, where there are so many, and `active` in the
    making. Made frames are numbered from 0 along the way; frame f is sampled in the slots f to f + active - 1.
    """

    way: range
    known: int
    window: int
    overlap: int

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.window:
            raise ValueError(f"an overlap of {self.overlap} does not fit a window of {self.window}")
        if not 0 <= self.known <= len(self.way):
            raise ValueError(f"{self.known} frames are there of {len(self.way)}")

    @property
    def active(self) -> int:
        """Number of active frames: those that are sampled at once."""
        return self.window - self.overlap

    @property
    def made(self) -> int:
        """Frames to make."""
        return len(self.way) - self.known

    @property
    def slots(self) -> int:
        """Slots in which the window stands."""
        return self.made + self.active - 1 if self.made else 0

    def rank(self, number: int) -> int:
        """The rank of a made frame."""
        return self.way[self.known + number]

    def active_at(self, slot: int) -> range:
        """Numbers of the frames that are sampled in a slot, the oldest first."""
        return range(max(0, slot - self.active + 1), min(slot + 1, self.made))

    def finished(self, slot: int) -> int | None:
        """The number of the frame that is done after a slot."""
        number = slot - self.active + 1
        return number if number >= 0 else None

    def done(self, slots: int) -> int:
        """Frames that are done after so many slots."""
        return max(0, slots - self.active + 1)

    def steps_per_slot(self, steps: int) -> int:
        """Steps of a slot, so that a frame has at least so many in all."""
        return -(-steps // self.active)

    def at(self, slot: int) -> Window:
        """The window in a slot: it observes frames that are there, and makes the active ones and, as noise, those to
        come. It has its full length, where the video has, and begins with the frames before the active ones."""
        first = self.known + self.active_at(slot).start
        stop = min(max(0, first - self.overlap) + self.window, len(self.way))
        places = range(max(0, stop - self.window), stop)
        frames = tuple(sorted(self.way[place] for place in places))
        observed = frozenset(self.way[place] for place in places if place < first)
        return Window(frames=frames, observed=observed, makes=frozenset(frames) - observed)

    def windows(self) -> Iterator[Window]:
        """For each made frame what it is made from at last: the window in its last slot, without the frames to come."""
        for number in range(self.made):
            observed, rank = self.at(number + self.active - 1).observed, self.rank(number)
            frames = tuple(sorted({*observed, rank}))
            yield Window(frames=frames, observed=observed, makes=frozenset({rank}))


def roll_beyond(timeline: Timeline, *, window: int, overlap: int) -> RollingPlan:
    """The plan that makes all that a timeline lacks: frames after its last given frame, or before its first one.

    Raises ValueError where frames are missing between given ones, or at both ends.
    """
    there = {*timeline.given, *timeline.repeats}
    lacking = [scene for scene in timeline.segments if any(rank not in there for rank in scene)]
    if not lacking:
        return RollingPlan(way=range(0), known=0, window=window, overlap=overlap)
    scene = lacking[0]
    known = sum(rank in there for rank in scene)
    for way in (scene, scene[::-1]):
        if len(lacking) == 1 and all(rank in there for rank in way[:known]):
            return RollingPlan(way=way, known=known, window=window, overlap=overlap)
    raise ValueError("frames are missing between given ones, or at both ends")
