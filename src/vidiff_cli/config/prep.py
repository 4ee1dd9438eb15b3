"""Settings of `vidiff prep`: which sources, what kind of clips, which captions, how the clips are split."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vidiff_cli.config.fields import Rate


class PrepSettings(BaseModel):
    """Everything `vidiff prep` can be told; the defaults of the command line stand here and nowhere else."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sources: tuple[str, ...] = Field(min_length=1, description="Folders (searched recursively), files and globs.")
    output: Path = Field(default=Path("dataset"), description="The dataset folder to make.")
    size: int = Field(
        default=64, ge=4, le=4096, description="Side of the square clips: short side scaled, long side cropped."
    )
    frames: int = Field(default=16, ge=1, description="Frames per clip; an image is a clip of one frame.")
    fps: Rate = Field(default=Fraction(25), gt=0, description="Frames per second, never above the source's own rate.")
    stride: int | None = Field(
        default=None, ge=1, description="Frames from one clip's start to the next (default: as --frames)."
    )
    clips_per_source: int | None = Field(
        default=None, ge=1, description="At most this many clips of a source, evenly spread."
    )
    captions: str = Field(
        default="auto",
        description="auto (metadata.csv, metadata.jsonl, then NAME.txt beside the file), none, or a table FILE.",
    )
    val_fraction: float = Field(
        default=0.05, ge=0, lt=1, description="Share of the sources (or groups) kept for validation."
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
    workers: int | None = Field(
        default=None, ge=1, description="Sources decoded at once; one per core, at most 4, by default."
    )
    preview: int = Field(default=8, ge=0, description="Clips shown in preview.png of the dataset; 0 for none.")
    strict: bool = Field(default=False, description="A rejected source is an error.")
    overwrite: bool = Field(default=False, description="Replace a dataset that was made with other settings.")

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
        elsewhere = {"sources", "output", "captions", "workers", "preview", "strict", "overwrite"}
        return {**self.model_dump(mode="json", exclude=elsewhere), "stride": self.clip_stride}
