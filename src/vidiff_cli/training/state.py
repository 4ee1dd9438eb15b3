"""All that a training run is at one moment: weights, averages, optimisers and the step; its checkpoint folder.

A checkpoint folder holds `model.safetensors` (weights), `ema.safetensors` (their average, for sampling), both with the
model's settings in the header, `optimiser.safetensors` and `state.json`. There is no RNG state: every draw follows from
(seed, step).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.optim import Optimizer

from vidiff_cli import __version__
from vidiff_cli.checkpoint import read_header, read_shapes, read_tensors, write_folder, write_tensors
from vidiff_cli.config.model import ModelSettings
from vidiff_cli.config.train import OptimiserSettings
from vidiff_cli.diffusion.noise import seeded
from vidiff_cli.errors import VidiffError
from vidiff_cli.models.denoiser import Denoiser
from vidiff_cli.text.adapter import AdaptedText
from vidiff_cli.text.learned import LearnedText
from vidiff_cli.training.ema import Ema
from vidiff_cli.training.optimisers import build_optimisers

Phase = Literal["trunk", "decay"]
WEIGHTS, AVERAGE, OPTIMISER, STATE = "model.safetensors", "ema.safetensors", "optimiser.safetensors", "state.json"


class Learner(nn.Module):
    """The denoiser and what is trained of the text encoder with it: all of a learned one, the adapter of a frozen
    one."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.settings = settings
        self.denoiser = Denoiser(settings)
        self.text = _text_encoder(settings)


def _text_encoder(settings: ModelSettings) -> LearnedText | AdaptedText | None:
    text, width = settings.text, settings.network.text_width
    if not width:
        return None
    if text.clip is not None:
        return AdaptedText(text.clip, width)
    if text.kind == "learned":
        return LearnedText(text.vocabulary, width=width, depth=text.depth, max_tokens=text.max_tokens)
    return None


def new_learner(settings: ModelSettings, seed: int) -> Learner:
    """A learner whose first weights follow from the seed alone; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeded(seed).initial_seed())
        return Learner(settings)


class TrainState:
    """`step` updates have been made; `phase` says whether they all belong to the trunk or the last ones to a decay
    branch. `notes`, as JSON, are kept with a checkpoint and come back with it, for whoever runs the training."""

    def __init__(self, learner: Learner, settings: OptimiserSettings) -> None:
        self.learner = learner
        self.optimisers = build_optimisers(learner, settings)
        self.rates = {
            name: [group["lr"] for group in optimiser.param_groups] for name, optimiser in self.optimisers.items()
        }
        self.ema = Ema(learner, settings.ema)
        self.step = 0
        self.phase: Phase = "trunk"
        self.notes: dict[str, Any] = {}

    def set_rate(self, factor: float) -> float:
        """Sets every learning rate to its own times `factor`; returns AdamW's."""
        for name, optimiser in self.optimisers.items():
            for group, rate in zip(optimiser.param_groups, self.rates[name], strict=True):
                group["lr"] = rate * factor
        return self.rates["adamw"][0] * factor

    def save(self, folder: Path, *, clips_seen: int) -> None:
        """Writes a checkpoint folder, whole or not at all."""
        header = {
            "vidiff": __version__,
            "model": self.learner.settings.model_dump(mode="json"),
            "step": self.step,
            "phase": self.phase,
            "clips_seen": clips_seen,
        }
        notes = {"step": self.step, "phase": self.phase, "ema_updates": self.ema.updates, "notes": self.notes}

        def fill(place: Path) -> None:
            write_tensors(place / WEIGHTS, self.learner.state_dict(), header | {"weights": "raw"})
            write_tensors(place / AVERAGE, self.ema.shadow, header | {"weights": "ema"})
            write_tensors(place / OPTIMISER, _optimiser_tensors(self.learner, self.optimisers), {})
            (place / STATE).write_text(json.dumps(notes) + "\n", encoding="utf-8")

        write_folder(folder, fill)

    def load(self, folder: Path) -> None:
        """Takes over a checkpoint folder of the same model. VidiffError: missing, damaged, of another model."""
        try:
            notes = json.loads((folder / STATE).read_text(encoding="utf-8"))
            step, phase, updates = int(notes["step"]), notes["phase"], int(notes["ema_updates"])
            kept = dict(notes.get("notes", {}))
            if min(step, updates) < 0 or phase not in get_args(Phase):
                raise ValueError(f"step {step} of the {str(phase)[:20]}")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise VidiffError(f"{folder} is no checkpoint to resume from", found=str(error)) from error
        load_weights(self.learner, folder / WEIGHTS)
        average = read_tensors(folder / AVERAGE)
        if {name: value.shape for name, value in average.items()} != {n: v.shape for n, v in self.ema.shadow.items()}:
            raise VidiffError(f"the averages in {folder} do not fit the run", fix="use an earlier checkpoint")
        _load_optimisers(self.learner, self.optimisers, read_tensors(folder / OPTIMISER))
        for name, value in self.ema.shadow.items():
            value.copy_(average[name])
        self.step, self.phase, self.ema.updates, self.notes = step, phase, updates, kept


def load_weights(learner: Learner, path: Path) -> None:
    """Puts the weights of a checkpoint file into a learner. VidiffError when they do not fit."""
    tensors, present = read_tensors(path), learner.state_dict()
    wrong = [name for name in present if name not in tensors or tensors[name].shape != present[name].shape]
    wrong += [name for name in tensors if name not in present]
    if wrong:
        raise VidiffError(f"the weights in {path} do not fit their own settings", found=f"{len(wrong)} that differ")
    if bad := [name for name, value in tensors.items() if not bool(torch.isfinite(value).all())]:
        raise VidiffError(f"the weights in {path} are not finite", found=bad[0], fix="use an earlier checkpoint")
    learner.load_state_dict(tensors)


def open_learner(path: Path) -> tuple[Learner, dict[str, object]]:
    """A learner with the weights of a checkpoint file, and the file's header."""
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
    learner = new_learner(settings, seed=0)
    load_weights(learner, path)
    return learner, header


def _check_size(settings: ModelSettings, path: Path) -> None:
    """VidiffError unless the file holds the very tensors of such a network; asks no memory for them."""
    with torch.device("meta"):
        wanted = {name: tuple(value.shape) for name, value in Learner(settings).state_dict().items()}
    found = read_shapes(path)
    if wanted != found:
        wrong = {name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)}
        raise VidiffError(f"the weights in {path} do not fit their own settings", found=f"{len(wrong)} that differ")


def _optimiser_tensors(learner: Learner, optimisers: dict[str, Optimizer]) -> dict[str, Tensor]:
    """State by "optimiser/parameter/key": names, not places in a list, so that no order can shift them."""
    names = {id(value): name for name, value in learner.named_parameters()}
    return {
        f"{title}/{names[id(parameter)]}/{key}": torch.as_tensor(value)
        for title, optimiser in optimisers.items()
        for parameter, state in optimiser.state.items()
        for key, value in state.items()
    }


def _load_optimisers(learner: Learner, optimisers: dict[str, Optimizer], tensors: dict[str, Tensor]) -> None:
    parameters = dict(learner.named_parameters())
    for optimiser in optimisers.values():
        optimiser.state.clear()
    for full, value in tensors.items():
        title, _, rest = full.partition("/")
        name, _, key = rest.rpartition("/")
        if title not in optimisers or name not in parameters:
            raise VidiffError("the optimiser state does not fit the run", found=full, fix="start a new run folder")
        parameter = parameters[name]
        like = parameter.detach() if value.shape == parameter.shape else value.to(parameter.device)
        optimisers[title].state[parameter][key] = torch.empty_like(like).copy_(value)
