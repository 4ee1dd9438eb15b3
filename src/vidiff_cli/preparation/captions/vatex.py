"""VATEX as published: [{"videoID": "ID_000055_000065", "enCap": [ten sentences]}]; chCap, in Chinese, is not read.

A file with the name ID_000055_000065 is the clip; one with the name ID is the full video, cut from second 55 to 65.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from vidiff_cli.preparation.captions.document import Document
from vidiff_cli.preparation.captions.id_checks import as_list, video_id
from vidiff_cli.preparation.captions.timestamps import interval
from vidiff_cli.preparation.captions.types import Annotation, InvalidRow, MatchTarget, Segment, sentence, whole_file

MARKS = ('"videoID"', '"enCap"')
CLIP = re.compile(r"(.+)_(\d{6})_(\d{6})", re.ASCII | re.DOTALL)


def fits(value: Any) -> bool:
    items = value[:1000] if isinstance(value, list) else []
    return any(isinstance(item, dict) and {"videoID", "enCap"} <= item.keys() for item in items)


def read_vatex(document: Document) -> Iterator[Annotation | InvalidRow]:
    """One entry a clip with all its English sentences. VidiffError: not such a file."""
    seen: set[str] = set()
    for number, item in enumerate(as_list(document, document.json, "vatex")):
        video, problem = video_id(item.get("videoID") if isinstance(item, dict) else None)
        match = CLIP.fullmatch(video)
        if not problem and match is None:
            problem = f"the id {video} has no start and end"
        if not problem and video in seen:
            problem = f"{video} stands twice in the list"
        if problem or match is None or not isinstance(item, dict):
            yield InvalidRow(part=f"[{number}]", reason=problem)
            continue
        seen.add(match[0])
        yield from _entry(match, item)


def _entry(match: re.Match[str], item: dict[str, Any]) -> Iterator[Annotation | InvalidRow]:
    video, full, start, stop = match[0], match[1], int(match[2]), int(match[3])
    times = interval(start, stop)
    texts = item.get("enCap")
    if isinstance(times, str) or not isinstance(texts, list) or not texts:
        yield InvalidRow(part=video, reason=times if isinstance(times, str) else "no list of sentences", video=video)
        return
    kept = []
    for number, text in enumerate(texts):
        words, wrong = sentence(text)
        if wrong:
            yield InvalidRow(part=f"{video}: enCap[{number}]", reason=wrong, video=video)
        else:
            kept.append(words)
    if kept:
        cut = Segment(start_seconds=times[0], stop_seconds=times[1], captions=tuple(kept))
        places = (MatchTarget(stems=(video,), segments=whole_file(kept)), MatchTarget(stems=(full,), segments=(cut,)))
        yield Annotation(video=video, sentences=len(kept), targets=places, columns={"video": full})
