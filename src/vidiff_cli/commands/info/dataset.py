"""Description of a dataset folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from vidiff_cli.dataset.dataset import Clip, open_dataset, read_rows
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import EventStream, Note
from vidiff_cli.viz.histograms import Histogram, categorical_histogram, numeric_histogram

EXAMPLES = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetInfo:
    """Description of a dataset. `clips_of_rate`: number of clips per frame rate, "0" for images.

    `captions`: number of different captions, `examples` some of them; `rejected`: sources by the kind of reason;
    `settings` made it; `histograms` are over the clips and their captions, as far as the dataset stores the values.
    """

    kind: Literal["dataset"]
    path: Path
    bytes: int
    vidiff: str
    width: int
    height: int
    channels: int
    frames: int
    fps: str
    sources: int
    kept: int
    rejected: dict[str, int]
    clips: int
    splits: dict[str, int]
    clips_of_rate: dict[str, int]
    sources_captioned: int
    sources_without_caption: int
    captions: int
    examples: tuple[str, ...]
    seconds_of_video: float
    shards: int
    histograms: tuple[Histogram, ...]
    preview: Path | None
    settings: dict[str, Any]
    warnings: tuple[str, ...]


def describe_dataset(path: Path) -> EventStream[DatasetInfo]:
    """Describes a dataset; opening it checks that every shard holds every clip. VidiffError: unfinished or damaged."""
    yield from ()
    dataset = open_dataset(path)
    spec = dataset.spec
    captions = sorted({text for clip in dataset.clips for text in clip.captions})
    count = min(EXAMPLES, len(captions))
    rejected, warnings = dict[str, int](), []
    try:
        kinds = (row.get("kind") for row in read_rows(path / "ledger.jsonl"))
        rejected = dict(Counter(str(kind) for kind in kinds if kind).most_common())
    except (VidiffError, AttributeError) as error:  # training does not need it
        warnings.append(f"Why sources were rejected is not known: {error}")
        yield Note(warnings[-1], "warning")
    preview = path / "preview.png"
    return DatasetInfo(
        kind="dataset",
        path=path,
        bytes=spec.bytes,
        vidiff=spec.vidiff,
        width=spec.width,
        height=spec.height,
        channels=spec.channels,
        frames=spec.frames,
        fps=spec.fps,
        sources=spec.sources,
        kept=spec.kept,
        rejected=rejected,
        clips=spec.clips,
        splits=spec.splits,
        clips_of_rate=dict(Counter(clip.fps for clip in dataset.clips).most_common()),
        sources_captioned=spec.captions_matched,
        sources_without_caption=spec.captions_missing,
        captions=len(captions),
        examples=tuple(captions[number * len(captions) // count] for number in range(count)),
        seconds_of_video=spec.seconds_of_video,
        shards=len({clip.shard for clip in dataset.clips}),
        histograms=tuple(_histograms(dataset.clips)),
        preview=preview if preview.is_file() else None,
        settings=spec.settings,
        warnings=tuple(warnings),
    )


def _histograms(clips: Sequence[Clip]) -> Iterator[Histogram]:
    """Histograms of the stored values: images have no duration, rate or motion; older datasets no scores and sizes."""
    rates, seconds, motion, words = list[str](), list[float](), list[float](), list[int]()
    sizes = list[str]()
    for clip in clips:
        if clip.fps != "0":
            rates.append(clip.fps)
            seconds.append(round(float(clip.frames / Fraction(clip.fps)), 3))
        if "motion" in clip.scores:
            motion.append(clip.scores["motion"])
        words += [len(caption.split()) for caption in clip.captions]
        sizes.append(f"{clip.width}x{clip.height}")
    found = [
        numeric_histogram("duration", "seconds", seconds),
        numeric_histogram("motion", "change a second", motion),
        numeric_histogram("caption length", "words", words),
        categorical_histogram("frame rate", "clips by frames a second", rates),
        categorical_histogram("frame size", "clips by pixels", sizes) if len(set(sizes)) > 1 else None,
    ]
    yield from (each for each in found if each)
