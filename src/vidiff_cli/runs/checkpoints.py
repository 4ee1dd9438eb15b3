"""Checkpoints of a run: which one to resume from, and which ones to keep.

`checkpoints/step-N` of the stable phase, `checkpoints/step-N-of-M` of the decay branch of a run of M steps (with N = M
the result), `checkpoints/latest` (the name of the newest).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

from vidiff_cli.checkpoint import STATE
from vidiff_cli.config.run_config import UNREADABLE
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.models.one_pass_errors import OnePassErrors
from vidiff_cli.runs.run_dir import OTHER_FOLDER
from vidiff_cli.system.atomic_files import remove_folder, write_text
from vidiff_cli.system.shortage import raise_shortage
from vidiff_cli.training.distributed import ALONE, DistributedContext
from vidiff_cli.training.lr_schedule import LRSchedule
from vidiff_cli.training.state import Phase, TrainState

BEST = "best"  # beside the checkpoints: the name of the one with the lowest held-out loss
INTERRUPT_ONLY = "passing"  # among a checkpoint's notes: saved at an interrupt, removed once there is a later one


def resume_from(checkpoints: Path, settings: TrainSettings, schedule: LRSchedule, *, resumed: bool) -> Path | None:
    """Chooses the checkpoint to continue from: the one asked for; of a `resumed` run the last of the stable phase or of
    this decay branch; else None.

    VidiffError where the one asked for cannot be used, or every checkpoint of the run is damaged or of another branch.
    """
    if settings.resume not in ("auto", "never"):
        return _requested_checkpoint(Path(settings.resume), settings.steps)
    if not resumed:
        return None
    best: tuple[int, Path] | None = None
    damaged: list[Path] = []
    lengths: set[int] = set()
    for folder in checkpoints.glob("step-*"):
        try:
            notes = json.loads((folder / STATE).read_text(encoding="utf-8"))
            step, phase, steps = int(notes["step"]), notes["phase"], _branch_steps(folder)
            if phase not in get_args(Phase):
                raise ValueError(f"the phase {phase}")
        except UNREADABLE as error:
            raise_shortage(folder / STATE, error)
            damaged.append(folder / STATE)
            continue
        lengths |= {steps} if steps else set()
        usable = step <= schedule.stable if phase == "stable" else steps == schedule.steps
        if usable and (best is None or step > best[0]):
            best = (step, folder)
    if best is None and damaged:  # to begin anew would write over what can perhaps be repaired
        fix = "restore it, or start again with --overwrite"
        raise VidiffError(f"the run cannot be continued: {min(damaged)} is damaged", fix=fix)
    if best is None and lengths and not schedule.stable:
        raise VidiffError(
            f"{checkpoints.parent} has followed a cosine from its first step, and cannot have another length",
            found=f"--steps {schedule.steps}",
            expected=str(max(lengths)),
            fix=OTHER_FOLDER,
        )
    return best[1] if best else None


def _requested_checkpoint(folder: Path, steps: int) -> Path:
    """Checks the --resume folder. VidiffError where it is not a checkpoint, or no step is left to train."""
    expected = "auto, never, or a folder such as runs/NAME/checkpoints/step-000100"
    try:
        step = int(json.loads((folder / STATE).read_text(encoding="utf-8"))["step"])
    except OSError as error:
        raise_shortage(folder / STATE, error)
        found = error.strerror or str(error)
        raise VidiffError(f"checkpoint to resume not found at {folder}", found=found, expected=expected) from error
    except UNREADABLE as error:
        raise VidiffError(f"{folder / STATE} is damaged", fix="resume from another checkpoint") from error
    if step >= steps:
        raise VidiffError(f"{folder} has {step} steps already", expected=f"fewer than {steps}", fix="raise --steps")
    return folder


def _branch_steps(folder: Path) -> int | None:
    """Total steps of the run that a decay checkpoint belongs to: step-000900-of-001000 -> 1000."""
    return int(folder.name.partition("-of-")[2] or 0) or None


def save_checkpoint(
    state: TrainState,
    checkpoints: Path,
    settings: TrainSettings,
    schedule: LRSchedule,
    parallel: DistributedContext = ALONE,
    *,
    errors: OnePassErrors | None = None,
) -> None:
    """Writes the checkpoint of this step and removes those that it replaces.

    All ranks call it at the same step, since rank 0 gathers what the others hold; rank 0 alone writes.

    Args:
        state: the state after a step.
        checkpoints: the folder of the checkpoints; of rank 0 alone.
        settings: the settings of the run.
        schedule: the schedule of the run, which names the checkpoint's branch.
        parallel: this rank.
        errors: one-pass errors of the averaged weights, for the checkpoint's header.
    """
    name = checkpoint_name(state, schedule)
    header = None if errors is None else errors.as_json()
    state.save(checkpoints / name, clips_seen=settings.clips_seen(state.step), errors=header, parallel=parallel)
    if not parallel.is_main:
        return
    write_text(checkpoints / "latest", name + "\n")
    _remove_older(checkpoints / name, settings, schedule)


def checkpoint_name(state: TrainState, schedule: LRSchedule) -> str:
    """Name of the folder of this step's checkpoint."""
    return f"step-{state.step:06d}" + (f"-of-{schedule.steps:06d}" if state.phase == "decay" else "")


def best_checkpoint(checkpoints: Path) -> Path | None:
    """The checkpoint with the lowest held-out loss, where it is kept."""
    try:
        name = Path((checkpoints / BEST).read_text(encoding="utf-8", errors="replace").strip()).name
    except OSError:
        return None
    return checkpoints / name if name and (checkpoints / name).is_dir() else None


def complete_save(newest: Path, settings: TrainSettings, schedule: LRSchedule) -> None:
    """Does what `save_checkpoint` does after the folder is written: a kill may have come between."""
    pointer = newest.parent / "latest"
    latest = Path(pointer.read_text(encoding="utf-8", errors="replace").strip() if pointer.is_file() else "none").name
    if _read_state(newest.parent / latest).get("step", -1) > _read_state(newest)["step"]:
        return  # the result of a run that is made longer: better than the end of its stable phase
    if latest != newest.name:
        write_text(pointer, newest.name + "\n")
    _remove_older(newest, settings, schedule)


def _remove_older(newest: Path, settings: TrainSettings, schedule: LRSchedule) -> None:
    """Keeps `keep` checkpoints, besides the end of the stable phase, the best one and all results."""
    always = {newest.name, f"step-{schedule.stable:06d}"}
    if (best := best_checkpoint(newest.parent)) is not None:
        always.add(best.name)
    others = [folder for folder in newest.parent.glob("step-*") if folder.name not in always and not _is_result(folder)]
    temporary = [folder for folder in others if _read_state(folder).get("notes", {}).get(INTERRUPT_ONLY)]
    others = sorted((folder for folder in others if folder not in temporary), key=_modified_time)
    for folder in (*temporary, *others[: max(0, len(others) - settings.keep + 1)]):
        remove_folder(folder)


def _modified_time(folder: Path) -> float:
    try:
        return (folder / STATE).stat().st_mtime
    except OSError:
        return 0.0


def _read_state(folder: Path) -> dict[str, Any]:
    """Reads state.json of a checkpoint folder; empty where it is missing or damaged."""
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    except UNREADABLE:
        return {}
    valid = isinstance(state, dict) and type(state.get("step")) is int and isinstance(state.get("notes", {}), dict)
    return state if valid else {}


def _is_result(folder: Path) -> bool:
    step, _, steps = folder.name.removeprefix("step-").partition("-of-")
    return step == steps
