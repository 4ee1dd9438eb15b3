"""ActivityNet Captions as published: {"v_ID": {"duration", "timestamps": [[start, stop]], "sentences": [...]}}.

The files train.json, val_1.json and val_2.json; val_1 and val_2 describe the same videos, each with its own segments.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from vidiff_cli.preparation.captions.document import Document
from vidiff_cli.preparation.captions.id_checks import as_object, shown, video_id
from vidiff_cli.preparation.captions.timestamps import pair, segments
from vidiff_cli.preparation.captions.types import Annotation, InvalidRow, MatchTarget, sentence

MARKS = ('"timestamps"', '"sentences"')


def fits(value: Any) -> bool:
    values = islice(value.values(), 1000) if isinstance(value, dict) else ()
    return any(isinstance(entry, dict) and {"timestamps", "sentences"} <= entry.keys() for entry in values)


def read_activitynet(document: Document) -> Iterator[Annotation | InvalidRow]:
    """One entry a video, its segments with their sentences. VidiffError: not such a file."""
    for key, entry in as_object(document, document.json, "activitynet").items():
        video, problem = video_id(key)
        if problem:
            yield InvalidRow(part=shown(key), reason=problem)
            continue
        if problem := _problem(entry):
            yield InvalidRow(part=video, reason=problem, video=video)
            continue
        segment_rows = []
        for number, (times, text) in enumerate(zip(entry["timestamps"], entry["sentences"], strict=True)):
            interval = pair(times)
            words, wrong = sentence(text)
            if isinstance(interval, str):
                yield InvalidRow(part=f"{video}: timestamps[{number}]", reason=interval, video=video)
            elif wrong:
                yield InvalidRow(part=f"{video}: sentences[{number}]", reason=wrong, video=video)
            else:
                segment_rows.append((*interval, words))
        bare = video.removeprefix("v_")
        target = MatchTarget(stems=tuple({f"v_{bare}": None, bare: None, video: None}), segments=segments(segment_rows))
        yield Annotation(video=video, sentences=len(segment_rows), targets=(target,))


def _problem(entry: Any) -> str:
    if not isinstance(entry, dict):
        return "the entry is not an object"
    times, texts = entry.get("timestamps"), entry.get("sentences")
    if not isinstance(times, list) or not isinstance(texts, list):
        return "no lists of timestamps and sentences"
    if len(times) != len(texts):
        return f"{len(times)} timestamps and {len(texts)} sentences"
    return "" if times else "no segment"
