"""`vidiff evaluate`: how good generated videos are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidiff_cli.cli.console import errors_as_sentences, follow, print_json, print_rows
from vidiff_cli.cli.options import (
    OUTPUT,
    REPRODUCE,
    AsJson,
    ConfigFiles,
    Device,
    Overwrite,
    Quiet,
    Sets,
    Verbose,
    setting,
    settings_from,
)
from vidiff_cli.config.evaluate import EvaluateSettings

WHAT, HOW, RUN = "What is compared", "What is measured", "Of a run"


def evaluate(
    ctx: typer.Context,
    real: Annotated[
        Path, typer.Argument(metavar="REAL", help="Videos or a dataset; alone, a run to evaluate.", readable=False)
    ],
    generated: Annotated[
        Path | None,
        typer.Argument(metavar="GENERATED", help="Videos, a dataset, or a run to sample from.", readable=False),
    ] = None,
    output: Annotated[Path | None, setting(EvaluateSettings, "output", "--output", "-o", panel=OUTPUT)] = None,
    num_frames: Annotated[
        int | None, setting(EvaluateSettings, "num_frames", "--num-frames", "--frames", panel=WHAT)
    ] = None,
    size: Annotated[str | None, setting(EvaluateSettings, "size", panel=WHAT)] = None,
    fps: Annotated[str | None, setting(EvaluateSettings, "fps", panel=WHAT)] = None,
    count: Annotated[int | None, setting(EvaluateSettings, "count", "--count", "-n", panel=WHAT)] = None,
    side: Annotated[str | None, setting(EvaluateSettings, "side", panel=WHAT)] = None,
    given: Annotated[str | None, setting(EvaluateSettings, "given", panel=WHAT)] = None,
    paired: Annotated[bool | None, setting(EvaluateSettings, "paired", "--paired/--no-paired", panel=WHAT)] = None,
    extractors: Annotated[list[str] | None, setting(EvaluateSettings, "extractors", "--extractor", panel=HOW)] = None,
    expect: Annotated[list[str] | None, setting(EvaluateSettings, "expect", "--expect", panel=HOW)] = None,
    temporal: Annotated[
        bool | None, setting(EvaluateSettings, "temporal", "--temporal/--no-temporal", panel=HOW)
    ] = None,
    clip: Annotated[bool | None, setting(EvaluateSettings, "clip", "--clip/--no-clip", panel=HOW)] = None,
    clip_model: Annotated[str | None, setting(EvaluateSettings, "clip_model", panel=HOW)] = None,
    bootstrap: Annotated[int | None, setting(EvaluateSettings, "bootstrap", panel=HOW)] = None,
    dataset: Annotated[Path | None, setting(EvaluateSettings, "dataset", panel=RUN)] = None,
    sampling__steps: Annotated[int | None, setting(EvaluateSettings, "sampling.steps", panel=RUN)] = None,
    sampling__sampler: Annotated[str | None, setting(EvaluateSettings, "sampling.sampler", panel=RUN)] = None,
    sampling__guidance_scale: Annotated[
        float | None, setting(EvaluateSettings, "sampling.guidance_scale", "--guidance-scale", "-g", panel=RUN)
    ] = None,
    sampling__dtype: Annotated[str | None, setting(EvaluateSettings, "sampling.dtype", panel=RUN)] = None,
    seed: Annotated[int | None, setting(EvaluateSettings, "seed", panel=REPRODUCE)] = None,
    device: Device = None,
    config: ConfigFiles = None,
    sets: Sets = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Tell in numbers how good videos are: those of a folder, or what a run makes of its held-out captions.

    Example: vidiff evaluate runs/dataset-tiny
    """
    settings = settings_from(ctx, EvaluateSettings)
    from vidiff_cli.commands.evaluate import evaluate as task
    from vidiff_cli.commands.evaluate import table_rows

    with errors_as_sentences(verbose):
        report = follow(task.events(settings), quiet=quiet, verbose=verbose)
    print_json(report) if as_json else print_rows(table_rows(report))
