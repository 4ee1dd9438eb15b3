"""Description of a run folder: its training, its progress, and the command that resumes it."""

from __future__ import annotations

import json
import math
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from vidiff_cli.checkpoint import STATE
from vidiff_cli.config.train import TrainSettings, presets
from vidiff_cli.dataset.world_dataset import is_world
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import EventStream, Note
from vidiff_cli.generation.load_model import find_checkpoint
from vidiff_cli.runs.checkpoint_info import CheckpointInfo, describe_checkpoint
from vidiff_cli.runs.distillation import distill_command
from vidiff_cli.runs.metrics_log import TrainingLog
from vidiff_cli.system.locks import LOCK

RECENT_ROWS = 10  # of metrics.jsonl: the last hundred steps
FINETUNING = {"lora", "temporal"}  # presets for public models
SAID_OTHERWISE = {"dataset", "output", "preset", "steps", "resume", "overwrite"}  # no --set of their own


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedStep:
    """A checkpoint folder of a run; `step` and `phase` are None if it does not store them."""

    name: str
    step: int | None
    phase: str | None
    bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RunInfo:
    """Description of a run. `steps` are saved in the latest checkpoint, `steps_logged` were made.

    `go_on` is the command that resumes it: the same one for an unfinished run, with more steps for a finished one; it
    is valid in the folder in which the training was started.
    """

    kind: Literal["run"]
    path: Path
    bytes: int
    vidiff: str | None
    dataset: str
    preset: str | None
    state: Literal["running", "finished", "unfinished"]
    steps: int
    steps_logged: int
    steps_asked: int
    batch_size: int
    precision: str
    loss: float | None
    loss_mean: float | None
    validation_loss: float | None
    seconds_per_step: float | None
    seconds_left: float | None
    go_on: str | None
    checkpoints: tuple[SavedStep, ...]
    model: CheckpointInfo | None
    metrics: Path | None
    plot: Path | None
    samples: tuple[Path, ...]
    warnings: tuple[str, ...]


def describe_run(path: Path) -> EventStream[RunInfo]:
    """Describes a run. VidiffError: its config.json cannot be read, or its latest checkpoint is damaged."""
    config, settings = _config(path)
    checkpoints = tuple(_saved(path / "checkpoints"))
    model, warnings = None, list[str]()
    newest = _newest(path)
    if newest is not None:
        model = yield from describe_checkpoint(newest)
        warnings += model.warnings
    elif checkpoints:
        warnings.append(f"{path / 'checkpoints' / 'latest'} names none of the checkpoints: sampling finds no model.")
        yield Note(warnings[-1], "warning")
    steps = (model.step if model else max((saved.step or 0 for saved in checkpoints), default=0)) or 0
    rows = TrainingLog(path, settings.steps).rows()
    running = _is_training(path / LOCK)
    pace = _last(rows, "seconds_per_step")
    losses = [row["loss"] for row in rows[-RECENT_ROWS:] if _is_number(row.get("loss"))]
    if not (is_world(settings.dataset) or settings.dataset.exists()):
        warnings.append(f"The dataset {settings.dataset} is not to be found from here: go on where it was trained.")
        yield Note(warnings[-1], "warning")
    plot, metrics = path / "loss.png", path / "metrics.jsonl"
    return RunInfo(
        kind="run",
        path=path,
        bytes=sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        vidiff=config.get("vidiff") if isinstance(config.get("vidiff"), str) else None,
        dataset=str(settings.dataset),
        preset=settings.preset,
        state="running" if running else "finished" if steps >= settings.steps else "unfinished",
        steps=steps,
        steps_logged=int(rows[-1]["step"]) if rows else 0,
        steps_asked=settings.steps,
        batch_size=settings.batch_size,
        precision=settings.precision,
        loss=_last(rows, "loss"),
        loss_mean=sum(losses) / len(losses) if losses else None,
        validation_loss=_last(rows, "validation_loss"),
        seconds_per_step=pace,
        seconds_left=None if pace is None else pace * max(0, settings.steps - steps),
        go_on=resume_command(path, settings, finished=steps >= settings.steps),
        checkpoints=checkpoints,
        model=model,
        metrics=metrics if metrics.is_file() else None,
        plot=plot if plot.is_file() else None,
        samples=tuple(sorted((path / "samples").glob("*.png"))),
        warnings=tuple(warnings),
    )


def resume_command(run: Path, settings: TrainSettings, *, finished: bool) -> str | None:
    """The command that resumes a run; None if its preset does not exist in this version."""
    steps = settings.steps * 2 if finished else settings.steps
    if settings.distillation is not None:
        return distill_command(run, settings, train_steps=steps)
    if settings.preset not in presets():
        return None
    words = ["vidiff", "train", str(settings.dataset), "-o", str(run)]
    words += ["--preset", str(settings.preset), "--steps", str(steps)]
    if settings.preset in FINETUNING:
        words += ["--frames", str(settings.frames)]  # without it, they are those of the public model
    preset = presets()[str(settings.preset)]
    followed = TrainSettings.model_validate(preset | {"network": settings.network}).diffusion  # target of this patch
    usual = TrainSettings.model_validate(preset).model_copy(update={"diffusion": followed})
    before, now = (dict(_leaves(each.model_dump(mode="json"))) for each in (usual, settings))
    for name, value in now.items():
        if name not in SAID_OTHERWISE and value != before[name] and value is not None:
            words += ["--set", f"{name}={json.dumps(value)}"]
    return shlex.join(words)


def _leaves(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield above + name, value


def _config(run: Path) -> tuple[dict[str, Any], TrainSettings]:
    path = run / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return config, TrainSettings.model_validate(config["train"])
    except ValidationError as error:
        problem = error.errors()[0]
        found = f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
        raise VidiffError(f"{path} holds settings that this vidiff does not know", found=found) from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        found = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise VidiffError(f"{run} is a run whose config.json cannot be read", found=found) from error


def _newest(run: Path) -> Path | None:
    """The checkpoint file that sampling loads."""
    try:
        return find_checkpoint(run)
    except VidiffError:
        return None


def _saved(checkpoints: Path) -> Iterator[SavedStep]:
    """Checkpoints of a run, oldest first."""
    for folder in sorted(
        checkpoints.glob("step-*"), key=lambda folder: (len(folder.name.split("-of-")[0]), folder.name)
    ):
        try:
            notes = json.loads((folder / STATE).read_text(encoding="utf-8"))
            step, phase = int(notes["step"]), str(notes["phase"])
        except (OSError, ArithmeticError, ValueError, KeyError, TypeError, RecursionError):
            step = phase = None
        size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) if folder.is_dir() else 0
        yield SavedStep(name=folder.name, step=step, phase=phase, bytes=size)


def _is_training(lock: Path) -> bool:
    """True if a living process is training the run. Read only: nothing is created or removed."""
    try:
        import fcntl

        descriptor = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW)
    except (ImportError, OSError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(descriptor)
    return False


def _last(rows: list[dict[str, float]], key: str) -> float | None:
    return next((row[key] for row in reversed(rows) if _is_number(row.get(key))), None)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
