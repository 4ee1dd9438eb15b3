"""`vidiff world`: clips of synthetic worlds, to try everything without a video at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidiff_cli.cli.console import follow, print_json, print_paths
from vidiff_cli.cli.options import (
    OUTPUT,
    AsJson,
    ConfigFiles,
    Overwrite,
    Quiet,
    Seed,
    Sets,
    Verbose,
    setting,
    settings_from,
)
from vidiff_cli.config.world import FilmFolderSettings, WorldSettings

world_app = typer.Typer(
    no_args_is_help=True, help="Make clips of a synthetic world, to train on or to try things with."
)


@world_app.callback()
def _group() -> None:
    """Make clips of a synthetic world, to train on or to try things."""


@world_app.command("shapes")
def shapes(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder for the clips.", readable=False)],
    part: Annotated[str | None, setting(WorldSettings, "part")] = None,
    side: Annotated[str | None, setting(WorldSettings, "side")] = None,
    clips: Annotated[int | None, setting(WorldSettings, "clips", "--clips", "-n")] = None,
    size: Annotated[int | None, setting(WorldSettings, "size")] = None,
    frames: Annotated[int | None, setting(WorldSettings, "frames", "--num-frames")] = None,
    fps: Annotated[str | None, setting(WorldSettings, "fps")] = None,
    crf: Annotated[int | None, setting(WorldSettings, "crf", panel=OUTPUT)] = None,
    seed: Seed = None,
    config: ConfigFiles = None,
    sets: Sets = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make clips of colored shapes that move, each with its caption, and trajectories.json with the truth.

    Example: vidiff world shapes clips -n 256
    """
    settings = settings_from(ctx, WorldSettings)
    from vidiff_cli.commands.world import world

    report = follow(world.events(settings), quiet=quiet, verbose=verbose)
    print_json(report) if as_json else print_paths(report.folder)


@world_app.command("films")
def films(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder for the films.", readable=False)],
    clips: Annotated[int | None, setting(FilmFolderSettings, "clips", "--clips", "-n")] = None,
    size: Annotated[int | None, setting(FilmFolderSettings, "size")] = None,
    frames: Annotated[int | None, setting(FilmFolderSettings, "frames", "--num-frames")] = None,
    fps: Annotated[str | None, setting(FilmFolderSettings, "fps")] = None,
    crf: Annotated[int | None, setting(FilmFolderSettings, "crf", panel=OUTPUT)] = None,
    seed: Seed = None,
    config: ConfigFiles = None,
    sets: Sets = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make films in which pictures made by code move as real ones do; they have no captions.

    Example: vidiff world films films -n 16
    """
    settings = settings_from(ctx, FilmFolderSettings)
    from vidiff_cli.commands.world import world

    report = follow(world.events(settings), quiet=quiet, verbose=verbose)
    print_json(report) if as_json else print_paths(report.folder)
