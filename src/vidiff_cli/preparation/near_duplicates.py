"""Clips that repeat an earlier one, found by their fingerprints (`filters.fingerprint`).

Two clips are alike when no number of their fingerprints differs by more than the tolerance. All such pairs are found
without comparing all pairs: a set of clips is split by one of the numbers into the lower and the higher ones, those
near the border go to both sides, so that every alike pair stays together in at least one part (a spill tree).

Legend: n clips, m numbers of a fingerprint.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from vidiff_cli.errors import VidiffError

TOLERANCE = 12  # of 255 (docs/filters.md: the same material encoded anew, and different clips)
PART = 48  # clips that are compared each with each rather than split
MOST = 128  # clips that are compared each with each where no split helps; larger parts are crowds of alike clips
GAIN = 0.85  # a split helps when it leaves less than this part of the comparisons
SAMPLE = 256  # clips of a part that its split is chosen by
GLANCE = 48  # numbers that are looked at before all of them
CHUNK = 256  # clips that one is compared with at a time


def near_duplicates(
    fingerprints: Sequence[bytes], groups: Sequence[Hashable], *, tolerance: int = TOLERANCE
) -> dict[int, int]:
    """Finds clips that repeat an earlier one: index -> index of the first kept clip that it repeats; ascending.

    `groups` says where each clip comes from (its source): clips of one group are never compared, because overlapping
    windows of one source are alike by design. The clips are gone through in the given order, and a clip that repeats
    one that stays does not stay: clip 0 always does, and no clip goes because of one that has gone itself. The result
    is that of comparing each with each. VidiffError: fingerprints of several lengths.
    """
    rows = _matrix(fingerprints)
    known = dict[Hashable, int]()
    group = np.array([known.setdefault(each, len(known)) for each in groups], dtype=np.int64)
    if len(group) != len(rows):
        raise VidiffError("every fingerprint needs a group", found=f"{len(group)} groups", expected=f"{len(rows)}")
    earlier, crowds = _pairs_and_crowds(rows, group, tolerance)
    crowds_of = defaultdict[int, list[_Crowd]](list)
    for members in crowds:
        crowd = _Crowd(len(members))
        for index in members.tolist():
            crowds_of[index].append(crowd)
    repeats = dict[int, int]()
    for index in sorted({*earlier, *crowds_of}):
        found = [next((each for each in earlier.get(index, ()) if each not in repeats), None)]
        found += [crowd.first_alike(index, rows, group, tolerance) for crowd in crowds_of.get(index, ())]
        first = min((each for each in found if each is not None), default=None)
        if first is not None:
            repeats[index] = first
            continue
        for crowd in crowds_of.get(index, ()):
            crowd.stays(index)
    return repeats


def _matrix(fingerprints: Sequence[bytes]) -> np.ndarray:
    """(n m) uint8."""
    lengths = {len(each) for each in fingerprints}
    if len(lengths) > 1:
        raise VidiffError("fingerprints of clips differ in length", found=f"{sorted(lengths)} bytes")
    return np.frombuffer(b"".join(fingerprints), np.uint8).reshape(len(fingerprints), max(lengths, default=0))


class _Crowd:
    """Many alike clips that no split parts: only those that stay are remembered."""

    def __init__(self, most: int) -> None:
        self._kept, self._count = np.empty(most, dtype=np.int64), 0

    def stays(self, index: int) -> None:
        self._kept[self._count] = index
        self._count += 1

    def first_alike(self, index: int, rows: np.ndarray, group: np.ndarray, tolerance: int) -> int | None:
        """The earliest clip that stays, of another group, that `index` repeats."""
        kept = self._kept[: self._count]
        others = kept[group[kept] != group[index]]
        for low, high in pairwise([*range(0, len(others), CHUNK), len(others)]):
            alike = _apart(rows[others[low:high]], rows[index]) <= tolerance
            if alike.any():
                return int(others[low + int(alike.argmax())])
        return None


def _apart(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The largest difference along the last axis of uint8."""
    return (np.maximum(rows, others) - np.minimum(rows, others)).max(axis=-1, initial=0)


def _pairs_and_crowds(
    rows: np.ndarray, group: np.ndarray, tolerance: int
) -> tuple[dict[int, list[int]], list[np.ndarray]]:
    """For every clip the earlier alike ones of small parts, ascending; and the crowds, each ascending."""
    pairs, crowds = [np.zeros((0, 2), dtype=np.int64)], list[np.ndarray]()
    for part in _parts(rows, tolerance):
        if len(part) > MOST:
            crowds.append(part)
        elif len(found := _alike(rows, group, part, tolerance)):
            pairs.append(found)
    earlier = defaultdict[int, list[int]](list)
    for late, early in np.unique(np.concatenate(pairs), axis=0).tolist():
        earlier[late].append(early)
    return earlier, crowds


def _parts(rows: np.ndarray, tolerance: int) -> Iterator[np.ndarray]:
    """Ascending indices into `rows`, such that every alike pair is together in at least one part."""
    waiting = [np.arange(len(rows))]
    while waiting:
        part = waiting.pop()
        split = _split(rows, part, tolerance) if len(part) > PART else None
        if split is None:
            yield part
        else:
            waiting += split


def _split(rows: np.ndarray, part: np.ndarray, tolerance: int) -> list[np.ndarray] | None:
    """The part as two that may overlap, by the number that divides it best; None where none divides it well.

    A pair that differs by at most the tolerance and is not wholly at or below `border` is wholly above
    `border - tolerance`.
    """
    sample = rows[part[:: -(-len(part) // SAMPLE)]].astype(np.int16)
    middle = (sample.min(axis=0) + sample.max(axis=0) + tolerance) // 2  # values are often near either of two
    ordered = np.sort(sample, axis=0)
    borders = np.stack([middle, *(ordered[len(sample) * tenth // 10] + tolerance // 2 for tenth in (3, 5, 7))])
    low = (sample[None] <= borders[:, None]).mean(axis=1)
    high = (sample[None] > borders[:, None] - tolerance).mean(axis=1)
    cost = low**2 + high**2
    if cost.min() >= GAIN:
        return None
    which, column = np.unravel_index(int(cost.argmin()), cost.shape)
    values, border = rows[part, column].astype(np.int16), borders[which, column]
    sides = [part[values <= border], part[values > border - tolerance]]
    return sides if sum(len(side) ** 2 for side in sides) < len(part) ** 2 else None


def _alike(rows: np.ndarray, group: np.ndarray, part: np.ndarray, tolerance: int) -> np.ndarray:
    """Alike pairs (later, earlier) of different groups within a part: (k, 2)."""
    late, early = np.tril_indices(len(part), -1)
    late, early = part[late], part[early]
    other = group[late] != group[early]
    late, early = late[other], early[other]
    for columns in (slice(None, None, max(1, rows.shape[1] // GLANCE)), slice(None)):
        alike = _apart(rows[late, columns], rows[early, columns]) <= tolerance
        late, early = late[alike], early[alike]
    return np.stack([late, early], axis=1)
