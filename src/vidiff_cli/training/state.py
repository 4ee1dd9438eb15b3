"""All that a training run is at one moment: weights, averages, optimizers and the step; its checkpoint folder.

A checkpoint folder holds `model.safetensors` (weights), `ema.safetensors` (their average, for sampling), both with the
model's settings in the header, `optimizer.safetensors` and `state.json`; averages of other decays are files such as
`ema-0.9999.safetensors`. There is no RNG state: every draw follows from (seed, step). Nothing in it tells how many
processes made it: any number of them goes on from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.optim import Optimizer

from vidiff_cli import __version__
from vidiff_cli.checkpoint import read_header, read_shapes, read_tensors, write_tensors
from vidiff_cli.config.model import ModelSettings
from vidiff_cli.config.train import OptimizerSettings
from vidiff_cli.diffusion.noise import seeded
from vidiff_cli.errors import VidiffError
from vidiff_cli.models.blocks import seed_dropout
from vidiff_cli.models.denoiser import Denoiser
from vidiff_cli.system.atomic_files import write_folder
from vidiff_cli.text.adapter import AdaptedText
from vidiff_cli.text.learned import LearnedText
from vidiff_cli.training.distributed import ALONE, DistributedContext
from vidiff_cli.training.ema import Ema
from vidiff_cli.training.loader import Batch
from vidiff_cli.training.objective import Auxiliary, Loss, diffusion_loss
from vidiff_cli.training.optimizers import build_optimizers
from vidiff_cli.training.step_guard import StepGuard

Phase = Literal["stable", "decay"]
WEIGHTS, AVERAGE, OPTIMIZER, STATE = "model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json"


class VideoModel(nn.Module):
    """The denoiser and what is trained of the text encoder with it: all of a learned one, the adapter of a frozen
    one."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.settings = settings
        self.denoiser = Denoiser(settings)
        self.text = _text_encoder(settings)

    def forward(self, batch: Batch, auxiliary: Auxiliary | None = None) -> tuple[Tensor, Loss]:
        """The training loss, and its total by itself: what wraps a module (DDP, FSDP2) finds tensors in tuples only."""
        seed_dropout(self.denoiser, batch.seeds)
        loss = diffusion_loss(self.denoiser, self.text, batch, auxiliary=auxiliary)
        return loss.total, loss


def _text_encoder(settings: ModelSettings) -> LearnedText | AdaptedText | None:
    text, width = settings.text, settings.network.context_dim
    if not width:
        return None
    if text.clip is not None:
        return AdaptedText(text.clip, width)
    if text.kind == "learned":
        return LearnedText(text.vocabulary, width=width, depth=text.depth, max_tokens=text.max_tokens)
    return None


def new_video_model(settings: ModelSettings, seed: int) -> VideoModel:
    """A model whose first weights follow from the seed alone; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded(seed).initial_seed())
        return VideoModel(settings)


class TrainState:
    """`step` updates have been made; `phase` says whether they all belong to the stable phase or the last ones to a
    decay branch. `notes`, as JSON, are kept with a checkpoint and come back with it, for whoever runs the training."""

    def __init__(self, video_model: VideoModel, settings: OptimizerSettings) -> None:
        self.video_model = video_model
        self.optimizers = build_optimizers(video_model, settings)
        self.rates = {
            name: [group["lr"] for group in optimizer.param_groups] for name, optimizer in self.optimizers.items()
        }
        self.ema = Ema(video_model, settings.ema, settings.ema_more)
        self.guard = StepGuard()
        self.step = 0
        self.phase: Phase = "stable"
        self.notes: dict[str, Any] = {}

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
        notes = {"step": self.step, "phase": self.phase, "ema_updates": self.ema.updates, "notes": self.notes}
        notes["guard"] = self.guard.state_dict()
        averages = header | {"weights": "ema"}
        files = [
            (WEIGHTS, self.video_model.state_dict(), header | {"weights": "raw"}),
            (AVERAGE, self.ema.shadow, averages),
            *((average_file(decay), shadow, averages | {"decay": decay}) for decay, shadow in self.ema.more.items()),
            (OPTIMIZER, _optimizer_tensors(self.video_model, self.optimizers), {}),
        ]

        def fill(place: Path | None) -> None:
            for name, tensors, content in files:
                whole = parallel.gather_full_state(
                    tensors
                )  # file after file: the host need not hold all of them at a time
                if place is not None:
                    write_tensors(place / name, whole, content)
            if place is not None:
                (place / STATE).write_text(json.dumps(notes) + "\n", encoding="utf-8")

        write_folder(folder, fill) if parallel.is_main else fill(None)

    def load(self, folder: Path | None, *, parallel: DistributedContext = ALONE) -> None:
        """Takes over a checkpoint folder of the same model, which rank 0 reads: the others need no folder. VidiffError:
        missing, damaged, of another model."""
        found = _read_notes(folder) if parallel.is_main and folder is not None else {}
        found = parallel.broadcast_object(found)
        load_weights(self.video_model, folder and folder / WEIGHTS, parallel=parallel)
        averages = {AVERAGE: self.ema.shadow} | {average_file(decay): each for decay, each in self.ema.more.items()}
        read = {
            name: _read_averages(folder / name, each) for name, each in averages.items() if parallel.is_main and folder
        }
        tensors = read_tensors(folder / OPTIMIZER) if parallel.is_main and folder else {}
        _load_optimizers(self.video_model, self.optimizers, tensors, parallel)
        for name, each in averages.items():
            parallel.broadcast_state(read.get(name, {}), each)
        self.guard = StepGuard()
        self.guard.load_state_dict(found["guard"])
        self.step, self.phase, self.ema.updates = found["step"], found["phase"], found["ema_updates"]
        self.notes = found["notes"]


def average_file(decay: float) -> str:
    """The file of an average beside the main one."""
    return f"ema-{decay:g}.safetensors"


def _read_notes(folder: Path) -> dict[str, Any]:
    """state.json of a checkpoint folder, checked."""
    try:
        notes = json.loads((folder / STATE).read_text(encoding="utf-8"))
        found: dict[str, Any] = {name: int(notes[name]) for name in ("step", "ema_updates")}
        found |= {"phase": notes["phase"], "notes": dict(notes.get("notes", {})), "guard": notes.get("guard", {})}
        StepGuard().load_state_dict(found["guard"])
        if min(found["step"], found["ema_updates"]) < 0 or found["phase"] not in get_args(Phase):
            raise ValueError(f"step {found['step']} of the {str(found['phase'])[:20]}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise VidiffError(f"{folder} is no checkpoint to resume from", found=str(error)) from error
    return found


def _read_averages(path: Path, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    averages = read_tensors(path)
    if {name: value.shape for name, value in averages.items()} != {name: value.shape for name, value in like.items()}:
        raise VidiffError(f"the averages in {path.parent} do not fit the run", fix="use an earlier checkpoint")
    return averages


def load_weights(video_model: VideoModel, path: Path | None, *, parallel: DistributedContext = ALONE) -> None:
    """Puts the weights of a checkpoint file into a model; rank 0 reads it. VidiffError when they do not fit."""
    present = video_model.state_dict()
    parallel.broadcast_state(_read_weights(path, present) if parallel.is_main and path is not None else {}, present)


def _read_weights(path: Path, present: Mapping[str, Tensor]) -> dict[str, Tensor]:
    tensors = read_tensors(path)
    wrong = [name for name in present if name not in tensors or tensors[name].shape != present[name].shape]
    wrong += [name for name in tensors if name not in present]
    if wrong:
        raise VidiffError(f"the weights in {path} do not fit their own settings", found=f"{len(wrong)} that differ")
    if bad := [name for name, value in tensors.items() if not bool(torch.isfinite(value).all())]:
        raise VidiffError(f"the weights in {path} are not finite", found=bad[0], fix="use an earlier checkpoint")
    return tensors


def open_video_model(path: Path) -> tuple[VideoModel, dict[str, object]]:
    """A model with the weights of a checkpoint file, and the file's header."""
    header = read_header(path)
    try:
        settings = ModelSettings.model_validate(header["model"])
    except ValidationError as error:
        first = error.errors()[0]
        found = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise VidiffError(f"{path} holds settings that this vidiff does not know", found=found) from error
    except KeyError as error:
        raise VidiffError(f"{path} holds no settings of a model") from error
    _check_size(settings, path)
    video_model = new_video_model(settings, seed=0)
    load_weights(video_model, path)
    return video_model, header


def _check_size(settings: ModelSettings, path: Path) -> None:
    """VidiffError unless the file holds the very tensors of such a network; asks no memory for them."""
    with torch.device("meta"):
        wanted = {name: tuple(value.shape) for name, value in VideoModel(settings).state_dict().items()}
    found = read_shapes(path)
    if wanted != found:
        wrong = {name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)}
        raise VidiffError(f"the weights in {path} do not fit their own settings", found=f"{len(wrong)} that differ")


def _optimizer_tensors(video_model: VideoModel, optimizers: dict[str, Optimizer]) -> dict[str, Tensor]:
    """State by "optimizer/parameter/key": names, not places in a list, so that no order can shift them."""
    names = {id(value): name for name, value in video_model.named_parameters()}
    return {
        f"{title}/{names[id(parameter)]}/{key}": torch.as_tensor(value)
        for title, optimizer in optimizers.items()
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def _load_optimizers(
    video_model: VideoModel,
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
