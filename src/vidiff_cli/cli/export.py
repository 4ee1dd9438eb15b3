"""`vidiff export`: a dataset as a folder of videos for other tools."""

from __future__ import annotations

from vidiff_cli.cli.options import Invocation, options
from vidiff_cli.config.export import ExportSettings


@options(ExportSettings)
def export(call: Invocation) -> None:
    """Write a dataset as a Hugging Face videofolder: a video per clip, and metadata.jsonl with the captions.

    Example: vidiff export dataset -o videos
    """
    settings = call.settings(ExportSettings)
    from vidiff_cli.commands.export import export as task

    report = call.follow(task.events(settings))
    call.print(report, report.folder)
