"""`vidiff preview`: frames of a dataset, a run, a folder of videos or one video, in a terminal or as a file.

Only picked entries are opened (`entries.py`). A file that cannot be shown becomes an entry with the reason.

Legend: n frames that are shown, h and w pixels, c = 3 colors.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from vidiff_cli.commands.preview.entries import EntryFrames, Subject, SubjectKind, open_subject, without_path
from vidiff_cli.config.preview import COUNTS, PreviewSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import EventStream, Note, Progress, task
from vidiff_cli.frames import evenly_spaced
from vidiff_cli.viz.contact_sheet import MAX_FRAMES, SheetRow, contact_sheet, progress_sheet
from vidiff_cli.viz.gallery import MEGABYTE, SUFFIXES, Gallery, GalleryEntry
from vidiff_cli.viz.picture_files import PICTURE_SUFFIXES

STRIP = 8  # frames of each in a terminal, unless told otherwise: fewer are drawn where it is narrow
SIDES = {"terminal": 256, "sheet": 128, "gallery": 128}  # pixels of the long side of frames that are held
WHAT = {"dataset": "clips", "run": "pictures", "folder": "files", "file": "file"}
NO_FRAME = np.full((1, 48, 80, 3), 200, np.uint8)  # placeholder on a sheet

OutputKind = Literal["terminal", "sheet", "gallery"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PreviewReport:
    """Result of a preview: `entries` in their order, `strips` frames (n h w c) of each (None: not available).

    `total` is the number to pick from; `left_out` those that do not fit into a gallery; `facts` are about the whole.
    `output` is the written file, of `bytes`.
    """

    kind: SubjectKind
    path: Path
    total: int
    facts: dict[str, str]
    entries: tuple[GalleryEntry, ...]
    left_out: int = 0
    output: Path | None = None
    bytes: int = 0
    strips: tuple[np.ndarray | None, ...] = field(default=(), repr=False)


@task
def preview(settings: PreviewSettings) -> EventStream[PreviewReport]:
    """Shows some entries of `settings.path`; writes a sheet or a page to `settings.output`, if given.

    Raises VidiffError if `path` has no entries, a dataset is damaged, or the output cannot be written.
    """
    output_kind = _check_output(settings)
    subject = open_subject(settings.path)
    numbers = _pick(subject, settings, output_kind)
    limit = settings.frames or {"terminal": STRIP, "sheet": MAX_FRAMES, "gallery": 1}[output_kind]
    opened: list[EntryFrames] = []
    for each in subject.open_entries(numbers, limit, SIDES[output_kind]):
        opened.append(each)
        yield Progress(what="previews", done=len(opened), total=len(numbers), detail=opened[-1].entry.name)
    if settings.sort is not None:
        opened = _sorted(opened, settings.sort)
    report = PreviewReport(
        kind=subject.kind,
        path=settings.path,
        total=subject.total,
        facts=subject.facts,
        entries=tuple(each.entry for each in opened),
        strips=tuple(each.frames for each in opened),
    )
    if subject.total > len(opened):
        yield Note(f"{len(opened)} of {subject.total:,} are shown; -n shows more.")
    if settings.output is None:
        return report
    if output_kind == "gallery":
        return (yield from _write_gallery(report, opened, settings, settings.output))
    _write_sheet(report, opened, settings.output)
    return replace(report, output=settings.output, bytes=settings.output.stat().st_size)


def _check_output(settings: PreviewSettings) -> OutputKind:
    """The kind of output. Raises VidiffError, before anything is opened, if it exists or cannot be written."""
    output = settings.output
    if output is None:
        return "terminal"
    suffix = output.suffix.lower()
    if suffix not in (*PICTURE_SUFFIXES, *SUFFIXES):
        expected = f"a contact sheet ({', '.join(PICTURE_SUFFIXES)}) or a gallery ({SUFFIXES[0]})"
        raise VidiffError("unsupported name of a preview", found=output.name, expected=expected)
    if output.is_dir():
        raise VidiffError(f"{output} is a folder", fix="give the name of a file")
    if os.path.lexists(output) and not settings.overwrite:
        raise VidiffError(f"{output} exists", fix="choose another name, or pass --overwrite")
    return "gallery" if suffix in SUFFIXES else "sheet"


def _pick(subject: Subject, settings: PreviewSettings, output_kind: OutputKind) -> Sequence[int]:
    """Indices of entries: evenly spaced or random; for a run the first ones, for a sheet of a run all."""
    count = settings.count or COUNTS[output_kind]
    if subject.kind == "run":
        usual = {"terminal": 1, "sheet": subject.total, "gallery": count}[output_kind]
        return range(min(settings.count or usual, subject.total))
    if settings.seed is not None:
        return sorted(random.Random(settings.seed).sample(range(subject.total), min(count, subject.total)))
    return evenly_spaced(subject.total, count, to_last=False)


def _sorted(opened: list[EntryFrames], key: str) -> list[EntryFrames]:
    """Entries in ascending order, those without the value last. Raises VidiffError if all lack it."""
    there = [each for each in opened if key in each.entry.keys]
    if not there:
        known = dict.fromkeys(name for each in opened for name in each.entry.keys)
        raise VidiffError("unknown key to sort by", found=key, expected=", ".join(known))
    rest = [each for each in opened if key not in each.entry.keys]
    return sorted(there, key=lambda each: each.entry.keys[key]) + rest  # type: ignore[arg-type, return-value]


def _write_gallery(
    report: PreviewReport, opened: list[EntryFrames], settings: PreviewSettings, path: Path
) -> EventStream[PreviewReport]:
    entries: list[GalleryEntry] = []
    with Gallery(limit=settings.megabytes * MEGABYTE) as page:
        for done, each in enumerate(opened, start=1):
            try:
                media, entry = each.media(), each.entry
            except VidiffError as error:
                media, entry = None, replace(each.entry, problem=each.entry.problem or without_path(error, each.entry))
            if page.add(entry, media):
                entries.append(entry)
            yield Progress(what="gallery", done=done, total=len(opened), detail=entry.name)
        summary = [f"{page.shown} of {report.total:,} {WHAT[report.kind]}"]
        if page.left_out:
            told = f"{page.left_out} left out: a gallery may have {settings.megabytes:g} MB"
            summary.append(told + ".")
            yield Note(f"{told}; --megabytes gives it more.", "warning")
        title = settings.path.name or settings.path.absolute().name
        size = page.write(path, title=title, summary=summary, facts=report.facts, sort=settings.sort or "")
    return replace(report, entries=tuple(entries), left_out=page.left_out, output=path, bytes=size, strips=())


def _write_sheet(report: PreviewReport, opened: list[EntryFrames], path: Path) -> None:
    """Writes a run's sample sheets over its steps, else a row for each entry."""
    if report.kind == "run":
        steps = sorted((each.entry.scores["step"], each.entry.path) for each in opened if "step" in each.entry.scores)
        sheets = [(f"step {step:.0f}", file) for step, file in steps if file is not None]
        if progress_sheet(sheets, path, title=str(report.path)) is None:
            raise VidiffError(f"{report.path} has no sample sheets", fix=f"look at it with -o gallery{SUFFIXES[0]}")
        return
    rows = []
    for each in opened:
        name = "" if (each.entry.problem or "").startswith(each.entry.name) else each.entry.name
        told = ": ".join(part for part in (name, each.entry.prompt, each.entry.problem) if part)
        seed = "" if each.entry.seed is None else f" (seed {each.entry.seed})"
        frames = NO_FRAME if each.frames is None else each.frames
        rows.append(SheetRow(label=told + seed, frames=frames, numbers=each.numbers))
    contact_sheet(rows, path)
