"""Prepare a dataset: folders of videos and images to the clips that a model trains on."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vidiff_cli.config.model import LearnedTextSettings
from vidiff_cli.config.prep import PrepSettings, parse_shard
from vidiff_cli.dataset.dataset import DatasetSpec, open_dataset, read_rows, read_spec
from vidiff_cli.errors import UsageError, VidiffError
from vidiff_cli.events import EventStream, Note, task
from vidiff_cli.preparation.decode import ExtractedSources, cached_sources, extract_sources, finished_sources, merged
from vidiff_cli.preparation.extract_cache import ExtractCache, ExtractedSource
from vidiff_cli.preparation.plan import PREVIEW, REJECTED, Plan, is_complete, open_cache, plan_prep
from vidiff_cli.preparation.previews import preview, preview_rejected
from vidiff_cli.preparation.quality_filters import Limits
from vidiff_cli.preparation.selection import Selection, SelectionInput, select
from vidiff_cli.preparation.write_dataset import LEDGER, MISSING, source_status, write_dataset, write_ledgers
from vidiff_cli.system.atomic_files import remove_leftovers
from vidiff_cli.system.launcher import ProcessInfo
from vidiff_cli.system.locks import LOCK, alone, folder_alone
from vidiff_cli.system.ranks import Ranks, meet
from vidiff_cli.text.tokenizer import token_ids

CLIP_TOKENS, CLIP_MARKS = 77, 2  # that most CLIPs read of a caption; start and end among them
KEEPING = {
    "static": "keep them with --min-motion 0",
    "flat": "keep them with --min-contrast 0",
    "black": "keep them with --min-contrast 0",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepReport:
    """Summary of a prepared dataset. Captions are counted over kept sources; `resumed`: decoded by an earlier run.

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


@task
def prep(settings: PrepSettings) -> EventStream[PrepReport]:
    """Makes the dataset folder `settings.output`; run again after an interruption, it continues. Of several processes
    of a launcher each decodes a part, and the first one makes the dataset of all.

    VidiffError: a source does not exist, the output holds something else or other settings, no clip is left, or (with
    `strict`) a source is rejected. Bad files are no error: each becomes a row of ledger.jsonl with its reason.
    """
    started = time.monotonic()
    launch = ProcessInfo.from_environment(os.environ)
    if launch.world > 1 and (settings.merge or settings.shard is not None):
        found = "--merge" if settings.merge else f"--shard {settings.shard}"
        fix = "leave it out: the processes divide the sources, and join the parts, by themselves"
        raise UsageError(f"{launch.world} processes of {launch.launcher} take no part by hand", found=found, fix=fix)
    with meet(launch, settings.output) as ranks:
        plan = plan_prep(settings)
        fix = "wait for it to end, or give another folder with -o"
        if settings.shard is not None:
            with _part_alone(settings, fix):
                return (yield from _prepare_part(plan, started))
        if not ranks.is_main:
            return (yield from _decode_for_first(plan, started, ranks))
        with folder_alone(settings.output, fix=fix) as locked:
            return (yield from _prepare(plan, started, ranks, locked=locked))


def _part_alone(settings: PrepSettings, fix: str) -> contextlib.AbstractContextManager[bool]:
    """Parts share the folder, each has a lock of its own."""
    assert settings.shard is not None
    part, parts = parse_shard(settings.shard)
    return alone(settings.output / f"{LOCK}-{part}-of-{parts}", settings.output, fix=fix)


def _prepare_part(plan: Plan, started: float) -> EventStream[PrepReport]:
    """Only decodes: whatever depends on all sources is done by --merge."""
    settings = plan.settings
    assert settings.shard is not None
    if is_complete(plan):
        yield Note(f"Nothing to do: {settings.output} is complete, with the same settings and sources.")
        return _report(plan, read_spec(settings.output), started, already_complete=True)
    part, parts = parse_shard(settings.shard)
    sources = [source for source in plan.scan.sources if _part(source.name, parts) == part]
    cache = open_cache(settings)
    extracted, resumed = yield from extract_sources(plan, cache, sources)
    yield Note(f"Part {settings.shard} is done. When all are: the same command with --merge instead of --shard.")
    return _part_report(plan, settings.shard, extracted, resumed, started)


def _decode_for_first(plan: Plan, started: float, ranks: Ranks) -> EventStream[PrepReport]:
    """Decodes this process's part of the sources; the first process makes the dataset."""
    extracted, resumed = dict[str, ExtractedSource](), 0
    if ranks.share(True):
        sources, cache = ranks.part(plan.scan.sources), open_cache(plan.settings)
        extracted, resumed = yield from ranks.together(extract_sources(plan, cache, sources, is_part=True))
    return _part_report(plan, f"{ranks.rank + 1}/{ranks.world}", extracted, resumed, started)


def _part_report(
    plan: Plan, part: str, extracted: Mapping[str, ExtractedSource], resumed: int, started: float
) -> PrepReport:
    rejected = Counter(source.kind for source in extracted.values() if source.kind)
    return PrepReport(
        folder=plan.settings.output,
        already_complete=False,
        shard=part,
        sources=len(extracted),
        kept=len(extracted) - sum(rejected.values()),
        rejected=dict(rejected.most_common()),
        other_files=plan.scan.other_files,
        clips=0,
        clips_per_split={},
        buckets={},
        filtered={},
        captions_matched=0,
        captions_missing=0,
        missing={},
        seconds_of_video=sum(source.seconds for source in extracted.values() if not source.kind),
        megabytes=0.0,
        resumed=resumed,
        elapsed_seconds=time.monotonic() - started,
    )


def _part(name: str, parts: int) -> int:
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") % parts + 1


def _prepare(plan: Plan, started: float, ranks: Ranks, *, locked: bool) -> EventStream[PrepReport]:
    settings = plan.settings
    for text in plan.captions.notes:
        yield Note(text, "warning")
    complete = is_complete(plan)
    if locked:
        remove_leftovers(settings.output)
    cache = open_cache(settings)
    ranks.share(not complete)  # the others begin
    if complete:
        yield Note(f"Nothing to do: {settings.output} is complete, with the same settings and sources.")
        dataset = open_dataset(settings.output)
        if locked:  # of a run that was killed after its last file
            cache.remove()
        yield from preview(dataset, settings)
        return _report(plan, dataset.spec, started, already_complete=True)

    if settings.merge:
        extracted = merged(plan, cache)
        resumed = len(extracted)
    else:
        extracted, resumed = yield from _extract_all(plan, cache, ranks)
    inputs = SelectionInput(
        sources=plan.scan.sources, captions=plan.captions, groups=plan.groups, extracted=extracted, cache=cache
    )
    limits = Limits(min_motion=settings.min_motion, min_contrast=settings.min_contrast)
    selection = select(inputs, limits, most=settings.clips_per_source, difference=settings.min_difference)
    _check_worth_storing(plan, inputs, selection)
    for text in _notes(plan, inputs, selection):
        yield Note(text)

    yield Note("Writing the shards.")
    (settings.output / PREVIEW).unlink(missing_ok=True)  # of an older dataset
    (settings.output / REJECTED).unlink(missing_ok=True)
    yield from preview_rejected(inputs, selection, settings)
    spec = write_dataset(settings.output, settings, inputs, selection, plan.fingerprint)
    cache.remove()
    yield from preview(open_dataset(settings.output), settings)
    return _report(plan, spec, started, resumed=resumed)


def _extract_all(plan: Plan, cache: ExtractCache, ranks: Ranks) -> EventStream[tuple[ExtractedSources, int]]:
    """Decodes all sources, together with the other processes; how many were finished before."""
    sources = plan.scan.sources
    if ranks.world == 1:
        return (yield from extract_sources(plan, cache, sources))
    yield from ranks.idle(len(sources), f"{len(sources)} source{'s' * (len(sources) != 1)}")
    if resumed := len(finished_sources(plan, cache, sources)):
        yield Note(f"Continuing: {resumed} of {len(sources)} sources were finished before.")
    yield from ranks.together(extract_sources(plan, cache, ranks.part(sources), is_part=True))
    extracted = cached_sources(plan, cache, sources)
    if missing := [source for source in sources if source.name not in extracted]:  # the sources are changing
        extracted |= (yield from extract_sources(plan, cache, missing, is_part=True))[0]
    return extracted, resumed


def _check_worth_storing(plan: Plan, inputs: SelectionInput, selection: Selection) -> None:
    """VidiffError where no clip is left, or where a source was rejected and `strict` is set; the ledger says why."""
    output, total = plan.settings.output, len(inputs.sources)
    rejected = _rejected_sources(inputs, selection)
    what = "rejected"
    if plan.settings.strict:
        damaged = {name: each.damage for name, each in inputs.extracted.items() if each.damage and name not in rejected}
        rejected |= {name: ("damaged", damage) for name, damage in damaged.items()}
        what = "rejected or damaged" if damaged else what
    if selection.taken and not (rejected and plan.settings.strict):
        return
    if not (output / "dataset.json").exists():  # an older dataset that was to be overwritten keeps its own ledger
        output.mkdir(parents=True, exist_ok=True)
        write_ledgers(output, inputs, selection)
    if not selection.taken:
        reason, count = Counter(kind for kind, _ in rejected.values()).most_common(1)[0]
        example, why = next((name, why) for name, (kind, why) in rejected.items() if kind == reason)
        inputs.cache.remove()
        raise VidiffError(
            f"no clip is left of {total} source{'s' * (total != 1)}",
            found=f"{count} times: {reason}, such as {example}: {why}",
            fix=KEEPING.get(reason),
        )
    first, (_, why) = next(iter(rejected.items()))
    raise VidiffError(
        f"{len(rejected)} of {total} sources were {what} and --strict is set",
        found=f"{first}: {why}",
        fix="remove them, or leave --strict out",
    )


def _rejected_sources(inputs: SelectionInput, selection: Selection) -> dict[str, tuple[str, str]]:
    """(kind, reason) of every source that gave no clip, in the order of their names."""
    refused: dict[str, Counter[str]] = {}
    for each in selection.rejected:
        refused.setdefault(each.source.name, Counter())[each.reason] += 1
    found = {
        source.name: source_status(
            inputs.extracted[source.name], refused.get(source.name, {}), taken=source.name in selection.taken
        )
        for source in inputs.sources
    }
    return {name: status for name, status in found.items() if status[0]}


def _notes(plan: Plan, inputs: SelectionInput, selection: Selection) -> Iterator[str]:
    kept, size = list(selection.taken), plan.settings.size
    small = sorted(name for name in kept if min(inputs.extracted[name].width, inputs.extracted[name].height) < size)
    if small:
        yield f"{len(small)} sources are smaller than {size} pixels and were enlarged, such as {small[0]}."
    remarks: dict[str, list[str]] = {}
    for name in kept:
        for remark in inputs.extracted[name].remarks:
            remarks.setdefault(remark.partition(":")[0], []).append(name)
    for remark, names in sorted(remarks.items()):
        yield f"{len(names)} source{'s' * (len(names) != 1)}, such as {min(names)}: {remark}; {LEDGER} has the list."
    without_captions = sorted(name for name in kept if not plan.captions.by_source[name])
    if len(without_captions) == len(kept):
        yield "No captions: a model trained on this dataset knows no words."
    elif without_captions:
        yield f"{len(without_captions)} sources have no caption, such as {without_captions[0]}."
    yield from _long_captions(inputs, kept)
    folders = [source.name for source in inputs.sources if source.pictures]
    if folders and plan.settings.images == "auto":
        yield (
            f"{len(folders)} folders of numbered pictures are read as videos of {plan.settings.images_fps} fps, "
            f"such as {folders[0]}; --images stills makes each picture a clip."
        )


def _long_captions(inputs: SelectionInput, kept: Sequence[str]) -> Iterator[str]:
    """Tells how many captions are longer than text encoders read, and the longest."""
    longest = LearnedTextSettings().max_tokens
    source_of = {
        text: name
        for name in reversed(kept)
        for segment in inputs.captions.by_source[name]
        for text in segment.captions
        if len(text.encode("utf-8", "replace")) > longest  # a token is a byte at least
    }
    if not source_of:
        return
    lengths = {text: length for text in source_of if (length := len(token_ids(text))) > longest}
    if lengths:
        text = max(lengths, key=lambda each: lengths[each])
        of_clip = sum(length + CLIP_MARKS > CLIP_TOKENS for length in lengths.values())
        yield (
            f"{len(lengths)} captions are longer than the {longest} tokens that a learned text encoder reads, "
            f"{of_clip} than the {CLIP_TOKENS} of CLIP; the longest has {lengths[text]}, of {source_of[text]}. vidiff "
            "train leaves out their ends; --long-captions middle keeps both ends, --set text.max_tokens reads more."
        )


def _report(
    plan: Plan, spec: DatasetSpec, started: float, *, resumed: int = 0, already_complete: bool = False
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
