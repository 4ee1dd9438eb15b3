"""`vidiff doctor`: what works on this machine, and the fix for what does not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from vidiff_cli.commands.doctor.check_list import FIRST, THEN, Check, Finding, Status
from vidiff_cli.events import EventStream, Progress, task


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckRow:
    """A check's result; `fix` is there for a warning and a fault."""

    name: str
    status: Status
    found: str
    fix: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class DoctorReport:
    """`ok`: there is no fault, so that the main jobs (prepare, train, generate) work here."""

    ok: bool
    faults: int
    warnings: int
    seconds: float
    checks: tuple[CheckRow, ...]


@task
def doctor() -> EventStream[DoctorReport]:
    """Tries everything that vidiff needs; an error in a check is that check's finding. Raises nothing."""
    began, total = time.monotonic(), len(FIRST) + len(THEN)
    rows: list[CheckRow] = []
    for check, finding in _findings():
        rows.append(CheckRow(name=check.name, status=finding.status, found=finding.found, fix=finding.fix))
        yield Progress(what="checks", done=len(rows), total=total, detail=check.name)
    count = {status: sum(row.status == status for row in rows) for status in ("fault", "warning")}
    return DoctorReport(
        ok=not count["fault"],
        faults=count["fault"],
        warnings=count["warning"],
        seconds=time.monotonic() - began,
        checks=tuple(rows),
    )


def _findings() -> Iterator[tuple[Check, Finding]]:
    for check in FIRST:
        yield check, check.run()
    # Two at once: most of them wait for ffmpeg.
    with ThreadPoolExecutor(max_workers=2) as pool:
        try:
            for check, job in [(check, pool.submit(check.run)) for check in THEN]:
                yield check, job.result()
        finally:
            pool.shutdown(cancel_futures=True)
