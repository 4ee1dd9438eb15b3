"""Settings of a result and how it is repeated, shared by every command that writes video, and of films as inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from vidiff_cli.config.options import GENERAL, OUTPUT, REPRODUCE, Compile, Deterministic, Device, Option
from vidiff_cli.config.read_options import DEFAULT, SharedReadOptions

VIDEO, SAMPLING = "Video", "Sampling"


class ResultSettings(BaseModel):
    """Settings of every command that writes video."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: Annotated[Path | None, Option(GENERAL, "--model", "-m")] = Field(
        default=None,
        description="Run folder, checkpoint file, builtin, folder in the diffusers format or hf:OWNER/NAME; if not "
        "given, the newest run under runs/, else builtin",
    )
    output: Annotated[Path | None, Option(OUTPUT, "--output", "-o")] = Field(
        default=None,
        description="Video file (.mp4 .webm .gif .webp .mkv), or folder for PNG frames; for several inputs, the folder "
        "for their results",
    )
    lossless: Annotated[bool, Option(OUTPUT)] = Field(default=False, description="Write a lossless .mkv (FFV1 in RGB)")
    sidecar: Annotated[bool, Option(OUTPUT)] = Field(
        default=True, description="Write the settings beside each video, as .json"
    )
    compare: Annotated[bool, Option(OUTPUT)] = Field(
        default=False,
        description="Write a contact sheet (.png) too and, where there is an input, a video of it beside the result",
    )
    overwrite: Annotated[bool, Option(OUTPUT)] = Field(default=False, description="Replace an existing output")
    seed: Annotated[int | None, Option(REPRODUCE)] = Field(
        default=None, ge=0, description="Seed of every random draw; if not given, random and printed"
    )
    device: Device = "auto"
    compile: Compile = "auto"
    deterministic: Deterministic = False
    dtype: Annotated[Literal["auto", "bf16", "fp16", "fp32"], Option(REPRODUCE)] = Field(
        default="auto", description="Number format of the network; auto: bf16 where the device computes in it"
    )


class FilmSettings(ResultSettings):
    """Settings of every command that takes films."""

    input: Path = Field(description="A video")
    reading: SharedReadOptions = DEFAULT
    audio: Annotated[bool, Option(VIDEO)] = Field(default=True, description="Keep the audio")
    scenes: Annotated[bool, Option(VIDEO)] = Field(
        default=True, description="Find scene cuts, and make no frame from both sides of a cut"
    )
    dry_run: Annotated[bool, Option(OUTPUT)] = Field(
        default=False,
        description="Print what would be done and write nothing; with --output, only a picture of the plan "
        "(NAME_plan.png)",
    )
    jobs: Annotated[int, Option(OUTPUT, unit="processes")] = Field(
        default=1, ge=1, le=256, description="Inputs processed at the same time, where there are several"
    )
