"""Prepare a dataset: folders of videos and images to the clips that a model trains on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidiff_cli.config.prep import PrepSettings, part_of
from vidiff_cli.data import workers
from vidiff_cli.data.assemble import LEDGER, MISSING, assemble, verdict, write_ledgers
from vidiff_cli.data.captions import Captions, read_captions
from vidiff_cli.data.cut import UNEXPECTED, Cutting, Job, cut
from vidiff_cli.data.filters import Limits
from vidiff_cli.data.index import NAME as INDEX
from vidiff_cli.data.journal import Journal, Piece, Unwritten, partial_of
from vidiff_cli.data.scan import Scan, Source, scan
from vidiff_cli.data.select import Choice, Materials, select
from vidiff_cli.data.split import check_held_out, groups_of
from vidiff_cli.data.store import JOURNAL, Dataset, DatasetSpec, open_dataset, read_rows, read_spec
from vidiff_cli.errors import VidiffError
from vidiff_cli.locks import LOCK, alone, folder_alone, remove, remove_leftovers
from vidiff_cli.tasks.events import Note, Progress, Steps, task

PREVIEW, REJECTED = "preview.png", "rejected.png"
AGAIN = {UNEXPECTED, workers.TOO_LONG, workers.TOO_MUCH, workers.CRASHED}  # what another run may have more luck with
KEEPING = {
    "static": "keep them with --min-motion 0",
    "flat": "keep them with --min-contrast 0",
    "black": "keep them with --min-contrast 0",
}
Pieces = dict[str, Piece]  # by the source's name


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepReport:
    """What `prep` made. Captions are counted over kept sources; `resumed`: decoded by an earlier run.

    `rejected`: sources by reason; `filtered`: clips by the filter that left them out; `missing`: rows of missing.jsonl
    by kind. Of a `shard` only sources, kept, rejected, resumed and the time are known.
    """

    folder: Path
    already_complete: bool
    shard: str | None
    sources: int
    kept: int
    rejected: dict[str, int]
    other_files: int
    clips: int
    clips_per_split: dict[str, int]
    buckets: dict[str, int]
    filtered: dict[str, int]
    captions_matched: int
    captions_missing: int
    missing: dict[str, int]
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
    fix = "wait for it to end, or give another folder with -o"
    if settings.shard is not None:
        with _part_alone(settings, fix):
            return (yield from _prepare_part(plan, started))
    with folder_alone(settings.output, fix=fix) as locked:
        return (yield from _prepare(plan, started, locked=locked))


def _plan(settings: PrepSettings) -> _Plan:
    found = scan(settings.sources, exclude=settings.output, images=settings.images)
    captions = read_captions(
        found.sources, settings.captions, format=settings.caption_format, columns=settings.split_by is not None
    )
    groups = groups_of(found.sources, captions, settings.split_by)
    check_held_out(settings.hold_out, groups.values())
    facts = [
        [source.name, source.bytes, source.mtime_ns, _said(captions, source), groups[source.name]]
        for source in found.sources
    ]
    fingerprint = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    return _Plan(settings=settings, scan=found, captions=captions, groups=groups, fingerprint=fingerprint)


def _said(captions: Captions, source: Source) -> list[list[object]]:
    return [[str(each.start_seconds), str(each.stop_seconds), each.captions] for each in captions.of[source.name]]


def _part_alone(settings: PrepSettings, fix: str) -> contextlib.AbstractContextManager[bool]:
    """Parts share the folder, each has a lock of its own."""
    assert settings.shard is not None
    part, parts = part_of(settings.shard)
    return alone(settings.output / f"{LOCK}-{part}-of-{parts}", settings.output, fix=fix)


def _prepare_part(plan: _Plan, started: float) -> Steps[PrepReport]:
    """Only decodes: whatever depends on all sources is done by --merge."""
    settings = plan.settings
    assert settings.shard is not None
    if _is_complete(plan):
        yield Note(f"Nothing to do: {settings.output} is complete, with the same settings and sources.")
        return _report(plan, read_spec(settings.output), started, already_complete=True)
    part, parts = part_of(settings.shard)
    sources = [source for source in plan.scan.sources if _part(source.name, parts) == part]
    journal = _journal(settings)
    pieces, resumed = yield from _pieces(plan, journal, sources)
    rejected = Counter(piece.kind for piece in pieces.values() if piece.kind)
    yield Note(f"Part {settings.shard} is done. When all are: the same command with --merge instead of --shard.")
    return PrepReport(
        folder=settings.output,
        already_complete=False,
        shard=settings.shard,
        sources=len(sources),
        kept=len(sources) - sum(rejected.values()),
        rejected=dict(rejected.most_common()),
        other_files=plan.scan.other_files,
        clips=0,
        clips_per_split={},
        buckets={},
        filtered={},
        captions_matched=0,
        captions_missing=0,
        missing={},
        seconds_of_video=sum(piece.seconds for piece in pieces.values() if not piece.kind),
        megabytes=0.0,
        resumed=resumed,
        elapsed_seconds=time.monotonic() - started,
    )


def _part(name: str, parts: int) -> int:
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") % parts + 1


def _prepare(plan: _Plan, started: float, *, locked: bool) -> Steps[PrepReport]:
    settings = plan.settings
    for text in plan.captions.notes:
        yield Note(text, "warning")
    complete = _is_complete(plan)
    if locked:
        remove_leftovers(settings.output)
    journal = _journal(settings)
    if complete:
        yield Note(f"Nothing to do: {settings.output} is complete, with the same settings and sources.")
        dataset = open_dataset(settings.output)
        if locked:  # of a run that was killed after its last file
            journal.remove()
        yield from _preview(dataset, settings)
        return _report(plan, dataset.spec, started, already_complete=True)

    if settings.merge:
        pieces = _merged(plan, journal)
        resumed = len(pieces)
    else:
        pieces, resumed = yield from _pieces(plan, journal, plan.scan.sources)
    materials = Materials(
        sources=plan.scan.sources, captions=plan.captions, groups=plan.groups, pieces=pieces, journal=journal
    )
    limits = Limits(min_motion=settings.min_motion, min_contrast=settings.min_contrast)
    choice = select(materials, limits, most=settings.clips_per_source, difference=settings.min_difference)
    _check_worth_storing(plan, materials, choice)
    for text in _remarks(plan, materials, choice):
        yield Note(text)

    yield Note("Writing the shards.")
    (settings.output / PREVIEW).unlink(missing_ok=True)  # of an older dataset
    (settings.output / REJECTED).unlink(missing_ok=True)
    yield from _preview_rejected(materials, choice, settings)
    spec = assemble(settings.output, settings, materials, choice, plan.fingerprint)
    journal.remove()
    yield from _preview(open_dataset(settings.output), settings)
    return _report(plan, spec, started, resumed=resumed)


def _journal(settings: PrepSettings) -> Journal:
    return Journal(settings.output, settings.shaping())


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
    names = {JOURNAL, "data", "text", "clips.jsonl", INDEX, LEDGER, MISSING, PREVIEW, REJECTED, LOCK}
    hidden = path.name.startswith(".") and (path.name.endswith(".part") or ".tmp-" in path.name)
    return path.name in names or path.name.startswith(f"{LOCK}-") or hidden


def _pieces(plan: _Plan, journal: Journal, sources: Sequence[Source]) -> Steps[tuple[Pieces, int]]:
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


def _known(plan: _Plan, journal: Journal, sources: Sequence[Source]) -> Pieces:
    """What the journal has of these sources."""
    found = ((source.name, journal.read(source, plan.captions.of[source.name])) for source in sources)
    return {name: piece for name, piece in found if piece is not None}


def _decoded(plan: _Plan, journal: Journal, sources: Sequence[Source]) -> Iterator[tuple[Source, Piece]]:
    """The pieces of sources as they are finished, by worker processes. Where decord ends badly, ffmpeg has a try."""
    settings = plan.settings
    again: list[Job] = []
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
    jobs: Iterator[Job], count: int, settings: PrepSettings
) -> Iterator[workers.Outcome[Job, Piece | Unwritten]]:
    """What the workers return. An interrupt, or a full disk, stops them in the middle: what they were writing goes."""
    if not count:
        return
    open_jobs: dict[Path, Job] = {}

    def given() -> Iterator[Job]:
        for job in jobs:
            open_jobs[job.path] = job
            yield job

    running = workers.run(
        cut,
        given(),
        workers=min(settings.workers or _cores(), count),
        timeout_seconds=settings.timeout,
        memory_bytes=settings.memory * 1_000_000,
    )
    try:
        with contextlib.closing(running):
            for outcome in running:
                del open_jobs[outcome.job.path]
                if outcome.kind:  # its worker was killed
                    remove(partial_of(outcome.job.path))
                yield outcome
    finally:
        for path in open_jobs:
            remove(partial_of(path))


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _result(outcome: workers.Outcome[Job, Piece | Unwritten]) -> Piece:
    if isinstance(outcome.result, Unwritten):
        raise outcome.result
    return outcome.result or Piece(kind=outcome.kind, reason=outcome.problem or outcome.kind)


def _remembered(journal: Journal, job: Job, piece: Piece) -> Piece:
    if piece.kind in AGAIN:  # nothing was written, but --merge has to know
        journal.write(job.source, job.segments, piece)
    return piece


def _job(plan: _Plan, journal: Journal, source: Source, decoder: str) -> Job:
    settings, segments = plan.settings, plan.captions.of[source.name]
    cutting = Cutting(
        size=settings.size,
        aspect=settings.aspect,
        frames=settings.frames,
        fps=settings.fps,
        stride=settings.clip_stride,
        scenes=settings.scenes,
        decoder=decoder,
        images_fps=settings.images_fps,
    )
    return Job(source=source, segments=segments, cutting=cutting, path=journal.path(source, segments))


def _merged(plan: _Plan, journal: Journal) -> Pieces:
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


def _check_worth_storing(plan: _Plan, materials: Materials, choice: Choice) -> None:
    """VidiffError where no clip is left, or where a source was rejected and `strict` is set; the ledger says why."""
    output, total = plan.settings.output, len(materials.sources)
    verdicts = _verdicts(materials, choice)
    if choice.taken and not (verdicts and plan.settings.strict):
        return
    if not (output / "dataset.json").exists():  # an older dataset that was to be overwritten keeps its own ledger
        output.mkdir(parents=True, exist_ok=True)
        write_ledgers(output, materials, choice)
    if not choice.taken:
        reason, count = Counter(kind for kind, _ in verdicts.values()).most_common(1)[0]
        example, why = next((name, why) for name, (kind, why) in verdicts.items() if kind == reason)
        materials.journal.remove()
        raise VidiffError(
            f"no clip is left of {total} source{'s' * (total != 1)}",
            found=f"{count} times: {reason}, such as {example}: {why}",
            fix=KEEPING.get(reason),
        )
    first, (_, why) = next(iter(verdicts.items()))
    raise VidiffError(
        f"{len(verdicts)} of {total} sources were rejected and --strict is set",
        found=f"{first}: {why}",
        fix="remove them, or leave --strict out",
    )


def _verdicts(materials: Materials, choice: Choice) -> dict[str, tuple[str, str]]:
    """(kind, reason) of every source that gave no clip, in the order of their names."""
    refused: dict[str, Counter[str]] = {}
    for each in choice.refused:
        refused.setdefault(each.source.name, Counter())[each.why] += 1
    found = {
        source.name: verdict(
            materials.pieces[source.name], refused.get(source.name, {}), taken=source.name in choice.taken
        )
        for source in materials.sources
    }
    return {name: said for name, said in found.items() if said[0]}


def _remarks(plan: _Plan, materials: Materials, choice: Choice) -> Iterator[str]:
    kept, size = list(choice.taken), plan.settings.size
    small = sorted(name for name in kept if min(materials.pieces[name].width, materials.pieces[name].height) < size)
    if small:
        yield f"{len(small)} sources are smaller than {size} pixels and were enlarged, such as {small[0]}."
    silent = sorted(name for name in kept if not plan.captions.of[name])
    if len(silent) == len(kept):
        yield "No captions: a model trained on this dataset knows no words."
    elif silent:
        yield f"{len(silent)} sources have no caption, such as {silent[0]}."
    folders = [source.name for source in materials.sources if source.pictures]
    if folders and plan.settings.images == "auto":
        yield (
            f"{len(folders)} folders of numbered pictures are read as videos of {plan.settings.images_fps} fps, "
            f"such as {folders[0]}; --images stills makes each picture a clip."
        )


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


def _preview_rejected(materials: Materials, choice: Choice, settings: PrepSettings) -> Steps[None]:
    """rejected.png: some of the clips that were left out, with the reason; of each reason at least one."""
    if settings.preview == 0 or not choice.refused:
        return
    from vidiff_cli.viewing.sheet import Row, contact_sheet

    firsts = {each.why: each for each in reversed(choice.refused)}
    count = min(settings.preview, len(choice.refused))
    spread = [choice.refused[number * len(choice.refused) // count] for number in range(count)]
    rows = []
    for each in list(dict.fromkeys([*firsts.values(), *spread]))[: max(count, len(firsts))]:
        cut = materials.pieces[each.source.name].cuts[each.number]
        scores = ", ".join(f"{name} {value:g}" for name, value in cut.scores.items())
        why = f"{each.why} of {each.like}" if each.like else f"{each.why} ({scores})"
        rows.append(Row(label=f"{why}: {each.source.name}", frames=materials.frames(each.source, cut)))
    contact_sheet(rows, settings.output / REJECTED)
    yield Note(f"Look at what was left out: {settings.output / REJECTED}")


def _report(
    plan: _Plan, spec: DatasetSpec, started: float, *, resumed: int = 0, already_complete: bool = False
) -> PrepReport:
    rows = list(read_rows(plan.settings.output / LEDGER))
    filtered: Counter[str] = Counter()
    for row in rows:
        filtered.update(row.get("clips_rejected") or {})
    return PrepReport(
        folder=plan.settings.output,
        already_complete=already_complete,
        shard=plan.settings.shard,
        sources=spec.sources,
        kept=spec.kept,
        rejected=dict(Counter(str(row["kind"]) for row in rows if row.get("kind")).most_common()),
        other_files=plan.scan.other_files,
        clips=spec.clips,
        clips_per_split=spec.splits,
        buckets=spec.buckets,
        filtered=dict(filtered.most_common()),
        captions_matched=spec.captions_matched,
        captions_missing=spec.captions_missing,
        missing=_missing(plan.settings.output / MISSING),
        seconds_of_video=spec.seconds_of_video,
        megabytes=spec.bytes / 1e6,
        resumed=resumed,
        elapsed_seconds=time.monotonic() - started,
    )


def _missing(path: Path) -> dict[str, int]:
    """Rows of missing.jsonl by kind; a video that several annotation files speak of is missing once."""
    if not path.exists():
        return {}
    rows = list(read_rows(path))
    counts = Counter(str(row.get("kind")) for row in rows if row.get("kind") != "video")
    videos = {str(row.get("what")) for row in rows if row.get("kind") == "video"}
    return ({"video": len(videos)} if videos else {}) | dict(counts)
