"""Writes the dataset folder from the extract cache: shards, rows, ledgers; dataset.json is the last file."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from vidiff_cli import __version__
from vidiff_cli.config.prep import PrepSettings
from vidiff_cli.dataset.dataset import (
    Clip,
    DatasetSpec,
    remove_data,
    write_clips,
    write_rows,
    write_shards,
    write_spec,
)
from vidiff_cli.preparation.extract_cache import ExtractedSource
from vidiff_cli.preparation.scan import MediaSource
from vidiff_cli.preparation.selection import Selection, SelectionInput
from vidiff_cli.preparation.splits import Side, split

LEDGER, MISSING = "ledger.jsonl", "missing.jsonl"


def write_dataset(
    output: Path, settings: PrepSettings, inputs: SelectionInput, selection: Selection, fingerprint: str
) -> DatasetSpec:
    """Writes the dataset in the order of the sources' names: the same bytes however the work was divided."""
    kept = [source for source in inputs.sources if source.name in selection.taken]
    sides = split(
        {source.name: inputs.groups[source.name] for source in kept},
        val_fraction=settings.val_fraction,
        seed=settings.seed,
        hold_out=settings.hold_out,
        stills={source.name for source in kept if inputs.extracted[source.name].clip_frames == 1},
    )
    remove_data(output)
    shard_of = write_shards(output, _frames(kept, inputs, selection))
    clips = [
        replace(clip, shard=shard_of[clip.id])
        for source in kept
        for clip in _clips(source, inputs, selection, sides[source.name])
    ]
    write_clips(output, clips)
    write_ledgers(output, inputs, selection)
    buckets = Counter((clip.width, clip.height) for clip in clips)
    (width, height), _ = max(buckets.items(), key=lambda each: (each[1], each[0]))
    matched = sum(bool(inputs.captions.by_source[source.name]) for source in kept)
    spec = DatasetSpec(
        vidiff=__version__,
        width=width,
        height=height,
        channels=1 if settings.gray else 3,
        frames=settings.frames,
        fps=str(settings.fps),
        aspect=settings.aspect,
        buckets={f"{wide}x{high}": count for (wide, high), count in sorted(buckets.items())},
        sources=len(inputs.sources),
        kept=len(kept),
        clips=len(clips),
        splits={side: sum(clip.split == side for clip in clips) for side in ("train", "val")},
        captions_matched=matched,
        captions_missing=len(kept) - matched,
        seconds_of_video=round(sum(_seconds(source, inputs, selection) for source in kept), 3),
        bytes=sum(path.stat().st_size for path in (output / "data").glob("shard-*.safetensors")),
        fingerprint=fingerprint,
        settings=settings.identity(),
    )
    write_spec(output, spec)
    return spec


def _frames(
    kept: Iterable[MediaSource], inputs: SelectionInput, selection: Selection
) -> Iterator[tuple[str, np.ndarray]]:
    for source in kept:
        extracted = inputs.extracted[source.name]
        frames = inputs.cache.frames(source, inputs.segments(source))
        for number in selection.taken[source.name]:
            offset = extracted.candidates[number].offset
            yield _clip_id(source, number), frames[offset : offset + extracted.clip_frames]


def _clip_id(source: MediaSource, number: int) -> str:
    # Of the name alone: a source that comes or goes changes no other clip's id.
    return f"{hashlib.sha256(source.name.encode('utf-8', 'surrogateescape')).hexdigest()[:12]}-{number:05d}"


def _clips(source: MediaSource, inputs: SelectionInput, selection: Selection, side: Side) -> Iterator[Clip]:
    extracted, segments = inputs.extracted[source.name], inputs.segments(source)
    for number in selection.taken[source.name]:
        candidate = extracted.candidates[number]
        yield Clip(
            id=_clip_id(source, number),
            source=source.name,
            start_seconds=round(float(candidate.start / extracted.rate) + extracted.start_seconds, 6)
            if extracted.rate
            else 0.0,
            fps=extracted.fps,
            frames=extracted.clip_frames,
            captions=list(segments[candidate.segment].captions) if candidate.segment >= 0 else [],
            split=side,
            shard="",
            group=inputs.groups[source.name],
            width=extracted.size[0],
            height=extracted.size[1],
            scores=candidate.scores,
        )


def _seconds(source: MediaSource, inputs: SelectionInput, selection: Selection) -> float:
    """Seconds of video that the clips of a source cover, overlaps counted once; an image has none."""
    extracted = inputs.extracted[source.name]
    starts = sorted({extracted.candidates[number].start for number in selection.taken.get(source.name, ())})
    if not starts or not extracted.rate:
        return 0.0
    covered = (
        sum(min(later - start, extracted.clip_frames) for start, later in pairwise(starts)) + extracted.clip_frames
    )
    return float(covered / extracted.rate)


def write_ledgers(output: Path, inputs: SelectionInput, selection: Selection) -> None:
    """ledger.jsonl: exactly one row per source, in the order of their names. missing.jsonl: annotations
    whose video is missing or unusable."""
    refused: dict[str, Counter[str]] = {}
    for each in selection.rejected:
        refused.setdefault(each.source.name, Counter())[each.reason] += 1
    rows = []
    for source in inputs.sources:
        extracted, taken = inputs.extracted[source.name], selection.taken.get(source.name, ())
        kind, reason = source_status(extracted, refused.get(source.name, {}), taken=bool(taken))
        rows.append(
            {
                "source": source.name,
                "status": "rejected" if kind else "kept",
                "kind": kind,
                "reason": reason,
                "bytes": source.bytes,
                "mtime_ns": source.mtime_ns,
                "decoder": extracted.decoder,
                "damage": extracted.damage,
                "remarks": list(extracted.remarks),
                "width": extracted.width,
                "height": extracted.height,
                "fps": extracted.fps,
                "frames_decoded": extracted.frames,
                "scenes": extracted.scenes,
                "clips": len(taken),
                "clips_rejected": dict(refused.get(source.name, {})),
                "seconds": round(_seconds(source, inputs, selection), 3),
                "captions": inputs.captions.origin[source.name],
            }
        )
    write_rows(output / LEDGER, rows)
    missing = [asdict(each) for each in inputs.captions.missing]
    for source in inputs.sources:
        for _, why in inputs.extracted[source.name].unused:
            missing.append({"kind": "segment", "what": source.name, "where": "", "reason": why})
    if missing:
        write_rows(output / MISSING, missing)
    else:
        (output / MISSING).unlink(missing_ok=True)


def source_status(extracted: ExtractedSource, refused: Mapping[str, int], *, taken: bool) -> tuple[str, str]:
    """Returns (kind, reason) of a rejected source, ("", "") of one that is kept."""
    if extracted.kind or taken:
        return extracted.kind, extracted.reason
    why = max(refused, key=lambda each: refused[each])
    clips = sum(refused.values())
    return why, f"{why}: {refused[why]} of {clips} clip{'s' * (clips != 1)}"
