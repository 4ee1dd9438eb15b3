"""`vidiff fetch`: a model from the hub."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from vidiff_cli.cli.console import aligned, byte_text, stderr
from vidiff_cli.cli.options import DryRun, Invocation, options
from vidiff_cli.config.hub import FetchSettings
from vidiff_cli.errors import VidiffError

if TYPE_CHECKING:
    from vidiff_cli.commands.fetch import FetchPlan


@options(FetchSettings)
def fetch(call: Invocation, dry_run: DryRun = False) -> None:
    """Fetch a public model, or a run that was pushed, from the hub: licence and files are shown first.

    Example: vidiff fetch hf:Wan-AI/Wan2.1-T2V-1.3B-Diffusers
    """
    settings = call.settings(FetchSettings)
    from vidiff_cli.commands.fetch import fetch as task
    from vidiff_cli.commands.fetch import plan_fetch

    plan = call.follow(plan_fetch.events(settings), more=True)
    asks = bool(plan.missing_bytes) and not settings.yes and not dry_run
    for line in _describe(plan):
        stderr().print(line, markup=False) if asks else call.note(line)
    if dry_run:
        call.print(plan, *(repository.commit for repository in plan.repositories))
        return
    if asks:
        ask("Fetch them?", fix="add --yes")
    report = call.follow(task.events(plan))
    call.print(report, *report.paths)


def ask(question: str, *, fix: str) -> None:
    """Ask for a yes. VidiffError without a terminal; `fix` says what to do then."""
    if not sys.stdin.isatty():
        raise VidiffError("nothing was fetched", found="no terminal to ask at", fix=fix)
    if not typer.confirm(question, err=True):
        raise typer.Abort


def _describe(plan: FetchPlan) -> Iterator[str]:
    for repository in plan.repositories:
        licence = f"licence {repository.licence}" if repository.licence else "a licence is not stated"
        yield f"{repository.name}: {repository.kind}, {licence}, commit {repository.commit[:12]}"
        missing = set(repository.missing)
        rows = [
            (file.name, byte_text(file.bytes), "" if file in missing else "on this machine")
            for file in repository.files
        ]
        for cells in aligned(rows):
            yield "  " + "  ".join(cells).rstrip()
    if plan.note:
        yield f"Note: {plan.note}."
    yield f"{byte_text(plan.bytes)} in all, {byte_text(plan.missing_bytes)} to fetch into {plan.cache}."
