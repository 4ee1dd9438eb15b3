"""`vidiff train --from CHECKPOINT`: a new run that begins with the averaged weights of another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from vidiff_cli.checkpoint import read_header
from vidiff_cli.config.model import ModelSettings
from vidiff_cli.config.run_config import read_run_config
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.generation.load_model import find_checkpoint
from vidiff_cli.text.learned import EMPTY
from vidiff_cli.training.state import VideoModel, open_video_model

EMBEDDING = "text.embedding.weight"
MOTION = ("denoiser.network.stem_estimate.", "denoiser.network.gate.")  # weights of a network that is shown motion


def inherit_settings(settings: TrainSettings, run: Path | None) -> TrainSettings:
    """The settings with `start_from` as the checkpoint file that it names; of a `run` that is there already, the one
    that it began with. VidiffError where there is none."""
    given = settings.start_from
    if given is None:
        return settings
    before = read_run_config(run).get("train", {})
    recorded = before.get("start_from") if isinstance(before, dict) else None
    if isinstance(recorded, str) and Path(recorded).is_relative_to(given):
        return settings.model_copy(update={"start_from": Path(recorded)})
    return settings.model_copy(update={"start_from": find_checkpoint(given)})


def inherited(checkpoint: Path, run: Path | None = None) -> dict[str, Any]:
    """The settings of a training that a checkpoint decides: its network, its diffusion, its text encoder. A `run` that
    is there already knows them, also when the checkpoint has gone."""
    try:
        model = ModelSettings.model_validate(read_run_config(run)["model"]).model_dump(mode="json")
    except (KeyError, ValidationError):
        model = _model_of(find_checkpoint(checkpoint)).model_dump(mode="json")
    text = model["text"]
    return {
        "frames": model["frames"],
        "network": {name: value for name, value in model["network"].items() if name != "motion"},  # --motion says it
        "diffusion": model["diffusion"],
        "text": {"kind": text["kind"], "depth": text["depth"], "max_tokens": text["max_tokens"]},
    }


def with_known_words(model: ModelSettings, settings: TrainSettings, run: Path | None) -> ModelSettings:
    """The model with the words of the checkpoint that it begins with, beside those of its own dataset."""
    if settings.start_from is None or model.text.kind != "learned":
        return model
    known: object = None
    before = read_run_config(run).get("model")
    if isinstance(before, dict) and isinstance(before.get("text"), dict):
        known = before["text"].get("vocabulary")
    if not isinstance(known, list):
        known = _model_of(settings.start_from).text.vocabulary
    words = tuple(sorted({*model.text.vocabulary, *known}))
    return model.model_copy(update={"text": model.text.model_copy(update={"vocabulary": words})})


@torch.no_grad()
def take_over(video_model: VideoModel, path: Path) -> None:
    """Puts the weights of a checkpoint file into a new model of the same network; words that only the model knows
    keep their first embedding, and where only the model is shown motion, what it has for that begins at zero.
    VidiffError for another network, target or text encoder."""
    other, _ = open_video_model(path)
    old, new = other.settings, video_model.settings
    _compare(old, new, path)
    found, present = other.state_dict(), video_model.state_dict()
    if new.text.kind == "learned":
        rows = {token: row for row, token in enumerate(sorted(set(new.text.vocabulary)), start=EMPTY + 1)}
        shared = [(rows[token], row) for row, token in enumerate(sorted(set(old.text.vocabulary)), start=EMPTY + 1)]
        table, known = present[EMBEDDING].clone(), found[EMBEDDING]
        table[EMPTY] = known[EMPTY]
        for here, there in shared:
            table[here] = known[there]
        found[EMBEDDING] = table
    if new.network.motion and not old.network.motion:
        found |= {name: value for name, value in present.items() if name.startswith(MOTION)}
    if {name: value.shape for name, value in found.items()} != {name: value.shape for name, value in present.items()}:
        raise VidiffError(
            f"the weights of {path} do not fit frames of {new.width}x{new.height}",
            found=f"a network made for {old.width}x{old.height}, with attention at other places",
            fix="set network.attention_max_size so that the same feature maps have it, or keep the frame size",
        )
    video_model.load_state_dict(found)


def _compare(old: ModelSettings, new: ModelSettings, path: Path) -> None:
    """VidiffError unless the weights of one model can be those of the other. What costs no weight may differ, and the
    new one alone may be shown motion."""
    ours, theirs = (_decisive(model) for model in (new, old))
    if new.network.motion:
        theirs["network.motion"] = True
    for name in ours:
        if ours[name] != theirs[name]:
            raise VidiffError(
                f"{path} cannot be gone on from with another {name}",
                found=str(ours[name])[:40],
                expected=str(theirs[name])[:40],
                fix="leave it out: --from takes the network of the checkpoint",
            )


def _decisive(model: ModelSettings) -> dict[str, object]:
    text = model.text
    free = {"dropout", "attention_max_size"}  # a wrong attention_max_size shows in the names of the weights
    network = {name: value for name, value in model.network.model_dump().items() if name not in free}
    settings: dict[str, object] = {f"network.{name}": value for name, value in network.items()}
    settings |= {"diffusion.target": model.diffusion.target, "text": text.kind}
    if text.kind == "learned":
        settings |= {"text.depth": text.depth, "text.max_tokens": text.max_tokens}
    return settings | ({"clip_model": text.clip.sha256} if text.clip is not None else {})


def _model_of(path: Path) -> ModelSettings:
    try:
        return ModelSettings.model_validate(read_header(path)["model"])
    except (KeyError, ValidationError) as error:
        raise VidiffError(f"{path} holds no settings of a model that this vidiff knows") from error
