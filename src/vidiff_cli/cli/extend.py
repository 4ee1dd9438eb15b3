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


def extend(
    ctx: typer.Context,
    sources: Annotated[
        list[Path] | None,
        typer.Argument(metavar="IN", help="Videos, photos, or folders with videos in them.", readable=False),
    ] = None,
    output: common.Out = None,
    model: common.Model = None,
    clip_model: common.ClipModel = None,
    seconds: Annotated[float | None, setting(ExtendSettings, "seconds", panel=common.VIDEO)] = None,
    num_frames: Annotated[int | None, setting(ExtendSettings, "num_frames", panel=common.VIDEO)] = None,
    prompt: Annotated[list[str] | None, setting(ExtendSettings, "prompt", panel=common.VIDEO)] = None,
    before: Annotated[bool | None, setting(ExtendSettings, "before", "--before", panel=common.VIDEO)] = None,
    loop: Annotated[bool | None, setting(ExtendSettings, "loop", "--loop", panel=common.VIDEO)] = None,
    drift_control: Annotated[str | None, setting(ExtendSettings, "drift_control", panel=common.VIDEO)] = None,
    fps: Annotated[str | None, setting(ExtendSettings, "fps", panel=common.VIDEO)] = None,
    overlap: Annotated[int | None, setting(ExtendSettings, "overlap", panel=common.VIDEO)] = None,
    scheme: Annotated[str | None, setting(ExtendSettings, "scheme", panel=common.VIDEO)] = None,
    size: common.Size = None,
    detail: common.Detail = None,
    audio: common.Sound = None,
    scenes: common.Scenes = None,
    dry_run: common.DryRun = None,
    condition: common.ConditionName = None,
    reconstruction_weight: common.Weight = None,
    reconstruction_schedule: common.Schedule = None,
    gradient_checkpointing: common.Checkpointing = None,
    context_noise: common.ContextNoise = None,
    guidance_scale: common.Scale = None,
    negative_prompt: common.Negative = None,
    steps: common.Steps = None,
    samples: common.Samples = None,
    sampler: common.SamplerName = None,
    langevin: common.Langevin = None,
    start_noise: common.StartNoise = None,
    freeinit: common.FreeInit = None,
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
    jobs: common.Jobs = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Extend a video, or bring a photo to life; the given frames stay. Of several inputs, each is extended by itself.

    Example: vidiff extend in.mp4 --seconds 2 -o longer.mp4
    For many: vidiff extend films/ --seconds 2 -o longer/
    """
    extra = {"input": sources[0]} if sources else {}
    settings = settings_from(ctx, ExtendSettings, under=common.recorded(from_json, "extend"), **extra)
    from vidiff_cli.commands.extend import ExtendReport
    from vidiff_cli.commands.extend import extend as task

    inputs = sources or [settings.input]
    if common.are_many(inputs):
        return common.make_many(task, settings, inputs, as_json=as_json, quiet=quiet, verbose=verbose)

    with errors_as_sentences(verbose):
        report = follow(task.events(settings), quiet=quiet, verbose=verbose)
    if not quiet and isinstance(report, ExtendReport):
        jump = "" if report.seam_jump is None else f", seam jump {' '.join(map('{:.2f}'.format, report.seam_jump))}"
        stderr().print(f"Frames: {report.given} given, {report.made} made ({report.condition}){jump}.")
        for line in report.drift.lines() if report.drift else ():
            stderr().print(line)
        common.print_difference(report.given, report.given_difference)
    print_json(report) if as_json else print_paths(report.path)
