"""State of a training run (weights, averages, optimizers, step) and its checkpoint folder.

A checkpoint folder holds `model.safetensors` (weights), `ema.safetensors` (their average, for sampling), both with the
model's settings in the header, `optimizer.safetensors` and `state.json`; the averages that are updated at every step,
by their length, are `ema-0.05.safetensors` and `ema-0.1.safetensors` (`ema.py`). It has no RNG state, because every
draw follows from (seed, step), and does not depend on the number of processes: any number of them can resume from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.optim import Optimizer

from vidiff_cli import __version__
from vidiff_cli.checkpoint import AVERAGE, OPTIMIZER, STATE, WEIGHTS, read_tensors, write_tensors
from vidiff_cli.config.train import OptimizerSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.models.sample_steps import SampleSteps
from vidiff_cli.models.video_model import VideoNetwork, check_model_weights
from vidiff_cli.system.atomic_files import write_folder
from vidiff_cli.system.shortage import raise_shortage
from vidiff_cli.training.distributed import ALONE, DistributedContext
from vidiff_cli.training.ema import USUAL, Ema
from vidiff_cli.training.optimizers import build_optimizers
from vidiff_cli.training.step_guard import StepGuard

Phase = Literal["stable", "decay"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenAverage:
    """The average of the weights (whole; of rank 0 alone) that becomes the result of a run, its length, and the
    held-out losses by length that it was chosen by."""

    length: float
    weights: Mapping[str, Tensor]
    losses: Mapping[float, float]


class TrainState:
    """State after `step` updates; `phase` is that of the last one. `notes` (JSON) are saved and loaded with a
    checkpoint, for the caller's use. `chosen` is the average that sampling uses, where it is not the usual one."""

    def __init__(self, video_model: VideoNetwork, settings: OptimizerSettings) -> None:
        self.video_model = video_model
        self.optimizers = build_optimizers(video_model, settings)
        self.rates = {
            name: [group["lr"] for group in optimizer.param_groups] for name, optimizer in self.optimizers.items()
        }
        self.ema = Ema(video_model)
        self.chosen: ChosenAverage | None = None
        self.guard = StepGuard()
        self.step = 0
        self.phase: Phase = "stable"
        self.notes: dict[str, Any] = {}
        self.sample_steps: SampleSteps | None = None  # of the averages, measured at the end of a training

    def set_rate(self, factor: float) -> float:
        """Sets every learning rate to its own times `factor`; returns AdamW's."""
        for name, optimizer in self.optimizers.items():
            for group, rate in zip(optimizer.param_groups, self.rates[name], strict=True):
                group["lr"] = rate * factor
        return self.rates["adamw"][0] * factor

    def save(
        self,
        folder: Path,
        *,
        clips_seen: int,
        errors: Mapping[str, object] | None = None,
        parallel: DistributedContext = ALONE,
    ) -> None:
        """Writes a checkpoint folder, whole or not at all; `errors` (`OnePassErrors.as_json`) are those of its
        averages. All ranks call it, rank 0 writes."""
        header = {
            "vidiff": __version__,
            "model": self.video_model.settings.model_dump(mode="json"),
            "step": self.step,
            "phase": self.phase,
            "clips_seen": clips_seen,
        } | ({} if errors is None else {"errors": errors})
        if self.sample_steps is not None:
            header["steps"] = self.sample_steps.as_json()
        notes = {"step": self.step, "phase": self.phase, "ema_updates": self.ema.updates, "notes": self.notes}
        notes["guard"] = self.guard.state_dict()
        notes["chosen"] = None if self.chosen is None else self.chosen.length
        averages = header | {"weights": "ema"}
        files = [
            (WEIGHTS, self.video_model.state_dict(), header | {"weights": "raw"}),
            *(
                (average_file(length), each, averages | {"length": length})
                for length, each in self.ema.averages.items()
            ),
            (OPTIMIZER, _optimizer_tensors(self.video_model, self.optimizers), {}),
        ]

        def fill(target: Path | None) -> None:
            if target is not None and (chosen := self.chosen) is not None:
                losses = {f"{length:g}": loss for length, loss in chosen.losses.items()}
                about = averages | {"length": chosen.length} | ({"losses": losses} if losses else {})
                write_tensors(target / AVERAGE, chosen.weights, about)
            for name, tensors, content in files:
                whole = parallel.gather_full_state(
                    tensors
                )  # file after file: the host need not hold all of them at a time
                if target is not None:
                    write_tensors(target / name, whole, content)
                    if name == average_file(USUAL) and self.chosen is None:
                        write_tensors(target / AVERAGE, whole, content)
            if target is not None:
                (target / STATE).write_text(json.dumps(notes) + "\n", encoding="utf-8")

        write_folder(folder, fill) if parallel.is_main else fill(None)

    def load(self, folder: Path | None, *, parallel: DistributedContext = ALONE) -> None:
        """Loads a checkpoint folder of the same model, which rank 0 reads: the others need no folder. VidiffError:
        missing, damaged, of another model."""
        found = _read_notes(folder) if parallel.is_main and folder is not None else {}
        found = parallel.broadcast_object(found)
        load_weights(self.video_model, folder and folder / WEIGHTS, parallel=parallel)
        averages = {average_file(length): each for length, each in self.ema.averages.items()}
        read = dict[str, dict[str, Tensor]]()
        if parallel.is_main and folder is not None:
            sampled = _read_averages(folder / AVERAGE, self.ema.shadow)
            before = not any((folder / name).exists() for name in averages)  # older runs had this average alone
            read = {name: sampled if before else _read_averages(folder / name, each) for name, each in averages.items()}
        tensors = read_tensors(folder / OPTIMIZER) if parallel.is_main and folder else {}
        _load_optimizers(self.video_model, self.optimizers, tensors, parallel)
        for name, each in averages.items():
            parallel.broadcast_state(read.get(name, {}), each)
        self.guard = StepGuard()
        self.guard.load_state_dict(found["guard"])
        self.step, self.phase, self.ema.updates = found["step"], found["phase"], found["ema_updates"]
        self.notes, self.sample_steps = found["notes"], None
        self.chosen = None
        if (length := found["chosen"]) is not None:
            weights = sampled if parallel.is_main and folder is not None else {}
            self.chosen = ChosenAverage(length=length, weights=weights, losses={})


def average_file(length: float) -> str:
    """The file of an average that is updated."""
    return f"ema-{length:g}.safetensors"


def _read_notes(folder: Path) -> dict[str, Any]:
    """state.json of a checkpoint folder, checked."""
    try:
        notes = json.loads((folder / STATE).read_text(encoding="utf-8"))
        found: dict[str, Any] = {name: int(notes[name]) for name in ("step", "ema_updates")}
        found |= {"phase": notes["phase"], "notes": dict(notes.get("notes", {})), "guard": notes.get("guard", {})}
        found["chosen"] = None if notes.get("chosen") is None else float(notes["chosen"])
        StepGuard().load_state_dict(found["guard"])
        if min(found["step"], found["ema_updates"]) < 0 or found["phase"] not in get_args(Phase):
            raise ValueError(f"step {found['step']} of the {str(found['phase'])[:20]}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise_shortage(folder / STATE, error)
        raise VidiffError(f"{folder} is not a checkpoint to resume from", found=str(error)) from error
    return found


def _read_averages(path: Path, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    averages = read_tensors(path)
    if {name: value.shape for name, value in averages.items()} != {name: value.shape for name, value in like.items()}:
        raise VidiffError(f"the averages in {path.parent} do not fit the run", fix="use an earlier checkpoint")
    return averages


def load_weights(video_model: VideoNetwork, path: Path | None, *, parallel: DistributedContext = ALONE) -> None:
    """Puts the weights of a checkpoint file into a model; rank 0 reads it. VidiffError when they do not fit."""
    present, weights = video_model.state_dict(), dict[str, Tensor]()
    if parallel.is_main and path is not None:
        weights = read_tensors(path)
        check_model_weights(weights, present, path)
    parallel.broadcast_state(weights, present)


def _optimizer_tensors(video_model: VideoNetwork, optimizers: dict[str, Optimizer]) -> dict[str, Tensor]:
    """State by "optimizer/parameter/key": names, not places in a list, so that no order can shift them."""
    names = {id(value): name for name, value in video_model.named_parameters()}
    return {
        f"{title}/{names[id(parameter)]}/{key}": torch.as_tensor(value)
        for title, optimizer in optimizers.items()
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def _load_optimizers(
    video_model: VideoNetwork,
    optimizers: dict[str, Optimizer],
    tensors: Mapping[str, Tensor],
    parallel: DistributedContext,
) -> None:
    parameters = dict(video_model.named_parameters())
    for optimizer in optimizers.values():
        optimizer.state.clear()
    new: dict[str, Tensor] = {}
    shapes = parallel.broadcast_object({full: list(value.shape) for full, value in tensors.items()})
    for full, shape in shapes.items():
        title, _, rest = full.partition("/")
        name, _, key = rest.rpartition("/")
        if title not in optimizers or name not in parameters:
            raise VidiffError("the optimizer state does not fit the run", found=full, fix="start a new run folder")
        parameter = parameters[name].detach()
        alike = shape == list(parameter.shape)
        new[full] = torch.empty_like(parameter) if alike else torch.empty(shape, device=parameter.device)
        optimizers[title].state[parameters[name]][key] = new[full]
    parallel.broadcast_state(tensors, new)
