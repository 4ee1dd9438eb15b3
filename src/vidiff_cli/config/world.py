"""Settings of `vidiff world shapes`: how many clips of the synthetic world, how large, how long."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from vidiff_cli.config.fields import Rate


class WorldSettings(BaseModel):
    """Everything `vidiff world shapes` can be told; the defaults of the command line stand here and nowhere else."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    folder: Path = Field(description="The folder for the clips.")
    clips: int = Field(default=256, ge=1, le=1_000_000, description="How many clips; 128 have every caption once.")
    size: int = Field(default=16, ge=8, le=512, multiple_of=2, description="Side of the square clips in pixels.")
    frames: int = Field(default=16, ge=1, description="Frames per clip; the fastest object leaves the canvas after 17.")
    fps: Rate = Field(default=Fraction(8), description="Frames per second.")
    crf: int = Field(
        default=8, ge=0, le=51, description="H.264 quality, less is better; low, as tiny frames suffer most."
    )
    seed: int | None = Field(default=None, ge=0, description="Seed of every random draw; random and printed if unset.")
    overwrite: bool = Field(default=False, description="Replace the clips of an earlier run in the folder.")
