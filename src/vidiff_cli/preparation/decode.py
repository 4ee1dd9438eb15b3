"""Decodes sources into the extract cache with worker processes."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from vidiff_cli.config.prep import PrepSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import EventStream, Note, Progress
from vidiff_cli.preparation.extract import UNEXPECTED, ClipSpec, ExtractJob, extract
from vidiff_cli.preparation.extract_cache import ExtractCache, ExtractedSource, member_path, partial_path
from vidiff_cli.preparation.plan import Plan
from vidiff_cli.preparation.scan import MediaSource
from vidiff_cli.system import worker_pool
from vidiff_cli.system.atomic_files import remove
from vidiff_cli.system.launcher import ProcessInfo
from vidiff_cli.video import ffmpeg

# another run may succeed
RETRIED_KINDS = {UNEXPECTED, worker_pool.TOO_LONG, worker_pool.TOO_MUCH, worker_pool.CRASHED}
ExtractedSources = dict[str, ExtractedSource]  # by the source's name


def extract_sources(
    plan: Plan, cache: ExtractCache, sources: Sequence[MediaSource], *, is_part: bool = False
) -> EventStream[tuple[ExtractedSources, int]]:
    """Decodes the sources that the cache lacks; every finished source is cached before the next event. Returns all
    extracted sources and how many of them were cached before; of a part, that is not told."""
    extracted_sources = finished_sources(plan, cache, sources)
    resumed, total = len(extracted_sources), len(sources)
    if resumed and not is_part:
        yield Note(f"Continuing: {resumed} of {total} sources were finished before.")
    yield Progress(what="sources", done=resumed, total=total)
    cache.make()
    video, began = 0.0, time.monotonic()
    for source, extracted in _decoded(
        plan, cache, [source for source in sources if source.name not in extracted_sources]
    ):
        extracted_sources[source.name] = extracted
        video += extracted.seconds
        elapsed = max(time.monotonic() - began, 1e-3)
        speed = f"{(len(extracted_sources) - resumed) / elapsed:.1f} files/s, {video / elapsed:.1f} s of video/s"
        yield Progress(what="sources", done=len(extracted_sources), total=total, detail=f"{speed}, {source.name}")
    return extracted_sources, resumed


def finished_sources(plan: Plan, cache: ExtractCache, sources: Sequence[MediaSource]) -> ExtractedSources:
    """Reads the sources from the cache that need not be decoded again."""
    known = cached_sources(plan, cache, sources)
    return {name: extracted for name, extracted in known.items() if extracted.kind not in RETRIED_KINDS}


def cached_sources(plan: Plan, cache: ExtractCache, sources: Sequence[MediaSource]) -> ExtractedSources:
    """Reads the sources from the cache, also those that another run may decode."""
    found = ((source.name, cache.read(source, plan.captions.by_source[source.name])) for source in sources)
    return {name: extracted for name, extracted in found if extracted is not None}


def _decoded(
    plan: Plan, cache: ExtractCache, sources: Sequence[MediaSource]
) -> Iterator[tuple[MediaSource, ExtractedSource]]:
    """Yields sources as they are extracted by worker processes."""
    settings = plan.settings
    jobs = (_job(plan, cache, source) for source in sources)
    for outcome in _outcomes(jobs, len(sources), settings):
        yield outcome.job.source, _keep_failure(cache, outcome.job, _result(outcome))


def _outcomes(
    jobs: Iterator[ExtractJob], count: int, settings: PrepSettings
) -> Iterator[worker_pool.Outcome[ExtractJob, ExtractedSource | VidiffError]]:
    """Yields the workers' outcomes. Partial files are removed after an interrupt or a full disk."""
    if not count:
        return
    open_jobs: dict[Path, ExtractJob] = {}

    def given() -> Iterator[ExtractJob]:
        for job in jobs:
            open_jobs[job.path] = job
            yield job

    running = worker_pool.run(
        extract,
        given(),
        workers=min(settings.workers or ProcessInfo.from_environment(os.environ).cores(), count),
        timeout_seconds=settings.timeout,
        memory_bytes=settings.memory * 1_000_000,
        initializer=ffmpeg.keep_in_group,
    )
    try:
        with contextlib.closing(running):
            for outcome in running:
                del open_jobs[outcome.job.path]
                if outcome.kind:  # its worker was killed
                    _remove_partial(outcome.job)
                yield outcome
    finally:
        for job in open_jobs.values():
            _remove_partial(job)


def _remove_partial(job: ExtractJob) -> None:
    remove(partial_path(job.path))
    if job.source.member is not None:
        remove(member_path(job.path, job.source.member))


def _result(outcome: worker_pool.Outcome[ExtractJob, ExtractedSource | VidiffError]) -> ExtractedSource:
    if isinstance(outcome.result, VidiffError):
        raise outcome.result
    return outcome.result or ExtractedSource(kind=outcome.kind, reason=outcome.problem or outcome.kind)


def _keep_failure(cache: ExtractCache, job: ExtractJob, extracted: ExtractedSource) -> ExtractedSource:
    if extracted.kind in RETRIED_KINDS:  # nothing was written, but --merge has to know
        cache.write(job.source, job.segments, extracted)
    return extracted


def _job(plan: Plan, cache: ExtractCache, source: MediaSource) -> ExtractJob:
    settings, segments = plan.settings, plan.captions.by_source[source.name]
    clip_spec = ClipSpec(
        size=settings.size,
        aspect=settings.aspect,
        gray=settings.gray,
        frames=settings.frames,
        fps=settings.fps,
        stride=settings.clip_stride,
        scenes=settings.scenes,
        decoder=settings.decoder,
        images_fps=settings.images_fps,
        reading=settings.reading,
    )
    return ExtractJob(source=source, segments=segments, clip_spec=clip_spec, path=cache.path(source, segments))


def merged(plan: Plan, cache: ExtractCache) -> ExtractedSources:
    """Reads all sources from the cache. VidiffError: some are not extracted yet."""
    extracted_sources = cached_sources(plan, cache, plan.scan.sources)
    missing = [source.name for source in plan.scan.sources if source.name not in extracted_sources]
    if missing:
        raise VidiffError(
            f"{len(missing)} of {len(plan.scan.sources)} sources of {plan.settings.output} are not done yet",
            found=f"{missing[0]} among them",
            fix="run the missing parts with --shard, with the same settings, or leave --merge out",
        )
    return extracted_sources
