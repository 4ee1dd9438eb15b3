"""Collects the captions of all annotation files by source, and the rows that could not be used."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from vidiff_cli.errors import VidiffError
from vidiff_cli.preparation.archives import MediaMember
from vidiff_cli.preparation.captions.document import Document
from vidiff_cli.preparation.captions.formats import CORPORA, FORMATS
from vidiff_cli.preparation.captions.matching import NameIndex, stem
from vidiff_cli.preparation.captions.sidecar import read_sidecar
from vidiff_cli.preparation.captions.table import captions_of_record
from vidiff_cli.preparation.captions.types import Annotation, Captions, InvalidRow, MatchTarget, Missing, Segment
from vidiff_cli.preparation.scan import MediaSource
from vidiff_cli.system.shortage import ShortageError

Times = tuple[Fraction | None, Fraction | None]
NO_MATCH = "no file is this video"


@dataclass(slots=True)
class _SegmentCaptions:
    """Captions of one segment. Repetitions within one entry are kept; another entry adds only new captions."""

    texts: list[str] = field(default_factory=list)
    known: set[str] = field(default_factory=set)

    def add(self, captions: Iterable[str]) -> None:
        new = [text for text in captions if text not in self.known]
        self.texts += new
        self.known.update(new)


class CaptionCollector:
    """Collects captions: `read` and `read_sidecars` add them, `captions` returns the result."""

    def __init__(self, sources: Sequence[MediaSource], *, encoding: str | None = None) -> None:
        self._sources = sources
        self._encoding = encoding
        self._index = NameIndex(sources)
        self._said: dict[str, dict[Times, _SegmentCaptions]] = {source.name: {} for source in sources}
        self._origin: dict[str, str] = {}
        self._columns: dict[str, dict[str, str]] = {source.name: {} for source in sources}
        self._column_names: dict[str, None] = {}
        self._rows: list[Missing] = []
        self._absent: list[Missing] = []
        self._silent: dict[str, str] = {}  # source -> reason for an annotated source without captions
        self._annotated: set[str] = set()
        self._sentences = 0
        self._notes: list[str] = []
        self.used = False

    def note(self, text: str) -> None:
        self._notes.append(text)

    def read(self, document: Document, format: str, *, anywhere: bool, found: bool = False) -> None:
        """Adds the captions of one document. `anywhere`: it may describe all sources, not only those below its folder.

        `found`: it was found, not named by the user; it is used only if one of its videos is a source, with a note.
        VidiffError: it cannot be read.
        """
        captions = _DocumentCaptions(document, self._index, anywhere)
        for item in FORMATS[format](document):
            captions.add(item)
        if format in CORPORA and not captions.has_annotations:
            broken = (
                f"{len(captions.rows)} broken rows, the first: {captions.first_row}" if captions.rows else "nothing"
            )
            raise VidiffError(f"{document} holds no video in the format {format}", found=broken)
        if found:
            of_all = f"of its {len(captions.annotated)} videos"
            if not captions.has_matches:
                self.note(f"{document} is a file of {format}, but none {of_all} is here: not used")
                return
            self.note(f"using {document} as {format}: {len(captions.matched)} {of_all} are here")
        self._merge(captions, format)

    def read_sidecars(self) -> None:
        """The text file beside each source, for those that have no captions yet."""
        both, unread = [], []
        for source in self._sources:
            try:
                captions = _sidecar_captions(source, self._encoding)
            except ShortageError:
                raise
            except VidiffError as error:
                unread.append(str(error))
                where = str(_sidecar_path(source))
                self._rows.append(Missing(kind="row", what=source.name, where=where, reason=error.what))
                continue
            known = self._said[source.name]
            if captions and known:
                if [segment_captions.texts for segment_captions in known.values()] != [list(captions)]:
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
        """Returns the columns without captions; rows without a file are in the notes."""
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
            by_source={name: _sorted_segments(segment_captions) for name, segment_captions in self._said.items()},
            origin={name: self._origin.get(name, "none") for name in self._said},
            columns=self._columns,
            column_names=tuple(self._column_names),
            missing=(*self._rows, *self._absent, *self._unannotated()),
            notes=tuple(self._notes),
            annotated_videos=len(self._annotated),
            sentences=self._sentences,
        )

    def _merge(self, captions: _DocumentCaptions, format: str) -> None:
        self.used = True
        self._annotated |= captions.annotated
        self._sentences += captions.sentences
        self._column_names |= captions.column_names
        for name, entries in captions.segments.items():
            for times, segment_captions in entries.items():
                self._said[name].setdefault(times, _SegmentCaptions()).add(segment_captions.texts)
            self._origin.setdefault(name, format)
        for name, columns in captions.columns.items():
            self._columns[name] = columns | self._columns[name]
        self._silent |= captions.silent
        absent = captions.absent()
        self._rows += [row for _, row in captions.rows]
        self._absent += absent
        if captions.rows:
            self.note(f"{captions.document}: {_counted(len(captions.rows), 'row')} left out; {captions.first_row}")
        for fact, rows in (
            ("without a file among the sources", [row for row in absent if row.reason == NO_MATCH]),
            ("with several files, none of which got the captions", [row for row in absent if row.reason != NO_MATCH]),
        ):
            if rows:
                self.note(f"{captions.document}: {_counted(len(rows), 'video')} {fact}, such as {rows[0].what}")

    def _unannotated(self) -> Iterator[Missing]:
        """Rows for sources without an annotation, if any annotation file is in use."""
        for name, segment_captions in self._said.items() if self.used else ():
            if not segment_captions:
                reason = self._silent.get(name, "no caption file names it")
                yield Missing(kind="annotation", what=name, where="", reason=reason)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


class _DocumentCaptions:
    """Captions of one document, matched to the sources."""

    def __init__(self, document: Document, index: NameIndex, anywhere: bool) -> None:
        self.document = document
        self._index, self._anywhere = index, anywhere
        self.segments: dict[str, dict[Times, _SegmentCaptions]] = defaultdict(dict)
        self.columns: dict[str, dict[str, str]] = {}
        self.column_names: dict[str, None] = {}
        self.annotated: set[str] = set()
        self.sentences = 0
        self.rows: list[tuple[InvalidRow, Missing]] = []
        self.silent: dict[str, str] = {}
        self.matched: set[str] = set()
        self._lines: dict[str, int] = {}  # where each video is named first
        self._ambiguous: dict[str, str] = {}  # the sources that an ambiguous video fits

    @property
    def has_annotations(self) -> bool:
        return bool(self._lines)

    @property
    def first_row(self) -> str:
        """The first broken row, for a person."""
        first = self.rows[0][0]
        return ": ".join(filter(None, (f"line {first.line}" if first.line else "", first.part, first.reason)))

    @property
    def has_matches(self) -> bool:
        """True if at least one of its videos matches a source, ambiguous matches included."""
        return bool(self.matched or self._ambiguous)

    def add(self, item: Annotation | InvalidRow) -> None:
        if isinstance(item, InvalidRow):
            missing = Missing(kind="row", what=item.video, where=item.where(self.document), reason=item.reason)
            self.rows.append((item, missing))
            # ActivityNet's files are named with or without the prefix.
            target = MatchTarget(stems=(item.video, item.video.removeprefix("v_")), segments=())
            for source in self._find_target(target) if item.video else ():
                self.silent.setdefault(source.name, f"its row is broken: {item.reason}")
            return
        self.column_names |= dict.fromkeys(item.columns)
        self.sentences += item.sentences
        self._lines.setdefault(item.video, item.line)
        if item.sentences:
            self.annotated.add(item.video)
        for target in item.targets:
            self._match(item, target)

    def _match(self, item: Annotation, target: MatchTarget) -> None:
        if item.file is None:
            hits = self._find_target(target)
        else:
            hits = self._index.find_path(item.file, self.document.path, anywhere=self._anywhere)
        if len(hits) == 1:
            name = hits[0].name
            self.matched.add(item.video)
            self.columns[name] = item.columns | self.columns.get(name, {})
            for part in target.segments:
                self.segments[name].setdefault((part.start_seconds, part.stop_seconds), _SegmentCaptions()).add(
                    part.captions
                )
            if not target.segments:
                self.silent.setdefault(name, "its rows have no caption")
        elif hits:
            names = sorted(source.name for source in hits)
            names_listed = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            self._ambiguous[item.video] = names_listed
            self.silent |= dict.fromkeys(names, f"several files are {item.video}: {names_listed}")

    def _find_target(self, target: MatchTarget) -> list[MediaSource]:
        return self._index.find_target(target, None if self._anywhere else self.document.path.parent)

    def absent(self) -> list[Missing]:
        """Rows for the annotated videos without a source."""
        rows = []
        here = str(self.document)
        for video, line in self._lines.items():
            if video not in self.matched:
                names_listed = self._ambiguous.get(video)
                reason = f"several files are this video: {names_listed}" if names_listed else NO_MATCH
                where = f"{here}:{line}" if line else here
                rows.append(Missing(kind="video", what=video, where=where, reason=reason))
        return rows


def _sidecar_captions(source: MediaSource, encoding: str | None) -> tuple[str, ...]:
    """The captions of the text file beside a source. VidiffError: it is there but cannot be used."""
    sidecar = _sidecar_path(source)
    if source.member is not None:
        return _captions_in_archive(source, source.member, encoding)
    try:
        if not sidecar.is_file():
            return ()
    except OSError as error:
        raise VidiffError(f"{sidecar} cannot be read", found=error.strerror) from error
    entries = [item for item in read_sidecar(Document(sidecar, encoding=encoding)) if isinstance(item, Annotation)]
    return tuple(text for entry in entries for part in entry.segments for text in part.captions)


def _captions_in_archive(source: MediaSource, member: MediaMember, encoding: str | None) -> tuple[str, ...]:
    """The captions of the text beside a member of an archive: lines of KEY.txt, or a column of KEY.json."""
    if member.text is None:
        return ()
    document = Document(member.media.archive, f"{stem(source)}{member.text.suffix}", member.text.read(), encoding)
    if member.text.suffix == ".txt":
        entries = [item for item in read_sidecar(document) if isinstance(item, Annotation)]
        return tuple(text for entry in entries for part in entry.segments for text in part.captions)
    return captions_of_record(document.json)


def _sidecar_path(source: MediaSource) -> Path:
    return source.path.with_name(f"{stem(source)}.txt")


def _sorted_segments(segment_captions: dict[Times, _SegmentCaptions]) -> tuple[Segment, ...]:
    segments = [
        Segment(start_seconds=start, stop_seconds=stop, captions=tuple(part.texts))
        for (start, stop), part in segment_captions.items()
    ]
    return tuple(sorted(segments, key=lambda part: (part.start_seconds or 0, part.stop_seconds or 0)))
