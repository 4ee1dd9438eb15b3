"""Values of the caption readers: segments with captions, annotations, invalid rows, missing videos."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction

# Control characters would reach a terminal; half of a surrogate pair cannot be written as UTF-8.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
SURROGATES = re.compile(r"[\ud800-\udfff]")
SCALARS = (str, int, float, Decimal)


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """Captions of [start_seconds, stop_seconds) of a file; None, None for the whole file."""

    start_seconds: Fraction | None
    stop_seconds: Fraction | None
    captions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Missing:
    """One row of the ledger of what could not be used.

    `kind` is "video" (annotated, but no file is it), "annotation" (a file that nothing is said about) or "row" (a
    broken row). `what` is the video's id or the file; `where` the annotation file with its line or entry, "" for
    "annotation".
    """

    kind: str
    what: str
    where: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Captions:
    """All captions of the sources; the dicts are keyed by the source's name.

    `by_source`: segments, sorted; () without captions. `origin`: the format of the first file describing the source,
    or "none". `columns`: the plain columns of its rows, `column_names`: all there are. `missing`: rows of the ledger.
    `notes`: sentences for the user. `annotated_videos` and `sentences` count what the files in use hold, whether or not
    the video is a source.
    """

    by_source: dict[str, tuple[Segment, ...]]
    origin: dict[str, str]
    columns: dict[str, dict[str, str]]
    column_names: tuple[str, ...]
    missing: tuple[Missing, ...]
    notes: tuple[str, ...]
    annotated_videos: int
    sentences: int


@dataclass(frozen=True, kw_only=True, slots=True)
class MatchTarget:
    """File names that an annotated video may have: any of the `stems`; `folder` decides between equal stems."""

    stems: tuple[str, ...]
    segments: tuple[Segment, ...]
    folder: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Annotation:
    """Captions and columns of one video from one row or entry.

    `video` is its id, or the file as the table names it; `line` is where it stands (0 in JSON). A table names a file
    by its path (`file`), a corpus by the id (`targets`, of which each that exists gets its segments). `sentences` is
    their number.
    """

    video: str
    sentences: int
    line: int = 0
    targets: tuple[MatchTarget, ...] = ()
    file: str | None = None
    columns: dict[str, str] = field(default_factory=dict)

    @property
    def segments(self) -> tuple[Segment, ...]:
        return self.targets[0].segments


@dataclass(frozen=True, kw_only=True, slots=True)
class InvalidRow:
    """A row, an entry or a part of one that is left out: its line, or its entry (`part`), its video, and why."""

    reason: str
    line: int = 0
    part: str = ""
    video: str = ""

    def where(self, document: object) -> str:
        line = f"{document}:{self.line}" if self.line else str(document)
        return f"{line}: {self.part}" if self.part else line


def clean_captions(captions: Iterable[str]) -> tuple[str, ...]:
    """Captions with their white space collapsed, without the empty and the repeated ones, in order."""
    return tuple(dict.fromkeys(text for caption in captions if (text := collapse_spaces(caption))))


def collapse_spaces(caption: str) -> str:
    """One caption with white space and control characters collapsed to single blanks, none at its ends."""
    return " ".join(CONTROL.sub(" ", caption).split())


def sentence(value: object) -> tuple[str, str]:
    """Returns (the sentence, "") or ("", the reason why it is refused)."""
    if not isinstance(value, str):
        return "", "the sentence is not text"
    if SURROGATES.search(value):
        return "", "the sentence is not valid text"
    text = collapse_spaces(value)
    return (text, "") if text else ("", "the sentence is empty")


def listed(names: Iterable[str]) -> str:
    """Names of columns for a message: they come from a file, and may be anything."""
    texts = [SURROGATES.sub("?", collapse_spaces(name)) for name in names]
    shown = ", ".join(text if len(text) <= 40 else text[:37] + "..." for text in texts[:20] if text)
    return shown + (", ..." if len(texts) > 20 else "")


def whole_file(captions: Iterable[str]) -> tuple[Segment, ...]:
    """The one segment of a file that is a clip already; () without captions."""
    kept = tuple(captions)
    return (Segment(start_seconds=None, stop_seconds=None, captions=kept),) if kept else ()


def plain_columns(record: Mapping[str, object]) -> dict[str, str]:
    """The columns of a row that are text or numbers, as text."""
    texts = {name: str(value).strip() for name, value in record.items() if isinstance(value, SCALARS)}
    return {name: text for name, text in texts.items() if not SURROGATES.search(name + text)}
