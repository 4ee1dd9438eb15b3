"""Settings of the synthetic worlds: number, size, length and content of their clips."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from vidiff_cli.config.fields import Rate, recorded_rate
from vidiff_cli.config.options import GENERAL, OUTPUT, REPRODUCE, Argument, Option

# Given instead of a dataset folder: clips that are rendered when they are read.
ADDRESS = "world:shapes"
FILMS = "world:films"

Part = Literal["straight", "one", "whole", "lasting"]  # parts of the world (`worlds/splits.py`)


def _world_rate(fps: str) -> str:
    if not 1 <= recorded_rate(fps) <= 120:
        raise ValueError("a rate from 1 to 120")
    return fps


class StreamSettings(BaseModel):
    """Clips of `vidiff train world:shapes`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    part: Part = Field(
        default="whole",
        description="Content of the clips; whole: one or two objects, all motions and backgrounds; one: one object; "
        "straight: one that moves straight on black; lasting: one object whose motion never ends",
    )
    size: int = Field(default=32, ge=16, le=512, multiple_of=8, description="Side of the clips in pixels")
    fps: str = Field(default="8", description="Frames per second of clips of nearly two seconds")
    clips: int = Field(
        default=262_144, ge=1, le=2**31 - 1, description="Number of different clips, rendered when they are read"
    )
    held_out: int = Field(
        default=128, ge=0, le=65_536, description="Clips for validation, of combinations never trained"
    )
    seed: int = Field(default=0, ge=0, description="Seed of the clips")

    @field_validator("fps")
    @classmethod
    def _is_rate(cls, fps: str) -> str:
        return _world_rate(fps)


class FilmSettings(BaseModel):
    """Clips of `vidiff train world:films`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    size: int = Field(default=64, ge=16, le=512, multiple_of=8, description="Side of the films in pixels")
    fps: str = Field(default="24", description="Frames per second of films of one second")
    clips: int = Field(
        default=262_144, ge=1, le=2**31 - 1, description="Number of different films, rendered when they are read"
    )
    held_out: int = Field(
        default=128, ge=0, le=65_536, description="Films for validation, of photographs never trained on"
    )
    seed: int = Field(default=0, ge=0, description="Seed of the films")

    @field_validator("fps")
    @classmethod
    def _is_rate(cls, fps: str) -> str:
        return _world_rate(fps)


class FilmFolderSettings(BaseModel):
    """Settings of `vidiff world films`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    folder: Annotated[Path, Argument("DIR")] = Field(description="Folder for the films")
    clips: Annotated[int, Option(GENERAL, "--clips", "-n", unit="clips")] = Field(
        default=16, ge=1, le=1_000_000, description="Number of films"
    )
    size: Annotated[int, Option(unit="pixels")] = Field(
        default=128, ge=16, le=512, multiple_of=2, description="Side of the square films"
    )
    frames: Annotated[int, Option(GENERAL, "--num-frames", unit="frames")] = Field(
        default=24, ge=1, le=24_000, description="Length of a film; most things pass in the first second"
    )
    fps: Annotated[Rate, Option()] = Field(default=Fraction(24), description="Frames per second")
    crf: Annotated[int, Option(OUTPUT)] = Field(
        default=8, ge=0, le=51, description="H.264 rate factor; lower is better"
    )
    overwrite: Annotated[bool, Option(OUTPUT)] = Field(
        default=False, description="Replace the clips of an earlier run in the folder"
    )
    seed: Annotated[int | None, Option(REPRODUCE)] = Field(
        default=None, ge=0, description="Seed of every random draw; if not given, random and printed"
    )


class WorldSettings(BaseModel):
    """Settings of `vidiff world shapes`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    folder: Annotated[Path, Argument("DIR")] = Field(description="Folder for the clips")
    part: Annotated[Literal["simple"] | Part, Option()] = Field(
        default="simple",
        description="Content of the clips; simple: one of two shapes in four colors, moving along an axis; straight: "
        "more shapes and colors in eight directions; one: one object, all motions and backgrounds; whole: one or two "
        "objects; lasting: one object whose motion never ends",
    )
    side: Annotated[Literal["any", "train", "held-out"], Option()] = Field(
        default="any",
        description="Combinations of words: those for training, those held out, or any; not for --part simple",
    )
    clips: Annotated[int, Option(GENERAL, "--clips", "-n", unit="clips")] = Field(
        default=256, ge=1, le=1_000_000, description="Number of clips; 128 simple ones have each caption once"
    )
    size: Annotated[int, Option(unit="pixels")] = Field(
        default=16, ge=8, le=512, multiple_of=2, description="Side of the square clips"
    )
    frames: Annotated[int, Option(GENERAL, "--num-frames", unit="frames")] = Field(
        default=16, ge=1, description="Length of a clip; the fastest object leaves the frame after 17"
    )
    fps: Annotated[Rate, Option()] = Field(default=Fraction(8), description="Frames per second")
    crf: Annotated[int, Option(OUTPUT)] = Field(
        default=8, ge=0, le=51, description="H.264 rate factor; lower is better, which tiny frames need"
    )
    overwrite: Annotated[bool, Option(OUTPUT)] = Field(
        default=False, description="Replace the clips of an earlier run in the folder"
    )
    seed: Annotated[int | None, Option(REPRODUCE)] = Field(
        default=None, ge=0, description="Seed of every random draw; if not given, random and printed"
    )
