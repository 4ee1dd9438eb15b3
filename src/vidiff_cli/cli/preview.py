"""`vidiff preview`: clips in the terminal, on a contact sheet or in a gallery."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from rich.text import Text

from vidiff_cli.cli.console import print_json, print_paths, shown, stderr
from vidiff_cli.cli.options import Invocation, options
from vidiff_cli.config.preview import PreviewSettings

if TYPE_CHECKING:
    from rich.console import Console

    from vidiff_cli.commands.preview import PreviewReport


@options(PreviewSettings)
def preview(call: Invocation) -> None:
    """Show clips in the terminal, on a contact sheet, or in an HTML gallery.

    Example: vidiff preview dataset -o gallery.html
    """
    settings = call.settings(PreviewSettings)
    from vidiff_cli.commands.preview import preview as task

    report = call.follow(task.events(settings))
    if call.as_json:
        print_json(_without_pixels(report))
    elif report.output is not None:
        print_paths(report.output)
    else:
        _draw(report, stderr(), every=settings.frames is not None)


def _without_pixels(report: PreviewReport) -> dict[str, object]:
    names = (field.name for field in dataclasses.fields(report) if field.name != "strips")
    return {name: getattr(report, name) for name in names}


def _draw(report: PreviewReport, console: Console, *, every: bool) -> None:
    """Print each entry with some of its frames, in colors if the terminal has them; without a terminal, no frames."""
    from vidiff_cli.viz.gallery import entry_facts
    from vidiff_cli.viz.terminal import HALF, half_blocks

    for name, value in report.facts.items():
        console.print(Text(f"{name}  ", "dim").append(shown(value)))
    color = console.color_system is not None and not console.no_color and _can_print(HALF, console.encoding)
    for entry, strip in zip(report.entries, report.strips, strict=True):
        console.print()
        console.print(Text(shown(entry.name), "bold"))
        if entry.prompt:
            console.print(Text(shown(entry.prompt)))
        facts = ", ".join(f"{name} {value}" for name, value in entry_facts(entry).items())
        if facts:
            console.print(Text(shown(facts), "dim"))
        if entry.problem:
            console.print(Text(shown(entry.problem), "yellow"))
        if strip is not None and console.is_terminal:
            for line in half_blocks(strip, console.width, color=color, every=every):
                console.print(line)
    if not console.is_terminal:
        console.print("Frames are drawn on a terminal only: -o sheet.png or -o gallery.html writes them to a file.")


def _can_print(sign: str, encoding: str) -> bool:
    try:
        sign.encode(encoding)
    except (LookupError, UnicodeError):
        return False
    return True
