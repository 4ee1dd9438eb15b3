"""`vidiff interpolate`: the frames between."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidiff_cli.cli.generation import FromJson, follow_films, note_difference, read_settings
from vidiff_cli.cli.options import Invocation, options
from vidiff_cli.config.generate import InterpolateSettings


@options(InterpolateSettings)
def interpolate(
    call: Invocation,
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="IN", help="Videos, or folders of videos; with --to one video or photo.", readable=False
        ),
    ] = None,
    from_json: FromJson = None,
) -> None:
    """Bring a video to a higher frame rate (twice its own, if none is given) by making the frames between, or join two;
    the given frames stay. Of several inputs, each is interpolated by itself.

    Example: vidiff interpolate in.mp4 --fps 24 -o smooth.mp4
    For many: vidiff interpolate films/ -o smooth/
    """
    extra = {"input": sources[0]} if sources else {}
    settings = call.settings(InterpolateSettings, under=read_settings(from_json, "interpolate"), **extra)
    from vidiff_cli.commands.interpolate import interpolate as task
    from vidiff_cli.generation.complete_video import CompletionReport

    report = follow_films(call, task, settings, sources or [settings.input])
    if report is None:
        return
    if isinstance(report, CompletionReport):
        held = f", {report.held} held" if report.held else ""
        counts = f"{report.given} given, {report.made} made ({report.condition}){held}"
        call.note(f"{report.frames} frames at {report.fps} fps: {counts}.")
        if report.flicker:
            call.note(f"made against given: {report.flicker.line()}")
        note_difference(call, report.given, report.given_difference)
    call.print(report, *([report.path] if report.path else []))
