"""Settings of `vidiff evaluate`: the two sets of videos and the protocol of their comparison."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from vidiff_cli.config.fields import Rate
from vidiff_cli.config.generate import GenerationSettings
from vidiff_cli.config.options import OUTPUT, REPRODUCE, Argument, Deterministic, Device, Nested, Option

BY_THEMSELVES = ("random", "shapes")
FROM_FILES = ("i3d", "r3d_18", "s3d")
EXTRACTORS = (*BY_THEMSELVES, *FROM_FILES)


VIDEOS, MEASURES, RUN = "Compared videos", "Measures", "Samples of a run"


class EvaluateSettings(BaseModel):
    """Settings of `vidiff evaluate`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    real: Annotated[Path, Argument("REAL")] = Field(
        description="Videos or a dataset; alone, a run to evaluate against its held-out clips"
    )
    generated: Annotated[Path | None, Argument("GENERATED")] = Field(
        default=None, description="Videos, a dataset, or a run to sample from"
    )
    output: Annotated[Path, Option(OUTPUT, "--output", "-o")] = Field(
        default=Path("evaluation"), description="Folder for the JSON, the table and the plot"
    )
    num_frames: Annotated[int | None, Option(VIDEOS, "--num-frames", "--frames", unit="frames")] = Field(
        default=None,
        ge=1,
        le=100_000,
        description="Frames of each video, from its first; if not given, as many as the shortest has, at most 64",
    )
    size: Annotated[str | None, Option(VIDEOS, values="PIXELS|WIDTHxHEIGHT")] = Field(
        default=None,
        description="Size of all frames, such as 64 (square) or 128x72, cropped from the middle; if not given, their "
        "own, which must be equal",
    )
    fps: Annotated[Rate | None, Option(VIDEOS)] = Field(
        default=None, description="Rate of all videos; if not given, their own, which must be equal"
    )
    count: Annotated[int | None, Option(VIDEOS, "--count", "-n", unit="videos")] = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="Videos of each set; if not given, all, and of a run as many as there are real ones",
    )
    side: Annotated[Literal["val", "train", "all"], Option(VIDEOS)] = Field(
        default="val", description="Split of a dataset"
    )
    given: Annotated[str | None, Option(VIDEOS, values="COUNT|RANGES")] = Field(
        default=None,
        description="Frames that were given and are not measured, such as 4 (the first four) or 0-3,15",
    )
    paired: Annotated[bool | None, Option(VIDEOS)] = Field(
        default=None, description="Compare videos in pairs; if not given, where the names in both sets agree"
    )
    extractors: Annotated[
        tuple[str, ...], Option(MEASURES, "--extractor", values="random|shapes|i3d:FILE|r3d_18:FILE|s3d:FILE")
    ] = Field(default=("random", "shapes"), description="Network of the Frechet distances")
    expect: Annotated[tuple[str, ...], Option(MEASURES, values="NAME:SHA256")] = Field(
        default=(), description="Hash that the weights of an extractor must have"
    )
    temporal: Annotated[bool, Option(MEASURES)] = Field(
        default=True, description="Measure motion, flicker, warping error and drift"
    )
    clip: Annotated[bool, Option(MEASURES)] = Field(
        default=True, description="Measure the similarity of frames and prompts, where CLIP is installed"
    )
    clip_model: Annotated[str | None, Option(MEASURES, values="FILE|NAME:FILE|NAME:TAG")] = Field(
        default=None, description="CLIP weights; if not given, those on this machine"
    )
    bootstrap: Annotated[int, Option(MEASURES, unit="replicates")] = Field(
        default=100, ge=0, le=10_000, description="Replicates for the interval of a distance"
    )
    dataset: Annotated[Path | None, Option(RUN)] = Field(
        default=None, description="Dataset to compare a run with; if not given, the one it was trained on"
    )
    sampling: Annotated[GenerationSettings, Nested(RUN, "steps", "sampler", "guidance_scale", "dtype", "compile")] = (
        Field(default=GenerationSettings(), description="Settings for sampling from a run")
    )
    overwrite: Annotated[bool, Option(OUTPUT)] = Field(default=False, description="Replace an existing evaluation")
    seed: Annotated[int, Option(REPRODUCE)] = Field(
        default=0, ge=0, description="Seed of the bootstrap and of the samples of a run"
    )
    device: Device = "auto"
    deterministic: Deterministic = False

    @field_validator("size")
    @classmethod
    def _is_size(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[1-9]\d{0,4}(x[1-9]\d{0,4})?", value, re.ASCII):
            raise ValueError("one number for a square, such as 64, or WIDTHxHEIGHT")
        return value

    @field_validator("given")
    @classmethod
    def _are_frames(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"\d{1,5}(-\d{1,5})?(,\d{1,5}(-\d{1,5})?)*", value, re.ASCII):
            raise ValueError("a count such as 4, or numbers from 0 such as 0-3,15")
        return value

    @field_validator("extractors")
    @classmethod
    def _are_extractors(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            name, _, path = text.partition(":")
            if name not in EXTRACTORS:
                raise ValueError(f"{', '.join(BY_THEMSELVES)} or {', '.join(f'{name}:FILE' for name in FROM_FILES)}")
            if (name in FROM_FILES) != bool(path):
                raise ValueError(f"{name}:FILE" if name in FROM_FILES else f"{name} without a file")
        if len({text.partition(":")[0] for text in value}) < len(value):
            raise ValueError("each extractor once")
        return value

    @field_validator("expect")
    @classmethod
    def _are_hashes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            if not re.fullmatch(f"({'|'.join(EXTRACTORS)}):[0-9a-f]{{64}}", text):
                raise ValueError("NAME:HASH with the 64 hexadecimal digits of a sha256")
        return value

    @property
    def width_height(self) -> tuple[int, int] | None:
        """The two numbers in `size`."""
        if self.size is None:
            return None
        width, _, height = self.size.partition("x")
        return int(width), int(height or width)

    @property
    def given_frames(self) -> frozenset[int] | None:
        """The frame numbers in `given`, from 0; "4" means the first four. None if it was not given."""
        if self.given is None:
            return None
        if self.given.isdigit():
            return frozenset(range(int(self.given)))
        ends = [part.partition("-") for part in self.given.split(",")]
        return frozenset(number for low, _, high in ends for number in range(int(low), int(high or low) + 1))
