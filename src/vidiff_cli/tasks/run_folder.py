"""The run folder of a training: whose it is, what it holds, where to go on from, and which checkpoints are kept.

`config.json` (resolved settings), `metrics.jsonl`, `loss.png`, `samples/`, `checkpoints/step-N` of the trunk,
`checkpoints/step-N-of-M` of the decay branch of a run of M steps, `checkpoints/latest` (the name of the newest).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from vidiff_cli import __version__
from vidiff_cli.checkpoint import write_text
from vidiff_cli.config.model import ModelSettings
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.training.loop import Schedule
from vidiff_cli.training.state import STATE, TrainState

FREE_TO_CHANGE = {"steps", "resume", "overwrite", "output", "checkpoint_every", "keep", "sample_every", "device"}
OWN_FILES = {"config.json", "metrics.jsonl", "checkpoints", "samples", "loss.png"}


def check_run(run: Path, settings: TrainSettings, model: ModelSettings) -> bool:
    """Whether the run folder holds this very run, to be continued. VidiffError if it holds anything else."""
    path = run / "config.json"
    if not path.is_file():
        if run.is_dir() and any(run.iterdir()):
            raise VidiffError(f"{run} is not empty and is no run", fix="give another folder with -o")
        return False
    if settings.resume == "never":
        raise VidiffError(f"{run} is there already", fix="give another folder with -o, or --overwrite")
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        old, new = (_flat(part) for part in (before, _config(settings, model)))
    except (OSError, ValueError) as error:
        raise VidiffError(f"{path} cannot be read", found=str(error)) from error
    changed = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    changed = [name for name in changed if name.removeprefix("train.") not in FREE_TO_CHANGE and name != "vidiff"]
    if changed:
        name = min(changed, key=lambda name: not name.startswith("train."))  # what a person set, not what followed
        raise VidiffError(
            f"{run} was trained with another {name.removeprefix('train.')}",
            found=_short(new.get(name)),
            expected=_short(old.get(name)),
            fix="give another folder with -o, or --overwrite",
        )
    return True


def _short(value: object) -> str:
    text = str(value)  # a vocabulary has thousands of numbers
    return text if len(text) <= 60 else text[:57] + "..."


def check_replaceable(run: Path) -> None:
    """--overwrite removes a run and nothing else: VidiffError for a folder that holds other things."""
    path, fix = run / "config.json", "give another folder with -o"
    try:
        known = json.loads(path.read_text(encoding="utf-8")).keys() >= {"vidiff", "train", "model"}
    except (OSError, ValueError, AttributeError):
        known = False
    if not known:
        raise VidiffError(f"{path} belongs to no run", fix=fix)
    if foreign := sorted(entry.name for entry in run.iterdir() if not _is_own(entry.name)):
        raise VidiffError(f"{run} holds more than a run", found=foreign[0], fix=fix)


def _is_own(name: str) -> bool:
    """A file of a run, or what a killed run left of one."""
    return name in OWN_FILES or (name.startswith(".") and (".tmp-" in name or name.endswith(".png")))


def _config(settings: TrainSettings, model: ModelSettings) -> dict[str, object]:
    return {
        "vidiff": __version__,
        "train": settings.model_dump(mode="json"),
        "model": model.model_dump(mode="json"),
    }


def write_config(run: Path, settings: TrainSettings, model: ModelSettings) -> None:
    try:
        run.mkdir(parents=True, exist_ok=True)
        write_text(run / "config.json", json.dumps(_config(settings, model), indent=2) + "\n")
    except OSError as error:
        raise VidiffError(f"the run folder {run} cannot be written", found=error.strerror) from error


def _flat(value: object, name: str = "") -> dict[str, object]:
    if not isinstance(value, Mapping):
        return {name: value}
    return {
        key: leaf for part, inner in value.items() for key, leaf in _flat(inner, f"{name}.{part}".strip(".")).items()
    }


def resume_from(checkpoints: Path, settings: TrainSettings, schedule: Schedule, *, resumed: bool) -> Path | None:
    """The checkpoint to go on from: the one asked for; of a run that is `resumed`, the last of the trunk or of this
    very decay branch."""
    if settings.resume not in ("auto", "never"):
        return _asked_for(Path(settings.resume), settings.steps)
    if not resumed:
        return None
    best: tuple[int, Path] | None = None
    for folder in checkpoints.glob("step-*"):
        try:
            notes = json.loads((folder / STATE).read_text(encoding="utf-8"))
            step, phase, steps = int(notes["step"]), notes["phase"], _branch_of(folder)
        except (OSError, ValueError, KeyError):
            continue
        usable = step <= schedule.trunk if phase == "trunk" else steps == schedule.steps
        if usable and (best is None or step > best[0]):
            best = (step, folder)
    return best[1] if best else None


def _asked_for(place: Path, steps: int) -> Path:
    """The --resume checkpoint folder. VidiffError where there is none, or nothing is left to train."""
    expected = "auto, never, or a folder such as runs/NAME/checkpoints/step-000100"
    try:
        step = int(json.loads((place / STATE).read_text(encoding="utf-8"))["step"])
    except OSError as error:
        found = error.strerror or str(error)
        raise VidiffError(f"there is no checkpoint to resume at {place}", found=found, expected=expected) from error
    except (ValueError, KeyError, TypeError) as error:
        raise VidiffError(f"{place / STATE} is damaged", fix="resume from another checkpoint") from error
    if step >= steps:
        raise VidiffError(f"{place} has {step} steps already", expected=f"fewer than {steps}", fix="raise --steps")
    return place


def _branch_of(folder: Path) -> int | None:
    """How many steps the run was to have to which a decay checkpoint belongs: step-000900-of-001000."""
    return int(folder.name.partition("-of-")[2] or 0) or None


def save_checkpoint(state: TrainState, checkpoints: Path, settings: TrainSettings, schedule: Schedule) -> None:
    name = f"step-{state.step:06d}" + (f"-of-{schedule.steps:06d}" if state.phase == "decay" else "")
    state.save(checkpoints / name, clips_seen=state.step * settings.batch_size)
    write_text(checkpoints / "latest", name + "\n")
    keep = {name, f"step-{schedule.trunk:06d}"}
    others = sorted(
        (folder for folder in checkpoints.glob("step-*") if folder.name not in keep and not _is_result(folder)),
        key=lambda folder: (folder / STATE).stat().st_mtime,
    )
    for folder in others[: max(0, len(others) - settings.keep + 1)]:
        shutil.rmtree(folder)


def _is_result(folder: Path) -> bool:
    step, _, steps = folder.name.removeprefix("step-").partition("-of-")
    return step == steps
