"""Settings of `vidiff preview`: what to look at, how much of it, and where it is written."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

COUNTS = {"terminal": 6, "sheet": 16, "gallery": 60}  # entries that are shown, unless told otherwise


class PreviewSettings(BaseModel):
    """Everything `vidiff preview` can be told; the defaults of the command line stand here and nowhere else."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    path: Path = Field(description="A dataset, a run, a folder of videos, or one video.")
    output: Path | None = Field(
        default=None,
        description="A contact sheet (.png, .jpg, .webp) or a gallery (.html) to write; without it, the terminal.",
    )
    count: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="How many are shown, evenly picked "
        f"({COUNTS['terminal']} on a terminal, {COUNTS['sheet']} on a sheet, {COUNTS['gallery']} in a gallery).",
    )
    frames: int | None = Field(
        default=None, ge=1, le=24, description="Frames of each, evenly spaced (as many as fit, if not given)."
    )
    sort: str | None = Field(
        default=None, description="Order of what is shown: name, prompt, seed, or a score such as motion."
    )
    seed: int | None = Field(default=None, ge=0, description="Pick at random, the same ones for the same number.")
    megabytes: float = Field(
        default=64.0, gt=0, le=2000, description="Largest size of a gallery; what does not fit is left out."
    )
    overwrite: bool = Field(default=False, description="Replace an output that is already there.")
