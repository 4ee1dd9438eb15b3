"""`vidiff interpolate`: the frames between."""

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
from vidiff_cli.config.generate import InterpolateSettings


def interpolate(
    ctx: typer.Context,
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="IN",
            help="Videos, or folders with videos in them; with --to one video or photo.",
            readable=False,
        ),
    ] = None,
    output: common.Out = None,
    model: common.Model = None,
    clip_model: common.ClipModel = None,
    fps: Annotated[str | None, setting(InterpolateSettings, "fps", panel=common.VIDEO)] = None,
    factor: Annotated[int | None, setting(InterpolateSettings, "factor", panel=common.VIDEO)] = None,
    slow_motion: Annotated[int | None, setting(InterpolateSettings, "slow_motion", panel=common.VIDEO)] = None,
    hold: Annotated[bool | None, setting(InterpolateSettings, "hold", "--hold/--no-hold", panel=common.VIDEO)] = None,
    to: Annotated[Path | None, setting(InterpolateSettings, "to", panel=common.VIDEO)] = None,
    gap: Annotated[int | None, setting(InterpolateSettings, "gap", panel=common.VIDEO)] = None,
    prompt: Annotated[str | None, setting(InterpolateSettings, "prompt", panel=common.VIDEO)] = None,
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
    """Bring a video to a higher frame rate (twice its own, if none is given) by making the frames between, or join two;
    the given frames stay. Of several inputs, each is interpolated by itself.

    Example: vidiff interpolate in.mp4 --fps 24 -o smooth.mp4
    For many: vidiff interpolate films/ -o smooth/
    """
    extra = {"input": sources[0]} if sources else {}
    settings = settings_from(ctx, InterpolateSettings, under=common.recorded(from_json, "interpolate"), **extra)
    from vidiff_cli.commands.interpolate import InterpolateReport
    from vidiff_cli.commands.interpolate import interpolate as task

    inputs = sources or [settings.input]
    if common.are_many(inputs):
        return common.make_many(task, settings, inputs, as_json=as_json, quiet=quiet, verbose=verbose)

    with errors_as_sentences(verbose):
        report = follow(task.events(settings), quiet=quiet, verbose=verbose)
    if not quiet and isinstance(report, InterpolateReport):
        held = f", {report.held} held" if report.held else ""
        counts = f"{report.given} given, {report.made} made ({report.condition}){held}"
        stderr().print(f"{report.frames} frames at {report.fps} fps: {counts}.")
        common.print_difference(report.given, report.given_difference)
    print_json(report) if as_json else print_paths(report.path)
