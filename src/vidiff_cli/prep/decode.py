"""The part of `prep` that takes the time: sources to pieces of the journal, by worker processes."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from vidiff_cli.config.prep import PrepSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import EventStream, Note, Progress
from vidiff_cli.prep.extract import UNEXPECTED, ClipSpec, ExtractJob, cut
from vidiff_cli.prep.extract_cache import ExtractCache, ExtractedSource, Unwritten, partial_path
from vidiff_cli.prep.plan import Plan
from vidiff_cli.prep.scan import MediaSource
from vidiff_cli.system import worker_pool
from vidiff_cli.system.atomic_files import remove
from vidiff_cli.video import ffmpeg

# what another run may have more luck with
AGAIN = {UNEXPECTED, worker_pool.TOO_LONG, worker_pool.TOO_MUCH, worker_pool.CRASHED}
Pieces = dict[str, ExtractedSource]  # by the source's name


def extract_sources(
    plan: Plan, journal: ExtractCache, sources: Sequence[MediaSource]
) -> EventStream[tuple[Pieces, int]]:
    """Decodes what the journal lacks; every finished source is in the journal before the next event. Returns all pieces
    and how many of them were finished before."""
    pieces = {name: piece for name, piece in _known(plan, journal, sources).items() if piece.kind not in AGAIN}
    resumed, total = len(pieces), len(sources)
    if resumed:
        yield Note(f"Continuing: {resumed} of {total} sources were finished before.")
    yield Progress(what="sources", done=resumed, total=total)
    journal.make()
    video, began = 0.0, time.monotonic()
    for source, piece in _decoded(plan, journal, [source for source in sources if source.name not in pieces]):
        pieces[source.name] = piece
        video += piece.seconds
        elapsed = max(time.monotonic() - began, 1e-3)
        speed = f"{(len(pieces) - resumed) / elapsed:.1f} files/s, {video / elapsed:.1f} s of video/s"
        yield Progress(what="sources", done=len(pieces), total=total, detail=f"{speed}, {source.name}")
    return pieces, resumed


def _known(plan: Plan, journal: ExtractCache, sources: Sequence[MediaSource]) -> Pieces:
    """What the journal has of these sources."""
    found = ((source.name, journal.read(source, plan.captions.by_source[source.name])) for source in sources)
    return {name: piece for name, piece in found if piece is not None}


def _decoded(
    plan: Plan, journal: ExtractCache, sources: Sequence[MediaSource]
) -> Iterator[tuple[MediaSource, ExtractedSource]]:
    """The pieces of sources as they are finished, by worker processes. Where decord ends badly, ffmpeg has a try."""
    settings = plan.settings
    again: list[ExtractJob] = []
    jobs = (_job(plan, journal, source, settings.decoder) for source in sources)
    for outcome in _outcomes(jobs, len(sources), settings):
        job, piece = outcome.job, _result(outcome)
        if piece.kind in AGAIN and job.cutting.decoder == "auto":
            again.append(_job(plan, journal, job.source, "ffmpeg"))
        else:
            yield job.source, _remembered(journal, job, piece)
    for outcome in _outcomes(iter(again), len(again), settings):
        yield outcome.job.source, _remembered(journal, outcome.job, _result(outcome))


def _outcomes(
    jobs: Iterator[ExtractJob], count: int, settings: PrepSettings
) -> Iterator[worker_pool.Outcome[ExtractJob, ExtractedSource | Unwritten]]:
    """What the workers return. An interrupt, or a full disk, stops them in the middle: what they were writing goes."""
    if not count:
        return
    open_jobs: dict[Path, ExtractJob] = {}

    def given() -> Iterator[ExtractJob]:
        for job in jobs:
            open_jobs[job.path] = job
            yield job

    running = worker_pool.run(
        cut,
        given(),
        workers=min(settings.workers or _cores(), count),
        timeout_seconds=settings.timeout,
        memory_bytes=settings.memory * 1_000_000,
        initializer=ffmpeg.keep_in_group,
    )
    try:
        with contextlib.closing(running):
            for outcome in running:
                del open_jobs[outcome.job.path]
                if outcome.kind:  # its worker was killed
                    remove(partial_path(outcome.job.path))
                yield outcome
    finally:
        for path in open_jobs:
            remove(partial_path(path))


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _result(outcome: worker_pool.Outcome[ExtractJob, ExtractedSource | Unwritten]) -> ExtractedSource:
    if isinstance(outcome.result, Unwritten):
        raise outcome.result
    return outcome.result or ExtractedSource(kind=outcome.kind, reason=outcome.problem or outcome.kind)


def _remembered(journal: ExtractCache, job: ExtractJob, piece: ExtractedSource) -> ExtractedSource:
    if piece.kind in AGAIN:  # nothing was written, but --merge has to know
        journal.write(job.source, job.segments, piece)
    return piece


def _job(plan: Plan, journal: ExtractCache, source: MediaSource, decoder: str) -> ExtractJob:
    settings, segments = plan.settings, plan.captions.by_source[source.name]
    cutting = ClipSpec(
        size=settings.size,
        aspect=settings.aspect,
        frames=settings.frames,
        fps=settings.fps,
        stride=settings.clip_stride,
        scenes=settings.scenes,
        decoder=decoder,
        images_fps=settings.images_fps,
    )
    return ExtractJob(source=source, segments=segments, cutting=cutting, path=journal.path(source, segments))


def merged(plan: Plan, journal: ExtractCache) -> Pieces:
    """VidiffError where some part is not done."""
    pieces = _known(plan, journal, plan.scan.sources)
    missing = [source.name for source in plan.scan.sources if source.name not in pieces]
    if missing:
        raise VidiffError(
            f"{len(missing)} of {len(plan.scan.sources)} sources of {plan.settings.output} are not done yet",
            found=f"{missing[0]} among them",
            fix="run the missing parts with --shard, with the same settings, or leave --merge out",
        )
    return pieces
