"""The present speed of work, and how long the rest takes at it."""

from __future__ import annotations

from collections import deque

RECENT_SECONDS = 30.0
FEWEST = 4  # reports that count, however long they took


class Pace:
    """Mean seconds per unit of work over the recent past.

    The mean of a whole run remembers a speed that has gone, and a median leaves out the slow steps that the clock does
    not leave out.
    """

    def __init__(self) -> None:
        self._recent: deque[tuple[int, float]] = deque()  # of each report: units, seconds
        self._units, self._seconds = 0, 0.0

    def add(self, units: int, seconds: float) -> None:
        """Takes in that so many units were done in the time since the last report."""
        self._recent.append((units, seconds))
        self._units, self._seconds = self._units + units, self._seconds + seconds
        while len(self._recent) > FEWEST and self._seconds - self._recent[0][1] >= RECENT_SECONDS:
            units, seconds = self._recent.popleft()
            self._units, self._seconds = self._units - units, self._seconds - seconds

    @property
    def seconds_per_unit(self) -> float | None:
        """None before any unit is done."""
        return self._seconds / self._units if self._units else None
