"""Matches captions to sources by name: tables and corpora first, then the text file beside the source."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from vidiff_cli.errors import VidiffError
from vidiff_cli.preparation.captions.collector import CaptionCollector
from vidiff_cli.preparation.captions.document import Document, documents
from vidiff_cli.preparation.captions.formats import CORPORA, FORMATS, TABLES, looks_like_a_corpus, recognise
from vidiff_cli.preparation.captions.types import Captions, Missing, Segment
from vidiff_cli.preparation.scan import MediaSource
from vidiff_cli.system.shortage import ShortageError, raise_shortage

__all__ = ["FORMATS", "Captions", "Missing", "Segment", "read_captions"]

TABLE_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
LEROBOT = Path("meta", "info.json")  # below a folder that was given
SUFFIXES_CORPUS = frozenset({".json", ".csv", ".tsv", ".jsonl", ".zip"})
LARGEST_FOUND_BYTES = 256 << 20  # a larger file is used only where it is named


def read_captions(
    sources: Sequence[MediaSource],
    choices: Sequence[str] = ("auto",),
    *,
    format: str = "auto",
    columns: bool = False,
    encoding: str | None = None,
) -> Captions:
    """Captions by `choices`: ("auto",), ("none",), or the paths of annotation files; `format` is a name in FORMATS.

    auto: metadata.csv and metadata.jsonl in the folder of a source or in those above it up to what was given, corpus
    files in what was given, then NAME.txt beside it; a table or corpus wins over a text file. Named files are the only
    origin of captions. With "none" the tables are read for their columns only, and only if `columns` asks for it
    (split by a column). `encoding` is that of files which are neither UTF-8 nor UTF-16.
    VidiffError: an unknown format; a named file is missing, cannot be read, or has an unknown format.
    """
    if format != "auto" and format not in FORMATS:
        raise VidiffError("unknown caption format", found=format, expected=f"auto, {', '.join(FORMATS)}")
    auto, none = tuple(choices) == ("auto",), tuple(choices) == ("none",)
    collector = CaptionCollector(sources, encoding=encoding)
    if auto or (none and columns):
        _read_found(collector, sources, format, corpora=auto, encoding=encoding)
        if none:
            return collector.columns_only()
        if format in ("auto", "sidecar"):
            collector.read_sidecars()
        elif not collector.used:
            collector.note(f"no caption file of the format {format} was found")
    elif not none:
        _read_named(collector, choices, format, encoding)
    return collector.captions()


def _read_named(collector: CaptionCollector, choices: Sequence[str], format: str, encoding: str | None) -> None:
    if format == "sidecar":
        raise VidiffError(
            "--caption-format sidecar reads the text file beside each source", fix="leave --captions auto"
        )
    for path in dict.fromkeys(Path(os.path.abspath(os.path.expanduser(choice))) for choice in choices):
        known = list(_named_documents(path, format, encoding))
        if not known:
            formats = ", ".join((*TABLES, *CORPORA))
            raise VidiffError(f"{path} has an unknown format", expected=f"a caption file: {formats}")
        for document, name in known:
            collector.read(document, name, anywhere=True)


def _named_documents(path: Path, format: str, encoding: str | None) -> Iterator[tuple[Document, str]]:
    for document in documents(path, encoding):
        # Only some of the files in an archive are annotations: of those even a given format must be recognised.
        given = format != "auto" and not document.member
        name = format if given else recognise(document, hurried=bool(document.member))
        if name is None and not document.member and not document.head.strip():
            raise VidiffError(f"the caption table {path} has no row")
        if name is not None and format in ("auto", name):
            yield document, name


def _read_found(
    collector: CaptionCollector, sources: Sequence[MediaSource], format: str, *, corpora: bool, encoding: str | None
) -> None:
    """Files that were found, not asked for: what cannot be read may be about something else, and is a note."""
    tables = _table_paths(sources)
    for path in tables:
        try:
            document = Document(path, encoding=encoding)
            name = recognise(document) or ("jsonl" if path.suffix == ".jsonl" else "csv")
            if format in ("auto", name):
                collector.read(document, name, anywhere=False)
        except ShortageError:
            raise
        except VidiffError as error:
            collector.note(f"not used: {error}")
    for path in _corpus_paths(sources, tables) if corpora else ():
        try:
            if path.stat().st_size > LARGEST_FOUND_BYTES:
                if looks_like_a_corpus(Document(path)):
                    collector.note(
                        f"not used: {path} is larger than {LARGEST_FOUND_BYTES >> 20} MB: name it with --captions"
                    )
                continue
            for document in documents(path, encoding):
                name = recognise(document, hurried=True)
                if name in CORPORA and format in ("auto", name):
                    collector.read(document, name, anywhere=False, found=True)
        except (VidiffError, OSError) as error:
            raise_shortage(path, error)
            collector.note(f"not used: {error}")


def _table_paths(sources: Sequence[MediaSource]) -> list[Path]:
    folders: set[Path] = set()
    for source in sources:
        folder = source.path.parent
        while folder not in folders and folder.is_relative_to(source.root):
            folders.add(folder)
            folder = folder.parent
    return [path for folder in sorted(folders) for name in TABLE_NAMES if (path := folder / name).is_file()]


def _corpus_paths(sources: Sequence[MediaSource], tables: Sequence[Path]) -> Iterator[Path]:
    """Files of the given folders themselves whose suffix allows annotations; whether they are is told from inside."""
    for root in sorted({source.root for source in sources}):
        try:
            names = sorted(entry.name for entry in os.scandir(root) if entry.is_file())
        except OSError as error:
            raise_shortage(root, error)
            continue
        for path in (root / name for name in names if not name.startswith(".")):
            if path.suffix.lower() in SUFFIXES_CORPUS and path not in tables:
                yield path
        if (root / LEROBOT).is_file():
            yield root / LEROBOT
