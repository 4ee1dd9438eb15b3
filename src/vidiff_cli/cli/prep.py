"""`vidiff prep`: videos and images to a dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vidiff_cli.cli.console import stderr
from vidiff_cli.cli.options import Invocation, options
from vidiff_cli.config.prep import PrepSettings

if TYPE_CHECKING:
    from vidiff_cli.commands.prep import PrepReport

MISSING = {  # kinds of rows in missing.jsonl
    "video": "annotated, no file",
    "annotation": "without annotation",
    "row": "broken annotations",
    "segment": "segments not cut",
}


@options(PrepSettings)
def prep(call: Invocation) -> None:
    """Make a dataset from videos and images.

    Example: vidiff prep videos/ -o dataset --size 64 --frames 16
    """
    settings = call.settings(PrepSettings)
    from vidiff_cli.commands.prep import prep as task

    report = call.follow(task.events(settings))
    if not call.is_main:
        return
    if not call.quiet:
        _print_table(report)
    call.print(report, report.folder)


def _print_table(report: PrepReport) -> None:
    """Print the closing table on stderr."""
    from rich.table import Table

    speed = report.seconds_of_video / report.elapsed_seconds if report.elapsed_seconds > 0 else 0.0
    time = f"{report.elapsed_seconds:.1f} s" + ("" if report.already_complete else f", {speed:.0f}x real time")
    splits = ", ".join(f"{count} {split}" for split, count in report.clips_per_split.items())
    rows = [
        ("sources", f"{report.sources}" + (f" ({report.resumed} finished before)" if report.resumed else "")),
        ("kept", f"{report.kept}"),
        *((f"rejected: {reason}", f"{count}") for reason, count in report.rejected.items()),
        ("other files", f"{report.other_files}"),
    ]
    if report.shard is None or report.already_complete:
        sizes = ", ".join(f"{count} of {size}" for size, count in report.buckets.items())
        rows += [
            ("clips", f"{report.clips} ({splits})"),
            *([("sizes", sizes)] if len(report.buckets) > 1 else []),
            *((f"clips left out: {reason}", f"{count}") for reason, count in report.filtered.items()),
            ("captions", f"{report.captions_matched} matched, {report.captions_missing} missing"),
            *((MISSING[kind], f"{count}") for kind, count in report.missing.items() if kind in MISSING),
            ("size", f"{report.megabytes:.1f} MB"),
        ]
    rows += [("seconds of video", f"{report.seconds_of_video:.1f}"), ("time", time)]
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column()
    for name, value in rows:
        table.add_row(name, value)
    stderr().print(table)
