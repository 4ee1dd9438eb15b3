"""YouCook2 as published: {"database": {ID: {"annotations": [{"segment": [start, stop], "sentence"}], "subset"}}}."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from vidiff_cli.errors import VidiffError
from vidiff_cli.preparation.captions.document import Document
from vidiff_cli.preparation.captions.id_checks import as_object, shown, video_id
from vidiff_cli.preparation.captions.timestamps import pair, segments
from vidiff_cli.preparation.captions.types import Annotation, InvalidRow, MatchTarget, plain_columns, sentence

MARKS = ('"database"', '"sentence"')


def fits(value: Any) -> bool:
    # The labels of ActivityNet have the same form, with "label" for "sentence".
    database = value.get("database") if isinstance(value, dict) else None
    entries = islice(database.values(), 1000) if isinstance(database, dict) else ()
    lists = [entry["annotations"] for entry in entries if isinstance(entry, dict) and "annotations" in entry]
    return any(
        isinstance(part, dict) and "sentence" in part for parts in lists if isinstance(parts, list) for part in parts
    )


def read_youcook2(document: Document) -> Iterator[Annotation | InvalidRow]:
    """One entry a video, its steps with their sentences. VidiffError: not such a file."""
    value = as_object(document, document.json, "youcook2")
    if not isinstance(value.get("database"), dict):
        raise VidiffError(f"{document} is not a youcook2 file", found='no object "database"')
    for key, entry in value["database"].items():
        video, problem = video_id(key)
        if problem:
            yield InvalidRow(part=shown(key), reason=problem)
            continue
        steps = entry.get("annotations") if isinstance(entry, dict) else None
        if not isinstance(steps, list) or not steps:
            reason = "no segment" if steps == [] else "no list of annotations"
            yield InvalidRow(part=video, reason=reason, video=video)
            continue
        segment_rows = []
        for number, step in enumerate(steps):
            interval = pair(step.get("segment")) if isinstance(step, dict) else "the annotation is not an object"
            words, wrong = sentence(step.get("sentence")) if isinstance(step, dict) else ("", "")
            if isinstance(interval, str) or wrong:
                reason = interval if isinstance(interval, str) else wrong
                yield InvalidRow(part=f"{video}: annotations[{number}]", reason=reason, video=video)
            else:
                segment_rows.append((*interval, words))
        target = MatchTarget(stems=(video,), segments=segments(segment_rows))
        yield Annotation(video=video, sentences=len(segment_rows), targets=(target,), columns=plain_columns(entry))
