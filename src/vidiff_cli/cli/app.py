"""The `vidiff` command: registers the commands, and turns every error into one sentence and an exit code.

No module that this one imports may import torch, so that `vidiff --help` is fast. Commands import their tasks inside.
"""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, files, version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vidiff_cli import __version__
from vidiff_cli.cli.cascade import cascade
from vidiff_cli.cli.distill import distill
from vidiff_cli.cli.doctor import doctor
from vidiff_cli.cli.evaluate import evaluate
from vidiff_cli.cli.exits import catch_signals, errors_as_sentences, ignore_signals
from vidiff_cli.cli.export import export
from vidiff_cli.cli.extend import extend
from vidiff_cli.cli.fetch import fetch
from vidiff_cli.cli.info import info
from vidiff_cli.cli.interpolate import interpolate
from vidiff_cli.cli.models import models
from vidiff_cli.cli.options import VERBOSE_KEY
from vidiff_cli.cli.prep import prep
from vidiff_cli.cli.preview import preview
from vidiff_cli.cli.push import push
from vidiff_cli.cli.sample import sample
from vidiff_cli.cli.train import train
from vidiff_cli.cli.upscale import upscale
from vidiff_cli.cli.world import world_app
from vidiff_cli.system.standard_streams import open_closed_streams

OWN_PROCESS = object()  # of a context: the process is the command's, and so are its signals


class Commands(TyperGroup):
    """A group that turns any error of its commands into one sentence and an exit code."""

    def invoke(self, ctx: typer.Context) -> Any:
        """Run the chosen command. Its context shares `ctx.meta`, where --verbose is recorded."""
        with errors_as_sentences(lambda: bool(ctx.meta.get(VERBOSE_KEY))):
            if ctx.obj is OWN_PROCESS:
                catch_signals()  # here, where they become an exit code
            return super().invoke(ctx)


def either_spelling(name: str) -> str:
    """Spell an option with hyphens: --num_frames is --num-frames."""
    return name.replace("_", "-")


app = typer.Typer(
    name="vidiff",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # exits.py prints errors
    context_settings={"help_option_names": ["--help", "-h"], "token_normalize_func": either_spelling},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo("\n".join(versions()))
        raise typer.Exit


def versions() -> list[str]:
    """Versions of vidiff and its main dependencies, a line each, from package metadata; imports no package."""
    return [
        f"vidiff {__version__}",
        f"python {platform.python_version()}",
        f"torch {_installed('torch')}",
        f"ffmpeg {_ffmpeg()} (imageio-ffmpeg {_installed('imageio-ffmpeg')})",
        f"decord {_installed('decord', 'decord2')}",
    ]


def _installed(*packages: str) -> str:
    for package in packages:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return "not installed"


def _ffmpeg() -> str:
    try:
        names = [file.name for file in files("imageio-ffmpeg") or ()]
    except PackageNotFoundError:
        return "not installed"
    found = (re.match(r"ffmpeg-.*-v([\d.]+\d)", name) for name in names)
    return next((match[1] for match in found if match), "of the system")


@app.callback()
def vidiff(
    show_version: Annotated[
        bool,
        typer.Option("--version", help="Print the versions and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Train and use your own video diffusion model.

    Prepare a folder of videos, train on it, then sample, extend and interpolate video:
    vidiff prep videos/ && vidiff train && vidiff sample "a person waving one hand"
    """


MAKING = (
    prep,
    train,
    distill,
    sample,
    extend,
    interpolate,
    upscale,
    cascade,
    evaluate,
    export,
)  # in the order of the help
for command in (*MAKING, preview, models, fetch, push, info, doctor):
    app.command(command.__name__)(command)
app.add_typer(world_app, name="world")


def main() -> None:
    """Run the `vidiff` script."""
    # OpenMP threads that spin long while waiting slow down a busy CPU. Read when torch is loaded, later.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    open_closed_streams()
    try:
        app(prog_name="vidiff", obj=OWN_PROCESS)
    finally:
        ignore_signals()
