"""`vidiff sample`: videos from prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidiff_cli.cli import generation as common
from vidiff_cli.cli.console import errors_as_sentences, follow, print_json, print_paths
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
from vidiff_cli.config.generate import SampleSettings


def sample(
    ctx: typer.Context,
    prompts: Annotated[list[str] | None, typer.Argument(metavar="PROMPT", help="What to show.")] = None,
    output: common.Out = None,
    model: common.Model = None,
    clip_model: common.ClipModel = None,
    count: Annotated[int | None, setting(SampleSettings, "count", "--count", "-n", panel=common.VIDEO)] = None,
    num_frames: Annotated[int | None, setting(SampleSettings, "num_frames", panel=common.VIDEO)] = None,
    fps: Annotated[str | None, setting(SampleSettings, "fps", panel=common.VIDEO)] = None,
    noise: Annotated[str | None, setting(SampleSettings, "noise", panel=common.VIDEO)] = None,
    overlap: Annotated[int | None, setting(SampleSettings, "overlap", panel=common.VIDEO)] = None,
    prompts_file: Annotated[
        Path | None, setting(SampleSettings, "prompts_file", "--prompts", panel=common.VIDEO)
    ] = None,
    strict_prompt: Annotated[
        bool | None, setting(SampleSettings, "strict_prompt", "--strict-prompt", panel=common.VIDEO)
    ] = None,
    steps: common.Steps = None,
    sampler: common.SamplerName = None,
    langevin: common.Langevin = None,
    start_noise: common.StartNoise = None,
    freeinit: common.FreeInit = None,
    threshold: common.Threshold = None,
    guidance_scale: common.Scale = None,
    negative_prompt: common.Negative = None,
    condition: common.ConditionName = None,
    reconstruction_weight: common.Weight = None,
    reconstruction_schedule: common.Schedule = None,
    gradient_checkpointing: common.Checkpointing = None,
    context_noise: common.ContextNoise = None,
    batch_size: Annotated[int | None, setting(SampleSettings, "batch_size", panel=common.SAMPLING)] = None,
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
    """Make videos from prompts.

    Example: vidiff sample "a small red square moving right slowly" -o out.mp4
    """
    settings = settings_from(ctx, SampleSettings, under=common.recorded(from_json, "sample"))
    from vidiff_cli.commands.sample import sample as task

    with errors_as_sentences(verbose):
        report = follow(task.events(settings), quiet=quiet, verbose=verbose)
    print_json(report) if as_json else print_paths(*report.paths)
