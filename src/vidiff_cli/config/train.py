"""The settings of `vidiff train`, and its presets."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from vidiff_cli.config.model import (
    DiffusionSettings,
    LearnedTextSettings,
    NetworkSettings,
    choose_target,
    suits,
)
from vidiff_cli.config.world import FilmSettings, StreamSettings
from vidiff_cli.errors import UsageError


class OptimizerSettings(BaseModel):
    """How the weights move."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    lr: float = Field(default=1e-3, gt=0, description="learning rate of the stable phase (AdamW)")
    muon_lr: float = Field(
        default=0.0, ge=0, description="learning rate of Muon on hidden matrices and kernels; 0: AdamW for all"
    )
    betas: tuple[float, float] = Field(default=(0.9, 0.99), description="AdamW's averages")
    weight_decay: float = Field(default=0.01, ge=0, description="decoupled weight decay of matrices and kernels")
    schedule: Literal["stable", "cosine"] = Field(
        default="stable",
        description="learning rate after the warm-up; stable: constant, then down to zero in the decay branch, so that "
        "a run can be made longer; cosine: half a cosine down to zero at the last step",
    )
    warmup: int = Field(default=50, ge=0, description="steps over which the learning rate rises from zero")
    decay: float = Field(default=0.4, ge=0, lt=1, description="share of the steps in the decay branch at the end")
    max_grad_norm: float = Field(default=1.0, gt=0, description="largest norm of the gradient")
    grad_spike_factor: float = Field(
        default=0.0,
        ge=0,
        description="an update whose gradient norm is this many times the median of the last ones is "
        "not made; 0: only one that is not finite is not",
    )
    ema: float = Field(
        default=0.998, ge=0, lt=1, description="decay of the moving average of the weights, reached by a warm-up"
    )
    ema_more: tuple[Annotated[float, Field(ge=0, lt=1)], ...] = Field(
        default=(),
        description="decays of other averages, kept in checkpoints as files such as "
        "ema-0.9999.safetensors, which --model takes",
    )

    @model_validator(mode="after")
    def _each_average_once(self) -> OptimizerSettings:
        if len({self.ema, *self.ema_more}) <= len(self.ema_more):
            raise ValueError(f"optimizer.ema_more names an average twice: {self.ema} and {self.ema_more}")
        return self


class ObjectiveSettings(BaseModel):
    """What one training step sees."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    observed: float = Field(
        default=0.5, ge=0, le=1, description="share of clips with some frames given clean; 0: no learned condition"
    )
    caption_dropout: float = Field(
        default=0.12, ge=0, le=1, description="share of captions dropped, for classifier-free guidance"
    )
    caption_dropout_observed: float = Field(
        default=0.35, ge=0, le=1, description="the same for clips with given frames"
    )
    estimate_dropout: float = Field(
        default=0.15,
        ge=0,
        le=1,
        description="share of clips with given frames whose estimate by motion is not shown, so that the network can "
        "do without",
    )
    image_fraction: float = Field(
        default=0.0,
        ge=0,
        le=0.9,
        description="share of a step's frames that are single images, shown beside the clips; 0: none",
    )
    context_noise: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="most noise that given frames are shown with, of a schedule from 0 (none) to 1; half of the clips "
        "with given frames have some",
    )
    flow_loss: float = Field(
        default=0.0,
        ge=0,
        le=100,
        description="weight of the loss on errors that flicker along the motion, at low noise; 0: none",
    )
    flow_weights: Path | None = Field(
        default=None,
        description="safetensors file of torchvision's raft_small or raft_large; without it the flow is measured by "
        "dense inverse search",
    )
    perceptual_loss: float = Field(
        default=0.0,
        ge=0,
        le=100,
        description="weight of the loss on the features of a video network, at low noise; 0: none. It needs "
        "--set objective.perceptual_weights=FILE",
    )
    perceptual_weights: Path | None = Field(
        default=None, description="safetensors file of torchvision's r3d_18 or s3d, for the perceptual loss"
    )

    @model_validator(mode="after")
    def _features_of_something(self) -> ObjectiveSettings:
        if self.perceptual_loss and self.perceptual_weights is None:
            raise ValueError(
                "--perceptual-loss needs the weights of a video network: --set objective.perceptual_weights=FILE, "
                "a safetensors file of torchvision's r3d_18 or s3d"
            )
        return self


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


class DiffusionChoice(DiffusionSettings):
    """The diffusion that a training is to have."""

    target: Literal["auto", "v", "eps", "x"] = Field(
        default="auto",
        description="what the network predicts; auto: x with patches above 2x2, where v would leave grain, else v",
    )

    def decided(self, patch: int) -> DiffusionChoice:
        """The same for a network with this patch stem: no target is auto, and a weighting that nobody gave is plain MSE
        of the target where the default would swamp it at one end."""
        target = choose_target(patch) if self.target == "auto" else self.target
        fits = "weighting" in self.model_fields_set or suits(self.weighting, target)
        return self.model_copy(update={"target": target, "weighting": self.weighting if fits else target})


class TrainSettings(BaseModel):
    """Everything `vidiff train` can be told; a preset fills in what is not given."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    dataset: Path = Field(
        default=Path("dataset"),
        description="dataset folder made by vidiff prep; world:shapes and world:films need no files",
    )
    output: Path | None = Field(default=None, description="run folder; runs/DATASET-PRESET if not given")
    preset: str | None = Field(
        default=None, description="tiny, small, base or kinetics; chosen from the dataset and the device if not given"
    )
    steps: int = Field(default=1000, ge=1, description="optimizer steps, the decay branch included")
    batch_size: Annotated[int, BeforeValidator(lambda value: 0 if value == "auto" else value)] = Field(
        default=32, ge=0, description="clips per step; auto: as many as fit, decided once for a run"
    )
    frames: int = Field(default=8, ge=1, le=4096, description="frames of a window; shorter clips are taken whole")
    conditioning: Literal["mixed", "none"] = Field(
        default="mixed", description="train on random observed frames too, or not"
    )
    motion: bool = Field(
        default=True,
        description="show the network what motion makes of the given frames: an estimate of every frame, which it "
        "takes over or redraws, pixel by pixel; never with --conditioning none",
    )
    resume: str = Field(
        default="auto", description="auto continues an unfinished run; never refuses one; or a checkpoint folder"
    )
    checkpoint_every: int = Field(default=250, ge=1, description="steps between checkpoints")
    keep: int = Field(
        default=2, ge=1, description="checkpoints kept; the end of the stable phase and the result always are"
    )
    sample_every: int = Field(default=250, ge=0, description="steps between sample sheets; 0: none")
    prompts: Path | None = Field(
        default=None, description="prompts of the sample sheets, one a line; captions of the dataset if not given"
    )
    validate_every: int = Field(
        default=250, ge=0, description="steps between measurements of the loss of held-out clips; 0: none"
    )
    track: Literal["none", "tensorboard", "trackio", "wandb"] = Field(
        default="none", description="show the numbers and sheets in a tracker too, where it is installed"
    )
    precision: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        default="auto", description="auto: bf16 where the device computes in it"
    )
    grad_accum_steps: int = Field(
        default=1, ge=1, description="parts in which a batch goes through the network: less memory, the same step"
    )
    gradient_checkpointing: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="compute activations again in the backward pass: less memory, a third more time; auto: on a GPU "
        "whose memory it needs",
    )
    compile: bool = Field(default=False, description="compile the network (torch.compile): a minute or more first")
    parallel: Literal["ddp", "fsdp"] = Field(
        default="ddp",
        description="what several processes (torchrun) do: ddp, each holds the whole model; fsdp, each a part of every "
        "weight",
    )
    patience: float = Field(
        default=1800.0, gt=0, description="seconds that a process waits for another that does not answer"
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1 or mps")
    start_from: Path | None = Field(
        default=None, description="run or checkpoint whose averaged weights a new run begins with"
    )
    seed: int = Field(default=0, ge=0, description="seed of all random draws")
    overwrite: bool = Field(default=False, description="replace a run with other settings")
    network: NetworkSettings = NetworkSettings()
    diffusion: DiffusionChoice = Field(default=DiffusionChoice(), validate_default=True)
    text: TextChoice = TextChoice()
    optimizer: OptimizerSettings = OptimizerSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    loader: LoaderSettings = LoaderSettings()
    world: StreamSettings = StreamSettings()
    films: FilmSettings = FilmSettings()

    @field_validator("diffusion")
    @classmethod
    def _target_follows_the_patch(cls, diffusion: DiffusionChoice, info: ValidationInfo) -> DiffusionChoice:
        network = info.data.get("network")  # none where it is in error itself
        return diffusion if network is None else diffusion.decided(network.patch_size)


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
