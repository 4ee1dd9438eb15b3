"""`vidiff sample`: videos from prompts."""

from __future__ import annotations

from vidiff_cli.cli.generation import FromJson, read_settings
from vidiff_cli.cli.options import Invocation, options
from vidiff_cli.config.generate import SampleSettings


@options(SampleSettings)
def sample(call: Invocation, from_json: FromJson = None) -> None:
    """Make videos from prompts.

    Example: vidiff sample "a small red square moving right slowly" -o out.mp4
    """
    settings = call.settings(SampleSettings, under=read_settings(from_json, "sample"))
    from vidiff_cli.commands.sample import sample as task

    report = call.follow(task.events(settings))
    if call.is_main:
        call.print(report, *report.paths)
