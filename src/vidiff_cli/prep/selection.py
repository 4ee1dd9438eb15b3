"""Which of the clips that could be cut become the dataset: good ones, not too many of a source, none twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vidiff_cli.frames import evenly_spaced
from vidiff_cli.prep.captions import Captions, Segment
from vidiff_cli.prep.extract_cache import ClipCandidate, ExtractCache, ExtractedSource
from vidiff_cli.prep.near_duplicates import near_duplicates
from vidiff_cli.prep.quality_filters import Limits, reject_reason
from vidiff_cli.prep.scan import MediaSource

NEAR_DUPLICATE = "near-duplicate"


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectionInput:
    """All that a dataset is assembled from; the dicts are keyed by the source's name."""

    sources: Sequence[MediaSource]
    captions: Captions
    groups: Mapping[str, str | None]
    pieces: Mapping[str, ExtractedSource]
    journal: ExtractCache

    def segments(self, source: MediaSource) -> tuple[Segment, ...]:
        return self.captions.by_source[source.name]

    def frames(self, source: MediaSource, cut: ClipCandidate) -> np.ndarray:
        """The frames of a clip, uint8 (t h w c), a view of the journal's file."""
        frames = self.journal.frames(source, self.segments(source))
        return frames[cut.offset : cut.offset + self.pieces[source.name].clip_frames]


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """A clip that was left out: the number of the cut in its source's piece, and why ("static", say)."""

    source: MediaSource
    number: int
    why: str
    like: str = ""  # the source of the clip that a near-duplicate repeats


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """The numbers of the cuts that are taken, by the source's name (a source without any is absent); what was left out,
    in order; `counts` of the latter by reason."""

    taken: dict[str, tuple[int, ...]]
    refused: tuple[Refused, ...]

    @property
    def counts(self) -> dict[str, int]:
        return dict(Counter(each.why for each in self.refused).most_common())


def select(materials: SelectionInput, limits: Limits, *, most: int | None, difference: int) -> Selection:
    """Chooses clips in the order of the sources: by `limits`, at most `most` of a source, evenly spread, and with
    a `difference` above 0 without clips that nowhere differ by more from one of an earlier source."""
    refused: list[Refused] = []
    taken: dict[str, tuple[int, ...]] = {}
    for source in materials.sources:
        good = []
        for number, cut in enumerate(materials.pieces[source.name].candidates):
            if why := reject_reason(cut.scores, limits):
                refused.append(Refused(source=source, number=number, why=why))
            else:
                good.append(number)
        if good:
            taken[source.name] = spread_evenly(good, most)
    if difference:
        again = list(_repeated(materials, taken, difference))
        refused += again
        gone = {(each.source.name, each.number) for each in again}
        left = {name: tuple(n for n in numbers if (name, n) not in gone) for name, numbers in taken.items()}
        taken = {name: numbers for name, numbers in left.items() if numbers}
    return Selection(taken=taken, refused=tuple(refused))


def spread_evenly(numbers: Sequence[int], most: int | None) -> tuple[int, ...]:
    """All, or where there are more than `most`, evenly spread ones."""
    if most is None or len(numbers) <= most:
        return tuple(numbers)
    return tuple(numbers[index] for index in evenly_spaced(len(numbers), most, to_last=False))


def _repeated(materials: SelectionInput, taken: Mapping[str, Sequence[int]], difference: int) -> Iterator[Refused]:
    place: list[tuple[MediaSource, int]] = []
    prints: list[bytes] = []
    for source in materials.sources:
        if source.name in taken:
            of_source = materials.journal.prints(source, materials.segments(source))
            for number in taken[source.name]:
                place.append((source, number))
                prints.append(of_source[number].tobytes())
    groups = [source.name for source, _ in place]
    for index, first in sorted(near_duplicates(prints, groups, tolerance=difference).items()):
        source, number = place[index]
        yield Refused(source=source, number=number, why=NEAR_DUPLICATE, like=place[first][0].name)
