"""`vidiff cascade`: a model and the stages that follow it as one model."""

from __future__ import annotations

from vidiff_cli.cli.options import Invocation, options
from vidiff_cli.config.cascade import CascadeSettings


@options(CascadeSettings)
def cascade(call: Invocation) -> None:
    """Write a model and the stages that follow it as one model: a folder for --model. vidiff sample takes all of it,
    extend and interpolate all but a stage of the frames between (a film keeps its rate), evaluate its base; its base
    alone is FOLDER/ema.safetensors.

    Example: vidiff cascade runs/base runs/large -o runs/all
    """
    settings = call.settings(CascadeSettings)
    from vidiff_cli.commands.cascade import cascade as task

    report = call.follow(task.events(settings))
    call.note(f"Videos of {report.width}x{report.height} in {len(report.stages) + 1} stages.")
    call.print(report, report.folder)
