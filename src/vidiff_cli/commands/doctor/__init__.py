"""`vidiff doctor`: versions, device, ffmpeg, decoders and disk of this machine, with a fix for each fault."""

from __future__ import annotations

import time
from dataclasses import dataclass

from vidiff_cli.commands.doctor import gpu, machine, video
from vidiff_cli.commands.doctor.check import Check, Status
from vidiff_cli.events import EventStream, Progress, task

REINSTALL = "pip install --force-reinstall "
CHECKS = (  # in the order of the rows
    Check(name="vidiff", probe=machine.check_vidiff, fix=REINSTALL + "vidiff-cli"),
    Check(name="libraries", probe=machine.check_libraries, fix=REINSTALL + "vidiff-cli"),
    Check(name="public-models", probe=machine.check_public, fix=machine.PUBLIC_EXTRA),
    Check(name="device", probe=machine.check_device, fix=REINSTALL + "torch"),
    Check(name="gpu", probe=gpu.check_gpus, fix="see nvidia-smi, or use --device cpu"),
    Check(name="ffmpeg", probe=video.check_ffmpeg, fix=REINSTALL + "imageio-ffmpeg"),
    Check(name="reading-ffmpeg", probe=video.check_ffmpeg_decoder, fix=REINSTALL + "imageio-ffmpeg"),
    Check(name="reading-decord", probe=video.check_decord, fix="use --decoder ffmpeg"),
    Check(name="working-folder", probe=machine.check_working_folder, fix="change to a folder that can be written"),
    Check(name="temporary-folder", probe=machine.check_temporary_folder, fix="set TMPDIR to a folder of yours"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckRow:
    """The result of one check; `fix` is None exactly for "ok"."""

    name: str
    status: Status
    found: str
    fix: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class DoctorReport:
    """All results. `ok`: no faults, so prepare, train and generate work here."""

    ok: bool
    faults: int
    warnings: int
    seconds: float
    checks: tuple[CheckRow, ...]


@task
def doctor() -> EventStream[DoctorReport]:
    """Runs every check; an error in a check becomes its fault. Raises nothing."""
    started, rows = time.monotonic(), list[CheckRow]()
    for check in CHECKS:
        finding = check.run()
        rows.append(CheckRow(name=check.name, status=finding.status, found=finding.found, fix=finding.fix))
        yield Progress(what="checks", done=len(rows), total=len(CHECKS), detail=check.name)
    count = {status: sum(row.status == status for row in rows) for status in ("fault", "warning")}
    return DoctorReport(
        ok=not count["fault"],
        faults=count["fault"],
        warnings=count["warning"],
        seconds=time.monotonic() - started,
        checks=tuple(rows),
    )
