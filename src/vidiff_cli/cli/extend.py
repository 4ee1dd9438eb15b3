"""`vidiff extend`: more of a video, or a video from a photo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidiff_cli.cli.generation import FromJson, follow_films, note_difference, read_settings
from vidiff_cli.cli.options import Invocation, options
from vidiff_cli.config.generate import ExtendSettings


@options(ExtendSettings)
def extend(
    call: Invocation,
    sources: Annotated[
        list[Path] | None,
        typer.Argument(metavar="IN", help="Videos, photos, or folders of videos.", readable=False),
    ] = None,
    from_json: FromJson = None,
) -> None:
    """Extend a video, or bring a photo to life; the given frames stay. Of several inputs, each is extended by itself.

    Example: vidiff extend in.mp4 --seconds 2 -o longer.mp4
    For many: vidiff extend films/ --seconds 2 -o longer/
    """
    extra = {"input": sources[0]} if sources else {}
    settings = call.settings(ExtendSettings, under=read_settings(from_json, "extend"), **extra)
    from vidiff_cli.commands.extend import extend as task
    from vidiff_cli.generation.complete_video import CompletionReport

    report = follow_films(call, task, settings, sources or [settings.input])
    if report is None:
        return
    if isinstance(report, CompletionReport):
        jump = "" if report.seam_jump is None else f", seam jump {' '.join(map('{:.2f}'.format, report.seam_jump))}"
        call.note(f"Frames: {report.given} given, {report.made} made ({report.condition}){jump}.")
        for line in report.drift.lines() if report.drift else ():
            call.note(line)
        note_difference(call, report.given, report.given_difference)
    call.print(report, *([report.path] if report.path else []))
