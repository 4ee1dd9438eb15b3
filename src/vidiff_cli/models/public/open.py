"""Open a public model by what --model says: a folder, a name on the hub, or an image model and a motion adapter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from vidiff_cli.config.model import LongCaptions
from vidiff_cli.models.public.folder import PublicFolder, is_public_folder, read_folder
from vidiff_cli.models.public.hub import (
    JOINED,
    Snapshot,
    find_snapshot,
    hub_run,
    is_hub_name,
    not_here,
    parse_hub_name,
)
from vidiff_cli.models.public.model import PublicModel
from vidiff_cli.models.public.packages import import_package


def is_public(model: Path) -> bool:
    """True if --model names a public model: a folder in the diffusers format, or a name on the hub that does not hold a
    checkpoint of vidiff."""
    if is_hub_name(str(model)):
        return hub_run(model) is None
    return any(is_public_folder(Path(part)) for part in _parts(model)[:1])


def resolve_folder(model: Path) -> PublicFolder:
    """The folder that --model names. VidiffError: not on this machine, or as `read_folder`."""
    places = [_place(part) for part in _parts(model)]
    if None in places:
        raise not_here(str(model))
    base, adapter, *_ = [*places, None]
    assert base is not None
    folder = read_folder(_path(base), None if adapter is None else _path(adapter))
    folder = replace(folder, source=str(model))
    if isinstance(base, Snapshot):
        folder = replace(folder, repository=base.repository, commit=base.commit)
    if isinstance(adapter, Snapshot):
        folder = replace(folder, adapter_repository=adapter.repository, adapter_commit=adapter.commit)
    return folder


def open_public(
    model: Path,
    device: torch.device,
    dtype: torch.dtype,
    *,
    size: tuple[int, int] | None = None,
    frames: int | None = None,
    offload: bool = False,
    long_captions: LongCaptions = "cut",
) -> PublicModel:
    """Open a public model.

    Args:
        model: What --model says.
        device: Device of its parts.
        dtype: Number format of its weights.
        size: Width and height that it works at; None is what it was trained at.
        frames: Frames of its window; None is what it was trained at.
        offload: Keep one large part on the device at a time.
        long_captions: What becomes of prompts that its text encoder cannot read whole.

    Returns:
        The model; its weights are read when they are first needed.

    Raises:
        VidiffError: Not on this machine, unusable, or packages are missing.
    """
    folder = resolve_folder(model)
    import_package("diffusers")
    import_package("transformers")
    return PublicModel(
        folder, device=device, dtype=dtype, size=size, frames=frames, offload=offload, long_captions=long_captions
    )


def _parts(model: Path) -> list[str]:
    text = str(model)
    return [text] if Path(text).exists() else text.split(JOINED, 1)


def _place(text: str) -> Snapshot | Path | None:
    """A folder, or the files of a name on the hub: None where it was not fetched."""
    return find_snapshot(parse_hub_name(text)) if is_hub_name(text) else Path(text)


def _path(place: Snapshot | Path) -> Path:
    return place.path if isinstance(place, Snapshot) else place
