"""Settings of `vidiff fetch` and `vidiff push`: models to and from the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from vidiff_cli.config.options import GENERAL, Argument, Option

LICENCE = r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}"


class FetchSettings(BaseModel):
    """Settings of `vidiff fetch`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Annotated[str, Argument("MODEL")] = Field(
        description="hf:OWNER/NAME, hf:OWNER/NAME@REVISION, or an image model and a motion adapter joined by +"
    )
    variant: Annotated[str | None, Option(values="fp16|bf16|full")] = Field(
        default=None,
        pattern=r"^\w{1,32}$",
        description="Weights to take; by default half precision where the upload has it and the model bears it",
    )
    yes: Annotated[bool, Option(GENERAL, "--yes", "-y")] = Field(default=False, description="Fetch without asking")


class PushSettings(BaseModel):
    """Settings of `vidiff push`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: Annotated[Path, Argument("RUN")] = Field(description="A run folder, or a checkpoint of one")
    target: Annotated[str, Argument("TARGET")] = Field(description="hf:OWNER/NAME, made where it does not exist")
    private: Annotated[bool, Option()] = Field(default=False, description="Make a private repository")
    licence: Annotated[str | None, Option()] = Field(
        default=None, pattern=f"^{LICENCE}$", description="Licence of the model, as the hub spells it: cc-by-4.0"
    )
