"""Which captions belong to which source: tables first, then the text file beside it; always by file name."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vidiff_cli.data.captions.sidecar import clean, read_sidecar
from vidiff_cli.data.captions.table import Row, Table, read_table
from vidiff_cli.data.scan import Source
from vidiff_cli.errors import VidiffError

TABLE_NAMES = ("metadata.csv", "metadata.jsonl")


@dataclass(frozen=True, kw_only=True, slots=True)
class Captions:
    """What the tables and text files say about the sources; the dicts are keyed by the source's name.

    `origin` is "table", "sidecar" or "none" for every source; `rows_without_source` counts table rows whose file is
    missing; `notes` are sentences for a person.
    """

    of: dict[str, tuple[str, ...]]
    origin: dict[str, str]
    columns: dict[str, dict[str, str]]
    column_names: tuple[str, ...]
    rows_without_source: int
    notes: tuple[str, ...]


def read_captions(sources: Sequence[Source], choice: str, *, columns: bool = False) -> Captions:
    """Captions by `choice`: "auto", "none", or the path of a table.

    auto: metadata.csv and metadata.jsonl in the folder of a source or in those above it up to what was given, then
    NAME.txt beside it; a table wins over a text file. A table FILE is the only origin of captions. With "none" the
    tables are read for their columns only, and only if `columns` asks for it (split by a column).
    VidiffError: FILE is missing, or not a table with a file and a caption column.
    """
    notes: list[str] = []
    tables = _tables(sources, choice, columns, notes)
    rows, unmatched = _match(sources, tables, notes, anywhere=choice not in ("auto", "none"))
    found: dict[str, tuple[str, ...]] = {}
    origin: dict[str, str] = {}
    both = []
    for source in sources:
        from_table = clean([text for row in rows[source.name] for text in row.captions])
        from_file, problem = read_sidecar(source.path) if choice == "auto" else ((), None)
        if problem:
            notes.append(problem)
        if from_table and from_file and from_table != from_file:
            both.append(source.name)
        captions = () if choice == "none" else from_table or from_file
        found[source.name] = captions
        origin[source.name] = "none" if not captions else "table" if from_table else "sidecar"
    if both:
        notes.append(f"{len(both)} sources have another caption in their .txt than in the table, which wins: {both[0]}")
    return Captions(
        of=found,
        origin=origin,
        columns={name: _first_values(of_source) for name, of_source in rows.items()},
        column_names=tuple(dict.fromkeys(name for table in tables for name in table.column_names)),
        rows_without_source=unmatched,
        notes=tuple(notes),
    )


def _first_values(rows: Iterable[Row]) -> dict[str, str]:
    values: dict[str, str] = {}
    for row in rows:
        values = row.columns | values
    return values


def _tables(sources: Sequence[Source], choice: str, columns: bool, notes: list[str]) -> list[Table]:
    if choice not in ("auto", "none"):
        tables = [read_table(Path(os.path.abspath(os.path.expanduser(choice))))]
    elif choice == "none" and not columns:
        return []
    else:
        tables = []
        for path in _table_paths(sources):
            try:
                tables.append(read_table(path))
            except VidiffError as error:  # found, not asked for: it may be a table about something else
                notes.append(f"not used: {error}")
    for table in tables:
        if table.skipped:
            notes.append(f"{table.path}: {len(table.skipped)} rows left out; {table.skipped[0]}")
    return tables


def _table_paths(sources: Sequence[Source]) -> list[Path]:
    folders: set[Path] = set()
    for source in sources:
        folder = source.path.parent
        while folder not in folders:
            folders.add(folder)
            if folder == source.root or folder == folder.parent:
                break
            folder = folder.parent
    return [path for folder in sorted(folders) for name in TABLE_NAMES if (path := folder / name).is_file()]


def _match(
    sources: Sequence[Source], tables: Sequence[Table], notes: list[str], *, anywhere: bool
) -> tuple[dict[str, list[Row]], int]:
    """The rows of each source by name, and the number of rows whose file is no source.

    A row names a file relative to its table; or, where that is no source, by a bare name that only one source below
    the table's folder has. `anywhere`: a table given by hand speaks of all sources, wherever it lies itself.
    """
    by_path = {_key(source.path): source for source in sources}
    by_name: dict[str, dict[str, Source]] = defaultdict(dict)
    for source in sources:
        for bare in (source.path.name, source.path.stem):
            by_name[_normal(bare)][source.name] = source
    roots = sorted({source.root for source in sources}) if anywhere else []
    rows: dict[str, list[Row]] = {source.name: [] for source in sources}
    lost, ambiguous = [], []
    for table in tables:
        folder = table.path.parent
        for row in table.rows:
            keys = [_key(place / row.file) for place in (folder, *roots)]
            hits = [by_path[key] for key in keys if key in by_path][:1]
            if not hits and "/" not in row.file:
                alike = by_name.get(_normal(row.file), {}).values()
                hits = [source for source in alike if anywhere or source.path.is_relative_to(folder)]
            if len(hits) == 1:
                rows[hits[0].name].append(row)
            else:
                (ambiguous if hits else lost).append(row.file)
    if lost:
        notes.append(f"{len(lost)} rows of the caption table name a file that is not among the sources: {lost[0]}")
    if ambiguous:
        notes.append(f"{len(ambiguous)} rows of the caption table fit several sources, none got them: {ambiguous[0]}")
    return rows, len(lost) + len(ambiguous)


def _normal(name: str) -> str:
    # macOS stores accents apart from their letters, spreadsheets together.
    return unicodedata.normalize("NFC", name)


def _key(path: Path) -> str:
    return _normal(str(PurePosixPath(os.path.normpath(path))))
