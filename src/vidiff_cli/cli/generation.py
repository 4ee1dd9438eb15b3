"""Options and reports that the commands which write video share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidiff_cli.cli.console import aligned, print_json, print_paths, print_rows
from vidiff_cli.cli.options import Invocation
from vidiff_cli.config.options import REPRODUCE
from vidiff_cli.config.reading import read_text
from vidiff_cli.config.result import FilmSettings
from vidiff_cli.errors import VidiffError

if TYPE_CHECKING:
    from vidiff_cli.commands.many import FilmReport, FilmTask

NEVER_REPEATED = {"output", "overwrite", "prompts_file"}
FromJson = Annotated[
    Path | None,
    typer.Option(
        "--from-json",
        metavar="<path>",
        help="Repeat the video that this sidecar (.json) belongs to; flags win.",
        readable=False,
        rich_help_panel=REPRODUCE,
    ),
]


def are_many(inputs: Sequence[Path]) -> bool:
    """True for several inputs, or a folder of videos: each has its own result in a folder.

    A folder of numbered images is one video.
    """
    from vidiff_cli.video.image_sequence import folder_pictures

    return len(inputs) > 1 or (inputs[0].is_dir() and not folder_pictures(inputs[0]))


def follow_films(call: Invocation, command: FilmTask, settings: FilmSettings, sources: Sequence[Path]) -> Any:
    """The report of a command on its single input, None in a process that does not speak; of several inputs, each is
    done by itself, and nothing is left to report."""
    if are_many(sources):
        complete_many(call, command, settings, sources)
        return None
    if not call.is_main:
        return None
    call.note_idle("One input")
    return call.follow(command.events(settings))


def complete_many(
    call: Invocation,
    command: FilmTask,
    settings: FilmSettings,
    inputs: Sequence[Path],
) -> None:
    """Extend, interpolate or upscale every input by itself: paths on stdout, a table on stderr. Exit code 1 if one
    failed.

    --dry-run prints what would be done with each.
    """
    from vidiff_cli.commands.many import many

    if settings.dry_run and not call.is_main:
        return
    report = call.follow(many.events(command, settings, inputs))
    if not call.is_main:
        return
    if call.as_json:
        print_json(report)
    elif settings.dry_run:
        print_rows([(film.name, film.status, film.reason or str(film.path)) for film in report.films])
    else:
        print_paths(*(film.path for film in report.films if film.status == "made"))
    if not settings.dry_run:
        for row in aligned([("film", "given", "made", "seconds", "new frames/s"), *map(_row, report.films)]):
            call.note("  ".join(row).rstrip())
    if report.failed:
        raise typer.Exit(1)


def _row(film: FilmReport) -> tuple[str, ...]:
    """The counts, seconds and speed of one film, or the reason it was not made."""
    seconds = f"{film.seconds:.1f}"
    if film.report is None:
        return film.name, "", "", seconds, film.reason or "finished before"
    given, made = film.report.given, film.report.made
    return film.name, str(given), str(made), seconds, f"{made / max(film.seconds, 1e-3):.1f}"


def read_settings(sidecar: Path | None, command: str) -> dict[str, Any]:
    """The settings in a sidecar of `command`; empty without one. VidiffError if the file is not such a sidecar.

    The output and what it may overwrite are left out: a sidecar can come from anyone.
    """
    if sidecar is None:
        return {}
    try:
        content = json.loads(read_text(sidecar, what="the sidecar"))
    except (ValueError, RecursionError) as error:
        raise VidiffError(f"{sidecar} is not a sidecar of a video", expected="valid JSON") from error
    made_by, settings = (content.get(key) if isinstance(content, dict) else None for key in ("command", "settings"))
    if not isinstance(made_by, str) or not isinstance(settings, dict):
        raise VidiffError(f"{sidecar} is not a sidecar of a video", expected="a command and its settings")
    if made_by != command:
        raise VidiffError(f"{sidecar} belongs to vidiff {made_by}", expected=f"a sidecar of vidiff {command}")
    return {name: value for name, value in settings.items() if name not in NEVER_REPEATED}


def note_difference(call: Invocation, given: int, difference: int | None) -> None:
    """Print the proof that a lossless file holds the given frames."""
    if difference is not None:
        call.note(f"conditioned frames: {given}, max abs diff {difference}")
