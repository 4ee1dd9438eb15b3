"""Times of annotations as exact seconds, and the segments that they bound."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction

from vidiff_cli.preparation.captions.id_checks import shown
from vidiff_cli.preparation.captions.types import Segment

LONGEST_SECONDS = 10**8  # three years: a larger number is not a time
NUMBERS = (int, float, Decimal)
CLOCK = re.compile(r"(?:(\d{1,4}):)?(\d{1,4}):(\d{1,2}(?:\.\d{1,12})?)", re.ASCII)


def seconds(value: object) -> Fraction | str:
    """The time, rounded to nanoseconds, from a number or a clock such as "0:01:23.456", or the problem as text."""
    if isinstance(value, str):
        match = CLOCK.fullmatch(value.strip())
        if not match:
            return f"{_shown(value)} is not a time"
        hours, minutes, rest = match.groups()
        value = Decimal(3600 * int(hours or 0) + 60 * int(minutes)) + Decimal(rest)
    if isinstance(value, bool) or not isinstance(value, NUMBERS):
        return f"{_shown(value)} is not a number"
    number = Decimal(value)
    if not number.is_finite():
        return f"{value} is not a time"
    if number < 0:
        return f"{_shown(value)} is before the start"
    if number > LONGEST_SECONDS:
        return f"{_shown(value)} is not a time in a video"
    return Fraction(round(number * 10**9), 10**9)


def interval(start: object, stop: object) -> tuple[Fraction, Fraction] | str:
    """(start, stop) of a segment in seconds, or the reason as text: not times, reversed, or of zero length."""
    begins, ends = seconds(start), seconds(stop)
    if isinstance(begins, str):
        return begins
    if isinstance(ends, str):
        return ends
    if ends < begins:
        return f"the segment ends at {_shown(stop)}, before it begins at {_shown(start)}"
    if ends == begins:
        return f"the segment at {_shown(start)} has no length"
    return begins, ends


def pair(value: object) -> tuple[Fraction, Fraction] | str:
    """`interval` of a list of two."""
    if not isinstance(value, list) or len(value) != 2:
        return "the segment is not a pair of times"
    return interval(*value)


def segments(cuts: Iterable[tuple[Fraction, Fraction, str]]) -> tuple[Segment, ...]:
    """Sorted segments; equal (start, stop) become one segment with all its sentences, in their order."""
    by_times: dict[tuple[Fraction, Fraction], list[str]] = {}
    for start, stop, text in cuts:
        by_times.setdefault((start, stop), []).append(text)
    return tuple(
        Segment(start_seconds=start, stop_seconds=stop, captions=tuple(by_times[start, stop]))
        for start, stop in sorted(by_times)
    )


def _shown(value: object) -> str:
    return shown(value) if not isinstance(value, NUMBERS) else str(value)[:40]
