"""Plans a dataset before the first frame is decoded, and checks whether it is complete already."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from vidiff_cli.config.prep import PrepSettings
from vidiff_cli.dataset.dataset import JOURNAL, read_spec
from vidiff_cli.dataset.index import NAME as INDEX
from vidiff_cli.errors import VidiffError
from vidiff_cli.preparation.captions import Captions, read_captions
from vidiff_cli.preparation.extract_cache import ExtractCache
from vidiff_cli.preparation.scan import MediaSource, Scan, scan
from vidiff_cli.preparation.splits import assign_groups, check_held_out
from vidiff_cli.preparation.write_dataset import LEDGER, MISSING
from vidiff_cli.system.locks import LOCK
from vidiff_cli.system.ranks import FOLDER as RANKS

PREVIEW, REJECTED = "preview.png", "rejected.png"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Sources, captions and groups of a dataset, known before the first frame is decoded."""

    settings: PrepSettings
    scan: Scan
    captions: Captions
    groups: dict[str, str | None]
    fingerprint: str


def plan_prep(settings: PrepSettings) -> Plan:
    """Scans the sources and reads their captions; decodes nothing.

    VidiffError: no source, captions that cannot be read, or a held-out group that no source belongs to.
    """
    found = scan(settings.sources, exclude=settings.output, images=settings.images, archives=True)
    captions = read_captions(
        found.sources,
        settings.captions,
        format=settings.caption_format,
        columns=settings.split_by is not None,
        encoding=settings.encoding,
    )
    groups = assign_groups(found.sources, captions, settings.split_by)
    check_held_out(settings.hold_out, groups.values())
    facts = [
        [source.name, source.bytes, source.mtime_ns, _caption_facts(captions, source), groups[source.name]]
        for source in found.sources
    ]
    fingerprint = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    return Plan(settings=settings, scan=found, captions=captions, groups=groups, fingerprint=fingerprint)


def _caption_facts(captions: Captions, source: MediaSource) -> list[list[object]]:
    return [
        [str(each.start_seconds), str(each.stop_seconds), each.captions] for each in captions.by_source[source.name]
    ]


def open_cache(settings: PrepSettings) -> ExtractCache:
    return ExtractCache(settings.output, settings.shaping())


def is_complete(plan: Plan) -> bool:
    """True where the output is this very dataset. VidiffError where it is another one, or a folder of other things."""
    output = plan.settings.output
    if output.exists() and not output.is_dir():
        raise VidiffError(f"{output} is a file", expected="a folder", fix="give another name with -o")
    if not (output / "dataset.json").exists():
        foreign = sorted(path.name for path in output.iterdir() if not _is_ours(path)) if output.exists() else []
        if foreign:
            raise VidiffError(
                f"{output} is not empty and does not contain a dataset",
                found=foreign[0],
                fix="give an empty or new folder with -o",
            )
        return False
    if plan.settings.overwrite:
        return False
    spec = read_spec(output)
    wanted = plan.settings.identity()
    there = PrepSettings(sources=plan.settings.sources).identity() | spec.settings  # older: without new settings
    for name in wanted:
        if there[name] != wanted[name]:
            raise VidiffError(
                f"{output} was made with other settings",
                found=f"{name} = {there[name]} there",
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
    """True for a file of an unfinished dataset, hidden temporary files included."""
    names = {JOURNAL, "data", "text", "latents", "clips.jsonl", INDEX, LEDGER, MISSING, PREVIEW, REJECTED, LOCK}
    hidden = path.name.startswith(".") and (path.name.endswith(".part") or ".tmp-" in path.name)
    return path.name in names or path.name.startswith((f"{LOCK}-", RANKS)) or hidden
