"""Settings of `vidiff preview`: the clips to show, their number, and the output."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from vidiff_cli.config.options import GENERAL, OUTPUT, REPRODUCE, Argument, Option

COUNTS = {"terminal": 6, "sheet": 16, "gallery": 60}  # default number of entries


class PreviewSettings(BaseModel):
    """Settings of `vidiff preview`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    path: Annotated[Path, Argument("PATH")] = Field(description="A dataset, a run, a folder of videos, or one video")
    output: Annotated[Path | None, Option(GENERAL, "--output", "-o")] = Field(
        default=None,
        description="Contact sheet (.png, .jpg, .webp) or gallery (.html) to write; if not given, the terminal",
    )
    count: Annotated[int | None, Option(GENERAL, "--count", "-n", unit="entries")] = Field(
        default=None,
        ge=1,
        le=1000,
        description="Number of entries, evenly spaced; if not given, "
        f"{COUNTS['terminal']} on a terminal, {COUNTS['sheet']} on a sheet, {COUNTS['gallery']} in a gallery",
    )
    frames: Annotated[int | None, Option(unit="frames")] = Field(
        default=None, ge=1, le=24, description="Frames of each entry, evenly spaced; if not given, as many as fit"
    )
    sort: Annotated[str | None, Option(values="name|prompt|seed|SCORE")] = Field(
        default=None, description="Order of the entries; a score is a column such as motion"
    )
    megabytes: Annotated[float, Option(OUTPUT, unit="MB")] = Field(
        default=64.0, gt=0, le=2000, description="Largest size of a gallery; entries that do not fit are left out"
    )
    overwrite: Annotated[bool, Option(OUTPUT)] = Field(default=False, description="Replace an existing output")
    seed: Annotated[int | None, Option(REPRODUCE)] = Field(
        default=None, ge=0, description="Pick entries at random, the same ones for the same seed"
    )
