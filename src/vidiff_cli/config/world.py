"""Settings of the synthetic worlds: how many clips, how large, how long."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from vidiff_cli.config.fields import Rate, recorded_rate

# In the place of a dataset folder: clips that are drawn when they are asked for.
ADDRESS = "world:shapes"
FILMS = "world:films"

Part = Literal["straight", "one", "whole", "lasting"]  # of the larger world (`worlds/splits.py`)


def _world_rate(fps: str) -> str:
    if not 1 <= recorded_rate(fps) <= 120:
        raise ValueError("a rate from 1 to 120")
    return fps


class StreamSettings(BaseModel):
    """The clips of `vidiff train world:shapes`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    part: Part = Field(
        default="whole",
        description="one or two things with all motions and grounds; one thing; one that moves straight on black; or "
        "lasting, one thing whose motion never ends",
    )
    size: int = Field(default=32, ge=16, le=512, multiple_of=8, description="side of the clips in pixels")
    fps: str = Field(default="8", description="frames per second, of clips of nearly two seconds")
    clips: int = Field(default=262_144, ge=1, le=2**31 - 1, description="different clips, drawn when asked for")
    held_out: int = Field(
        default=128, ge=0, le=65_536, description="clips for validation, of combinations never trained"
    )
    seed: int = Field(default=0, ge=0, description="seed of the clips")

    @field_validator("fps")
    @classmethod
    def _a_rate(cls, fps: str) -> str:
        return _world_rate(fps)


class FilmSettings(BaseModel):
    """The clips of `vidiff train world:films`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    size: int = Field(default=64, ge=16, le=512, multiple_of=8, description="side of the films in pixels")
    fps: str = Field(default="24", description="frames per second, of films of one second")
    clips: int = Field(default=262_144, ge=1, le=2**31 - 1, description="different films, made when asked for")
    held_out: int = Field(
        default=128, ge=0, le=65_536, description="films for validation, of photographs never trained on"
    )
    seed: int = Field(default=0, ge=0, description="seed of the films")

    @field_validator("fps")
    @classmethod
    def _a_rate(cls, fps: str) -> str:
        return _world_rate(fps)


class FilmFolderSettings(BaseModel):
    """Everything `vidiff world films` can be told."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    folder: Path = Field(description="The folder for the clips.")
    clips: int = Field(default=16, ge=1, le=1_000_000, description="How many films.")
    size: int = Field(default=128, ge=16, le=512, multiple_of=2, description="Side of the square films in pixels.")
    frames: int = Field(
        default=24, ge=1, le=24_000, description="Frames per film; most things pass in the first second."
    )
    fps: Rate = Field(default=Fraction(24), description="Frames per second.")
    crf: int = Field(default=8, ge=0, le=51, description="H.264 quality, less is better.")
    seed: int | None = Field(default=None, ge=0, description="Seed of every random draw; random and printed if unset.")
    overwrite: bool = Field(default=False, description="Replace the clips of an earlier run in the folder.")


class WorldSettings(BaseModel):
    """Everything `vidiff world shapes` can be told; the defaults of the command line stand here and nowhere else."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    folder: Path = Field(description="The folder for the clips.")
    part: Literal["simple"] | Part = Field(
        default="simple",
        description="What the clips show: simple, one of two shapes in four colors that moves along an axis; "
        "straight, more of each in eight directions; one, with all motions and grounds; whole, also two things; "
        "lasting, one thing whose motion never ends.",
    )
    side: Literal["any", "train", "held-out"] = Field(
        default="any",
        description="Combinations of words: those trained on, those held out, or any (but for simple).",
    )
    clips: int = Field(
        default=256, ge=1, le=1_000_000, description="How many clips; 128 simple ones have each caption once."
    )
    size: int = Field(default=16, ge=8, le=512, multiple_of=2, description="Side of the square clips in pixels.")
    frames: int = Field(default=16, ge=1, description="Frames per clip; the fastest object leaves the canvas after 17.")
    fps: Rate = Field(default=Fraction(8), description="Frames per second.")
    crf: int = Field(
        default=8, ge=0, le=51, description="H.264 quality, less is better; low, as tiny frames suffer most."
    )
    seed: int | None = Field(default=None, ge=0, description="Seed of every random draw; random and printed if unset.")
    overwrite: bool = Field(default=False, description="Replace the clips of an earlier run in the folder.")
