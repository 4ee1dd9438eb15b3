"""Gathers what the caption files say about the sources, and the ledger of what they say in vain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from vidiff_cli.errors import VidiffError
from vidiff_cli.prep.captions.document import Document
from vidiff_cli.prep.captions.formats import CORPORA, FORMATS
from vidiff_cli.prep.captions.matching import NameIndex, stem
from vidiff_cli.prep.captions.sidecar import read_sidecar
from vidiff_cli.prep.captions.types import Annotation, Captions, InvalidRow, MatchTarget, Missing, Segment
from vidiff_cli.prep.scan import MediaSource

Times = tuple[Fraction | None, Fraction | None]
NO_FILE = "no file is this video"


@dataclass(slots=True)
class _SegmentCaptions:
    """The captions of one segment. What one entry says twice it says on purpose; another adds what is new."""

    texts: list[str] = field(default_factory=list)
    known: set[str] = field(default_factory=set)

    def add(self, captions: Iterable[str]) -> None:
        new = [text for text in captions if text not in self.known]
        self.texts += new
        self.known.update(new)


class CaptionCollector:
    """`read` takes in one document after the other, `captions` closes the book."""

    def __init__(self, sources: Sequence[MediaSource]) -> None:
        self._sources = sources
        self._index = NameIndex(sources)
        self._said: dict[str, dict[Times, _SegmentCaptions]] = {source.name: {} for source in sources}
        self._origin: dict[str, str] = {}
        self._columns: dict[str, dict[str, str]] = {source.name: {} for source in sources}
        self._column_names: dict[str, None] = {}
        self._rows: list[Missing] = []
        self._absent: list[Missing] = []
        self._silent: dict[str, str] = {}  # source -> why it has no captions though something speaks of it
        self._annotated: set[str] = set()
        self._sentences = 0
        self._notes: list[str] = []
        self.used = False

    def note(self, text: str) -> None:
        self._notes.append(text)

    def read(self, document: Document, format: str, *, anywhere: bool, found: bool = False) -> None:
        """Takes in one document. `anywhere`: it speaks of all sources, not only of those below its folder.

        `found`: nobody named it, so that it is only used if one of its videos is here; a note says which it is.
        VidiffError: it cannot be read.
        """
        page = _DocumentCaptions(document, self._index, anywhere)
        for item in FORMATS[format](document):
            page.add(item)
        if format in CORPORA and not page.speaks:
            broken = f"{len(page.rows)} broken rows, the first: {page.first_row}" if page.rows else "nothing"
            raise VidiffError(f"{document} holds no video in the format {format}", found=broken)
        if found:
            of_all = f"of its {len(page.annotated)} videos"
            if not page.hit:
                self.note(f"{document} is a file of {format}, but none {of_all} is here: not used")
                return
            self.note(f"using {document} as {format}: {len(page.matched)} {of_all} are here")
        self._take(page, format)

    def read_sidecars(self) -> None:
        """The text file beside each source, for those that have no captions yet."""
        both, unread = [], []
        for source in self._sources:
            try:
                captions = _beside(source)
            except VidiffError as error:
                unread.append(str(error))
                where = str(_sidecar(source))
                self._rows.append(Missing(kind="row", what=source.name, where=where, reason=error.what))
                continue
            known = self._said[source.name]
            if captions and known:
                if [said.texts for said in known.values()] != [list(captions)]:
                    both.append(source.name)
            elif captions:
                known.setdefault((None, None), _SegmentCaptions()).add(captions)
                self._origin[source.name] = "sidecar"
                self._annotated.add(source.name)
                self._sentences += len(captions)
        if both:
            others = f"{len(both)} sources have another caption in their .txt than in the table, which wins"
            self.note(f"{others}: {both[0]}")
        if unread:
            self.note(f"{len(unread)} text files could not be used: {unread[0]}")

    def columns_only(self) -> Captions:
        """The columns without any caption; rows without a file are in the notes."""
        return Captions(
            by_source={source.name: () for source in self._sources},
            origin={source.name: "none" for source in self._sources},
            columns=self._columns,
            column_names=tuple(self._column_names),
            missing=(),
            notes=tuple(self._notes),
            annotated_videos=0,
            sentences=0,
        )

    def captions(self) -> Captions:
        return Captions(
            by_source={name: _segments(said) for name, said in self._said.items()},
            origin={name: self._origin.get(name, "none") for name in self._said},
            columns=self._columns,
            column_names=tuple(self._column_names),
            missing=(*self._rows, *self._absent, *self._unannotated()),
            notes=tuple(self._notes),
            annotated_videos=len(self._annotated),
            sentences=self._sentences,
        )

    def _take(self, page: _DocumentCaptions, format: str) -> None:
        self.used = True
        self._annotated |= page.annotated
        self._sentences += page.sentences
        self._column_names |= page.column_names
        for name, entries in page.said.items():
            for times, said in entries.items():
                self._said[name].setdefault(times, _SegmentCaptions()).add(said.texts)
            self._origin.setdefault(name, format)
        for name, columns in page.columns.items():
            self._columns[name] = columns | self._columns[name]
        self._silent |= page.silent
        absent = page.absent()
        self._rows += [row for _, row in page.rows]
        self._absent += absent
        if page.rows:
            self.note(f"{page.document}: {_counted(len(page.rows), 'row')} left out; {page.first_row}")
        for fact, rows in (
            ("without a file among the sources", [row for row in absent if row.reason == NO_FILE]),
            ("with several files, none of which got the captions", [row for row in absent if row.reason != NO_FILE]),
        ):
            if rows:
                self.note(f"{page.document}: {_counted(len(rows), 'video')} {fact}, such as {rows[0].what}")

    def _unannotated(self) -> Iterator[Missing]:
        """Files that nothing is said about; without any annotation file that is no loss."""
        for name, said in self._said.items() if self.used else ():
            if not said:
                reason = self._silent.get(name, "no caption file speaks of it")
                yield Missing(kind="annotation", what=name, where="", reason=reason)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


class _DocumentCaptions:
    """What one document says, matched to the sources."""

    def __init__(self, document: Document, index: NameIndex, anywhere: bool) -> None:
        self.document = document
        self._index, self._anywhere = index, anywhere
        self.said: dict[str, dict[Times, _SegmentCaptions]] = defaultdict(dict)
        self.columns: dict[str, dict[str, str]] = {}
        self.column_names: dict[str, None] = {}
        self.annotated: set[str] = set()
        self.sentences = 0
        self.rows: list[tuple[InvalidRow, Missing]] = []
        self.silent: dict[str, str] = {}
        self.matched: set[str] = set()
        self._lines: dict[str, int] = {}  # where each video is named first
        self._several: dict[str, str] = {}  # the sources that an ambiguous video fits

    @property
    def speaks(self) -> bool:
        return bool(self._lines)

    @property
    def first_row(self) -> str:
        """The first broken row, for a person."""
        first = self.rows[0][0]
        return ": ".join(filter(None, (f"line {first.line}" if first.line else "", first.part, first.reason)))

    @property
    def hit(self) -> bool:
        """At least one of its videos is here, or would be if it were there once."""
        return bool(self.matched or self._several)

    def add(self, item: Annotation | InvalidRow) -> None:
        if isinstance(item, InvalidRow):
            missing = Missing(kind="row", what=item.video, where=item.where(self.document), reason=item.reason)
            self.rows.append((item, missing))
            # ActivityNet's files are named with or without the prefix.
            place = MatchTarget(stems=(item.video, item.video.removeprefix("v_")), segments=())
            for source in self._of_place(place) if item.video else ():
                self.silent.setdefault(source.name, f"its row is broken: {item.reason}")
            return
        self.column_names |= dict.fromkeys(item.columns)
        self.sentences += item.sentences
        self._lines.setdefault(item.video, item.line)
        if item.sentences:
            self.annotated.add(item.video)
        for place in item.places:
            self._settle(item, place)

    def _settle(self, item: Annotation, place: MatchTarget) -> None:
        if item.file is None:
            hits = self._of_place(place)
        else:
            hits = self._index.of_path(item.file, self.document.path, anywhere=self._anywhere)
        if len(hits) == 1:
            name = hits[0].name
            self.matched.add(item.video)
            self.columns[name] = item.columns | self.columns.get(name, {})
            for part in place.segments:
                self.said[name].setdefault((part.start_seconds, part.stop_seconds), _SegmentCaptions()).add(
                    part.captions
                )
            if not place.segments:
                self.silent.setdefault(name, "its rows have no caption")
        elif hits:
            names = sorted(source.name for source in hits)
            several = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            self._several[item.video] = several
            self.silent |= dict.fromkeys(names, f"several files are {item.video}: {several}")

    def _of_place(self, place: MatchTarget) -> list[MediaSource]:
        return self._index.of_place(place, None if self._anywhere else self.document.path.parent)

    def absent(self) -> list[Missing]:
        """The videos that no source is."""
        rows = []
        here = str(self.document)
        for video, line in self._lines.items():
            if video not in self.matched:
                several = self._several.get(video)
                reason = f"several files are this video: {several}" if several else NO_FILE
                where = f"{here}:{line}" if line else here
                rows.append(Missing(kind="video", what=video, where=where, reason=reason))
        return rows


def _beside(source: MediaSource) -> tuple[str, ...]:
    """The captions of the text file beside a source. VidiffError: it is there but cannot be used."""
    sidecar = _sidecar(source)
    try:
        if not sidecar.is_file():
            return ()
    except OSError as error:
        raise VidiffError(f"{sidecar} cannot be read", found=error.strerror) from error
    entries = [item for item in read_sidecar(Document(sidecar)) if isinstance(item, Annotation)]
    return tuple(text for entry in entries for part in entry.segments for text in part.captions)


def _sidecar(source: MediaSource) -> Path:
    return source.path.with_name(f"{stem(source)}.txt")


def _segments(said: dict[Times, _SegmentCaptions]) -> tuple[Segment, ...]:
    segments = [
        Segment(start_seconds=start, stop_seconds=stop, captions=tuple(part.texts))
        for (start, stop), part in said.items()
    ]
    return tuple(sorted(segments, key=lambda part: (part.start_seconds or 0, part.stop_seconds or 0)))
