"""`vidiff doctor`: what works here."""

from __future__ import annotations

import typer

from vidiff_cli.cli.console import errors_as_sentences, follow, print_json, print_rows, stderr
from vidiff_cli.cli.options import AsJson, Quiet, Verbose

COLORS = {"ok": "green", "warning": "yellow", "fault": "red"}


def doctor(as_json: AsJson = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Check the device, the libraries, the decoders and the disk; name the fix for what does not work.

    Exit code 1 where something stops the main jobs. Example: vidiff doctor
    """
    from vidiff_cli.commands.doctor import doctor as task

    with errors_as_sentences(verbose):
        report = follow(task.events(), quiet=quiet, verbose=verbose)
    if as_json:
        print_json(report)
    else:
        rows = []
        for row in report.checks:
            rows.append((row.name, row.status, row.found))
            rows += [("", "", f"fix: {row.fix}")] if row.fix else []
        print_rows(rows, colors=COLORS)
    if not quiet:
        counted = f"{report.faults} faults, {report.warnings} warnings"
        stderr().print(f"{counted} in {report.seconds:.1f} s.")
    if not report.ok:
        raise typer.Exit(1)
