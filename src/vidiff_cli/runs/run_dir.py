"""The run folder of a training: whose it is, what it holds, where to go on from, and which checkpoints are kept.

`config.json` (resolved settings), `metrics.jsonl`, `loss.png`, `samples/`, `checkpoints/step-N` of the stable phase,
`checkpoints/step-N-of-M` of the decay branch of a run of M steps, `checkpoints/latest` (the name of the newest).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

from vidiff_cli import __version__
from vidiff_cli.config.model import ModelSettings
from vidiff_cli.config.run_config import UNREADABLE, read_run_config
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.dataset.dataset import Dataset
from vidiff_cli.errors import VidiffError
from vidiff_cli.runs.trackers import FILES as TRACKER_FILES
from vidiff_cli.runs.trackers import flat
from vidiff_cli.system.atomic_files import remove, remove_folder, remove_leftovers, write_text
from vidiff_cli.system.locks import LOCK
from vidiff_cli.training.distributed import ALONE, DistributedContext
from vidiff_cli.training.loop import LRSchedule
from vidiff_cli.training.one_pass import OnePassErrors
from vidiff_cli.training.state import STATE, Phase, TrainState

MUTABLE_SETTINGS = {
    "steps",
    "resume",
    "overwrite",
    "output",
    "checkpoint_every",
    "keep",
    "sample_every",
    "prompts",
    "validate_every",
    "track",
    "device",
    "parallel",
    "patience",
    "grad_accum_steps",
    "gradient_checkpointing",
    "compile",
    "optimizer.grad_spike_factor",
    "text.clip_model",
    "loader.workers",
    "loader.cache_bytes",
}
OWN_FILES = {"config.json", "metrics.jsonl", "checkpoints", "samples", "loss.png", *TRACKER_FILES}
OTHER_FOLDER = "give another folder with -o"
INTERRUPT_ONLY = (
    "passing"  # in a checkpoint's notes: made because of an interrupt, in the way once there is a later one
)


def check_run(run: Path, settings: TrainSettings, model: ModelSettings, dataset: Dataset) -> bool:
    """Whether the run folder holds this very run, to be continued. VidiffError if it holds anything else."""
    path = run / "config.json"
    if not path.is_file():
        if run.is_dir() and not all(_is_leftover(entry.name) for entry in run.iterdir()):
            raise VidiffError(f"{run} is not empty and is no run", fix=OTHER_FOLDER)
        return False
    if settings.resume == "never":
        raise VidiffError(f"{run} is there already", fix=f"{OTHER_FOLDER}, or --overwrite")
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(before[part], dict) for part in ("train", "model")):
            raise ValueError("no settings of a run")
        old, new = (flat(part) for part in (before, _config(settings, model, dataset)))
    except UNREADABLE as error:
        raise VidiffError(f"{path} cannot be read", found=str(error), fix=OTHER_FOLDER) from error
    # settings that the run knows nothing of are newer than it: what they do by default is what it did
    defaults = flat(
        {"train": TrainSettings().model_dump(mode="json"), "model": ModelSettings().model_dump(mode="json")}
    )
    defaults["train.motion"] = False  # but a network is shown motion by default now
    old = {name: value for name, value in defaults.items() if name in new} | old
    content = old.pop("dataset", None), new.pop("dataset")
    if content[0] not in (None, content[1]) and old.get("train.dataset") == new.get("train.dataset"):
        raise VidiffError(
            f"the dataset {dataset.folder} is no longer the one that {run} was trained on",
            found="other clips",
            fix=f"{OTHER_FOLDER}, or --overwrite",
        )
    if content[0] == content[1]:
        old["train.dataset"] = new["train.dataset"]  # the same clips in another place
    changed = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    changed = [name for name in changed if name.removeprefix("train.") not in MUTABLE_SETTINGS and name != "vidiff"]
    if changed:
        name = min(changed, key=lambda name: not name.startswith("train."))  # what a person set, not what followed
        raise VidiffError(
            f"{run} was trained with another {name.removeprefix('train.')}",
            found=_short(new.get(name)),
            expected=_short(old.get(name)),
            fix=f"{OTHER_FOLDER}, or --overwrite",
        )
    return True


def other_dataset(place: Path, dataset: Dataset) -> bool:
    """Whether a checkpoint folder is of a run that says that it was trained on other clips."""
    before = read_run_config(place.parents[1]).get("dataset")
    return isinstance(before, str) and before != dataset.digest()


def _short(value: object) -> str:
    text = str(value)  # a vocabulary has thousands of numbers
    return text if len(text) <= 60 else text[:57] + "..."


def check_replaceable(run: Path) -> None:
    """--overwrite removes a run and nothing else: VidiffError for a folder that holds other things."""
    if not read_run_config(run).keys() >= {"vidiff", "train", "model"}:
        raise VidiffError(f"{run / 'config.json'} belongs to no run", fix=OTHER_FOLDER)
    if foreign := sorted(entry.name for entry in run.iterdir() if not _is_own(entry.name)):
        raise VidiffError(f"{run} holds more than a run", found=foreign[0], fix=OTHER_FOLDER)


def remove_run(run: Path) -> None:
    """Empties a run folder. config.json goes last, so that what a kill leaves is still known as a run."""
    for entry in sorted(run.iterdir(), key=lambda entry: entry.name == "config.json"):
        if entry.name != LOCK:
            remove(entry)


def remove_unfinished(run: Path) -> None:
    """Removes what killed processes left of files that they were writing. Only while the run is locked."""
    for folder in (run, run / "checkpoints", run / "samples"):
        remove_leftovers(folder)


def _is_own(name: str) -> bool:
    """A file of a run, or what a killed run left of one."""
    return name in OWN_FILES or _is_leftover(name)


def _is_leftover(name: str) -> bool:
    return name == LOCK or (name.startswith(".") and (".tmp-" in name or name.endswith(".png")))


def _config(settings: TrainSettings, model: ModelSettings, dataset: Dataset) -> dict[str, object]:
    return {
        "vidiff": __version__,
        "dataset": dataset.digest(),
        "train": settings.model_dump(mode="json"),
        "model": model.model_dump(mode="json"),
    }


def write_config(run: Path, settings: TrainSettings, model: ModelSettings, dataset: Dataset) -> None:
    try:
        run.mkdir(parents=True, exist_ok=True)
        write_text(run / "config.json", json.dumps(_config(settings, model, dataset), indent=2) + "\n")
    except OSError as error:
        raise VidiffError(f"the run folder {run} cannot be written", found=error.strerror) from error


def resume_from(checkpoints: Path, settings: TrainSettings, schedule: LRSchedule, *, resumed: bool) -> Path | None:
    """The checkpoint to go on from: the one asked for; of a run that is `resumed`, the last of the stable phase or of
    this very decay branch."""
    if settings.resume not in ("auto", "never"):
        return _asked_for(Path(settings.resume), settings.steps)
    if not resumed:
        return None
    best: tuple[int, Path] | None = None
    damaged: list[Path] = []
    lengths: set[int] = set()
    for folder in checkpoints.glob("step-*"):
        try:
            notes = json.loads((folder / STATE).read_text(encoding="utf-8"))
            step, phase, steps = int(notes["step"]), notes["phase"], _branch_of(folder)
            if phase not in get_args(Phase):
                raise ValueError(f"the phase {phase}")
        except UNREADABLE:
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


def _asked_for(place: Path, steps: int) -> Path:
    """The --resume checkpoint folder. VidiffError where there is none, or nothing is left to train."""
    expected = "auto, never, or a folder such as runs/NAME/checkpoints/step-000100"
    try:
        step = int(json.loads((place / STATE).read_text(encoding="utf-8"))["step"])
    except OSError as error:
        found = error.strerror or str(error)
        raise VidiffError(f"there is no checkpoint to resume at {place}", found=found, expected=expected) from error
    except UNREADABLE as error:
        raise VidiffError(f"{place / STATE} is damaged", fix="resume from another checkpoint") from error
    if step >= steps:
        raise VidiffError(f"{place} has {step} steps already", expected=f"fewer than {steps}", fix="raise --steps")
    return place


def _branch_of(folder: Path) -> int | None:
    """How many steps the run was to have to which a decay checkpoint belongs: step-000900-of-001000."""
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
    """
    name = f"step-{state.step:06d}" + (f"-of-{schedule.steps:06d}" if state.phase == "decay" else "")
    told = None if errors is None else errors.as_json()
    state.save(checkpoints / name, clips_seen=state.step * settings.batch_size, errors=told, parallel=parallel)
    if not parallel.is_main:
        return
    write_text(checkpoints / "latest", name + "\n")
    _remove_older(checkpoints / name, settings, schedule)


def complete_save(newest: Path, settings: TrainSettings, schedule: LRSchedule) -> None:
    """Does what `save_checkpoint` does after the folder is there: a kill may have come between."""
    pointer = newest.parent / "latest"
    pointed = Path(pointer.read_text(encoding="utf-8", errors="replace").strip() if pointer.is_file() else "none").name
    if _notes(newest.parent / pointed).get("step", -1) > _notes(newest)["step"]:
        return  # the result of a run that is now to be longer: better than the stable phase that is gone on with
    if pointed != newest.name:
        write_text(pointer, newest.name + "\n")
    _remove_older(newest, settings, schedule)


def _remove_older(newest: Path, settings: TrainSettings, schedule: LRSchedule) -> None:
    """Of the checkpoints, `keep` stay, and the end of the stable phase, and results."""
    always = {newest.name, f"step-{schedule.stable:06d}"}
    others = [folder for folder in newest.parent.glob("step-*") if folder.name not in always and not _is_result(folder)]
    passing = [folder for folder in others if _notes(folder).get("notes", {}).get(INTERRUPT_ONLY)]
    others = sorted((folder for folder in others if folder not in passing), key=lambda folder: _age(folder))
    for folder in (*passing, *others[: max(0, len(others) - settings.keep + 1)]):
        remove_folder(folder)


def _age(folder: Path) -> float:
    try:
        return (folder / STATE).stat().st_mtime
    except OSError:
        return 0.0


def _notes(folder: Path) -> dict[str, Any]:
    """state.json of a checkpoint folder; nothing where it cannot be read."""
    try:
        notes = json.loads((folder / STATE).read_text(encoding="utf-8"))
    except UNREADABLE:
        return {}
    sound = isinstance(notes, dict) and type(notes.get("step")) is int and isinstance(notes.get("notes", {}), dict)
    return notes if sound else {}


def _is_result(folder: Path) -> bool:
    step, _, steps = folder.name.removeprefix("step-").partition("-of-")
    return step == steps
