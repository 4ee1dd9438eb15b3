"""`vidiff distill`: a run to a model of fewer passes."""

from __future__ import annotations

from vidiff_cli.cli.options import Invocation, options
from vidiff_cli.config.distill import DistillSettings


@options(DistillSettings)
def distill(call: Invocation) -> None:
    """Distill a run: guidance into the weights, and fewer steps, for a model of one pass a step.

    Example: vidiff distill runs/dataset-tiny --steps 4
    """
    settings = call.settings(DistillSettings)
    from vidiff_cli.commands.distill import distill as task

    report = call.follow(task.events(settings))
    if report is not None:  # of several processes, the first one has it
        call.print(report, report.run)
