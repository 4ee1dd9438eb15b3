"""`vidiff push`: a run to the hub."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping

import typer

from vidiff_cli.cli.console import byte_text
from vidiff_cli.cli.options import DryRun, Invocation, options
from vidiff_cli.config.hub import LICENCE, PushSettings


@options(PushSettings)
def push(call: Invocation, dry_run: DryRun = False) -> None:
    """Send a run to the hub: its averaged weights, its settings, and a model card with what was measured; or a cascade,
    with all its stages.

    The token is taken from HF_TOKEN, or from the login of the hub's own client.

    Example: vidiff push runs/birds hf:me/birds --licence cc-by-4.0
    """
    settings = call.settings(PushSettings)
    if settings.licence is None and sys.stdin.isatty():
        settings = settings.model_copy(update={"licence": _ask_licence()})
    from vidiff_cli.commands.push import plan_push
    from vidiff_cli.commands.push import push as task

    plan = call.follow(plan_push.events(settings), more=True)
    seen = "private" if plan.private else "public"
    call.note(f"{plan.target}: {seen}, licence {plan.licence}, {byte_text(plan.bytes)}")
    weights = [(name, path.stat().st_size) for name, path in plan.weights.items()]
    for name, size in [*weights, *_sizes(plan.texts)]:
        call.note(f"  {name}  {byte_text(size)}")
    if dry_run:
        call.print(plan, plan.target)
        return
    report = call.follow(task.events(plan))
    call.print(report, report.url)


def _sizes(texts: Mapping[str, str]) -> list[tuple[str, int]]:
    return [(name, len(text.encode())) for name, text in texts.items()]


def _ask_licence() -> str:
    while True:
        answer = str(typer.prompt("Licence (cc-by-4.0, apache-2.0, mit, other, ...)", err=True)).strip()
        if re.fullmatch(LICENCE, answer):
            return answer
