"""`vidiff train`: a dataset to a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidiff_cli.cli.console import errors_as_sentences, follow, print_json, print_paths
from vidiff_cli.cli.options import (
    REPRODUCE,
    AsJson,
    ConfigFiles,
    Device,
    DryRun,
    Overwrite,
    Quiet,
    Sets,
    Verbose,
    setting,
    settings_from,
)
from vidiff_cli.config.train import TrainSettings, preset

RUN, MODEL, WATCH = "Running", "Model", "Watching"


def train(
    ctx: typer.Context,
    dataset: Annotated[
        Path | None, typer.Argument(metavar="DATASET", help="A folder made by vidiff prep.", readable=False)
    ] = None,
    output: Annotated[Path | None, setting(TrainSettings, "output", "--output", "-o")] = None,
    preset_name: Annotated[str | None, setting(TrainSettings, "preset", "--preset", panel=MODEL)] = None,
    frames: Annotated[int | None, setting(TrainSettings, "frames", panel=MODEL)] = None,
    conditioning: Annotated[str | None, setting(TrainSettings, "conditioning", panel=MODEL)] = None,
    text__kind: Annotated[str | None, setting(TrainSettings, "text.kind", "--text", panel=MODEL)] = None,
    text__clip_model: Annotated[
        str | None, setting(TrainSettings, "text.clip_model", "--clip-model", panel=MODEL)
    ] = None,
    diffusion__target: Annotated[str | None, setting(TrainSettings, "diffusion.target", panel=MODEL)] = None,
    diffusion__weighting: Annotated[str | None, setting(TrainSettings, "diffusion.weighting", panel=MODEL)] = None,
    steps: Annotated[int | None, setting(TrainSettings, "steps", panel=RUN)] = None,
    batch_size: Annotated[int | None, setting(TrainSettings, "batch_size", panel=RUN)] = None,
    optimiser__lr: Annotated[float | None, setting(TrainSettings, "optimiser.lr", panel=RUN)] = None,
    precision: Annotated[str | None, setting(TrainSettings, "precision", panel=RUN)] = None,
    resume: Annotated[str | None, setting(TrainSettings, "resume", panel=RUN)] = None,
    checkpoint_every: Annotated[int | None, setting(TrainSettings, "checkpoint_every", panel=WATCH)] = None,
    keep: Annotated[int | None, setting(TrainSettings, "keep", panel=WATCH)] = None,
    sample_every: Annotated[int | None, setting(TrainSettings, "sample_every", panel=WATCH)] = None,
    seed: Annotated[int | None, setting(TrainSettings, "seed", panel=REPRODUCE)] = None,
    device: Device = None,
    config: ConfigFiles = None,
    sets: Sets = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train a model on a dataset, or go on with an unfinished run.

    Example: vidiff train dataset --steps 2000
    """
    asked = settings_from(ctx, TrainSettings)
    from vidiff_cli.tasks.train import default_preset
    from vidiff_cli.tasks.train import train as task

    with errors_as_sentences(verbose):
        name = preset_name or asked.preset or default_preset(asked.dataset, asked.device)
        settings = settings_from(ctx, TrainSettings, under=preset(name), preset=name)
        if dry_run:
            print_json(settings)
            return
        report = follow(task.steps(settings), quiet=quiet, verbose=verbose)
    print_json(report) if as_json else print_paths(report.run)
