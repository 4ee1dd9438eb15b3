"""`vidiff train`: a dataset to a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidiff_cli.cli.console import errors_as_sentences, follow, print_json, print_paths, print_rows
from vidiff_cli.cli.options import (
    OUTPUT,
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
from vidiff_cli.config.model import suits
from vidiff_cli.config.train import TrainSettings, preset

RUN, MODEL, WATCH = "Running", "Model", "Watching"


def train(
    ctx: typer.Context,
    dataset: Annotated[
        Path | None,
        typer.Argument(
            metavar="DATASET", help="A folder made by vidiff prep, world:shapes or world:films.", readable=False
        ),
    ] = None,
    output: Annotated[Path | None, setting(TrainSettings, "output", "--output", "-o")] = None,
    preset_name: Annotated[str | None, setting(TrainSettings, "preset", "--preset", panel=MODEL)] = None,
    frames: Annotated[int | None, setting(TrainSettings, "frames", panel=MODEL)] = None,
    conditioning: Annotated[str | None, setting(TrainSettings, "conditioning", panel=MODEL)] = None,
    motion: Annotated[bool | None, setting(TrainSettings, "motion", "--motion/--no-motion", panel=MODEL)] = None,
    text__kind: Annotated[str | None, setting(TrainSettings, "text.kind", "--text", panel=MODEL)] = None,
    text__clip_model: Annotated[
        str | None, setting(TrainSettings, "text.clip_model", "--clip-model", panel=MODEL)
    ] = None,
    diffusion__target: Annotated[str | None, setting(TrainSettings, "diffusion.target", panel=MODEL)] = None,
    diffusion__weighting: Annotated[str | None, setting(TrainSettings, "diffusion.weighting", panel=MODEL)] = None,
    objective__flow_loss: Annotated[float | None, setting(TrainSettings, "objective.flow_loss", panel=MODEL)] = None,
    objective__perceptual_loss: Annotated[
        float | None, setting(TrainSettings, "objective.perceptual_loss", panel=MODEL)
    ] = None,
    diffusion__noise: Annotated[str | None, setting(TrainSettings, "diffusion.noise", panel=MODEL)] = None,
    objective__image_fraction: Annotated[
        float | None, setting(TrainSettings, "objective.image_fraction", panel=MODEL)
    ] = None,
    steps: Annotated[int | None, setting(TrainSettings, "steps", panel=RUN)] = None,
    batch_size: Annotated[str | None, setting(TrainSettings, "batch_size", panel=RUN)] = None,
    accumulate: Annotated[int | None, setting(TrainSettings, "grad_accum_steps", panel=RUN)] = None,
    gradient_checkpointing: Annotated[str | None, setting(TrainSettings, "gradient_checkpointing", panel=RUN)] = None,
    compile: Annotated[bool | None, setting(TrainSettings, "compile", "--compile/--no-compile", panel=RUN)] = None,
    optimizer__lr: Annotated[float | None, setting(TrainSettings, "optimizer.lr", panel=RUN)] = None,
    precision: Annotated[str | None, setting(TrainSettings, "precision", panel=RUN)] = None,
    parallel: Annotated[str | None, setting(TrainSettings, "parallel", panel=RUN)] = None,
    resume: Annotated[str | None, setting(TrainSettings, "resume", panel=RUN)] = None,
    start_from: Annotated[Path | None, setting(TrainSettings, "start_from", "--from", panel=RUN)] = None,
    checkpoint_every: Annotated[int | None, setting(TrainSettings, "checkpoint_every", panel=WATCH)] = None,
    keep: Annotated[int | None, setting(TrainSettings, "keep", panel=WATCH)] = None,
    sample_every: Annotated[int | None, setting(TrainSettings, "sample_every", panel=WATCH)] = None,
    prompts: Annotated[Path | None, setting(TrainSettings, "prompts", panel=WATCH)] = None,
    validate_every: Annotated[int | None, setting(TrainSettings, "validate_every", panel=WATCH)] = None,
    track: Annotated[str | None, setting(TrainSettings, "track", panel=WATCH)] = None,
    seed: Annotated[int | None, setting(TrainSettings, "seed", panel=REPRODUCE)] = None,
    device: Device = None,
    config: ConfigFiles = None,
    sets: Sets = None,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan", help="Print what the training will need, from a few real steps.", rich_help_panel=OUTPUT
        ),
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train a model on a dataset, or go on with an unfinished run.

    Example: vidiff train dataset --steps 2000
    """
    asked = settings_from(ctx, TrainSettings, under=preset(preset_name) if preset_name else None)
    from vidiff_cli.commands.train import train as task
    from vidiff_cli.runs.setup import default_preset

    with errors_as_sentences(verbose):
        name = preset_name or asked.preset or default_preset(asked)
        under = preset(name)
        if asked.start_from is not None and not (preset_name or asked.preset):
            from vidiff_cli.runs.finetune import inherited

            under = under | inherited(asked.start_from, None if asked.overwrite else asked.output)
        settings = settings_from(ctx, TrainSettings, under=under, preset=name)
        chosen = settings.diffusion
        if not suits(chosen.weighting, chosen.target):  # that of a preset for another target: what is given still wins
            under = under | {"diffusion": under.get("diffusion", {}) | {"weighting": chosen.target}}
            settings = settings_from(ctx, TrainSettings, under=under, preset=name)
        if dry_run:
            print_json(settings)
            return
        if plan:
            from vidiff_cli.commands.estimate import as_rows
            from vidiff_cli.commands.estimate import estimate_cost as planned

            found = follow(planned.events(settings), quiet=quiet, verbose=verbose)
            print_json(found) if as_json else print_rows(as_rows(found))
            return
        report = follow(task.events(settings), quiet=quiet, verbose=verbose)
    if report is not None:  # of several processes, the first one has it
        print_json(report) if as_json else print_paths(report.run)
