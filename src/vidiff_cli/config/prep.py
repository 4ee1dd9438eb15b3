"""Settings of `vidiff prep`: which sources, what kind of clips, which captions, how the clips are split."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from vidiff_cli.config.aspect import parse_aspect
from vidiff_cli.config.fields import Rate

CaptionFormat = Literal[
    "auto", "sidecar", "csv", "jsonl", "msrvtt", "youcook2", "activitynet", "webvid", "vatex", "panda70m"
]
# how, not what
ELSEWHERE = {"sources", "output", "captions", "caption_format", "workers", "timeout", "memory", "shard", "merge"} | {
    "preview",
    "strict",
    "overwrite",
}
SHAPING = {"size", "aspect", "frames", "fps", "stride", "scenes", "decoder", "images_fps"}


def parse_shard(shard: str) -> tuple[int, int]:
    """(I, N) of "I/N", 1 <= I <= N. ValueError for anything else."""
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", shard)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise ValueError(f"{shard!r} is no part I/N: expected 1/N to N/N")
    return int(found[1]), int(found[2])


class PrepSettings(BaseModel):
    """Everything `vidiff prep` can be told; the defaults of the command line stand here and nowhere else."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sources: tuple[str, ...] = Field(min_length=1, description="Folders (searched recursively), files and globs.")
    output: Path = Field(default=Path("dataset"), description="The dataset folder to make.")
    size: int = Field(default=64, ge=4, le=4096, description="Short side of the clips in pixels.")
    aspect: str = Field(
        default="square",
        description="Shape of the clips: square, a shape such as 16:9 (both cropped from the middle), or keep: the "
        "source's own, in a few steps up to 2:1, so that a dataset has clips of several sizes.",
    )
    frames: int = Field(default=16, ge=1, description="Frames per clip; an image is a clip of one frame.")
    fps: Rate = Field(default=Fraction(25), gt=0, description="Frames per second, never above the source's own rate.")
    stride: int | None = Field(
        default=None, ge=1, description="Frames from one clip's start to the next (default: as --frames)."
    )
    clips_per_source: int | None = Field(
        default=None, ge=1, description="At most this many clips of a source, evenly spread."
    )
    images: Literal["auto", "stills", "frames"] = Field(
        default="auto",
        description="Folders of pictures: stills are clips of one frame each, frames are one video in the order of "
        "their numbers; auto: frames where eight or more of one size are numbered without a gap.",
    )
    images_fps: Rate = Field(default=Fraction(25), gt=0, description="Rate of folders of numbered pictures.")
    captions: tuple[str, ...] = Field(
        default=("auto",),
        min_length=1,
        description="auto (metadata.csv, metadata.jsonl or a corpus's file among the sources, then NAME.txt beside the "
        "file), none, or annotation FILEs (repeat the option).",
    )
    caption_format: CaptionFormat = Field(
        default="auto", description="Format of the annotation files; auto: told from their content."
    )
    scenes: bool = Field(default=True, description="Find hard cuts: no clip contains one.")
    min_motion: float = Field(
        default=0.8, ge=0, description="Leave out clips that change less in a second (of 255); 0: none."
    )
    min_contrast: float = Field(
        default=2.0, ge=0, description="Leave out clips of less contrast, black or flat ones; 0: none."
    )
    min_difference: int = Field(
        default=12,
        ge=0,
        le=255,
        description="Leave out clips that nowhere differ by more (of 255) from a clip of another source; 0: none.",
    )
    val_fraction: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        description="Share of the sources (or groups) kept for validation: of two or more at least one, one that moves "
        "if there are others.",
    )
    split_by: str | None = Field(
        default=None, description="Column of the caption table: equal values stay on one side."
    )
    hold_out: tuple[str, ...] = Field(
        default=(), description="With --split-by: exactly these values are for validation."
    )
    decoder: Literal["auto", "decord", "ffmpeg"] = Field(
        default="auto", description="auto: decord, and ffmpeg where it fails."
    )
    seed: int = Field(default=0, description="Which sources are drawn for validation.")
    workers: int | None = Field(default=None, ge=1, description="Sources decoded at once; one per core by default.")
    timeout: float | None = Field(
        default=None,
        gt=0,
        description="Seconds that one source may take; two minutes, or ten times its duration, if not given.",
    )
    memory: int = Field(default=2000, ge=200, description="Megabytes that the decoding of one source may take.")
    shard: str | None = Field(
        default=None, description="I/N: do only the I-th of N parts of the sources (1/4 to 4/4); then --merge."
    )
    merge: bool = Field(default=False, description="Put together what all the --shard runs have done.")
    preview: int = Field(
        default=8, ge=0, description="Clips shown in preview.png, and in rejected.png, of the dataset; 0 for none."
    )
    strict: bool = Field(default=False, description="A rejected source is an error.")
    overwrite: bool = Field(default=False, description="Replace a dataset that was made with other settings.")

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
            raise ValueError("--captions auto and --captions none go alone: give FILEs only")
        if self.shard is not None and self.merge:
            raise ValueError("--shard does a part, --merge puts the parts together: give one of them")
        return self

    @model_validator(mode="after")
    def _hold_out_needs_groups(self) -> Self:
        if self.hold_out and self.split_by is None:
            raise ValueError("--hold-out names values of a column: give the column with --split-by")
        return self

    @property
    def clip_stride(self) -> int:
        """Frames from one clip's start to the next."""
        return self.stride or self.frames

    def identity(self) -> dict[str, object]:
        """The settings that, with the sources and their captions, decide the bytes of the dataset, as JSON."""
        return {**self.model_dump(mode="json", exclude=ELSEWHERE), "stride": self.clip_stride}

    def shaping(self) -> dict[str, object]:
        """Those of them that shape the frames of a source, whatever becomes of its clips later."""
        return {name: value for name, value in self.identity().items() if name in SHAPING}
