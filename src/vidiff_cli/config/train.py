"""The settings of `vidiff train`, and its presets."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vidiff_cli.config.model import DiffusionSettings, LearnedTextSettings, NetworkSettings
from vidiff_cli.errors import UsageError


class OptimiserSettings(BaseModel):
    """How the weights move."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    lr: float = Field(default=1e-3, gt=0, description="learning rate of the trunk (AdamW)")
    muon_lr: float = Field(
        default=0.0, ge=0, description="learning rate of Muon on hidden matrices and kernels; 0: AdamW for all"
    )
    betas: tuple[float, float] = Field(default=(0.9, 0.99), description="AdamW's averages")
    weight_decay: float = Field(default=0.01, ge=0, description="decoupled weight decay of matrices and kernels")
    warmup: int = Field(default=50, ge=0, description="steps over which the learning rate rises from zero")
    decay: float = Field(default=0.4, ge=0, lt=1, description="share of the steps in the decay branch at the end")
    clip: float = Field(default=1.0, gt=0, description="largest norm of the gradient")
    ema: float = Field(
        default=0.998, ge=0, lt=1, description="decay of the moving average of the weights, reached by a warm-up"
    )


class ObjectiveSettings(BaseModel):
    """What one training step sees."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    observed: float = Field(
        default=0.5, ge=0, le=1, description="share of clips with some frames given clean; 0: no learned condition"
    )
    drop_text: float = Field(
        default=0.12, ge=0, le=1, description="share of captions dropped, for classifier-free guidance"
    )
    drop_text_observed: float = Field(default=0.35, ge=0, le=1, description="the same for clips with given frames")


class LoaderSettings(BaseModel):
    """How clips become batches. `workers` and `cache_bytes` cost or save time and change no batch."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    crop: int = Field(
        default=0, ge=0, le=16_384, description="side in pixels of a random square of every clip; 0: whole frames"
    )
    flip: bool = Field(
        default=False,
        description="mirror half of the clips; never one whose captions tell of left or right, a turn or writing",
    )
    workers: int = Field(default=1, ge=0, le=64, description="threads that read batches ahead; 0: none")
    cache_bytes: int = Field(
        default=0, ge=0, description="clips kept in memory, for a dataset on a slow or distant disk; 0: none"
    )


class TextChoice(LearnedTextSettings):
    """The text encoder that a training is to have."""

    kind: Literal["auto", "clip", "learned", "none"] = Field(
        default="auto",
        description="text encoder; auto: CLIP (open_clip's, frozen) if its weights are on this machine, else learned "
        "from the captions. The preset tiny takes learned",
    )
    clip_model: str | None = Field(
        default=None,
        description="CLIP encoder as NAME:TAG or NAME:FILE; ViT-B-32:laion2b_s34b_b79k if not given. Its embeddings of "
        "the captions are kept in the dataset folder",
    )

    @model_validator(mode="after")
    def _one_encoder(self) -> TextChoice:
        if self.clip_model is not None and self.kind in ("learned", "none"):
            raise ValueError(f"--clip-model goes with --text clip, not with --text {self.kind}")
        return self


class TrainSettings(BaseModel):
    """Everything `vidiff train` can be told; a preset fills in what is not given."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    dataset: Path = Field(default=Path("dataset"), description="dataset folder made by vidiff prep")
    output: Path | None = Field(default=None, description="run folder; runs/DATASET-PRESET if not given")
    preset: str | None = Field(
        default=None, description="tiny, small or base; chosen from the dataset and the device if not given"
    )
    steps: int = Field(default=1000, ge=1, description="optimiser steps, the decay branch included")
    batch_size: int = Field(default=32, ge=1, description="clips per step")
    frames: int = Field(default=8, ge=1, le=4096, description="frames of a window; shorter clips are taken whole")
    conditioning: Literal["mixed", "none"] = Field(
        default="mixed", description="train on random observed frames too, or not"
    )
    resume: str = Field(
        default="auto", description="auto continues an unfinished run; never refuses one; or a checkpoint folder"
    )
    checkpoint_every: int = Field(default=250, ge=1, description="steps between checkpoints")
    keep: int = Field(default=2, ge=1, description="checkpoints kept; the end of the trunk and the result always are")
    sample_every: int = Field(default=250, ge=0, description="steps between sample sheets; 0: none")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        default="auto", description="auto: bf16 where the device computes in it"
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1 or mps")
    seed: int = Field(default=0, ge=0, description="seed of all random draws")
    overwrite: bool = Field(default=False, description="replace a run with other settings")
    network: NetworkSettings = NetworkSettings()
    diffusion: DiffusionSettings = DiffusionSettings()
    text: TextChoice = TextChoice()
    optimiser: OptimiserSettings = OptimiserSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    loader: LoaderSettings = LoaderSettings()


@cache
def presets() -> dict[str, dict[str, Any]]:
    """The presets by name: partial `TrainSettings`, from the TOML files in `config/presets/`."""
    folder = files("vidiff_cli.config") / "presets"
    found = (entry for entry in folder.iterdir() if entry.name.endswith(".toml"))
    return {entry.name.removesuffix(".toml"): tomllib.loads(entry.read_text("utf-8")) for entry in found}


def preset(name: str) -> dict[str, Any]:
    """One preset. UsageError names the known ones."""
    if name not in presets():
        raise UsageError("unknown --preset", found=repr(name), expected=", ".join(sorted(presets())))
    return presets()[name]
