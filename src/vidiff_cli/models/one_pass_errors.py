"""Errors of a model's frames in one pass and of the motion estimate, as a checkpoint's header stores them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PARTS = ("between", "beyond")

ErrorPair = tuple[float, float]
"""RMS errors in pixels of [-1, 1]: of the model's frames, and of the estimate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OnePassErrors:
    """`between` by the number of frames missing between two observed ones, `beyond` by the distance after the last
    observed one, in frames of the base rate; measured on `clips` clips of the dataset's `split`."""

    between: Mapping[int, ErrorPair]
    beyond: Mapping[int, ErrorPair]
    clips: int
    split: str

    def as_json(self) -> dict[str, Any]:
        """The entry of a header, as `read_errors` reads it."""
        parts = {name: {str(gap): list(pair) for gap, pair in getattr(self, name).items()} for name in PARTS}
        return parts | {"clips": self.clips, "split": self.split}


def read_errors(entry: object) -> OnePassErrors | None:
    """The errors in a checkpoint's header; None where it has none. ValueError for anything else."""
    if entry is None:
        return None
    try:
        between, beyond = ({int(gap): _pair(*pair) for gap, pair in entry[part].items()} for part in PARTS)  # type: ignore[index]
        return OnePassErrors(between=between, beyond=beyond, clips=int(entry["clips"]), split=str(entry["split"])[:20])  # type: ignore[index]
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(f"errors = {str(entry)[:40]}") from error


def _pair(model: float, estimate: float) -> ErrorPair:
    if not (0 <= model < math.inf and 0 <= estimate < math.inf):
        raise ValueError(f"errors of {model} and {estimate}")
    return float(model), float(estimate)
