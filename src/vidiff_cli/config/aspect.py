"""Shapes of clips as text: "16:9"."""

from __future__ import annotations

import re
from fractions import Fraction

RATIO = re.compile(r"([1-9]\d{0,3}):([1-9]\d{0,3})")


def parse_aspect(aspect: str) -> Fraction:
    """Width over height of "W:H". ValueError for anything else."""
    found = RATIO.fullmatch(aspect)
    if not found or not Fraction(1, 8) <= Fraction(int(found[1]), int(found[2])) <= 8:
        raise ValueError(f"{aspect!r} is no aspect: expected square, keep or a shape such as 16:9, at most 8:1")
    return Fraction(int(found[1]), int(found[2]))
