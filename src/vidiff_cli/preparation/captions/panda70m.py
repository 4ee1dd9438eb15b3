"""Panda-70M as published: a csv of videoID, url, timestamp, caption, matching_score, one row a full video.

The last three hold Python lists with one item a clip: [['0:00:19.227', '0:00:28.278'], ...] and ['A man ...', ...].
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from vidiff_cli.preparation.captions.csv_rows import csv_rows, require_columns
from vidiff_cli.preparation.captions.document import Document
from vidiff_cli.preparation.captions.id_checks import video_id
from vidiff_cli.preparation.captions.literal import parse_list
from vidiff_cli.preparation.captions.timestamps import pair, segments
from vidiff_cli.preparation.captions.types import Annotation, InvalidRow, MatchTarget, sentence

COLUMNS = ("videoID", "timestamp", "caption")


def is_header(names: Collection[str]) -> bool:
    return set(COLUMNS) <= set(names)


def read_panda70m(document: Document) -> Iterator[Annotation | InvalidRow]:
    """One entry a video, cut at its time stamps. VidiffError: no such columns."""
    for row in csv_rows(document, require_columns(*COLUMNS)):
        if isinstance(row, InvalidRow):
            yield row
            continue
        number, record = row
        yield from _entry(number, record)


def _entry(number: int, record: dict[str, str]) -> Iterator[Annotation | InvalidRow]:
    video, problem = video_id(record["videoID"])
    if problem:
        yield InvalidRow(line=number, reason=problem)
        return
    times, texts = parse_list(record["timestamp"]), parse_list(record["caption"])
    if isinstance(times, str) or isinstance(texts, str):
        reason = f"timestamp: {times}" if isinstance(times, str) else f"caption: {texts}"
        yield InvalidRow(line=number, reason=reason, video=video)
        return
    if len(times) != len(texts) or not times:
        reason = f"{len(times)} timestamps and {len(texts)} captions"
        yield InvalidRow(line=number, reason=reason, video=video)
        return
    segment_rows = []
    for index, (value, text) in enumerate(zip(times, texts, strict=True)):
        interval = pair(value)
        words, wrong = sentence(text)
        if isinstance(interval, str):
            yield InvalidRow(line=number, part=f"timestamp[{index}]", reason=interval, video=video)
        elif wrong:
            yield InvalidRow(line=number, part=f"caption[{index}]", reason=wrong, video=video)
        else:
            segment_rows.append((*interval, words))
    columns = {name: text for name, text in record.items() if name in ("videoID", "url")}
    target = MatchTarget(stems=(video,), segments=segments(segment_rows))
    yield Annotation(video=video, line=number, sentences=len(segment_rows), targets=(target,), columns=columns)
