"""Settings of `vidiff export`: a dataset as a folder of videos that other tools read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from vidiff_cli.config.options import GENERAL, OUTPUT, Argument, Option


class ExportSettings(BaseModel):
    """Settings of `vidiff export`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    dataset: Annotated[Path, Argument("DATASET")] = Field(
        default=Path("dataset"), description="Folder made by vidiff prep"
    )
    output: Annotated[Path, Option(GENERAL, "--output", "-o")] = Field(description="Folder for the videos")
    lossless: Annotated[bool, Option(OUTPUT)] = Field(
        default=False, description="Write lossless .mkv files instead of .mp4"
    )
    crf: Annotated[int, Option(OUTPUT)] = Field(
        default=17, ge=0, le=51, description="H.264 rate factor of .mp4 files; lower is better"
    )
    overwrite: Annotated[bool, Option(OUTPUT)] = Field(
        default=False, description="Replace an earlier export in the folder"
    )
