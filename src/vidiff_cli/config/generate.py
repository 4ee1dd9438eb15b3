"""Settings of `vidiff sample`, `vidiff extend` and `vidiff interpolate`."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from vidiff_cli.config.fields import Encoding, Rate, Size
from vidiff_cli.config.model import LONG_CAPTIONS, LongCaptions
from vidiff_cli.config.options import Argument, Option
from vidiff_cli.config.result import SAMPLING, VIDEO, FilmSettings, ResultSettings

_AT = re.compile(r"(?:(?P<frame>[0-9]{1,9})|(?P<seconds>[0-9]{1,9}(?:\.[0-9]{1,9})?) ?s)=(?P<file>.+)", re.S)
ROLLING = (
    "rolling: one window moves on frame by frame, and each frame in it is noisier than the one before (for models "
    "trained with a noise level for every frame)"
)
GUIDANCE = "Guidance"


class GenerationSettings(ResultSettings):
    """Settings of the commands that make frames with a model of video."""

    clip_model: Annotated[str | None, Option(values="FILE|NAME:FILE|NAME:TAG")] = Field(
        default=None,
        description="CLIP weights of a model that was trained with CLIP; not needed where they are known by a tag",
    )
    autoencoder: Annotated[str | None, Option(values="hf:OWNER/NAME|FOLDER")] = Field(
        default=None,
        description="Autoencoder of a model that was trained on latents; if not given, where it was in training",
    )
    model_size: Annotated[Size | None, Option(values="WxH")] = Field(
        default=None, description="Size that a public model works at; if not given, what it was trained at"
    )
    model_frames: Annotated[int | None, Option(unit="frames")] = Field(
        default=None, ge=1, description="Window of a public model; if not given, what it was trained at"
    )
    offload: Annotated[bool, Option()] = Field(
        default=False,
        description="Keep one part of a public model on the GPU at a time, which saves memory and costs time",
    )
    then: Annotated[tuple[Path, ...], Option(VIDEO, values="UPSCALER")] = Field(
        default=(),
        description="Run of vidiff train --task upscale, its checkpoint file, builtin or hf:OWNER/NAME, that makes the "
        "model's frames larger; several are taken one after the other. Of vidiff sample also a run of --task frames, "
        "which makes those between: --fps is then the rate after it",
    )
    steps: Annotated[int | None, Option(SAMPLING, "--steps", "--num-inference-steps", unit="steps")] = Field(
        default=None,
        ge=1,
        le=4096,
        description="Sampling steps; if not given, the fewest that lose nothing, as training measured, else 8, and 6 "
        "beside given frames that the network is shown (30 with latents or another condition); 1 (which predicts the "
        "mean) for a model that is shown the motion between given frames; public models have their own",
    )
    sampler: Annotated[Literal["dpmpp-2m", "ddim", "ddpm"], Option(SAMPLING)] = Field(
        default="dpmpp-2m", description="Sampler"
    )
    shift: Annotated[float, Option(SAMPLING, unit="log-SNR")] = Field(
        default=0.0,
        ge=-10,
        le=10,
        description="Added to the shift of the schedule for the levels of the steps; negative: more of them on noisy "
        "levels, where few steps lose variety",
    )
    langevin: Annotated[float | None, Option(SAMPLING)] = Field(
        default=None,
        ge=0,
        description="Langevin correction of --sampler ddpm; if not given, 0.1 with reconstruction, else none",
    )
    start_noise: Annotated[Literal["fresh", "freenoise", "previous"], Option(SAMPLING)] = Field(
        default="fresh",
        description="Initial noise of a window; fresh: its own; freenoise: the first window's, shuffled, so that a "
        "long video stays alike; previous: the frames before it, noised",
    )
    freeinit: Annotated[int, Option(SAMPLING, unit="times")] = Field(
        default=1,
        ge=1,
        le=16,
        description="Times each window is sampled by FreeInit, which keeps the low frequencies of the sample before; "
        "1: no FreeInit",
    )
    threshold: Annotated[float | Literal["static"], Option(SAMPLING)] = Field(
        default="static",
        description="Thresholding of the estimate; static: clip to the pixel range; a percentile in (0, 1]: dynamic, "
        "per clip",
    )
    guidance_scale: Annotated[float | None, Option(GUIDANCE, "--guidance-scale", "-g")] = Field(
        default=None,
        ge=0,
        description="Classifier-free guidance; 1: none; 0: ignore the prompt; if not given, 2, or what a public model "
        "was made for",
    )
    negative_prompt: Annotated[str | None, Option(GUIDANCE)] = Field(
        default=None, description="Text the video should not show; needs a guidance scale other than 1"
    )
    guide: Annotated[Path | None, Option(GUIDANCE)] = Field(
        default=None,
        description="Worse model of the same clips, an earlier checkpoint or a smaller run, to guide away from in the "
        "place of no prompt (autoguidance); it needs no captions",
    )
    condition: Annotated[Literal["auto", "reconstruction", "replacement", "learned"], Option(GUIDANCE)] = Field(
        default="auto",
        description="Conditioning on the given frames; auto: learned if the model was trained with it, else "
        "reconstruction",
    )
    reconstruction_weight: Annotated[float | None, Option(GUIDANCE)] = Field(
        default=None,
        ge=0,
        description="Weight of reconstruction guidance; if not given, 10 for frames of 16 pixels, 4 for 64 and so on, "
        "twice that with ddim",
    )
    reconstruction_schedule: Annotated[Literal["constant", "snr"], Option(GUIDANCE)] = Field(
        default="constant",
        description="Weight of reconstruction guidance over the noise levels; snr: at most 1 + sigma^2 / alpha^2, the "
        "weight that is exact for Gaussian data",
    )
    gradient_checkpointing: Annotated[Literal["auto", "on", "off"], Option(GUIDANCE)] = Field(
        default="auto",
        description="Recompute activations for the gradient of reconstruction guidance, which saves memory; auto: "
        "where memory is short",
    )
    context_noise: Annotated[float, Option(GUIDANCE)] = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Noise added to the frames that a window is shown, as a position on the noise schedule; 0: none. "
        "For models trained with it, against errors that grow from window to window",
    )
    history_guidance: Annotated[float | None, Option(GUIDANCE)] = Field(
        default=None,
        ge=1,
        le=100,
        description="Guidance by the frames that a window is shown, for one pass of the network more per step; 1: "
        "none; above 3 motion freezes; if not given, 1.5 for a model trained on given frames without --motion; "
        "it harms one with it",
    )
    history_level: Annotated[float, Option(GUIDANCE)] = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Noise of the shown frames in the pass that history guidance leads away from, as a position on the "
        "noise schedule; 1: nothing is left of them. Less is for models trained with a level for every frame",
    )
    history_parts: Annotated[int, Option(GUIDANCE, unit="parts")] = Field(
        default=1,
        ge=1,
        le=16,
        description="Parts of the shown frames, in the order of time; the network sees one of them at a time, and its "
        "estimates are averaged, for a pass each. More than 1 is for models trained with a level for every frame",
    )
    long_captions: Annotated[LongCaptions | None, Option(GUIDANCE)] = Field(
        default=None, description=f"{LONG_CAPTIONS}; if not given, as the model was trained"
    )

    @model_validator(mode="after")
    def _options_fit_together(self) -> GenerationSettings:
        if self.langevin is not None and self.sampler != "ddpm":
            raise ValueError(f"--langevin works with --sampler ddpm only, not with {self.sampler}")
        if self.guide is not None and self.negative_prompt is not None:
            raise ValueError("--guide takes the place of --negative-prompt: give only one of them")
        if self.guide is not None and self.history_guidance not in (None, 1):
            raise ValueError("--guide does not go with --history-guidance: give only one of them")
        if self.guide is not None and self.history_parts > 1:
            raise ValueError("--guide does not go with --history-parts: give only one of them")
        if self.threshold != "static" and not 0 < float(self.threshold) <= 1:
            raise ValueError(f"--threshold is {self.threshold}, expected 'static' or a percentile in (0, 1]")
        return self


class SampleSettings(GenerationSettings):
    """Settings of `vidiff sample`."""

    prompts: Annotated[tuple[str, ...], Argument("PROMPT")] = Field(
        default=(), description="What to show; without a prompt, videos without a caption"
    )
    count: Annotated[int, Option(VIDEO, "--count", "-n", unit="videos")] = Field(
        default=1, ge=1, le=100_000, description="Videos per prompt"
    )
    num_frames: Annotated[int | None, Option(VIDEO, unit="frames")] = Field(
        default=None, ge=1, description="Length of the video; if not given, the model's window"
    )
    fps: Annotated[Rate | None, Option(VIDEO)] = Field(
        default=None, description="Frames per second; if not given, the rate of the training clips"
    )
    noise: Annotated[Literal["independent", "mixed", "progressive", "lowpass", "shared"] | None, Option(VIDEO)] = Field(
        default=None, description="Noise prior; must be the model's own, which is the default"
    )
    overlap: Annotated[int | None, Option(VIDEO, unit="frames")] = Field(
        default=None, ge=1, description="Frames that a window is shown; if not given, half a window"
    )
    scheme: Annotated[Literal["autoregressive", "rolling"], Option(VIDEO)] = Field(
        default="autoregressive",
        description=f"Order in which frames are made, where they are more than a window; {ROLLING}",
    )
    prompts_file: Annotated[Path | None, Option(VIDEO, "--prompts")] = Field(
        default=None, description="File with a prompt on each line, or a .csv or .jsonl with a prompt column"
    )
    encoding: Annotated[Encoding | None, Option(VIDEO, values="NAME")] = Field(
        default=None, description="Encoding of a prompts file that is neither UTF-8 nor UTF-16, such as cp1252"
    )
    strict_prompt: Annotated[bool, Option(VIDEO)] = Field(
        default=False, description="Refuse prompts with words that the model has never seen"
    )
    batch_size: Annotated[int, Option(SAMPLING, unit="videos")] = Field(
        default=16, ge=1, description="Videos generated at the same time"
    )


class CompletionSettings(FilmSettings, GenerationSettings):
    """Settings shared by extend and interpolate, which add frames to a given video."""

    size: Annotated[Annotated[int, Field(ge=1, le=16_384)] | Literal["film", "model"], Option(VIDEO, unit="pixels")] = (
        Field(
            default="film",
            description="Size of the result; film: the input's own, with its frames untouched; model: the model's; a "
            "number: the short side",
        )
    )
    detail: Annotated[Literal["both", "estimate", "model"], Option(VIDEO)] = Field(
        default="both",
        description="Source of the new frames; both: the estimate by motion and what the model adds to it; estimate: "
        "the estimate alone, without a model; model: the model's frames alone, enlarged",
    )
    at: Annotated[tuple[str, ...], Option(VIDEO, values="PLACE=FILE")] = Field(
        default=(),
        description="A picture at a place of the result: 40=FILE at frame 40, counted from 0, or 1.5s=FILE after 1.5 "
        "seconds; the frames around follow from it",
    )
    samples: Annotated[int, Option(SAMPLING, unit="samples")] = Field(
        default=1, ge=1, le=64, description="Samples whose mean is the result; with few steps 1 is enough"
    )

    @model_validator(mode="after")
    def _stages_follow_a_model(self) -> CompletionSettings:
        if self.then and self.detail == "estimate":
            raise ValueError("--detail estimate makes no frames with a model: leave out --then")
        return self

    @field_validator("at")
    @classmethod
    def _places_of_pictures(cls, at: tuple[str, ...]) -> tuple[str, ...]:
        for text in at:
            parse_at(text)
        return at


def parse_at(text: str) -> tuple[int | None, Fraction | None, Path]:
    """The frame, or the time in seconds, and the file of a --at. Raises ValueError."""
    found = _AT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not PLACE=FILE: expected such as 40=photo.png (a frame) or 1.5s=photo.png")
    frame, seconds = found["frame"], found["seconds"]
    return int(frame) if frame else None, Fraction(seconds) if seconds else None, Path(found["file"])


class ExtendSettings(CompletionSettings):
    """Settings of `vidiff extend`."""

    input: Path = Field(description="A video, a folder with its frames, or a photo")
    seconds: Annotated[float | None, Option(VIDEO, unit="seconds")] = Field(
        default=None, gt=0, description="Duration to add; 2 if neither this nor --num-frames is given"
    )
    num_frames: Annotated[int | None, Option(VIDEO, unit="frames")] = Field(
        default=None, ge=1, description="Frames to add"
    )
    prompt: Annotated[tuple[str, ...], Option(VIDEO)] = Field(
        default=(), description="What to show; several are taken one per window, in order"
    )
    before: Annotated[bool, Option(VIDEO)] = Field(
        default=False, description="Make what came before instead of what comes after"
    )
    loop: Annotated[bool, Option(VIDEO)] = Field(
        default=False, description="Make the end meet the beginning, so that the video can be repeated"
    )
    drift_control: Annotated[Literal["none", "first"], Option(VIDEO)] = Field(
        default="none", description="Drift control; first: hold color and contrast of new frames near the given ones"
    )
    fps: Annotated[Rate | None, Option(VIDEO)] = Field(
        default=None,
        description="Rate of the video made from a photo (if not given, that of the training clips), or of a folder of "
        "frames (if not given, that in its sidecar, else 25)",
    )
    overlap: Annotated[int | None, Option(VIDEO, unit="frames")] = Field(
        default=None, ge=1, description="Frames that a window is shown; if not given, half a window"
    )
    scheme: Annotated[Literal["autoregressive", "hierarchical", "rolling"], Option(VIDEO)] = Field(
        default="autoregressive",
        description=f"Order in which frames are made; {ROLLING}",
    )

    @model_validator(mode="after")
    def _one_direction(self) -> ExtendSettings:
        if self.loop and self.before:
            raise ValueError("give only one of --loop and --before")
        return self


class InterpolateSettings(CompletionSettings):
    """Settings of `vidiff interpolate`."""

    input: Path = Field(description="A video; with --to also a photo")
    audio: Annotated[bool, Option(VIDEO)] = Field(
        default=True, description="Keep the audio (longer in slow motion, at its pitch)"
    )
    fps: Annotated[Rate | None, Option(VIDEO)] = Field(
        default=None,
        description="Rate of the result; with --to and photos, if not given, the rate of the training clips",
    )
    factor: Annotated[int | None, Option(VIDEO, unit="times")] = Field(
        default=None, ge=2, description="Multiply the rate; 2 if none of this, --fps and --slow-motion is given"
    )
    slow_motion: Annotated[int | None, Option(VIDEO, unit="times")] = Field(
        default=None, ge=2, description="Keep the rate and multiply the duration"
    )
    hold: Annotated[bool, Option(VIDEO)] = Field(
        default=True, description="Hold the last frame, which keeps the duration"
    )
    to: Annotated[Path | None, Option(VIDEO)] = Field(
        default=None,
        description="A second video or photo: make the frames between the two, from the motion of both",
    )
    gap: Annotated[int | None, Option(VIDEO, unit="frames")] = Field(
        default=None, ge=1, description="Frames to make before --to; if not given, as many as one window makes"
    )
    prompt: Annotated[str | None, Option(VIDEO)] = Field(default=None, description="What the video shows")

    @model_validator(mode="after")
    def _one_rate(self) -> InterpolateSettings:
        if sum(value is not None for value in (self.fps, self.factor, self.slow_motion)) > 1:
            raise ValueError("give only one of --fps, --factor and --slow-motion")
        if self.to is not None and (self.factor or self.slow_motion):
            raise ValueError("--to joins two inputs at their own rate; leave out --factor and --slow-motion")
        if self.gap is not None and self.to is None:
            raise ValueError("--gap needs --to: it is the number of frames before the second input")
        return self
