"""Settings of `vidiff upscale`."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from vidiff_cli.config.options import GENERAL, OUTPUT, Option
from vidiff_cli.config.result import SAMPLING, VIDEO, FilmSettings


class UpscaleSettings(FilmSettings):
    """Settings of `vidiff upscale`."""

    input: Path = Field(description="A video, a folder with its frames, or a photo")
    output: Annotated[Path | None, Option(OUTPUT, "--output", "-o")] = Field(
        default=None,
        description="Video file (.mp4 .webm .gif .webp .mkv), picture file of a photo (.png .jpg .webp), or folder for "
        "PNG frames; for several inputs, the folder for their results",
    )
    model: Annotated[Path | None, Option(GENERAL, "--model", "-m")] = Field(
        default=None,
        description="Run of vidiff train --task upscale, its checkpoint file, builtin or hf:OWNER/NAME; if not given, "
        "the newest such run under runs/, else builtin",
    )
    size: Annotated[int | None, Option(VIDEO, unit="pixels")] = Field(
        default=None, ge=1, le=16_384, description="Short side of the result"
    )
    scale: Annotated[float | None, Option(VIDEO, unit="times")] = Field(
        default=None,
        gt=1,
        le=64,
        description="Size of the result in sizes of the input; if neither this nor --size is given, the scale of the "
        "model. A larger one takes it several times",
    )
    detail: Annotated[Literal["both", "estimate", "model"], Option(VIDEO)] = Field(
        default="both",
        description="Source of the detail; both: the enlarged input and as much of what the model adds as was right "
        "where the input itself was made small; estimate: the enlarged input alone (cubic), without a model; model: "
        "the model's frames as they are",
    )
    by: Annotated[Literal["upscaler", "guidance"], Option(VIDEO)] = Field(
        default="upscaler",
        description="Way to upscale; upscaler: a model of super-resolution; guidance: a model of videos as large as "
        "the result, led to those that are the input when they are made small. Its frames are one possibility, and "
        "are not weighed on the input",
    )
    steps: Annotated[int | None, Option(SAMPLING, unit="steps")] = Field(
        default=None,
        ge=1,
        le=4096,
        description="Sampling steps; 1: the mean of what the frames can be, which is nearest to the truth; more: one "
        "possibility, sharper and further from it (with --detail model); if not given, 1, or what the model was "
        "distilled to; with --by guidance the model's own",
    )
    samples: Annotated[int, Option(SAMPLING, unit="samples")] = Field(
        default=1, ge=1, le=64, description="Samples whose mean is the result; with one step 1 is enough"
    )
    sampler: Annotated[Literal["dpmpp-2m", "ddim", "ddpm"], Option(SAMPLING)] = Field(
        default="dpmpp-2m", description="Sampler"
    )
    augmentation: Annotated[float, Option(SAMPLING)] = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Noise added to the input, as a position on the noise schedule, which the model is told of; 0: "
        "none, which was nearest to the truth at every level that was measured",
    )
    prompt: Annotated[str | None, Option(SAMPLING)] = Field(
        default=None, description="What the video shows, for a model that was trained with captions"
    )
    overlap: Annotated[int | None, Option(SAMPLING, unit="frames")] = Field(
        default=None,
        ge=0,
        description="Frames that a window is shown of the one before; if not given, none with one step, else half a "
        "window",
    )
    tile: Annotated[int, Option(SAMPLING, unit="pixels")] = Field(
        default=512,
        ge=16,
        description="Side of the tiles that the network sees at a time; smaller ones save memory, and the result is "
        "the same",
    )

    @model_validator(mode="after")
    def _one_size(self) -> UpscaleSettings:
        if self.size is not None and self.scale is not None:
            raise ValueError("give only one of --size and --scale")
        if self.by == "guidance" and self.detail == "estimate":
            raise ValueError("--detail estimate needs no model: leave out --by guidance")
        return self

    @property
    def exact_scale(self) -> Fraction | None:
        """--scale as it was typed."""
        return None if self.scale is None else Fraction(str(self.scale))
