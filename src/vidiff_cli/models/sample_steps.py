"""Steps of sampling that lose nothing, as a checkpoint's header stores them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MAX_STEPS = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleSteps:
    """The fewest steps that lose nothing: `free` of whole clips, `completion` beside given frames that the network is
    shown (None: not trained on them, or one is enough)."""

    free: int
    completion: int | None

    def as_json(self) -> dict[str, int | None]:
        """The entry of a header, as `read_sample_steps` reads it."""
        return {"free": self.free, "completion": self.completion}


def read_sample_steps(entry: object) -> SampleSteps | None:
    """The steps in a checkpoint's header; None where it has none. ValueError for anything else."""
    if entry is None:
        return None
    found = entry if isinstance(entry, Mapping) else {}
    free, completion = _count(found.get("free")), _count(found.get("completion"))
    if free is None or (completion is None and found.get("completion") is not None):
        raise ValueError(f"steps = {str(entry)[:40]}")
    return SampleSteps(free=free, completion=completion)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and type(value) is int and 1 <= value <= MAX_STEPS else None
