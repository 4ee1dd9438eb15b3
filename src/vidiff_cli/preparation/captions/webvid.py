"""WebVid as published: a csv of videoid, contentUrl, duration, page_dir, name; the caption is the name of the clip."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from vidiff_cli.preparation.captions.csv_rows import csv_rows, require_columns
from vidiff_cli.preparation.captions.document import Document
from vidiff_cli.preparation.captions.id_checks import video_id
from vidiff_cli.preparation.captions.types import (
    Annotation,
    InvalidRow,
    MatchTarget,
    plain_columns,
    sentence,
    whole_file,
)

COLUMNS = ("videoid", "name")


def is_header(names: Collection[str]) -> bool:
    return {*COLUMNS, "page_dir"} <= set(names)


def read_webvid(document: Document) -> Iterator[Annotation | InvalidRow]:
    """One entry a row, of the whole file. VidiffError: no such columns."""
    for row in csv_rows(document, require_columns(*COLUMNS)):
        if isinstance(row, InvalidRow):
            yield row
            continue
        number, record = row
        video, problem = video_id(record["videoid"])
        words, wrong = sentence(record["name"])
        if problem or wrong:
            yield InvalidRow(line=number, reason=problem or wrong, video=video)
        else:
            folder = record.get("page_dir", "").strip()
            target = MatchTarget(stems=(video,), segments=whole_file([words]), folder=folder)
            yield Annotation(video=video, line=number, sentences=1, targets=(target,), columns=plain_columns(record))
