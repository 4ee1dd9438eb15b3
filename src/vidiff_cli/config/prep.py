"""Settings of `vidiff prep`: sources, clips, captions, filters and the validation split."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from vidiff_cli.config.aspect import parse_aspect
from vidiff_cli.config.fields import Encoding, Rate
from vidiff_cli.config.options import GENERAL, OUTPUT, Argument, Option
from vidiff_cli.config.read_options import DEFAULT, SharedReadOptions

CaptionFormat = Literal[
    "auto",
    "sidecar",
    "csv",
    "jsonl",
    "parquet",
    "lerobot",
    "msrvtt",
    "youcook2",
    "activitynet",
    "webvid",
    "vatex",
    "panda70m",
]
# settings that change no byte of the dataset, or are recorded by their content (sources, captions)
ELSEWHERE = {"sources", "output", "captions", "caption_format", "workers", "timeout", "memory", "shard", "merge"}
ELSEWHERE |= {"preview", "strict", "overwrite", "encoding"}
SHAPING = {"size", "aspect", "gray", "frames", "fps", "stride", "scenes", "decoder", "images_fps", "reading"}


def parse_shard(shard: str) -> tuple[int, int]:
    """(I, N) of "I/N", 1 <= I <= N. ValueError for anything else."""
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", shard)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise ValueError(f"{shard!r} is not a part I/N: expected 1/N to N/N")
    return int(found[1]), int(found[2])


CLIPS, CAPTIONS, FILTERS, SPLIT = "Clips", "Captions", "Filters", "Validation split"
PARTS, RUN = "Several machines", "Running"


class PrepSettings(BaseModel):
    """Settings of `vidiff prep`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sources: Annotated[tuple[str, ...], Argument("SOURCE...")] = Field(
        min_length=1, description="Folders (searched recursively), files and globs; .tar files are WebDataset shards"
    )
    output: Annotated[Path, Option(GENERAL, "--output", "-o")] = Field(
        default=Path("dataset"), description="Dataset folder to make"
    )
    size: Annotated[int, Option(CLIPS, unit="pixels")] = Field(
        default=64, ge=4, le=4096, description="Short side of the clips"
    )
    aspect: Annotated[str, Option(CLIPS, values="square|keep|W:H")] = Field(
        default="square",
        description="Aspect ratio of the clips; square and a ratio such as 16:9 crop from the middle; keep: the "
        "source's own, in a few steps up to 2:1, so that a dataset has clips of several sizes",
    )
    gray: Annotated[bool, Option(CLIPS)] = Field(
        default=False,
        description="Store luma (BT.601) instead of RGB, in a third of the bytes; what is trained on it makes gray "
        "frames",
    )
    frames: Annotated[int, Option(CLIPS, unit="frames")] = Field(
        default=16, ge=1, description="Length of a clip; an image is a clip of one frame"
    )
    fps: Annotated[Rate, Option(CLIPS)] = Field(
        default=Fraction(25), gt=0, description="Rate of the clips, never above the source's own"
    )
    stride: Annotated[int | None, Option(CLIPS, unit="frames")] = Field(
        default=None, ge=1, description="Distance from the start of a clip to the next; if not given, as --frames"
    )
    clips_per_source: Annotated[int | None, Option(CLIPS, unit="clips")] = Field(
        default=None, ge=1, description="Largest number of clips from a source, evenly spaced; if not given, all"
    )
    images: Annotated[Literal["auto", "stills", "frames"], Option(CLIPS)] = Field(
        default="auto",
        description="Meaning of a folder of images; stills: each is a clip of one frame; frames: together a video, in "
        "the order of their numbers; auto: frames where eight or more of one size are numbered without a gap",
    )
    images_fps: Annotated[Rate, Option(CLIPS)] = Field(
        default=Fraction(25), gt=0, description="Rate of a folder of numbered images"
    )
    reading: SharedReadOptions = DEFAULT
    captions: Annotated[tuple[str, ...], Option(CAPTIONS, values="auto|none|FILE")] = Field(
        default=("auto",),
        min_length=1,
        description="Annotation files; auto: metadata.csv, .jsonl or .parquet or the file of a known corpus among the "
        "sources, then NAME.txt beside each source",
    )
    caption_format: Annotated[CaptionFormat, Option(CAPTIONS)] = Field(
        default="auto", description="Format of the annotation files; auto: recognized by their content"
    )
    encoding: Annotated[Encoding | None, Option(CAPTIONS, values="NAME")] = Field(
        default=None, description="Encoding of caption files that are neither UTF-8 nor UTF-16, such as cp1252"
    )
    scenes: Annotated[bool, Option(FILTERS)] = Field(default=True, description="Find scene cuts; no clip contains one")
    min_motion: Annotated[float, Option(FILTERS, unit="levels")] = Field(
        default=0.8, ge=0, description="Reject clips that change less per second (8-bit levels); 0: keep them"
    )
    min_contrast: Annotated[float, Option(FILTERS, unit="levels")] = Field(
        default=2.0,
        ge=0,
        description="Reject clips with less contrast (8-bit levels), black or flat ones; 0: keep them",
    )
    min_difference: Annotated[int, Option(FILTERS, unit="levels")] = Field(
        default=12,
        ge=0,
        le=255,
        description="Reject clips that nowhere differ by more (8-bit levels) from a clip of another source; 0: keep "
        "them",
    )
    val_fraction: Annotated[float, Option(SPLIT)] = Field(
        default=0.05,
        ge=0,
        lt=1,
        description="Share of the sources (or groups) for validation: at least one of two or more, and one that moves "
        "if there is any",
    )
    split_by: Annotated[str | None, Option(SPLIT, unit="column")] = Field(
        default=None,
        description="Column of the caption table, or folder (the first folder of a source's path); sources with "
        "equal values stay in one split",
    )
    seed: Annotated[int, Option(SPLIT)] = Field(default=0, description="Seed of the validation split")
    hold_out: Annotated[tuple[str, ...], Option(SPLIT, unit="value")] = Field(
        default=(), description="Value of the --split-by column whose sources are for validation, and no others"
    )
    shard: Annotated[str | None, Option(PARTS, values="I/N")] = Field(
        default=None,
        description="Process the I-th of N parts of the sources (1/4 to 4/4); --merge follows. Processes of torchrun "
        "or srun need neither",
    )
    merge: Annotated[bool, Option(PARTS)] = Field(
        default=False, description="Make the dataset from the parts of all --shard runs"
    )
    decoder: Annotated[Literal["auto", "decord", "ffmpeg"], Option(RUN)] = Field(
        default="auto",
        description="Video decoder; auto: ffmpeg; decord: an error for files that it cannot be trusted with",
    )
    workers: Annotated[int | None, Option(RUN, unit="processes")] = Field(
        default=None, ge=1, description="Sources decoded at the same time; if not given, one per core"
    )
    timeout: Annotated[float | None, Option(RUN, unit="seconds")] = Field(
        default=None,
        gt=0,
        description="Longest time for one source; if not given, the larger of two minutes and ten times its duration",
    )
    memory: Annotated[int, Option(RUN, unit="MB")] = Field(
        default=2000, ge=200, description="Largest memory for decoding one source"
    )
    strict: Annotated[bool, Option(RUN)] = Field(default=False, description="Fail if a source is rejected or damaged")
    preview: Annotated[int, Option(RUN, unit="clips")] = Field(
        default=8, ge=0, description="Clips shown in preview.png, and in rejected.png, of the dataset; 0: none"
    )
    overwrite: Annotated[bool, Option(OUTPUT)] = Field(
        default=False, description="Replace a dataset that was made with other settings"
    )

    @field_validator("captions", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str | Path) else value

    @field_validator("aspect")
    @classmethod
    def _known_aspect(cls, value: str) -> str:
        if value not in ("square", "keep"):
            parse_aspect(value)
        return value

    @field_validator("shard")
    @classmethod
    def _known_shard(cls, value: str | None) -> str | None:
        if value is not None:
            parse_shard(value)
        return value

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if {"auto", "none"} & set(self.captions) and len(self.captions) > 1:
            raise ValueError("--captions auto and --captions none cannot be combined with files; give files only")
        if self.shard is not None and self.merge:
            raise ValueError("give only one of --shard (process a part) and --merge (join the parts)")
        return self

    @model_validator(mode="after")
    def _hold_out_needs_groups(self) -> Self:
        if self.hold_out and self.split_by is None:
            raise ValueError("--hold-out needs --split-by, the column of its values")
        return self

    @property
    def clip_stride(self) -> int:
        """Frames from one clip's start to the next."""
        return self.stride or self.frames

    def identity(self) -> dict[str, object]:
        """The settings that, with the sources and their captions, decide the bytes of the dataset, as JSON."""
        return {**self.model_dump(mode="json", exclude=ELSEWHERE), "stride": self.clip_stride}

    def shaping(self) -> dict[str, object]:
        """The part of `identity` that decides the frames of a source, before clips are filtered and split."""
        return {name: value for name, value in self.identity().items() if name in SHAPING}
