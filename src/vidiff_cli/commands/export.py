"""`vidiff export`: a dataset to a folder of videos with metadata, as Hugging Face's videofolder has it."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vidiff_cli.config.export import ExportSettings
from vidiff_cli.dataset.dataset import Dataset, open_dataset
from vidiff_cli.dataset.jsonl import row_bytes
from vidiff_cli.dataset.videofolder import FOLDERS, METADATA, Target, check_folder, metadata, targets, write_video
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import EventStream, Progress, task
from vidiff_cli.system.atomic_files import remove, replace_folder, unwritable
from vidiff_cli.system.locks import hidden_folder
from vidiff_cli.system.writer_threads import writer_threads

STAGING = ".vidiff-export-"
AHEAD = 8  # clips that wait for an encoder, per encoder


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportReport:
    """Counts of written clips per split folder; `seconds` is the wall time."""

    folder: Path
    clips: dict[str, int]
    lossless: bool
    seconds: float


@task
def export(settings: ExportSettings) -> EventStream[ExportReport]:
    """Writes every clip as a video, and metadata.jsonl beside them. The folder appears when it is complete.

    Raises VidiffError for a dataset that cannot be read and a folder that is not empty (with `overwrite`: that holds
    anything but an export).
    """
    began = time.monotonic()
    check_folder(settings.output, overwrite=settings.overwrite)
    dataset = open_dataset(settings.dataset)
    if not len(dataset):
        raise VidiffError(f"the dataset {dataset.folder} has no clips", fix="prepare it with more sources")
    if settings.output.resolve().is_relative_to(dataset.folder.resolve()):
        raise VidiffError(f"{settings.output} lies in the dataset", fix="give another folder with -o")
    wanted = targets(dataset, lossless=settings.lossless)
    with _staging(settings.output) as staging:
        for done, _ in enumerate(_write(dataset, wanted, staging, settings), start=1):
            yield Progress(what="clips", done=done, total=len(wanted))
        check_folder(settings.output, overwrite=settings.overwrite)  # it may have been filled meanwhile
        _publish(staging, settings.output)
    return ExportReport(
        folder=settings.output,
        clips={split: sum(target.split == split for target in wanted) for split in FOLDERS.values()},
        lossless=settings.lossless,
        seconds=time.monotonic() - began,
    )


def _write(dataset: Dataset, wanted: Sequence[Target], folder: Path, settings: ExportSettings) -> Iterator[None]:
    """Writes the clips, several at a time, and their rows in order; yields after each."""
    try:
        for place in {(folder / target.split / target.file_name).parent for target in wanted}:
            place.mkdir(parents=True, exist_ok=True)
        with writer_threads() as (pool, count):
            jobs: deque[tuple[Target, Future[None]]] = deque()
            rows = {split: (folder / split / METADATA).open("wb") for split in {target.split for target in wanted}}
            try:
                for number, target in enumerate(wanted):
                    while number + len(jobs) < len(wanted) and len(jobs) < count * AHEAD:
                        ahead = wanted[number + len(jobs)]
                        job = pool.submit(
                            write_video, dataset, ahead, folder, lossless=settings.lossless, crf=settings.crf
                        )
                        jobs.append((ahead, job))
                    jobs.popleft()[1].result()
                    rows[target.split].write(row_bytes(metadata(dataset.clips[target.index], target)))
                    yield
            finally:
                for file in rows.values():
                    file.close()
    except OSError as error:
        raise unwritable(settings.output, error) from error


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """A hidden folder beside `folder` for unfinished files; what a kill leaves of one goes when the next is made."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with hidden_folder(folder.parent, STAGING) as staging:
            yield staging
    except OSError as error:
        raise unwritable(folder, error) from error


def _publish(staging: Path, folder: Path) -> None:
    """The finished folder takes the place of what was there, in one step where there was nothing."""
    whole, before = staging / "new", staging / "old"  # what is left in the hidden folder goes with it
    whole.mkdir()
    for path in sorted(staging.iterdir()):
        if path != whole:
            os.replace(path, whole / path.name)
    replace_folder(whole, folder, before)
    remove(before)
