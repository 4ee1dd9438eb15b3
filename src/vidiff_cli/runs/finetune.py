"""`vidiff train --from CHECKPOINT`: a new run that starts from the averaged weights of another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from vidiff_cli.checkpoint import read_header
from vidiff_cli.config.model import ModelSettings, NetworkSettings
from vidiff_cli.config.run_config import read_run_config
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.errors import UsageError, VidiffError
from vidiff_cli.generation.load_model import find_checkpoint
from vidiff_cli.models.video_model import VideoNetwork, open_video_model
from vidiff_cli.text.learned import EMPTY

EMBEDDING = "text.embedding.weight"
WITHOUT_WEIGHTS = {"dropout", "attention_max_size"}  # a wrong attention_max_size shows in the names of the weights
BY_TASK = ("motion", "upscale", "between")  # settings of a network by --motion and --task
CHANNELS = {1: "luma (vidiff prep --gray)", 3: "RGB frames"}
MOTION = ("denoiser.network.stem_estimate.", "denoiser.network.gate.")  # weights of a network that is shown motion


def inherit_settings(settings: TrainSettings, run: Path | None) -> TrainSettings:
    """Replaces `start_from` by the checkpoint file that it names; an existing `run` keeps the file it started from.

    VidiffError where no checkpoint is found.
    """
    source = settings.start_from
    if source is None:
        return settings
    train = read_run_config(run).get("train", {})
    recorded = train.get("start_from") if isinstance(train, dict) else None
    if isinstance(recorded, str) and Path(recorded).is_relative_to(source):
        return settings.model_copy(update={"start_from": Path(recorded)})
    return settings.model_copy(update={"start_from": find_checkpoint(source)})


def inherited(checkpoint: Path, run: Path | None = None) -> dict[str, Any]:
    """Reads the settings that a checkpoint decides: network, diffusion and text encoder.

    An existing `run` has recorded them, and is read first: the checkpoint may have been removed.
    """
    try:
        model = ModelSettings.model_validate(read_run_config(run)["model"]).model_dump(mode="json")
    except (KeyError, ValidationError):
        model = _read_model(find_checkpoint(checkpoint)).model_dump(mode="json")
    text = model["text"]
    latent = model["autoencoder"]
    network = NetworkSettings.model_validate(model["network"])
    decided = {*BY_TASK} | ({"channels"} if latent else set())  # by --motion, --task and the autoencoder
    return {
        **({"autoencoder": latent["source"]} if latent else {}),
        **({"task": network.task} if network.task != "video" else {}),
        **({"scale": network.upscale} if network.upscale else {}),
        "frames": model["frames"],
        "network": {name: value for name, value in model["network"].items() if name not in decided},
        "diffusion": model["diffusion"],
        "text": {"kind": text["kind"], "depth": text["depth"], "max_tokens": text["max_tokens"]},
    }


def check_preset(chosen: TrainSettings, inherited: TrainSettings) -> None:
    """UsageError where a preset that was named has another network than the model to start from: `chosen` are the
    settings with the preset's, `inherited` the same with the model's in their place."""
    ours, theirs = (_trained_settings(settings) for settings in (chosen, inherited))
    for name, value in ours.items():
        if name in theirs and value not in (theirs[name], "auto"):
            raise UsageError(
                f"--preset {chosen.preset} has another network than --from {chosen.start_from}",
                found=f"{name} = {value}",
                expected=f"{theirs[name]}",
                fix="leave out --preset: --from takes the network of the checkpoint; or leave out --from",
            )


def _trained_settings(settings: TrainSettings) -> dict[str, object]:
    """The settings that the weights of a model depend on."""
    network = settings.network.model_dump(exclude={*WITHOUT_WEIGHTS, *BY_TASK, "channels"})
    text = {"kind"} if settings.text.kind != "learned" else {"kind", "depth", "max_tokens"}
    # channels are those of the dataset
    found: dict[str, object] = {f"network.{name}": value for name, value in network.items()}
    found |= {f"text.{name}": value for name, value in settings.text.model_dump(include=text).items()}
    return found | {"diffusion.target": settings.diffusion.target}


def with_known_words(model: ModelSettings, settings: TrainSettings, run: Path | None) -> ModelSettings:
    """Adds the vocabulary of the checkpoint that the model starts from to that of its own dataset."""
    if settings.start_from is None or model.text.kind != "learned":
        return model
    known: object = None
    recorded = read_run_config(run).get("model")
    if isinstance(recorded, dict) and isinstance(recorded.get("text"), dict):
        known = recorded["text"].get("vocabulary")
    if not isinstance(known, list):
        known = _read_model(settings.start_from).text.vocabulary
    words = tuple(sorted({*model.text.vocabulary, *known}))
    return model.model_copy(update={"text": model.text.model_copy(update={"vocabulary": words})})


@torch.no_grad()
def load_initial_weights(video_model: VideoNetwork, path: Path) -> None:
    """Loads the weights of a checkpoint file into a new model of the same network.

    Words that are not in the checkpoint keep their initial embedding. Where the checkpoint has no motion input, the
    layers for it keep their initial weights, which contribute zero. VidiffError for another network, target or text
    encoder.
    """
    other, _ = open_video_model(path)
    old, new = other.settings, video_model.settings
    _check_compatible(old, new, path)
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
            found=f"a network made for {old.width}x{old.height}, with attention at other levels",
            fix="set network.attention_max_size so that the same feature maps have it, or keep the frame size",
        )
    video_model.load_state_dict(found)


def _check_compatible(old: ModelSettings, new: ModelSettings, path: Path) -> None:
    """Raises VidiffError where the weights of the old model do not fit the new one.

    Settings without weights may differ, and the new model may have a motion input that the old one lacks.
    """
    if old.network.channels != new.network.channels and old.autoencoder is new.autoencoder is None:
        known, found = (CHANNELS.get(model.network.channels, "other channels") for model in (old, new))
        fix = f"prepare the dataset {'with' if old.network.channels == 1 else 'without'} --gray, or leave out --from"
        raise VidiffError(f"{path} was trained on {known}", found=f"a dataset of {found}", fix=fix)
    if old.network.motion and not new.network.motion:
        raise VidiffError(
            f"{path} is shown the motion of given frames",
            found="a training that shows none",
            fix="leave out --no-motion, and keep a share of clips with given frames, such as --set "
            "objective.levels.observed=0.1",
        )
    ours, theirs = (_weight_settings(model) for model in (new, old))
    if new.network.motion:
        theirs["network.motion"] = True
    for name in ours:
        if ours[name] != theirs[name]:
            raise VidiffError(
                f"{path} cannot be continued with another {name}",
                found=str(ours[name])[:40],
                expected=str(theirs[name])[:40],
                fix="leave it out: --from takes the network of the checkpoint",
            )


def _weight_settings(model: ModelSettings) -> dict[str, object]:
    text = model.text
    network = {name: value for name, value in model.network.model_dump().items() if name not in WITHOUT_WEIGHTS}
    settings: dict[str, object] = {f"network.{name}": value for name, value in network.items()}
    settings |= {"diffusion.target": model.diffusion.target, "text": text.kind}
    if text.kind == "learned":
        settings |= {"text.depth": text.depth, "text.max_tokens": text.max_tokens}
    settings |= {"clip_model": text.clip.sha256} if text.clip is not None else {}
    return settings | {"autoencoder": model.autoencoder and model.autoencoder.sha256}


def _read_model(path: Path) -> ModelSettings:
    try:
        model = ModelSettings.model_validate(read_header(path)["model"])
        if model.base is not None:
            fix = f"--from {model.base.path} starts anew; the run itself is made longer by --steps"
            raise VidiffError(f"{path} is fine-tuned from a public model, and no model to start from", fix=fix)
        return model
    except (KeyError, ValidationError) as error:
        raise VidiffError(f"{path} does not contain model settings that this version can read") from error
