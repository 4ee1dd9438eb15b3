"""Selects the clips of a dataset from the candidates: good ones, not too many per source, no near-duplicates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vidiff_cli.frames import evenly_spaced
from vidiff_cli.preparation.captions import Captions, Segment
from vidiff_cli.preparation.extract_cache import ClipCandidate, ExtractCache, ExtractedSource
from vidiff_cli.preparation.near_duplicates import near_duplicates
from vidiff_cli.preparation.quality_filters import Limits, reject_reason
from vidiff_cli.preparation.scan import MediaSource

NEAR_DUPLICATE = "near-duplicate"


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectionInput:
    """Sources, captions and extracted frames of a dataset; the dicts are keyed by the source's name."""

    sources: Sequence[MediaSource]
    captions: Captions
    groups: Mapping[str, str | None]
    extracted: Mapping[str, ExtractedSource]
    cache: ExtractCache

    def segments(self, source: MediaSource) -> tuple[Segment, ...]:
        return self.captions.by_source[source.name]

    def frames(self, source: MediaSource, candidate: ClipCandidate) -> np.ndarray:
        """The frames of a clip, uint8 (t h w c), a view of the cached file."""
        frames = self.cache.frames(source, self.segments(source))
        return frames[candidate.offset : candidate.offset + self.extracted[source.name].clip_frames]


@dataclass(frozen=True, kw_only=True, slots=True)
class RejectedClip:
    """A rejected clip: the number of the candidate of its source, and the reason, such as "static"."""

    source: MediaSource
    number: int
    reason: str
    like: str = ""  # the source of the clip that a near-duplicate repeats


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Numbers of the selected candidates by the source's name (a source without any is absent), and the rejected clips
    in order; `counts` of the latter by reason."""

    taken: dict[str, tuple[int, ...]]
    rejected: tuple[RejectedClip, ...]

    @property
    def counts(self) -> dict[str, int]:
        return dict(Counter(each.reason for each in self.rejected).most_common())


def select(inputs: SelectionInput, limits: Limits, *, most: int | None, difference: int) -> Selection:
    """Chooses clips in the order of the sources: by `limits`, at most `most` of a source, evenly spread, and with
    a `difference` above 0 without clips that nowhere differ by more from one of an earlier source."""
    refused: list[RejectedClip] = []
    taken: dict[str, tuple[int, ...]] = {}
    for source in inputs.sources:
        accepted = []
        for number, candidate in enumerate(inputs.extracted[source.name].candidates):
            if reason := reject_reason(candidate.scores, limits):
                refused.append(RejectedClip(source=source, number=number, reason=reason))
            else:
                accepted.append(number)
        if accepted:
            taken[source.name] = spread_evenly(accepted, most)
    if difference:
        repeated = list(_near_duplicates(inputs, taken, difference))
        refused += repeated
        left_out = {(each.source.name, each.number) for each in repeated}
        left = {name: tuple(n for n in numbers if (name, n) not in left_out) for name, numbers in taken.items()}
        taken = {name: numbers for name, numbers in left.items() if numbers}
    return Selection(taken=taken, rejected=tuple(refused))


def spread_evenly(numbers: Sequence[int], most: int | None) -> tuple[int, ...]:
    """All, or where there are more than `most`, evenly spread ones."""
    if most is None or len(numbers) <= most:
        return tuple(numbers)
    return tuple(numbers[index] for index in evenly_spaced(len(numbers), most, to_last=False))


def _near_duplicates(
    inputs: SelectionInput, taken: Mapping[str, Sequence[int]], difference: int
) -> Iterator[RejectedClip]:
    clips: list[tuple[MediaSource, int]] = []
    prints: list[bytes] = []
    for source in inputs.sources:
        if source.name in taken:
            of_source = inputs.cache.prints(source, inputs.segments(source))
            for number in taken[source.name]:
                clips.append((source, number))
                prints.append(of_source[number].tobytes())
    groups = [source.name for source, _ in clips]
    for index, first in sorted(near_duplicates(prints, groups, tolerance=difference).items()):
        source, number = clips[index]
        yield RejectedClip(source=source, number=number, reason=NEAR_DUPLICATE, like=clips[first][0].name)
