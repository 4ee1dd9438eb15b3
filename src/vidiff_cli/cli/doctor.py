"""`vidiff doctor`: checks of this machine and installation."""

from __future__ import annotations

import typer

from vidiff_cli.cli.console import print_json, print_rows
from vidiff_cli.cli.options import Invocation, options

COLORS = {"ok": "green", "warning": "yellow", "fault": "red"}


@options()
def doctor(call: Invocation) -> None:
    """Check the device, the libraries, the decoders and the disk; name the fix for what does not work.

    Exit code 1 if something stops the main jobs. Example: vidiff doctor
    """
    from vidiff_cli.commands.doctor import doctor as task

    report = call.follow(task.events())
    if call.as_json:
        print_json(report)
    else:
        rows = []
        for row in report.checks:
            rows.append((row.name, row.status, row.found))
            rows += [("", "", f"fix: {row.fix}")] if row.fix else []
        print_rows(rows, colors=COLORS)
    call.note(f"{report.faults} faults, {report.warnings} warnings in {report.seconds:.1f} s.")
    if not report.ok:
        raise typer.Exit(1)
