"""Aspect ratios as text: "16:9"."""

from __future__ import annotations

import re
from fractions import Fraction

RATIO = re.compile(r"([1-9]\d{0,3}):([1-9]\d{0,3})")


def parse_aspect(aspect: str) -> Fraction:
    """Parse "W:H" to width over height. ValueError for other text and for ratios beyond 8:1."""
    found = RATIO.fullmatch(aspect)
    if not found or not Fraction(1, 8) <= Fraction(int(found[1]), int(found[2])) <= 8:
        raise ValueError(
            f"{aspect!r} is not an aspect ratio: expected square, keep or a ratio such as 16:9, at most 8:1"
        )
    return Fraction(int(found[1]), int(found[2]))
