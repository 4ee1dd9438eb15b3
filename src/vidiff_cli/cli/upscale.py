"""`vidiff upscale`: a larger video."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidiff_cli.cli.generation import FromJson, follow_films, read_settings
from vidiff_cli.cli.options import Invocation, options
from vidiff_cli.config.upscale import UpscaleSettings


@options(UpscaleSettings)
def upscale(
    call: Invocation,
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="IN", help="Videos or folders of videos; a photo, or a folder of numbered images.", readable=False
        ),
    ] = None,
    from_json: FromJson = None,
) -> None:
    """Make a video larger, by a model of super-resolution; rate and sound stay. Of several inputs, each is upscaled by
    itself.

    Example: vidiff upscale in.mp4 --scale 2 -o large.mp4
    For many: vidiff upscale films/ --size 720 -o large/
    """
    extra = {"input": sources[0]} if sources else {}
    settings = call.settings(UpscaleSettings, under=read_settings(from_json, "upscale"), **extra)
    from vidiff_cli.commands.upscale import upscale as task
    from vidiff_cli.generation.upscale_video import UpscaleReport

    report = follow_films(call, task, settings, sources or [settings.input])
    if report is None:
        return
    if isinstance(report, UpscaleReport):
        size = f"{report.width}x{report.height}"
        made = f"{report.frames} frames of {size} at {report.fps} fps" if report.frames > 1 else f"1 frame of {size}"
        call.note(f"{made}, in {report.seconds:.1f} s.")
    call.print(report, *([report.path] if report.path else []))
