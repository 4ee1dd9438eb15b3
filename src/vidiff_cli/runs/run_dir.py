"""Run folder of a training: its config, and the checks before a run is continued or replaced.

`config.json` (resolved settings), `metrics.jsonl`, `loss.png`, `samples/`, and `checkpoints/` (see `checkpoints.py`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vidiff_cli import __version__
from vidiff_cli.config.model import ModelSettings
from vidiff_cli.config.run_config import UNREADABLE, read_run_config, renew
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.dataset.dataset import Dataset
from vidiff_cli.errors import VidiffError
from vidiff_cli.runs.trackers import FILES as TRACKER_FILES
from vidiff_cli.runs.trackers import flatten
from vidiff_cli.system.atomic_files import remove, remove_leftovers, write_text
from vidiff_cli.system.locks import LOCK
from vidiff_cli.system.shortage import raise_shortage

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
    "deterministic",
    "parallel",
    "rank_timeout",
    "keep_best",
    "patience",
    "grad_accum_steps",
    "gradient_checkpointing",
    "compile",
    "optimizer.grad_spike_factor",
    "optimizer.ema_length",
    "text.clip_model",
    "loader.workers",
    "loader.cache_bytes",
}
OWN_FILES = {"config.json", "metrics.jsonl", "checkpoints", "averages", "samples", "loss.png", *TRACKER_FILES}
OTHER_FOLDER = "give another folder with -o"
MAX_SHOWN = 60  # characters of a setting in a message: a vocabulary has thousands of numbers


def check_run(run: Path, settings: TrainSettings, model: ModelSettings, dataset: Dataset) -> bool:
    """Returns True for a run with these settings, to be continued, and False for an empty or missing folder.

    VidiffError where the folder holds anything else.
    """
    path = run / "config.json"
    if not path.is_file():
        if run.is_dir() and not all(_is_leftover(entry.name) for entry in run.iterdir()):
            raise VidiffError(f"{run} is not empty and does not contain a vidiff run", fix=OTHER_FOLDER)
        return False
    if settings.resume == "never":
        raise VidiffError(f"{run} already exists", fix=f"{OTHER_FOLDER}, or --overwrite")
    old, new = _read_recorded(path), flatten(_config(settings, model, dataset))
    old = {name: value for name, value in _defaults().items() if name in new} | old
    digest, new_digest = old.pop("dataset", None), new.pop("dataset")
    if digest == new_digest:
        old["train.dataset"] = new["train.dataset"]  # the same clips in another place
    elif digest is not None and old.get("train.dataset") == new.get("train.dataset"):
        raise VidiffError(
            f"the dataset {dataset.folder} has changed since {run} was trained on it",
            found="other clips",
            fix=f"{OTHER_FOLDER}, or --overwrite",
        )
    changed = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    changed = [name for name in changed if name.removeprefix("train.") not in MUTABLE_SETTINGS and name != "vidiff"]
    if changed:
        name = min(changed, key=lambda name: not name.startswith("train."))  # a setting rather than its consequence
        raise VidiffError(
            f"{run} was trained with another {name.removeprefix('train.')}",
            found=_shorten(new.get(name)),
            expected=_shorten(old.get(name)),
            fix=f"{OTHER_FOLDER}, or --overwrite",
        )
    return True


def _read_recorded(path: Path) -> dict[str, Any]:
    """Reads config.json as flat names and values. VidiffError where it is damaged."""
    try:
        config = renew(json.loads(path.read_text(encoding="utf-8")))
        if not all(isinstance(config[part], dict) for part in ("train", "model")):
            raise ValueError("no settings of a run")
        return flatten(config)
    except UNREADABLE as error:
        raise_shortage(path, error)
        raise VidiffError(f"{path} cannot be read", found=str(error), fix=OTHER_FOLDER) from error


def _defaults() -> dict[str, Any]:
    """Values of settings that are newer than a run: their defaults, with which it was trained."""
    parts = {"train": TrainSettings().model_dump(mode="json"), "model": ModelSettings().model_dump(mode="json")}
    return flatten(parts) | {"train.motion": False}  # on by default today, but older runs had none


def other_dataset(checkpoint: Path, dataset: Dataset) -> bool:
    """Says whether a checkpoint folder belongs to a run that was trained on other clips."""
    digest = read_run_config(checkpoint.parents[1]).get("dataset")
    return isinstance(digest, str) and digest != dataset.digest()


def _shorten(value: object) -> str:
    text = str(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."


def check_replaceable(run: Path) -> None:
    """Raises VidiffError for a folder that --overwrite must not remove: no run, or other files beside it."""
    if not read_run_config(run).keys() >= {"vidiff", "train", "model"}:
        raise VidiffError(f"{run / 'config.json'} does not belong to a run", fix=OTHER_FOLDER)
    if foreign := sorted(entry.name for entry in run.iterdir() if not _is_own(entry.name)):
        raise VidiffError(f"{run} holds files that are not part of a run", found=foreign[0], fix=OTHER_FOLDER)


def remove_run(run: Path) -> None:
    """Empties a run folder, config.json last: a folder that a kill leaves half empty is still known as a run."""
    for entry in sorted(run.iterdir(), key=lambda entry: entry.name == "config.json"):
        if entry.name != LOCK:
            remove(entry)


def remove_unfinished(run: Path) -> None:
    """Removes unfinished files of killed processes. Only while the run is locked."""
    for folder in (run, run / "checkpoints", run / "averages", run / "samples"):
        remove_leftovers(folder)


def _is_own(name: str) -> bool:
    return name in OWN_FILES or _is_leftover(name)


def _is_leftover(name: str) -> bool:
    """Recognizes the lock, and unfinished files of a killed run."""
    return name == LOCK or (name.startswith(".") and (".tmp-" in name or name.endswith(".png")))


def _config(settings: TrainSettings, model: ModelSettings, dataset: Dataset) -> dict[str, object]:
    return {
        "vidiff": __version__,
        "dataset": dataset.digest(),
        "train": settings.model_dump(mode="json"),
        "model": model.model_dump(mode="json"),
    }


def write_config(run: Path, settings: TrainSettings, model: ModelSettings, dataset: Dataset) -> None:
    """Writes config.json and makes the folder. VidiffError where it cannot be written."""
    try:
        run.mkdir(parents=True, exist_ok=True)
        write_text(run / "config.json", json.dumps(_config(settings, model, dataset), indent=2) + "\n")
    except OSError as error:
        raise VidiffError(f"the run folder {run} cannot be written", found=error.strerror) from error
