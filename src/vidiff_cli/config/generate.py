"""The settings of `vidiff sample`, `vidiff extend` and `vidiff interpolate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vidiff_cli.config.fields import Rate


class GenerationSettings(BaseModel):
    """What all commands that generate have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: Path | None = Field(
        default=None,
        description="run folder, checkpoint file or builtin; the newest run under runs/, else builtin, if not given",
    )
    clip_model: str | None = Field(
        default=None,
        description="where the CLIP weights of a model that was trained with CLIP lie, as FILE, NAME:FILE or NAME:TAG; "
        "not needed where they are known by a tag",
    )
    output: Path | None = Field(
        default=None,
        description="file (.mp4 .webm .gif .webp .mkv) or folder of PNG frames; of several inputs, the folder of "
        "their results",
    )
    negative_prompt: str | None = Field(
        default=None, description="what the video should not show (needs a guidance scale other than 1)"
    )
    guidance_scale: float = Field(
        default=2.0, ge=0, description="classifier-free guidance: 1 is none, 0 ignores the prompt"
    )
    steps: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="sampling steps; 30 if not given, and 1 (the mean of what is possible) for a model that is shown "
        "given frames and the motion between them",
    )
    sampler: Literal["dpmpp-2m", "ddim", "ddpm"] = Field(default="dpmpp-2m", description="sampler")
    condition: Literal["auto", "reconstruction", "replacement", "learned"] = Field(
        default="auto",
        description="how given frames act; auto: learned if the model was trained with it, else reconstruction",
    )
    reconstruction_weight: float | None = Field(
        default=None,
        ge=0,
        description="weight of reconstruction guidance; by default 10 for frames of 16 pixels, 4 for 64 and so on, "
        "twice that with ddim",
    )
    reconstruction_schedule: Literal["constant", "snr"] = Field(
        default="constant",
        description="how the weight of reconstruction guidance follows the noise: not at all, or snr: never above "
        "1 + sigma^2 / alpha^2, what Gaussian data would ask for",
    )
    gradient_checkpointing: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="reconstruction guidance: compute parts of the network twice instead of keeping them in memory; "
        "auto: where memory is short",
    )
    context_noise: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="noise with which given frames are shown, of a schedule from 0 (none) to 1; for models trained "
        "with it, against errors that grow from window to window",
    )
    langevin: float | None = Field(
        default=None, ge=0, description="Langevin correction (ddpm only); 0.1 with reconstruction if not given"
    )
    start_noise: Literal["fresh", "freenoise", "previous"] = Field(
        default="fresh",
        description="what windows begin with: noise of their own; the first window's, shuffled (FreeNoise), so that a "
        "long video stays alike; or the frames before, noised",
    )
    freeinit: int = Field(
        default=1,
        ge=1,
        le=16,
        description="samplings of each window by FreeInit, which keep the low frequencies of the one before; 1 is none",
    )
    threshold: float | Literal["static"] = Field(
        default="static",
        description="static clips to the pixel range; a percentile in (0, 1] thresholds dynamically per clip",
    )
    seed: int | None = Field(
        default=None, ge=0, description="seed of every random draw; random, and printed, if not given"
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1 or mps")
    dtype: Literal["auto", "bf16", "fp16", "fp32"] = Field(default="auto", description="number format of the network")
    lossless: bool = Field(default=False, description="write .mkv without any loss (FFV1 in RGB)")
    sidecar: bool = Field(default=True, description="write the settings beside each video, as .json")
    compare: bool = Field(
        default=False,
        description="also write a contact sheet as .png and, of an input, a video that shows it beside the result",
    )
    overwrite: bool = Field(default=False, description="replace an output that is already there")

    @model_validator(mode="after")
    def _sensible(self) -> GenerationSettings:
        if self.langevin is not None and self.sampler != "ddpm":
            raise ValueError(f"--langevin works with --sampler ddpm only, not with {self.sampler}")
        if self.threshold != "static" and not 0 < float(self.threshold) <= 1:
            raise ValueError(f"--threshold is {self.threshold}, expected 'static' or a percentile in (0, 1]")
        return self


class SampleSettings(GenerationSettings):
    """Everything `vidiff sample` can be told."""

    prompts: tuple[str, ...] = Field(default=(), description="what to show; without one, videos without a caption")
    prompts_file: Path | None = Field(
        default=None, description="one prompt a line, or a .csv or .jsonl with a prompt column"
    )
    count: int = Field(default=1, ge=1, le=100_000, description="videos per prompt")
    num_frames: int | None = Field(default=None, ge=1, description="frames; the model's window if not given")
    noise: Literal["independent", "mixed", "progressive", "lowpass", "shared"] | None = Field(
        default=None, description="the noise that the model must have been trained with; its own if not given"
    )
    fps: Rate | None = Field(default=None, description="frames per second; the training clips' rate if not given")
    overlap: int | None = Field(
        default=None, ge=1, description="frames that each window is shown; half a window if not given"
    )
    batch_size: int = Field(default=16, ge=1, description="videos made at a time")
    strict_prompt: bool = Field(default=False, description="refuse prompts with words that the model has never seen")


class CompletionSettings(GenerationSettings):
    """What extend and interpolate have in common: a video is given, and frames are made that it lacks."""

    size: Annotated[int, Field(ge=1, le=16_384)] | Literal["film", "model"] = Field(
        default="film",
        description="size of the result; film: the input's own, with its frames untouched; model: the model's; or "
        "pixels of the short side",
    )
    detail: Literal["both", "estimate", "model"] = Field(
        default="both",
        description="what new frames are made of; both: the estimate by motion and what the model adds to it; "
        "estimate: that alone, without a model; model: the model's frames alone, enlarged",
    )
    samples: int = Field(
        default=1,
        ge=1,
        le=64,
        description="what a model makes is the mean of so many samples; with few steps 1 will do",
    )
    audio: bool = Field(default=True, description="keep the sound (longer in slow motion, at its pitch)")
    scenes: bool = Field(default=True, description="find scene cuts: nothing is made from frames of two scenes")
    dry_run: bool = Field(
        default=False,
        description="only draw the plan: which frame is made in which window, from which frames; of several inputs, "
        "say what would be written",
    )
    jobs: int = Field(
        default=1, ge=1, le=256, description="inputs made at a time, where there are several, each in its own process"
    )


class ExtendSettings(CompletionSettings):
    """Everything `vidiff extend` can be told."""

    input: Path = Field(description="a video or a photo")
    prompt: tuple[str, ...] = Field(default=(), description="what to show; repeat it for one prompt per window")
    seconds: float | None = Field(
        default=None, gt=0, description="seconds to add; 2 if neither this nor --num-frames is given"
    )
    num_frames: int | None = Field(default=None, ge=1, description="frames to add")
    fps: Rate | None = Field(
        default=None, description="rate of the result of a photo; the training clips' rate if not given"
    )
    before: bool = Field(default=False, description="make what came before instead of what comes after")
    overlap: int | None = Field(
        default=None, ge=1, description="frames that each window is shown; half a window if not given"
    )
    loop: bool = Field(default=False, description="make the end meet the beginning, so that the video can be repeated")
    drift_control: Literal["none", "first"] = Field(
        default="none", description="first: hold colors and contrast of new frames near to those of the given ones"
    )
    scheme: Literal["autoregressive", "hierarchical"] = Field(
        default="autoregressive", description="order in which frames are made"
    )

    @model_validator(mode="after")
    def _one_direction(self) -> ExtendSettings:
        if self.loop and self.before:
            raise ValueError("give only one of --loop and --before")
        return self


class InterpolateSettings(CompletionSettings):
    """Everything `vidiff interpolate` can be told."""

    input: Path = Field(description="a video; with --to also a photo")
    to: Path | None = Field(
        default=None,
        description="a video or a photo that follows: make the frames between, from the motion of both",
    )
    gap: int | None = Field(
        default=None, ge=1, description="frames to make before --to; as many as one window makes if not given"
    )
    prompt: str | None = Field(default=None, description="what the video shows")
    fps: Rate | None = Field(
        default=None, description="rate of the result (with --to, of photos; the training clips' rate if not given)"
    )
    factor: int | None = Field(
        default=None, ge=2, description="multiply the rate; 2 if none of this, --fps and --slow-motion is given"
    )
    hold: bool = Field(default=True, description="hold the last frame so that the duration stays")
    slow_motion: int | None = Field(default=None, ge=2, description="keep the rate and lengthen by this factor")

    @model_validator(mode="after")
    def _one_way(self) -> InterpolateSettings:
        if sum(value is not None for value in (self.fps, self.factor, self.slow_motion)) > 1:
            raise ValueError("give only one of --fps, --factor and --slow-motion")
        if self.to is not None and (self.factor or self.slow_motion):
            raise ValueError("--to joins two inputs at their own rate: leave out --factor and --slow-motion")
        if self.gap is not None and self.to is None:
            raise ValueError("--gap is the number of frames before --to, which is missing")
        return self
