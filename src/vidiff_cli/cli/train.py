"""`vidiff train`: a dataset to a model."""

from __future__ import annotations

from typing import Annotated

import typer

from vidiff_cli.cli.console import print_json, print_rows
from vidiff_cli.cli.options import OUTPUT, DryRun, Invocation, options
from vidiff_cli.config.model import suits
from vidiff_cli.config.train import TrainSettings, preset


@options(TrainSettings)
def train(
    call: Invocation,
    dry_run: DryRun = False,
    estimate: Annotated[
        bool,
        typer.Option(
            "--estimate",
            metavar="",
            help="Measure a step; print the parameters, memory, disk and time the training needs; write nothing.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
) -> None:
    """Train a model on a dataset, or continue an unfinished run.

    Example: vidiff train dataset --steps 2000
    """
    settings = _settings(call)
    if dry_run:
        print_json(settings)
    elif estimate:
        from vidiff_cli.commands.estimate import as_rows, estimate_cost

        found = call.follow(estimate_cost.events(settings))
        print_json(found) if call.as_json else print_rows(as_rows(found))
    else:
        from vidiff_cli.commands.train import train as task

        report = call.follow(task.events(settings))
        if report is not None:  # of several processes, the first one has it
            call.print(report, report.run)


def _settings(call: Invocation) -> TrainSettings:
    """The settings as typed, over those of the preset and, with --from, of the model that the run starts from."""
    from vidiff_cli.runs.public_finetune import finetunes_public, finetuning_preset
    from vidiff_cli.runs.setup import default_preset

    name = call.context.params["preset"]
    asked = call.settings(TrainSettings, under=preset(name) if name else None)
    if finetunes_public(asked):
        name = finetuning_preset(asked)
        settings = call.settings(TrainSettings, under=preset(name), preset=name)
        finetunes_public(settings)
        return settings
    name = asked.preset or default_preset(asked)
    under = preset(name)
    if asked.start_from is not None:
        from vidiff_cli.runs.finetune import check_preset, inherited

        of_model = under | inherited(asked.start_from, None if asked.overwrite else asked.output)
        if asked.preset:
            check_preset(asked, call.settings(TrainSettings, under=of_model, preset=name))
        else:
            under = of_model
    settings = call.settings(TrainSettings, under=under, preset=name)
    chosen = settings.diffusion
    if not suits(chosen.weighting, chosen.target):  # the preset's, for another target: what was given still wins
        under = under | {"diffusion": under.get("diffusion", {}) | {"weighting": chosen.target}}
        settings = call.settings(TrainSettings, under=under, preset=name)
    return settings
