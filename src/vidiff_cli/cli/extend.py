"""`vidiff extend`: more of a video, or a video from a photo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidiff_cli.cli import generation as common
from vidiff_cli.cli.console import errors_as_sentences, follow, print_json, print_paths, stderr
from vidiff_cli.cli.options import (
    AsJson,
    ConfigFiles,
    Device,
    Dtype,
    Overwrite,
    Quiet,
    Seed,
    Sets,
    Verbose,
    setting,
    settings_from,
)
from vidiff_cli.config.generate import ExtendSettings

VIDEO = "Video"


def extend(
    ctx: typer.Context,
    source: Annotated[Path | None, typer.Argument(metavar="IN", help="A video or a photo.", readable=False)] = None,
    output: common.Out = None,
    model: common.Model = None,
    clip_model: common.ClipModel = None,
    seconds: Annotated[float | None, setting(ExtendSettings, "seconds", panel=VIDEO)] = None,
    num_frames: Annotated[int | None, setting(ExtendSettings, "num_frames", panel=VIDEO)] = None,
    prompt: Annotated[list[str] | None, setting(ExtendSettings, "prompt", panel=VIDEO)] = None,
    before: Annotated[bool | None, setting(ExtendSettings, "before", "--before", panel=VIDEO)] = None,
    fps: Annotated[str | None, setting(ExtendSettings, "fps", panel=VIDEO)] = None,
    overlap: Annotated[int | None, setting(ExtendSettings, "overlap", panel=VIDEO)] = None,
    scheme: Annotated[str | None, setting(ExtendSettings, "scheme", panel=VIDEO)] = None,
    condition: common.ConditionName = None,
    reconstruction_weight: common.Weight = None,
    context_noise: common.ContextNoise = None,
    guidance_scale: common.Scale = None,
    negative_prompt: common.Negative = None,
    steps: common.Steps = None,
    sampler: common.SamplerName = None,
    langevin: common.Langevin = None,
    threshold: common.Threshold = None,
    lossless: common.Lossless = None,
    sidecar: common.Sidecar = None,
    compare: common.Compare = None,
    from_json: common.FromJson = None,
    seed: Seed = None,
    device: Device = None,
    dtype: Dtype = None,
    config: ConfigFiles = None,
    sets: Sets = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Extend a video, or bring a photo to life; the given frames stay.

    Example: vidiff extend in.mp4 --seconds 2 -o longer.mp4
    """
    extra = {} if source is None else {"input": source}
    settings = settings_from(ctx, ExtendSettings, under=common.recorded(from_json, "extend"), **extra)
    from vidiff_cli.tasks.extend import extend as task

    with errors_as_sentences(verbose):
        report = follow(task.steps(settings), quiet=quiet, verbose=verbose)
    if not quiet:
        jump = (
            "" if report.seam_jump is None else f", seam jump {' '.join(f'{value:.2f}' for value in report.seam_jump)}"
        )
        drift = " ".join(f"{value:+.1f}" for value in report.drift)
        stderr().print(f"Frames: {report.given} given, {report.made} made ({report.condition}){jump}, drift {drift}.")
    print_json(report) if as_json else print_paths(report.path)
