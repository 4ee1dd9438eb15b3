"""Settings of `vidiff cascade`: a model and the stages that follow it as one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from vidiff_cli.config.options import GENERAL, OUTPUT, Argument, Option


class CascadeSettings(BaseModel):
    """Settings of `vidiff cascade`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: Annotated[Path, Argument("BASE")] = Field(
        description="Model that makes videos: a run folder, a checkpoint file, builtin or hf:OWNER/NAME"
    )
    upscalers: Annotated[tuple[Path, ...], Argument("UPSCALER")] = Field(
        min_length=1,
        description="Runs of vidiff train --task upscale, and at most one of --task frames, taken one after the other",
    )
    output: Annotated[Path, Option(GENERAL, "--output", "-o")] = Field(description="Folder of the cascade")
    overwrite: Annotated[bool, Option(OUTPUT)] = Field(
        default=False, description="Replace an earlier cascade in the folder"
    )
