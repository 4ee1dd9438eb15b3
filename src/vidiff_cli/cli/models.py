"""`vidiff models`: the models at hand, and those that are known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vidiff_cli.cli.console import byte_text, print_json, print_rows
from vidiff_cli.cli.options import Invocation, options

if TYPE_CHECKING:
    from vidiff_cli.commands.models import LocalModel, ModelsReport

Row = tuple[str, ...]


@options()
def models(call: Invocation) -> None:
    """List the models on this machine, and public ones that can be fetched.

    Example: vidiff models
    """
    from vidiff_cli.commands.models import models as task

    report = call.follow(task.events())
    if call.as_json:
        print_json(report)
    else:
        print_rows([*_here(report), ("",) * 5, *_known(report)])


def _here(report: ModelsReport) -> Iterator[Row]:
    yield "ON THIS MACHINE", "FAMILY", "SIZE", "LICENCE", "NOTE"
    for model in report.here:
        yield _local(model)


def _local(model: LocalModel) -> Row:
    commit = model.commit[:12] if model.commit and model.commit not in model.name else ""
    note = "; ".join(filter(None, (model.note, commit and f"commit {commit}")))
    return model.name, model.family, byte_text(model.bytes), model.licence or "-", note


def _known(report: ModelsReport) -> Iterator[Row]:
    yield "TO FETCH: vidiff fetch NAME", "FAMILY", "SIZE", "LICENCE", "NOTE"
    for listed in report.known:
        model = listed.model
        size = f"{model.gigabytes:g} GB" if model.gigabytes else "-"
        notes = ["on this machine"] if listed.fetched else []
        notes += ["recommended"] if model.recommended else []
        notes += [f"{model.frames} frames of {model.width}x{model.height} at {model.fps} fps", ", ".join(model.works)]
        notes += [model.note] if model.note else []
        yield model.name, model.family, size, model.licence, "; ".join(notes)
