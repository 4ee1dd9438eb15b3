"""Settings of `vidiff export`: a dataset as a folder of videos that other tools read."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class ExportSettings(BaseModel):
    """Everything `vidiff export` can be told; the defaults of the command line stand here and nowhere else."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    dataset: Path = Field(default=Path("dataset"), description="dataset folder made by vidiff prep")
    output: Path = Field(description="folder for the videos")
    lossless: bool = Field(default=False, description="write .mkv files that hold the very same frames, not .mp4")
    crf: int = Field(default=17, ge=0, le=51, description="H.264 quality of .mp4 files, less is better")
    overwrite: bool = Field(default=False, description="replace an earlier export in the folder")
