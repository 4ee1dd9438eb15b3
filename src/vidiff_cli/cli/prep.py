"""`vidiff prep`: videos and images to a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vidiff_cli.cli.console import errors_as_sentences, follow, print_json, print_paths, stderr
from vidiff_cli.cli.options import AsJson, ConfigFiles, Overwrite, Quiet, Sets, Verbose, setting, settings_from
from vidiff_cli.config.prep import PrepSettings

if TYPE_CHECKING:
    from vidiff_cli.commands.prep import PrepReport

CLIPS, CAPTIONS, FILTERS, SPLIT = "Clips", "Captions", "Filters", "Validation split"
MISSING = {  # rows of missing.jsonl by their kind
    "video": "annotated, no file",
    "annotation": "without annotation",
    "row": "broken annotations",
    "segment": "segments not cut",
}
PARTS, RUN = "Several machines", "Running"


def prep(
    ctx: typer.Context,
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Folders (recursive), files and globs.")],
    output: Annotated[Path | None, setting(PrepSettings, "output", "--output", "-o")] = None,
    size: Annotated[int | None, setting(PrepSettings, "size", panel=CLIPS)] = None,
    aspect: Annotated[str | None, setting(PrepSettings, "aspect", panel=CLIPS)] = None,
    frames: Annotated[int | None, setting(PrepSettings, "frames", panel=CLIPS)] = None,
    fps: Annotated[str | None, setting(PrepSettings, "fps", panel=CLIPS)] = None,
    stride: Annotated[int | None, setting(PrepSettings, "stride", panel=CLIPS)] = None,
    clips_per_source: Annotated[int | None, setting(PrepSettings, "clips_per_source", panel=CLIPS)] = None,
    images: Annotated[str | None, setting(PrepSettings, "images", panel=CLIPS)] = None,
    images_fps: Annotated[str | None, setting(PrepSettings, "images_fps", panel=CLIPS)] = None,
    captions: Annotated[list[str] | None, setting(PrepSettings, "captions", panel=CAPTIONS)] = None,
    caption_format: Annotated[str | None, setting(PrepSettings, "caption_format", panel=CAPTIONS)] = None,
    scenes: Annotated[bool | None, setting(PrepSettings, "scenes", "--scenes/--no-scenes", panel=FILTERS)] = None,
    min_motion: Annotated[float | None, setting(PrepSettings, "min_motion", panel=FILTERS)] = None,
    min_contrast: Annotated[float | None, setting(PrepSettings, "min_contrast", panel=FILTERS)] = None,
    min_difference: Annotated[int | None, setting(PrepSettings, "min_difference", panel=FILTERS)] = None,
    val_fraction: Annotated[float | None, setting(PrepSettings, "val_fraction", panel=SPLIT)] = None,
    split_by: Annotated[str | None, setting(PrepSettings, "split_by", panel=SPLIT)] = None,
    seed: Annotated[int | None, setting(PrepSettings, "seed", panel=SPLIT)] = None,
    hold_out: Annotated[list[str] | None, setting(PrepSettings, "hold_out", panel=SPLIT)] = None,
    shard: Annotated[str | None, setting(PrepSettings, "shard", panel=PARTS)] = None,
    merge: Annotated[bool | None, setting(PrepSettings, "merge", "--merge", panel=PARTS)] = None,
    decoder: Annotated[str | None, setting(PrepSettings, "decoder", panel=RUN)] = None,
    workers: Annotated[int | None, setting(PrepSettings, "workers", panel=RUN)] = None,
    timeout: Annotated[float | None, setting(PrepSettings, "timeout", panel=RUN)] = None,
    memory: Annotated[int | None, setting(PrepSettings, "memory", panel=RUN)] = None,
    strict: Annotated[bool | None, setting(PrepSettings, "strict", "--strict", panel=RUN)] = None,
    preview: Annotated[int | None, setting(PrepSettings, "preview", panel=RUN)] = None,
    config: ConfigFiles = None,
    sets: Sets = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Makes a dataset of videos and images.

    Example: vidiff prep videos/ -o dataset --size 64 --frames 16
    """
    settings = settings_from(ctx, PrepSettings)
    from vidiff_cli.commands.prep import prep as task

    with errors_as_sentences(verbose):
        report = follow(task.events(settings), quiet=quiet, verbose=verbose)
    if not quiet:
        _show(report)
    print_json(report) if as_json else print_paths(report.folder)


def _show(report: PrepReport) -> None:
    """The closing table, on stderr."""
    from rich.table import Table

    speed = report.seconds_of_video / report.elapsed_seconds if report.elapsed_seconds > 0 else 0.0
    time = f"{report.elapsed_seconds:.1f} s" + ("" if report.already_complete else f", {speed:.0f}x real time")
    sides = ", ".join(f"{n} {side}" for side, n in report.clips_per_split.items())
    rows = [
        ("sources", f"{report.sources}" + (f" ({report.resumed} finished before)" if report.resumed else "")),
        ("kept", f"{report.kept}"),
        *((f"rejected: {reason}", f"{count}") for reason, count in report.rejected.items()),
        ("other files", f"{report.other_files}"),
    ]
    if report.shard is None or report.already_complete:
        sizes = ", ".join(f"{count} of {size}" for size, count in report.buckets.items())
        rows += [
            ("clips", f"{report.clips} ({sides})"),
            *([("sizes", sizes)] if len(report.buckets) > 1 else []),
            *((f"clips left out: {reason}", f"{count}") for reason, count in report.filtered.items()),
            ("captions", f"{report.captions_matched} matched, {report.captions_missing} missing"),
            *((MISSING[kind], f"{count}") for kind, count in report.missing.items() if kind in MISSING),
            ("size", f"{report.megabytes:.1f} MB"),
        ]
    rows += [("seconds of video", f"{report.seconds_of_video:.1f}"), ("time", time)]
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column()
    for name, value in rows:
        table.add_row(name, value)
    stderr().print(table)
