"""MSR-VTT as published: a JSON of "videos" and "sentences" (20 of each video, in any order), or the JSFUSION csv.

The videos are cut already, `video123.mp4`: each sentence speaks of the whole file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from vidiff_cli.preparation.captions.csv_rows import csv_rows, require_columns
from vidiff_cli.preparation.captions.document import Document
from vidiff_cli.preparation.captions.id_checks import as_list, as_object, video_id
from vidiff_cli.preparation.captions.types import (
    Annotation,
    InvalidRow,
    MatchTarget,
    plain_columns,
    sentence,
    whole_file,
)

MARKS = ('"video_id"',)
COLUMNS = ("video_id", "sentence")


def fits(value: Any) -> bool:
    lists = [value.get(name) for name in ("videos", "sentences")] if isinstance(value, dict) else [None]
    return all(
        isinstance(items, list) and any(isinstance(item, dict) and "video_id" in item for item in items[:1000])
        for items in lists
    )


def is_header(names: Collection[str]) -> bool:
    return set(COLUMNS) <= set(names)


def read_msrvtt(document: Document) -> Iterator[Annotation | InvalidRow]:
    """One entry a video with all its sentences (JSON), or one a row (csv). VidiffError: not such a file."""
    if document.head.lstrip("\ufeff \t\r\n")[:1] in ("{", "["):
        yield from _from_json(document)
    else:
        yield from _from_csv(document)


def _from_json(document: Document) -> Iterator[Annotation | InvalidRow]:
    value = as_object(document, document.json, "msrvtt")
    captions: dict[str, list[str]] = {}
    columns: dict[str, dict[str, str]] = {}
    for number, video in enumerate(as_list(document, value.get("videos"), "msrvtt", '"videos"')):
        name, problem = video_id(video.get("video_id") if isinstance(video, dict) else None)
        if not problem and name in columns:
            problem = f"{name} stands twice in the list"
        if problem:
            yield InvalidRow(part=f"videos[{number}]", reason=problem)
        else:
            columns[name], captions[name] = plain_columns(video), []
    for number, item in enumerate(as_list(document, value.get("sentences"), "msrvtt", '"sentences"')):
        name, problem = video_id(item.get("video_id") if isinstance(item, dict) else None)
        words, wrong = sentence(item.get("caption")) if isinstance(item, dict) else ("", "")
        if problem or wrong:
            yield InvalidRow(part=f"sentences[{number}]", reason=problem or wrong, video=name)
        else:
            captions.setdefault(name, []).append(words)
    for name, texts in captions.items():
        if not texts:
            yield InvalidRow(part=name, reason="no sentence", video=name)
        else:
            target = MatchTarget(stems=(name,), segments=whole_file(texts))
            of_video = columns.get(name, {})
            yield Annotation(video=name, sentences=len(texts), targets=(target,), columns=of_video)


def _from_csv(document: Document) -> Iterator[Annotation | InvalidRow]:
    for row in csv_rows(document, require_columns(*COLUMNS)):
        if isinstance(row, InvalidRow):
            yield row
            continue
        number, record = row
        name, problem = video_id(record["video_id"])
        words, wrong = sentence(record["sentence"])
        if problem or wrong:
            yield InvalidRow(line=number, reason=problem or wrong, video=name)
        else:
            target = MatchTarget(stems=(name,), segments=whole_file([words]))
            yield Annotation(video=name, line=number, sentences=1, targets=(target,), columns=plain_columns(record))
