"""What the options of sample, extend and interpolate have in common."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidiff_cli.cli.console import (
    aligned,
    errors_as_sentences,
    follow,
    print_json,
    print_paths,
    print_rows,
    stderr,
)
from vidiff_cli.cli.options import OUTPUT, REPRODUCE, setting
from vidiff_cli.config.generate import CompletionSettings, ExtendSettings, GenerationSettings, InterpolateSettings
from vidiff_cli.config.reading import read_text
from vidiff_cli.errors import VidiffError

if TYPE_CHECKING:
    from vidiff_cli.commands.many import CompletionTask, FilmReport

NEVER_RECORDED = {"output", "overwrite", "prompts_file"}
SAMPLING, GUIDANCE, VIDEO = "Sampling", "Guidance", "Video"

Model = Annotated[Path | None, setting(GenerationSettings, "model", "--model", "-m")]
ClipModel = Annotated[str | None, setting(GenerationSettings, "clip_model", "--clip-model")]
Out = Annotated[Path | None, setting(GenerationSettings, "output", "--output", "-o", panel=OUTPUT)]
Steps = Annotated[int | None, setting(GenerationSettings, "steps", "--steps", "--num-inference-steps", panel=SAMPLING)]
SamplerName = Annotated[str | None, setting(GenerationSettings, "sampler", panel=SAMPLING)]
Langevin = Annotated[float | None, setting(GenerationSettings, "langevin", panel=SAMPLING)]
Threshold = Annotated[str | None, setting(GenerationSettings, "threshold", panel=SAMPLING)]
Negative = Annotated[str | None, setting(GenerationSettings, "negative_prompt", panel=GUIDANCE)]
Scale = Annotated[float | None, setting(GenerationSettings, "guidance_scale", "--guidance-scale", "-g", panel=GUIDANCE)]
ConditionName = Annotated[str | None, setting(GenerationSettings, "condition", panel=GUIDANCE)]
Weight = Annotated[float | None, setting(GenerationSettings, "reconstruction_weight", panel=GUIDANCE)]
Schedule = Annotated[str | None, setting(GenerationSettings, "reconstruction_schedule", panel=GUIDANCE)]
Checkpointing = Annotated[str | None, setting(GenerationSettings, "gradient_checkpointing", panel=GUIDANCE)]
StartNoise = Annotated[str | None, setting(GenerationSettings, "start_noise", panel=SAMPLING)]
FreeInit = Annotated[int | None, setting(GenerationSettings, "freeinit", panel=SAMPLING)]
Size = Annotated[str | None, setting(CompletionSettings, "size", panel=VIDEO)]
Detail = Annotated[str | None, setting(CompletionSettings, "detail", panel=VIDEO)]
Samples = Annotated[int | None, setting(CompletionSettings, "samples", panel=SAMPLING)]
Sound = Annotated[bool | None, setting(CompletionSettings, "audio", "--audio/--no-audio", panel=VIDEO)]
Scenes = Annotated[bool | None, setting(CompletionSettings, "scenes", "--scenes/--no-scenes", panel=VIDEO)]
DryRun = Annotated[bool | None, setting(CompletionSettings, "dry_run", "--dry-run", panel=VIDEO)]
ContextNoise = Annotated[float | None, setting(GenerationSettings, "context_noise", panel=GUIDANCE)]
Lossless = Annotated[bool | None, setting(GenerationSettings, "lossless", "--lossless", panel=OUTPUT)]
Sidecar = Annotated[bool | None, setting(GenerationSettings, "sidecar", "--sidecar/--no-sidecar", panel=OUTPUT)]
Compare = Annotated[bool | None, setting(GenerationSettings, "compare", "--compare", panel=OUTPUT)]
FromJson = Annotated[
    Path | None,
    typer.Option(
        "--from-json",
        metavar="SIDECAR",
        help="Repeat what a sidecar records; flags win.",
        readable=False,
        rich_help_panel=REPRODUCE,
    ),
]
Jobs = Annotated[int | None, setting(CompletionSettings, "jobs", panel=OUTPUT)]


def are_many(inputs: Sequence[Path]) -> bool:
    """Whether results go into a folder, each by itself: several inputs, or a folder of videos."""
    return len(inputs) > 1 or inputs[0].is_dir()


def make_many(
    command: CompletionTask,
    settings: ExtendSettings | InterpolateSettings,
    inputs: Sequence[Path],
    *,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Extends or interpolates every input by itself: paths on stdout, a table on stderr. Exit code 1 where one failed;
    --dry-run prints what would be done."""
    from vidiff_cli.commands.many import many

    with errors_as_sentences(verbose):
        report = follow(many.events(command, settings, inputs), quiet=quiet, verbose=verbose)
    if as_json:
        print_json(report)
    elif settings.dry_run:
        print_rows([(film.name, film.status, film.reason or str(film.path)) for film in report.films])
    else:
        print_paths(*(film.path for film in report.films if film.status == "made"))
    if not (quiet or settings.dry_run):
        for row in aligned([("film", "given", "made", "seconds", "new frames/s"), *map(_row, report.films)]):
            stderr().print("  ".join(row).rstrip(), markup=False)
    if report.failed:
        raise typer.Exit(1)


def _row(film: FilmReport) -> tuple[str, ...]:
    """The counts, seconds and speed of one film; or why there are none."""
    seconds = f"{film.seconds:.1f}"
    if film.report is None:
        return film.name, "", "", seconds, film.reason or "finished before"
    given, made = film.report.given, film.report.made
    return film.name, str(given), str(made), seconds, f"{made / max(film.seconds, 1e-3):.1f}"


def recorded(sidecar: Path | None, command: str) -> dict[str, Any]:
    """The settings in a sidecar of `command`; nothing without one. VidiffError for a file that is none.

    Never where to write, or what to write over: a sidecar comes from anyone.
    """
    if sidecar is None:
        return {}
    try:
        content = json.loads(read_text(sidecar, what="the sidecar"))
    except (ValueError, RecursionError) as error:
        raise VidiffError(f"{sidecar} is no sidecar of a video", found="no JSON that can be read") from error
    made_by, settings = (content.get(key) if isinstance(content, dict) else None for key in ("command", "settings"))
    if not isinstance(made_by, str) or not isinstance(settings, dict):
        raise VidiffError(f"{sidecar} is no sidecar of a video", expected="a command and its settings")
    if made_by != command:
        raise VidiffError(f"{sidecar} belongs to vidiff {made_by}", expected=f"a sidecar of vidiff {command}")
    return {name: value for name, value in settings.items() if name not in NEVER_RECORDED}


def print_difference(given: int, difference: int | None) -> None:
    """The proof that a lossless file holds the frames that were given."""
    if difference is not None:
        stderr().print(f"conditioned frames: {given}, max abs diff {difference}")
