"""Prepare a dataset: folders of videos and images to the clips that a model trains on."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np

from vidiff_cli import __version__
from vidiff_cli.config.prep import PrepSettings
from vidiff_cli.data.captions import Captions, read_captions
from vidiff_cli.data.cut import UNEXPECTED, Piece, cut
from vidiff_cli.data.journal import Journal
from vidiff_cli.data.scan import Scan, Source, scan
from vidiff_cli.data.split import Side, check_held_out, groups_of, split
from vidiff_cli.data.store import (
    JOURNAL,
    Clip,
    Dataset,
    DatasetSpec,
    open_dataset,
    read_rows,
    read_spec,
    remove_data,
    write_clips,
    write_rows,
    write_shards,
    write_spec,
)
from vidiff_cli.errors import VidiffError
from vidiff_cli.locks import LOCK, folder_alone, remove_leftovers
from vidiff_cli.tasks.events import Note, Progress, Steps, task

PREVIEW = "preview.png"
Pieces = dict[str, Piece]  # by the source's name


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepReport:
    """What `prep` made. Captions are counted over kept sources; `resumed`: decoded by an earlier run."""

    folder: Path
    already_complete: bool
    sources: int
    kept: int
    rejected: dict[str, int]
    other_files: int
    clips: int
    clips_per_split: dict[str, int]
    captions_matched: int
    captions_missing: int
    rows_without_source: int
    seconds_of_video: float
    megabytes: float
    resumed: int
    elapsed_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """All that is known before the first frame is decoded."""

    settings: PrepSettings
    scan: Scan
    captions: Captions
    groups: dict[str, str | None]
    fingerprint: str


@task
def prep(settings: PrepSettings) -> Steps[PrepReport]:
    """Makes the dataset folder `settings.output`; run again after an interruption, it continues.

    VidiffError: a source does not exist, the output holds something else or other settings, no clip is left, or (with
    `strict`) a source is rejected. Bad files are no error: each becomes a row of ledger.jsonl with its reason.
    """
    started = time.monotonic()
    plan = _plan(settings)
    with folder_alone(settings.output, fix="wait for it to end, or give another folder with -o") as locked:
        return (yield from _prepare(plan, started, locked=locked))


def _prepare(plan: _Plan, started: float, *, locked: bool) -> Steps[PrepReport]:
    settings = plan.settings
    for text in plan.captions.notes:
        yield Note(text, "warning")
    complete = _is_complete(plan)
    if locked:
        remove_leftovers(settings.output)
    if complete:
        yield Note(f"Nothing to do: {settings.output} is complete, with the same settings and sources.")
        dataset = open_dataset(settings.output)
        if locked:  # of a run that was killed after its last file
            Journal(settings.output, settings).remove()
        yield from _preview(dataset, settings)
        return _report(plan, dataset.spec, _rejected_before(settings.output), started, already_complete=True)

    journal = Journal(settings.output, settings)
    pieces = {source.name: piece for source in plan.scan.sources if (piece := journal.read(source))}
    resumed = len(pieces)
    if resumed:
        yield Note(f"Continuing: {resumed} of {len(plan.scan.sources)} sources were finished before.")
    yield from _decode_all(plan, journal, pieces)
    rejected = _rejected(pieces)
    _check_worth_storing(plan, journal, pieces)
    for text in _remarks(plan, pieces):
        yield Note(text)

    yield Note("Writing the shards.")
    spec = _store(plan, journal, pieces)
    journal.remove()
    yield from _preview(open_dataset(settings.output), settings)
    return _report(plan, spec, rejected, started, resumed=resumed)


def _plan(settings: PrepSettings) -> _Plan:
    found = scan(settings.sources, exclude=settings.output)
    captions = read_captions(found.sources, settings.captions, columns=settings.split_by is not None)
    groups = groups_of(found.sources, captions, settings.split_by)
    check_held_out(settings.hold_out, groups.values())
    facts = [
        [source.name, source.bytes, source.mtime_ns, captions.of[source.name], groups[source.name]]
        for source in found.sources
    ]
    fingerprint = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    return _Plan(settings=settings, scan=found, captions=captions, groups=groups, fingerprint=fingerprint)


def _is_complete(plan: _Plan) -> bool:
    """True where the output is this very dataset. VidiffError where it is another one, or a folder of other things."""
    output = plan.settings.output
    if output.exists() and not output.is_dir():
        raise VidiffError(f"{output} is a file", expected="a folder", fix="give another name with -o")
    if not (output / "dataset.json").exists():
        strange = sorted(path.name for path in output.iterdir() if not _is_ours(path)) if output.exists() else []
        if strange:
            raise VidiffError(
                f"{output} is no dataset and not empty", found=strange[0], fix="give an empty or new folder with -o"
            )
        return False
    if plan.settings.overwrite:
        return False
    spec = read_spec(output)
    wanted = plan.settings.identity()
    for name in wanted:
        if spec.settings.get(name) != wanted[name]:
            raise VidiffError(
                f"{output} was made with other settings",
                found=f"{name} = {spec.settings.get(name)} there",
                expected=f"{wanted[name]}",
                fix="replace it with --overwrite, or give another folder with -o",
            )
    if spec.fingerprint != plan.fingerprint:
        raise VidiffError(
            f"{output} was made from other sources or captions",
            found=f"{spec.sources} sources there, {len(plan.scan.sources)} now",
            fix="replace it with --overwrite, or give another folder with -o",
        )
    return True


def _is_ours(path: Path) -> bool:
    """A file of an unfinished dataset, or what a killed run left of one: .NAME.part, .NAME.tmp-XXX."""
    names = {JOURNAL, "data", "text", "clips.jsonl", "ledger.jsonl", PREVIEW, LOCK}
    return path.name in names or (path.name.startswith(".") and (path.name.endswith(".part") or ".tmp-" in path.name))


def _decode_all(plan: _Plan, journal: Journal, pieces: Pieces) -> Steps[None]:
    """Decodes what the journal lacks; every finished source is in the journal before the next event."""
    settings, total = plan.settings, len(plan.scan.sources)
    missing = iter([source for source in plan.scan.sources if source.name not in pieces])
    yield Progress(what="sources", done=len(pieces), total=total)
    # Threads: the decoders work outside the interpreter's lock. An interrupt waits for the sources in flight only.
    workers = settings.workers or min(os.cpu_count() or 1, 4)
    pool = ThreadPoolExecutor(max_workers=workers)
    running: dict[Future[Piece], Source] = {}
    try:
        while True:
            while len(running) < workers and (source := next(missing, None)):
                running[pool.submit(_decode_one, source, settings, journal)] = source
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                source = running.pop(future)
                pieces[source.name] = future.result()
                yield Progress(what="sources", done=len(pieces), total=total, detail=source.name)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _decode_one(source: Source, settings: PrepSettings, journal: Journal) -> Piece:
    piece, clips = cut(source, settings)
    if piece.kind != UNEXPECTED:  # out of memory, say: another run may have more luck
        journal.write(source, piece, clips)
    return piece


def _rejected(pieces: Pieces) -> dict[str, int]:
    return dict(Counter(piece.kind for piece in pieces.values() if piece.kind).most_common())


def _rejected_before(folder: Path) -> dict[str, int]:
    kinds = (str(row.get("kind") or "") for row in read_rows(folder / "ledger.jsonl"))
    return dict(Counter(kind for kind in kinds if kind).most_common())


def _check_worth_storing(plan: _Plan, journal: Journal, pieces: Pieces) -> None:
    """VidiffError where no clip is left, or where a source was rejected and `strict` is set; the ledger says why."""
    output, total = plan.settings.output, len(pieces)
    rejected = _rejected(pieces)
    bad = sum(rejected.values())
    if bad < total and not (bad and plan.settings.strict):
        return
    if not (output / "dataset.json").exists():  # an older dataset that was to be overwritten keeps its own ledger
        _write_ledger(plan, pieces)
    first = next(name for name, piece in sorted(pieces.items()) if piece.kind)
    if bad == total:
        reason, count = next(iter(rejected.items()))
        example = next(name for name, piece in sorted(pieces.items()) if piece.kind == reason)
        journal.remove()
        raise VidiffError(
            f"no clip is left of {total} source{'s' * (total != 1)}",
            found=f"{count} times: {reason}, such as {example}: {pieces[example].reason}",
        )
    raise VidiffError(
        f"{bad} of {total} sources were rejected and --strict is set",
        found=f"{first}: {pieces[first].reason}",
        fix="remove them, or leave --strict out",
    )


def _remarks(plan: _Plan, pieces: Pieces) -> Iterator[str]:
    kept = [name for name, piece in pieces.items() if not piece.kind]
    size = plan.settings.size
    small = sorted(name for name in kept if min(pieces[name].width, pieces[name].height) < size)
    if small:
        yield f"{len(small)} sources are smaller than {size} pixels and were enlarged, such as {small[0]}."
    silent = sorted(name for name in kept if not plan.captions.of[name])
    if len(silent) == len(kept):
        yield "No captions: a model trained on this dataset knows no words."
    elif silent:
        yield f"{len(silent)} sources have no caption, such as {silent[0]}."


def _store(plan: _Plan, journal: Journal, pieces: Pieces) -> DatasetSpec:
    """Assembles the dataset from the journal, in the order of the sources' names: dataset.json is the last file."""
    settings, output = plan.settings, plan.settings.output
    kept = [source for source in plan.scan.sources if not pieces[source.name].kind]
    sides = split(
        {source.name: plan.groups[source.name] for source in kept},
        val_fraction=settings.val_fraction,
        seed=settings.seed,
        hold_out=settings.hold_out,
    )
    remove_data(output)
    (output / PREVIEW).unlink(missing_ok=True)  # of an older dataset
    shard_of = write_shards(output, _frames(kept, journal))
    clips = [
        replace(clip, shard=shard_of[clip.id])
        for source in kept
        for clip in _clips(source, pieces[source.name], plan, sides[source.name])
    ]
    write_clips(output, clips)
    _write_ledger(plan, pieces)
    matched = sum(bool(plan.captions.of[source.name]) for source in kept)
    spec = DatasetSpec(
        vidiff=__version__,
        width=settings.size,
        height=settings.size,
        frames=settings.frames,
        fps=str(settings.fps),
        sources=len(plan.scan.sources),
        kept=len(kept),
        clips=len(clips),
        splits={side: sum(clip.split == side for clip in clips) for side in ("train", "val")},
        captions_matched=matched,
        captions_missing=len(kept) - matched,
        seconds_of_video=round(sum(_seconds(pieces[source.name]) for source in kept), 3),
        bytes=sum(path.stat().st_size for path in (output / "data").glob("shard-*.safetensors")),
        fingerprint=plan.fingerprint,
        settings=settings.identity(),
    )
    write_spec(output, spec)
    return spec


def _frames(kept: Sequence[Source], journal: Journal) -> Iterator[tuple[str, np.ndarray]]:
    for source in kept:
        for number, frames in enumerate(journal.clips(source)):
            yield _clip_id(source, number), frames


def _clip_id(source: Source, number: int) -> str:
    # Of the name alone: a source that comes or goes changes no other clip's id.
    return f"{hashlib.sha256(source.name.encode('utf-8', 'surrogateescape')).hexdigest()[:12]}-{number:05d}"


def _clips(source: Source, piece: Piece, plan: _Plan, side: Side) -> Iterator[Clip]:
    rate = Fraction(piece.fps)
    for number, start in enumerate(piece.starts):
        yield Clip(
            id=_clip_id(source, number),
            source=source.name,
            start_seconds=round(float(start / rate), 6) if rate else 0.0,
            fps=piece.fps,
            frames=piece.clip_frames,
            captions=list(plan.captions.of[source.name]),
            split=side,
            shard="",
            group=plan.groups[source.name],
        )


def _seconds(piece: Piece) -> float:
    """Seconds of video that the clips of a source cover, overlaps counted once; an image has none."""
    rate = Fraction(piece.fps)
    if not piece.starts or not rate:
        return 0.0
    gaps = [later - start for start, later in pairwise(piece.starts)]
    return float((sum(min(gap, piece.clip_frames) for gap in gaps) + piece.clip_frames) / rate)


def _write_ledger(plan: _Plan, pieces: Pieces) -> None:
    """ledger.jsonl: exactly one row per source, in the order of their names."""
    rows = []
    for source in plan.scan.sources:
        piece = pieces[source.name]
        rows.append(
            {
                "source": source.name,
                "status": "rejected" if piece.kind else "kept",
                "kind": piece.kind,
                "reason": piece.reason,
                "bytes": source.bytes,
                "mtime_ns": source.mtime_ns,
                "decoder": piece.decoder,
                "fallback": piece.fallback,
                "width": piece.width,
                "height": piece.height,
                "fps": piece.fps,
                "frames_decoded": piece.frames_decoded,
                "clips": len(piece.starts),
                "seconds": round(_seconds(piece), 3),
                "captions": plan.captions.origin[source.name],
            }
        )
    write_rows(plan.settings.output / "ledger.jsonl", rows)


def _preview(dataset: Dataset, settings: PrepSettings) -> Steps[None]:
    """preview.png: some clips, evenly spread over the dataset, with their captions."""
    path = settings.output / PREVIEW
    if settings.preview == 0 or path.exists():
        return
    from vidiff_cli.viewing.sheet import Row, contact_sheet

    count = min(settings.preview, len(dataset))
    rows = []
    for index in (number * len(dataset) // count for number in range(count)):
        clip = dataset.clips[index]
        label = f"{clip.source}: {' / '.join(clip.captions) or 'no caption'}"
        rows.append(Row(label=label, frames=dataset.frames(index)))
    contact_sheet(rows, path)
    yield Note(f"Look at what will be trained on: {path}")


def _report(
    plan: _Plan,
    spec: DatasetSpec,
    rejected: dict[str, int],
    started: float,
    *,
    resumed: int = 0,
    already_complete: bool = False,
) -> PrepReport:
    return PrepReport(
        folder=plan.settings.output,
        already_complete=already_complete,
        sources=spec.sources,
        kept=spec.kept,
        rejected=rejected,
        other_files=plan.scan.other_files,
        clips=spec.clips,
        clips_per_split=spec.splits,
        captions_matched=spec.captions_matched,
        captions_missing=spec.captions_missing,
        rows_without_source=plan.captions.rows_without_source,
        seconds_of_video=spec.seconds_of_video,
        megabytes=spec.bytes / 1e6,
        resumed=resumed,
        elapsed_seconds=time.monotonic() - started,
    )
