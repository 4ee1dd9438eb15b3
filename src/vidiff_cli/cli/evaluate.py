"""`vidiff evaluate`: measures of generated videos."""

from __future__ import annotations

from vidiff_cli.cli.console import print_json, print_rows
from vidiff_cli.cli.options import Invocation, options
from vidiff_cli.config.evaluate import EvaluateSettings


@options(EvaluateSettings)
def evaluate(call: Invocation) -> None:
    """Measure videos: those of a folder, or those that a run makes from its held-out captions.

    Example: vidiff evaluate runs/dataset-tiny
    """
    settings = call.settings(EvaluateSettings)
    from vidiff_cli.commands.evaluate import evaluate as task
    from vidiff_cli.commands.evaluate import table_rows

    report = call.follow(task.events(settings))
    if report is None:  # of several processes, the first one has it
        return
    print_json(report) if call.as_json else print_rows(table_rows(report))
