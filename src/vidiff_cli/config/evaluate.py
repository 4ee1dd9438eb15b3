"""Settings of `vidiff evaluate`: what is compared with what, and by which protocol."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from vidiff_cli.config.fields import Rate
from vidiff_cli.config.generate import GenerationSettings

BY_THEMSELVES = ("random", "shapes")
FROM_FILES = ("i3d", "r3d_18", "s3d")
EXTRACTORS = (*BY_THEMSELVES, *FROM_FILES)


class EvaluateSettings(BaseModel):
    """Everything `vidiff evaluate` can be told; the defaults of the command line stand here and nowhere else."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    real: Path = Field(description="videos, a dataset, or a run to evaluate against its held-out clips")
    generated: Path | None = Field(default=None, description="videos, a dataset, or a run to sample from")
    output: Path = Field(default=Path("evaluation"), description="folder for the JSON, the table and the plot")
    side: Literal["val", "train", "all"] = Field(default="val", description="clips of a dataset that count")
    dataset: Path | None = Field(
        default=None, description="of a run: the dataset; the one that it was trained on if not given"
    )
    count: int | None = Field(
        default=None, ge=1, le=1_000_000, description="videos of each side; all, and of a run as many as there are real"
    )
    num_frames: int | None = Field(
        default=None, ge=1, le=100_000, description="frames of each video, from its first; the shortest's, 64 at most"
    )
    size: str | None = Field(
        default=None, description="size of all frames, 64 (square) or 128x72, cut from the middle; their own if equal"
    )
    fps: Rate | None = Field(default=None, description="rate that all are brought to; their own if equal")
    given: str | None = Field(
        default=None, description="frames that were given, such as 4 (the first four) or 0-3,15: not counted"
    )
    paired: bool | None = Field(
        default=None, description="compare videos one by one; by default where the names on both sides agree"
    )
    extractors: tuple[str, ...] = Field(
        default=("random", "shapes"),
        description="networks of the distances: random, shapes, i3d:FILE, r3d_18:FILE, s3d:FILE",
    )
    expect: tuple[str, ...] = Field(default=(), description="sha256 that a file of weights must have, NAME:HASH")
    clip_model: str | None = Field(
        default=None, description="CLIP weights as FILE, NAME:FILE or NAME:TAG; those at hand if not given"
    )
    clip: bool = Field(default=True, description="measure the similarity of frames and prompts where CLIP is at hand")
    temporal: bool = Field(default=True, description="measure motion, flicker, warping error and drift")
    bootstrap: int = Field(default=100, ge=0, le=10_000, description="replicates behind the interval of a distance")
    seed: int = Field(default=0, ge=0, description="seed of the bootstrap and of a run's samples")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1 or mps")
    overwrite: bool = Field(default=False, description="replace an evaluation that is already there")
    sampling: GenerationSettings = Field(default=GenerationSettings(), description="how a run is sampled")

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
                raise ValueError(f"{', '.join(BY_THEMSELVES)} or {', '.join(f'{each}:FILE' for each in FROM_FILES)}")
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
        """`size` as two numbers."""
        if self.size is None:
            return None
        width, _, height = self.size.partition("x")
        return int(width), int(height or width)

    @property
    def given_frames(self) -> frozenset[int] | None:
        """`given` as numbers from 0; "4" are the first four. None where it is not said."""
        if self.given is None:
            return None
        if self.given.isdigit():
            return frozenset(range(int(self.given)))
        ends = [part.partition("-") for part in self.given.split(",")]
        return frozenset(number for low, _, high in ends for number in range(int(low), int(high or low) + 1))
