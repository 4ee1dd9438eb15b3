"""The annotation formats by name, and their detection from the content, never from the file name."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from vidiff_cli.config.reading import declared_delimiter
from vidiff_cli.preparation.captions import activitynet, lerobot, msrvtt, panda70m, parquet, vatex, webvid, youcook2
from vidiff_cli.preparation.captions.csv_rows import header
from vidiff_cli.preparation.captions.document import Document
from vidiff_cli.preparation.captions.sidecar import LINE_ENDS, read_sidecar
from vidiff_cli.preparation.captions.table import json_row, names_a_caption, names_a_file, read_csv, read_jsonl
from vidiff_cli.preparation.captions.types import Annotation, InvalidRow

Reader = Callable[[Document], Iterator[Annotation | InvalidRow]]

FORMATS: dict[str, Reader] = {
    "sidecar": read_sidecar,
    "csv": read_csv,
    "jsonl": read_jsonl,
    "msrvtt": msrvtt.read_msrvtt,
    "youcook2": youcook2.read_youcook2,
    "activitynet": activitynet.read_activitynet,
    "webvid": webvid.read_webvid,
    "vatex": vatex.read_vatex,
    "panda70m": panda70m.read_panda70m,
    "lerobot": lerobot.read_lerobot,
    "parquet": parquet.read_parquet,
}
TABLES = ("csv", "jsonl", "parquet")
CORPORA = ("msrvtt", "youcook2", "activitynet", "webvid", "vatex", "panda70m", "lerobot")

IN_JSON = {"msrvtt": msrvtt, "youcook2": youcook2, "activitynet": activitynet, "vatex": vatex, "lerobot": lerobot}
IN_CSV = {"webvid": webvid, "panda70m": panda70m, "msrvtt": msrvtt}
LINES_TRIED = 20  # a table of JSON lines may begin with a broken one


def recognise(document: Document, *, hurried: bool = False) -> str | None:
    """Returns the name of a document's format, None if it is unknown.

    `hurried`: a JSON file is only parsed if the keys of a format stand in its first 64 KiB. VidiffError: it cannot be
    read, or is JSON of a known format that cannot be used.
    """
    if document.head.startswith(parquet.MAGIC):
        return "parquet"
    start = document.head.lstrip("\ufeff \t\r\n")
    lines = [line for line in LINE_ENDS.split(start)[:LINES_TRIED] if line.strip()]
    if any(isinstance(row := json_row(line), dict) and names_a_file(row) for line in lines):
        return "jsonl"
    if start[:1] in ("{", "["):
        return _in_json(document, start, hurried)
    names = _header(lines)
    for name, module in IN_CSV.items():
        if module.is_header(names):
            return name
    return "csv" if len(names) > 1 and (names_a_file(names) or names_a_caption(names)) else None


def looks_like_a_corpus(document: Document) -> bool:
    """Detects the format from the first 64 KiB alone."""
    start = document.head.lstrip("\ufeff \t\r\n")
    names = _header(LINE_ENDS.split(start, 2))
    return _has_marks(start) or any(module.is_header(names) for module in IN_CSV.values())


def _header(lines: list[str]) -> list[str]:
    """The names of a table's columns in its first line, or in the one after a line that declares the delimiter."""
    declared = declared_delimiter(lines[0]) if lines else None
    if declared is not None:
        return header(lines[1], declared) if len(lines) > 1 else []
    return header(lines[0]) if lines else []


def _has_marks(start: str) -> bool:
    return start[:1] in ("{", "[") and any(all(mark in start for mark in module.MARKS) for module in IN_JSON.values())


def _in_json(document: Document, start: str, hurried: bool) -> str | None:
    if hurried and not _has_marks(start):
        return None
    return next((name for name, module in IN_JSON.items() if module.fits(document.json)), None)
