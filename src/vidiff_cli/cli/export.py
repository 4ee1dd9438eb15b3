"""`vidiff export`: a dataset as a folder of videos for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidiff_cli.cli.console import errors_as_sentences, follow, print_json, print_paths
from vidiff_cli.cli.options import (
    OUTPUT,
    AsJson,
    ConfigFiles,
    Overwrite,
    Quiet,
    Sets,
    Verbose,
    setting,
    settings_from,
)
from vidiff_cli.config.export import ExportSettings


def export(
    ctx: typer.Context,
    output: Annotated[Path, setting(ExportSettings, "output", "--output", "-o")],
    dataset: Annotated[
        Path | None, typer.Argument(metavar="DATASET", help="A folder made by vidiff prep.", readable=False)
    ] = None,
    lossless: Annotated[bool | None, setting(ExportSettings, "lossless", "--lossless", panel=OUTPUT)] = None,
    crf: Annotated[int | None, setting(ExportSettings, "crf", panel=OUTPUT)] = None,
    config: ConfigFiles = None,
    sets: Sets = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Writes a dataset as a Hugging Face videofolder: a video per clip, and metadata.jsonl with the captions.

    Example: vidiff export dataset -o videos
    """
    settings = settings_from(ctx, ExportSettings)
    from vidiff_cli.commands.export import export as task

    with errors_as_sentences(verbose):
        report = follow(task.events(settings), quiet=quiet, verbose=verbose)
    print_json(report) if as_json else print_paths(report.folder)
