"""From the journal to the dataset folder: shards, manifest, ledgers; dataset.json is the last file."""

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
from vidiff_cli.prep.extract_cache import ExtractedSource
from vidiff_cli.prep.scan import MediaSource
from vidiff_cli.prep.selection import Selection, SelectionInput
from vidiff_cli.prep.splits import Side, split

LEDGER, MISSING = "ledger.jsonl", "missing.jsonl"


def assemble(
    output: Path, settings: PrepSettings, materials: SelectionInput, choice: Selection, fingerprint: str
) -> DatasetSpec:
    """Writes the dataset in the order of the sources' names: the same bytes however the work was divided."""
    kept = [source for source in materials.sources if source.name in choice.taken]
    sides = split(
        {source.name: materials.groups[source.name] for source in kept},
        val_fraction=settings.val_fraction,
        seed=settings.seed,
        hold_out=settings.hold_out,
        stills={source.name for source in kept if materials.pieces[source.name].clip_frames == 1},
    )
    remove_data(output)
    shard_of = write_shards(output, _frames(kept, materials, choice))
    clips = [
        replace(clip, shard=shard_of[clip.id])
        for source in kept
        for clip in _clips(source, materials, choice, sides[source.name])
    ]
    write_clips(output, clips)
    write_ledgers(output, materials, choice)
    buckets = Counter((clip.width, clip.height) for clip in clips)
    (width, height), _ = max(buckets.items(), key=lambda each: (each[1], each[0]))
    matched = sum(bool(materials.captions.by_source[source.name]) for source in kept)
    spec = DatasetSpec(
        vidiff=__version__,
        width=width,
        height=height,
        frames=settings.frames,
        fps=str(settings.fps),
        aspect=settings.aspect,
        buckets={f"{wide}x{high}": count for (wide, high), count in sorted(buckets.items())},
        sources=len(materials.sources),
        kept=len(kept),
        clips=len(clips),
        splits={side: sum(clip.split == side for clip in clips) for side in ("train", "val")},
        captions_matched=matched,
        captions_missing=len(kept) - matched,
        seconds_of_video=round(sum(_seconds(source, materials, choice) for source in kept), 3),
        bytes=sum(path.stat().st_size for path in (output / "data").glob("shard-*.safetensors")),
        fingerprint=fingerprint,
        settings=settings.identity(),
    )
    write_spec(output, spec)
    return spec


def _frames(
    kept: Iterable[MediaSource], materials: SelectionInput, choice: Selection
) -> Iterator[tuple[str, np.ndarray]]:
    for source in kept:
        piece = materials.pieces[source.name]
        frames = materials.journal.frames(source, materials.segments(source))
        for number in choice.taken[source.name]:
            offset = piece.candidates[number].offset
            yield _clip_id(source, number), frames[offset : offset + piece.clip_frames]


def _clip_id(source: MediaSource, number: int) -> str:
    # Of the name alone: a source that comes or goes changes no other clip's id.
    return f"{hashlib.sha256(source.name.encode('utf-8', 'surrogateescape')).hexdigest()[:12]}-{number:05d}"


def _clips(source: MediaSource, materials: SelectionInput, choice: Selection, side: Side) -> Iterator[Clip]:
    piece, segments = materials.pieces[source.name], materials.segments(source)
    for number in choice.taken[source.name]:
        cut = piece.candidates[number]
        yield Clip(
            id=_clip_id(source, number),
            source=source.name,
            start_seconds=round(float(cut.start / piece.rate) + piece.start_seconds, 6) if piece.rate else 0.0,
            fps=piece.fps,
            frames=piece.clip_frames,
            captions=list(segments[cut.segment].captions) if cut.segment >= 0 else [],
            split=side,
            shard="",
            group=materials.groups[source.name],
            width=piece.size[0],
            height=piece.size[1],
            scores=cut.scores,
        )


def _seconds(source: MediaSource, materials: SelectionInput, choice: Selection) -> float:
    """Seconds of video that the clips of a source cover, overlaps counted once; an image has none."""
    piece = materials.pieces[source.name]
    starts = sorted({piece.candidates[number].start for number in choice.taken.get(source.name, ())})
    if not starts or not piece.rate:
        return 0.0
    covered = sum(min(later - start, piece.clip_frames) for start, later in pairwise(starts)) + piece.clip_frames
    return float(covered / piece.rate)


def write_ledgers(output: Path, materials: SelectionInput, choice: Selection) -> None:
    """ledger.jsonl: exactly one row per source, in the order of their names. missing.jsonl: what annotation files speak
    of and is not here, or not usable."""
    refused: dict[str, Counter[str]] = {}
    for each in choice.refused:
        refused.setdefault(each.source.name, Counter())[each.why] += 1
    rows = []
    for source in materials.sources:
        piece, taken = materials.pieces[source.name], choice.taken.get(source.name, ())
        kind, reason = source_status(piece, refused.get(source.name, {}), taken=bool(taken))
        rows.append(
            {
                "source": source.name,
                "status": "rejected" if kind else "kept",
                "kind": kind,
                "reason": reason,
                "bytes": source.bytes,
                "mtime_ns": source.mtime_ns,
                "decoder": piece.decoder,
                "fallback": piece.fallback,
                "width": piece.width,
                "height": piece.height,
                "fps": piece.fps,
                "frames_decoded": piece.frames,
                "scenes": piece.scenes,
                "clips": len(taken),
                "clips_rejected": dict(refused.get(source.name, {})),
                "seconds": round(_seconds(source, materials, choice), 3),
                "captions": materials.captions.origin[source.name],
            }
        )
    write_rows(output / LEDGER, rows)
    missing = [asdict(each) for each in materials.captions.missing]
    for source in materials.sources:
        for _, why in materials.pieces[source.name].unused:
            missing.append({"kind": "segment", "what": source.name, "where": "", "reason": why})
    if missing:
        write_rows(output / MISSING, missing)
    else:
        (output / MISSING).unlink(missing_ok=True)


def source_status(piece: ExtractedSource, refused: Mapping[str, int], *, taken: bool) -> tuple[str, str]:
    """(kind, reason) of a source that gave no clip, ("", "") of one that is kept."""
    if piece.kind or taken:
        return piece.kind, piece.reason
    why = max(refused, key=lambda each: refused[each])
    clips = sum(refused.values())
    return why, f"{why}: {refused[why]} of {clips} clip{'s' * (clips != 1)}"
