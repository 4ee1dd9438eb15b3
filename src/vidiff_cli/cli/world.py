"""`vidiff world`: clips of synthetic worlds, to try everything without a video at hand."""

from __future__ import annotations

import typer

from vidiff_cli.cli.options import Invocation, options
from vidiff_cli.config.world import FilmFolderSettings, WorldSettings

world_app = typer.Typer(
    no_args_is_help=True, help="Make clips of a synthetic world, to train on or to try things with."
)


@world_app.callback()
def _group() -> None:
    """Make clips of a synthetic world, to train on or to try things with."""


def _make(call: Invocation, settings: WorldSettings | FilmFolderSettings) -> None:
    from vidiff_cli.commands.world import world

    report = call.follow(world.events(settings))
    call.print(report, report.folder)


@world_app.command("shapes")
@options(WorldSettings)
def shapes(call: Invocation) -> None:
    """Make clips of colored shapes that move, each with its caption, and trajectories.json with the truth.

    Example: vidiff world shapes clips -n 256
    """
    _make(call, call.settings(WorldSettings))


@world_app.command("films")
@options(FilmFolderSettings)
def films(call: Invocation) -> None:
    """Make films in which generated pictures move as real ones do; they have no captions.

    Example: vidiff world films films -n 16
    """
    _make(call, call.settings(FilmFolderSettings))
