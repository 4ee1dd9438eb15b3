"""The folder of a cascade: the averaged weights of a model that makes videos, the stages that follow it, and
cascade.json, which names them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from vidiff_cli.checkpoint import AVERAGE, file_hash
from vidiff_cli.errors import VidiffError
from vidiff_cli.models.public.hub import CASCADE, MOST_STAGES, STAGES, hub_run
from vidiff_cli.models.public.licence import valid_licence
from vidiff_cli.system.atomic_files import remove_leftovers, write_folder
from vidiff_cli.system.locks import alone
from vidiff_cli.system.shortage import raise_shortage

LONGEST = 2**16  # bytes of cascade.json
AGAIN = "make the cascade again with vidiff cascade"


class Part(BaseModel):
    """One model of a cascade: what it was called, the hash of its file, and its licence where one is known."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(max_length=300)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    licence: str | None = None

    @field_validator("licence")
    @classmethod
    def _shown(cls, licence: str | None) -> str | None:
        return valid_licence(licence)


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """The weights that a part of a cascade is copied from; `scale` is that of an upscaler."""

    name: str
    file: Path
    licence: str | None
    scale: int = 1


class Stage(Part):
    """A model of larger frames and its scale, or one of the frames between, whose scale is 1."""

    scale: int = Field(ge=1, le=8)


class Cascade(BaseModel):
    """Content of cascade.json. The files of the stages are named by their places alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    base: Part
    stages: tuple[Stage, ...] = Field(min_length=1, max_length=MOST_STAGES)


def stage_file(folder: Path, place: int) -> Path:
    """The weights of a stage, counted from 0: stage-1.safetensors is the first one."""
    return folder / STAGES[place]


def find_cascade(model: Path | None) -> Path | None:
    """The folder that a --model names, if it is a cascade."""
    if model is None:
        return None
    folder = fetched.path if (fetched := hub_run(model)) else model
    return folder if (folder / CASCADE).is_file() else None


def read_cascade(folder: Path) -> Cascade:
    """Read a cascade and check its files. VidiffError: damaged, a file is missing or not the one that was written."""
    path = folder / CASCADE
    try:
        if (size := path.stat().st_size) > LONGEST:
            raise VidiffError(f"{path} is damaged", found=f"{size:,} bytes", fix=AGAIN)
        cascade = Cascade.model_validate_json(path.read_bytes())
    except OSError as error:
        raise _unreadable(path, error) from error
    except ValidationError as error:
        first = error.errors()[0]
        found = f"{'.'.join(map(str, first['loc'])) or 'its content'}: {first['msg']}"
        raise VidiffError(f"{path} is damaged", found=found, fix=AGAIN) from error
    parts: dict[Path, Part] = {folder / AVERAGE: cascade.base}
    parts |= {stage_file(folder, place): stage for place, stage in enumerate(cascade.stages)}
    for file, part in parts.items():
        if not file.is_file():
            raise VidiffError(f"{file} is missing", expected=f"the weights of {part.name}", fix=AGAIN)
        try:
            found = file_hash(file)
        except OSError as error:
            raise _unreadable(file, error) from error
        if found != part.sha256:
            raise VidiffError(f"{file} is damaged", found=f"sha256 {found}", expected=part.sha256, fix=AGAIN)
    return cascade


def check_cascade_folder(folder: Path, *, overwrite: bool) -> None:
    """Raise VidiffError for a path where a cascade cannot be written: anything but an empty folder or, with
    `overwrite`, a cascade."""
    if not folder.is_dir():
        if folder.exists() or folder.is_symlink():
            raise VidiffError(f"{folder} is not a folder", fix="choose another name with -o")
        return
    try:
        names = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise _unreadable(folder, error) from error
    own = {CASCADE, AVERAGE, *(stage_file(folder, place).name for place in range(MOST_STAGES))}
    if names and (CASCADE not in names or names - own):
        raise VidiffError(f"{folder} is not empty and not a cascade", fix="choose another name with -o")
    if names and not overwrite:
        raise VidiffError(f"{folder} exists", fix="choose another name with -o, or pass --overwrite")


def write_cascade(folder: Path, base: Source, stages: Sequence[Source], *, overwrite: bool) -> Cascade:
    """Write a cascade; the folder appears when it is complete.

    Args:
        folder: The folder.
        base: The model that makes videos.
        stages: The stages, in order.
        overwrite: Replace a cascade.

    Returns:
        The cascade.

    Raises:
        VidiffError: The folder cannot be written, or another process writes it.
    """
    written: list[Cascade] = []

    def copy(source: Path, target: Path) -> str:
        shutil.copyfile(source, target)
        return file_hash(target)

    def fill(hidden: Path) -> None:
        first = Part(name=base.name, sha256=copy(base.file, hidden / AVERAGE), licence=base.licence)
        then = [
            Stage(
                name=stage.name,
                scale=stage.scale,
                sha256=copy(stage.file, stage_file(hidden, place)),
                licence=stage.licence,
            )
            for place, stage in enumerate(stages)
        ]
        written.append(Cascade(base=first, stages=tuple(then)))
        text = json.dumps(written[0].model_dump(mode="json"), indent=2) + "\n"
        (hidden / CASCADE).write_text(text, encoding="utf-8")

    with alone(folder.with_name(f".{folder.name}.lock"), folder, fix="wait for it to end, or choose another name"):
        remove_leftovers(folder.parent, folder.name)
        check_cascade_folder(folder, overwrite=overwrite)
        write_folder(folder, fill)
    return written[0]


def _unreadable(path: Path, error: OSError) -> VidiffError:
    raise_shortage(path, error)
    return VidiffError(f"{path} cannot be read", found=(error.strerror or str(error)).lower())
