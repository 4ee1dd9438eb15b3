"""Settings of `vidiff train`, and its presets."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from vidiff_cli.config.distill import DistillationSettings
from vidiff_cli.config.model import (
    LONG_CAPTIONS,
    DiffusionSettings,
    LearnedTextSettings,
    LongCaptions,
    NetworkSettings,
    Task,
    choose_target,
    suits,
)
from vidiff_cli.config.options import GENERAL, OUTPUT, REPRODUCE, Argument, Compile, Deterministic, Device, Option
from vidiff_cli.config.world import FilmSettings, StreamSettings
from vidiff_cli.errors import UsageError

RUN, MODEL, WATCH = "Running", "Model", "Watching"


class OptimizerSettings(BaseModel):
    """Optimizer, learning rate schedule and moving averages."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    lr: Annotated[float, Option(RUN)] = Field(
        default=1e-3, gt=0, description="Learning rate of the stable phase (AdamW)"
    )
    muon_lr: float = Field(
        default=0.0, ge=0, description="Learning rate of Muon for hidden matrices and kernels; 0: AdamW for all weights"
    )
    betas: tuple[float, float] = Field(default=(0.9, 0.99), description="Betas of AdamW")
    weight_decay: float = Field(default=0.01, ge=0, description="Decoupled weight decay of matrices and kernels")
    schedule: Literal["stable", "cosine"] = Field(
        default="stable",
        description="Learning rate after the warm-up; stable: constant, then down to zero in the decay branch, so that "
        "a run can be made longer; cosine: half a cosine down to zero at the last step",
    )
    warmup: int = Field(default=50, ge=0, description="Steps over which the learning rate rises from zero")
    decay: float = Field(default=0.4, ge=0, lt=1, description="Share of the steps in the decay branch")
    max_grad_norm: float = Field(default=1.0, gt=0, description="Largest norm of the gradient; above it, it is scaled")
    grad_spike_factor: float = Field(
        default=0.0,
        ge=0,
        description="Skip an update whose gradient norm is this many times the median of the last ones; 0: skip only "
        "updates that are not finite",
    )
    ema_length: float = Field(
        default=0.0,
        ge=0,
        le=0.25,
        description="Length of the averaged weights of the result, as a share of the training (its relative standard "
        "deviation); 0: the one with the lowest held-out loss. The same command with another length puts the average "
        "of a finished run together anew",
    )


class LevelSettings(BaseModel):
    """Shares of the clips by the noise levels of their frames. They add up to 1: of `shared` and `observed`, one that
    is not given takes what the others leave; if neither is, each takes half of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    shared: float = Field(default=0.5, ge=0, le=1, description="Share of clips with one noise level for all frames")
    observed: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Share of clips with some observed (clean) frames and one level for the rest",
    )
    independent: float = Field(
        default=0.0, ge=0, le=1, description="Share of clips with a level for every frame, drawn independently"
    )
    sloped: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of clips with levels that rise from frame to frame after some observed ones, as in a "
        "rolling window (--scheme rolling)",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in_the_rest(cls, given: Any) -> Any:
        """Fill in `shared` and `observed`: a run records all four."""
        if not isinstance(given, dict):
            return given
        missing = [name for name in ("shared", "observed") if name not in given]
        if not missing:
            return given
        try:
            rest = max(0.0, 1.0 - sum(float(value) for value in given.values()))
        except (TypeError, ValueError):  # has its own message
            return given
        return given | dict.fromkeys(missing, round(rest / len(missing), 9))

    @model_validator(mode="after")
    def _add_up(self) -> LevelSettings:
        shares = self.model_dump()
        if abs(sum(shares.values()) - 1) > 1e-6:
            listed = ", ".join(f"{name} {share:g}" for name, share in shares.items() if share)
            raise ValueError(
                f"the shares of objective.levels add up to {sum(shares.values()):g}: found {listed}, expected a sum of "
                "1; leave shared or observed out, and it takes the rest"
            )
        return self

    @property
    def by_frame(self) -> bool:
        """True where frames of a clip that are made have levels of their own."""
        return self.independent > 0 or self.sloped > 0

    @property
    def gives_frames(self) -> bool:
        """True where some clips have observed frames."""
        return self.observed > 0 or self.sloped > 0


class ObjectiveSettings(BaseModel):
    """Noise levels, conditioning, dropout and losses of a training step."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    levels: LevelSettings = LevelSettings()
    caption_dropout: float = Field(
        default=0.12, ge=0, le=1, description="Share of captions dropped, for classifier-free guidance"
    )
    caption_dropout_observed: float = Field(
        default=0.35, ge=0, le=1, description="Share of captions dropped in clips with observed frames"
    )
    estimate_dropout: float = Field(
        default=0.15,
        ge=0,
        le=1,
        description="Share of clips with observed frames for which the estimate by motion is hidden",
    )
    image_fraction: Annotated[float, Option(MODEL)] = Field(
        default=0.0, ge=0, le=0.9, description="Share of a step's frames that are single images, beside the clips"
    )
    context_noise: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Largest noise added to observed frames, as a position on the noise schedule; half of the clips "
        "with observed frames have some",
    )
    augmentation: float = Field(
        default=0.3,
        ge=0,
        lt=1,
        description="Largest noise on the low-resolution clips of --task upscale, as a position on the noise schedule; "
        "half of the clips have some, and the network is told how much (conditioning augmentation)",
    )
    flow_loss: Annotated[float, Option(MODEL)] = Field(
        default=0.0,
        ge=0,
        le=100,
        description="Weight of the loss on errors that flicker along the motion, at low noise; 0: none",
    )
    flow_weights: Path | None = Field(
        default=None,
        description="Safetensors file of torchvision's raft_small or raft_large; if not given, optical flow is "
        "measured by dense inverse search",
    )
    perceptual_loss: Annotated[float, Option(MODEL)] = Field(
        default=0.0,
        ge=0,
        le=100,
        description="Weight of the loss on the features of a video network, at low noise; 0: none. It needs "
        "--set objective.perceptual_weights=FILE",
    )
    perceptual_weights: Path | None = Field(
        default=None, description="Safetensors file of torchvision's r3d_18 or s3d, for the perceptual loss"
    )

    @model_validator(mode="after")
    def _perceptual_loss_needs_weights(self) -> ObjectiveSettings:
        if self.perceptual_loss and self.perceptual_weights is None:
            raise ValueError(
                "--perceptual-loss needs the weights of a video network: --set objective.perceptual_weights=FILE, "
                "a safetensors file of torchvision's r3d_18 or s3d"
            )
        return self


class LoaderSettings(BaseModel):
    """Cropping, mirroring and reading of clips. `workers` and `cache_bytes` change speed and memory, never a batch."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    crop: int = Field(
        default=0, ge=0, le=16_384, description="Side in pixels of a random square crop of every clip; 0: whole frames"
    )
    flip: bool = Field(
        default=False,
        description="Mirror half of the clips, but none whose captions name left or right, a turn or writing",
    )
    workers: int = Field(default=1, ge=0, le=64, description="Threads that read batches ahead; 0: none")
    cache_bytes: int = Field(
        default=0, ge=0, description="Bytes of clips kept in memory, for a dataset on a slow or remote disk; 0: none"
    )


class TextChoice(LearnedTextSettings):
    """Choice of the text encoder for a training."""

    kind: Annotated[Literal["auto", "clip", "learned", "none"], Option(MODEL, "--text")] = Field(
        default="auto",
        description="Text encoder; auto: CLIP (open_clip's, frozen) if its weights are on this machine, else learned "
        "from the captions. The preset tiny takes learned",
    )
    clip_model: Annotated[str | None, Option(MODEL, values="NAME:TAG|NAME:FILE")] = Field(
        default=None,
        description="CLIP encoder; if not given, ViT-B-32:laion2b_s34b_b79k. Its embeddings of the captions are kept "
        "in the dataset folder",
    )
    long_captions: Annotated[LongCaptions, Option(MODEL)] = Field(default="cut", description=LONG_CAPTIONS)

    @model_validator(mode="after")
    def _one_encoder(self) -> TextChoice:
        if self.clip_model is not None and self.kind in ("learned", "none"):
            raise ValueError(f"--clip-model goes with --text clip, not with --text {self.kind}")
        return self


class DiffusionChoice(DiffusionSettings):
    """Choice of the prediction target, its weighting and the noise for a training."""

    target: Annotated[Literal["auto", "v", "eps", "x"], Option(MODEL)] = Field(
        default="auto",
        description="Prediction target of the network; auto: x with patches above 2x2, where v would leave grain, else "
        "v",
    )

    def decided(self, patch: int) -> DiffusionChoice:
        """The choice for a network with this patch stem, with a target other than auto.

        A weighting that was not given is plain MSE of the target where the default does not suit it.
        """
        target = choose_target(patch) if self.target == "auto" else self.target
        fits = "weighting" in self.model_fields_set or suits(self.weighting, target)
        return self.model_copy(update={"target": target, "weighting": self.weighting if fits else target})


class LoraSettings(BaseModel):
    """Low-rank adapters of a public model. Source: Hu et al. 2021 (LoRA)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rank: Annotated[int, Option(MODEL, "--lora", unit="rank")] = Field(
        default=0,
        ge=0,
        le=4096,
        description="Fine-tune the public model of --from by adapters of this rank, 16 for example; 0: no adapters",
    )
    alpha: float | None = Field(
        default=None, gt=0, description="Scale of the adapters, times their rank; if not given, the rank: a scale of 1"
    )
    targets: tuple[str, ...] = Field(
        default=("to_q", "to_k", "to_v", "to_out.0"),
        min_length=1,
        description="Linear maps that have an adapter, by the ends of their names",
    )


class TrainSettings(BaseModel):
    """Settings of `vidiff train`; a preset fills in those that are not given."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    dataset: Annotated[Path, Argument("DATASET")] = Field(
        default=Path("dataset"), description="Folder made by vidiff prep; world:shapes and world:films need no files"
    )
    output: Annotated[Path | None, Option(GENERAL, "--output", "-o")] = Field(
        default=None, description="Run folder; if not given, runs/DATASET-PRESET"
    )
    preset: Annotated[
        str | None, Option(MODEL, values="tiny|small|base|latent|kinetics|lora|temporal|upscale|frames")
    ] = Field(default=None, description="Preset; if not given, chosen from the dataset and the device")
    task: Annotated[Task, Option(MODEL)] = Field(
        default="video",
        description="What the model makes; video: frames from a caption or beside given ones; upscale: the video at "
        "--scale times its size, from the clips of the dataset and the same ones made small (vidiff upscale); frames: "
        "those between given ones, of any size (vidiff interpolate, and --then of vidiff sample)",
    )
    scale: Annotated[int, Option(MODEL, unit="times")] = Field(
        default=4, ge=2, le=8, description="Scale of --task upscale"
    )
    autoencoder: Annotated[str | None, Option(MODEL, values="hf:OWNER/NAME|FOLDER")] = Field(
        default=None,
        description="Train in the latent space of a public frame autoencoder (AutoencoderKL) or of a public model's: "
        "256x256 pixels become 32x32 values. The latents are kept in the dataset folder",
    )
    steps: Annotated[int, Option(RUN, unit="steps")] = Field(
        default=1000, ge=1, description="Optimizer steps, the decay branch included"
    )
    batch_size: Annotated[
        int, BeforeValidator(lambda value: 0 if value == "auto" else value), Option(RUN, values="auto|CLIPS")
    ] = Field(default=32, ge=0, description="Clips per step; auto: as many as fit in memory, decided once for a run")
    frames: Annotated[int, Option(MODEL, unit="frames")] = Field(
        default=8, ge=1, le=4096, description="Length of the model's window; shorter clips are taken whole"
    )
    conditioning: Annotated[Literal["mixed", "none"], Option(MODEL)] = Field(
        default="mixed", description="Conditioning on observed frames in training; mixed: random ones; none: no frames"
    )
    motion: Annotated[bool, Option(MODEL)] = Field(
        default=True,
        description="Show the network an estimate of every frame by motion from the observed ones, which it takes over "
        "or redraws, pixel by pixel; not with --conditioning none",
    )
    resume: Annotated[str, Option(RUN, values="auto|never|PATH")] = Field(
        default="auto", description="auto: continue an unfinished run; never: refuse one; or a checkpoint folder"
    )
    checkpoint_every: Annotated[int, Option(WATCH, unit="steps")] = Field(
        default=250, ge=1, description="Steps between checkpoints"
    )
    keep: Annotated[int, Option(WATCH, unit="checkpoints")] = Field(
        default=2, ge=1, description="Checkpoints kept, besides the end of the stable phase and the result"
    )
    keep_best: Annotated[bool, Option(WATCH)] = Field(
        default=False,
        description="Keep the checkpoint with the lowest held-out loss too; checkpoints/best has its name",
    )
    patience: Annotated[int | None, Option(WATCH, unit="measurements")] = Field(
        default=None,
        ge=1,
        description="Stop when the held-out loss has not fallen for so many measurements (--validate-every); implies "
        "--keep-best",
    )
    sample_every: Annotated[int, Option(WATCH, unit="steps")] = Field(
        default=250, ge=0, description="Steps between sample sheets; 0: none"
    )
    prompts: Annotated[Path | None, Option(WATCH)] = Field(
        default=None, description="Prompts of the sample sheets, one a line; if not given, captions of the dataset"
    )
    validate_every: Annotated[int, Option(WATCH, unit="steps")] = Field(
        default=250, ge=0, description="Steps between measurements of the validation loss; 0: none"
    )
    track: Annotated[Literal["none", "tensorboard", "trackio", "wandb"], Option(WATCH)] = Field(
        default="none", description="Log the metrics and sheets to a tracker too, where it is installed"
    )
    precision: Annotated[Literal["auto", "bf16", "fp16", "fp32"], Option(RUN)] = Field(
        default="auto", description="Number format of the network; auto: bf16 where the device computes in it"
    )
    grad_accum_steps: Annotated[int, Option(RUN, "--accumulate", unit="parts")] = Field(
        default=1, ge=1, description="Parts in which a batch goes through the network: less memory, the same step"
    )
    gradient_checkpointing: Annotated[Literal["auto", "on", "off"], Option(RUN)] = Field(
        default="auto",
        description="Recompute activations in the backward pass: less memory, a third more time; auto: on a GPU whose "
        "memory needs it",
    )
    compile: Compile = "auto"
    parallel: Annotated[Literal["ddp", "fsdp"], Option(RUN)] = Field(
        default="ddp",
        description="Parallelism of several processes (torchrun); ddp: each holds the whole model; fsdp: each holds a "
        "part of every weight",
    )
    rank_timeout: float = Field(
        default=1800.0, gt=0, description="Seconds that a process waits for another that does not answer"
    )
    device: Device = "auto"
    deterministic: Deterministic = False
    start_from: Annotated[Path | None, Option(RUN, "--from")] = Field(
        default=None,
        description="Run or checkpoint to start a new run from, with its averaged weights; or a public model to "
        "fine-tune with --lora or --train temporal: a folder, or hf:OWNER/NAME",
    )
    layers: Annotated[Literal["all", "temporal"], Option(MODEL, "--train")] = Field(
        default="all",
        description="Layers to train; temporal: those between the frames, of a public 3D U-Net; with --lora, the "
        "layers that have an adapter",
    )
    lora: LoraSettings = LoraSettings()
    distillation: DistillationSettings | None = Field(
        default=None, description="What is learned of the model that the run starts from (vidiff distill)"
    )
    seed: Annotated[int, Option(REPRODUCE)] = Field(default=0, ge=0, description="Seed of every random draw")
    overwrite: Annotated[bool, Option(OUTPUT)] = Field(
        default=False, description="Replace a run that has other settings"
    )
    network: NetworkSettings = NetworkSettings()
    diffusion: DiffusionChoice = Field(default=DiffusionChoice(), validate_default=True)
    text: TextChoice = TextChoice()
    optimizer: OptimizerSettings = OptimizerSettings()
    objective: ObjectiveSettings = ObjectiveSettings()
    loader: LoaderSettings = LoaderSettings()
    world: StreamSettings = StreamSettings()
    films: FilmSettings = FilmSettings()

    @property
    def keeps_best(self) -> bool:
        """True where the checkpoint with the lowest held-out loss is kept."""
        return self.keep_best or self.patience is not None

    def clips_seen(self, step: int) -> int:
        """Clips that a model has been trained on after `step` steps; a student's teacher's count."""
        before = 0 if self.distillation is None else self.distillation.clips_seen
        return before + step * self.batch_size

    @model_validator(mode="after")
    def _best_is_measured(self) -> TrainSettings:
        if self.keeps_best and not self.validate_every:
            option = "--keep-best" if self.keep_best else "--patience"
            raise ValueError(f"{option} goes by the held-out loss, which --validate-every 0 does not measure")
        return self

    @model_validator(mode="after")
    def _latents_have_no_pixels(self) -> TrainSettings:
        objective = self.objective
        asked = {
            "--flow-loss": objective.flow_loss,
            "--perceptual-loss": objective.perceptual_loss,
            "loader.crop": self.loader.crop,
        }
        if self.autoencoder is not None and (wrong := [name for name, value in asked.items() if value]):
            raise ValueError(
                f"{wrong[0]} needs pixels, and with --autoencoder there are latents: leave one of them out"
            )
        return self

    @field_validator("diffusion")
    @classmethod
    def _target_follows_the_patch(cls, diffusion: DiffusionChoice, info: ValidationInfo) -> DiffusionChoice:
        network = info.data.get("network")  # None if it is invalid itself
        return diffusion if network is None else diffusion.decided(network.patch_size)


@cache
def presets() -> dict[str, dict[str, Any]]:
    """The presets by name: partial `TrainSettings` from the TOML files in `config/presets/`."""
    folder = files("vidiff_cli.config") / "presets"
    found = (entry for entry in folder.iterdir() if entry.name.endswith(".toml"))
    return {entry.name.removesuffix(".toml"): tomllib.loads(entry.read_text("utf-8")) for entry in found}


def preset(name: str) -> dict[str, Any]:
    """One preset by name. UsageError lists the known ones."""
    if name not in presets():
        raise UsageError("unknown --preset", found=repr(name), expected=", ".join(sorted(presets())))
    return presets()[name]
