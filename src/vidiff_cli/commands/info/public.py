"""Description of a public model's folder: its parts, licence and abilities. No package of theirs is imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vidiff_cli.checkpoint import count_parameters
from vidiff_cli.events import EventStream, Note
from vidiff_cli.models.public.checks import read_config
from vidiff_cli.models.public.folder import PublicFolder, is_flow, weight_files
from vidiff_cli.models.public.known import ALL, FORWARDS, native_shape
from vidiff_cli.models.public.open import resolve_folder


@dataclass(frozen=True, kw_only=True, slots=True)
class PublicPart:
    """A part of a public model: its class, and the parameters and bytes of the weights that are read."""

    name: str
    kind: str
    parameters: int
    bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PublicInfo:
    """Description of a public model. `path` is its folder, `asked` the argument; `repository`, `commit` and `licence`
    are None where they are not known. `works` lists what it can do, `conditioning` the ways to condition on given
    frames, the default one first.
    """

    kind: Literal["public model"]
    asked: Path
    path: Path
    family: str
    repository: str | None
    commit: str | None
    licence: str | None
    bytes: int
    parameters: int
    parts: tuple[PublicPart, ...]
    predicts: str
    width: int
    height: int
    frames: int
    fps: int
    works: tuple[str, ...]
    conditioning: tuple[str, ...]
    files: tuple[str, ...]


def describe_public(asked: Path) -> EventStream[PublicInfo]:
    """Describes a folder in the diffusers format, or a name on the hub that was fetched. VidiffError where sampling
    would refuse it too."""
    folder = resolve_folder(asked)
    family, shape = folder.family, native_shape(folder.family, folder.repository)
    if folder.licence is None:
        yield Note("No licence is stated in this folder: look at the page it is from.", "warning")
    parts = tuple(_parts(folder))
    width, height = _size(folder) or (shape.width, shape.height)
    by_frame = folder.classes["vae"] == "AutoencoderKL"
    return PublicInfo(
        kind="public model",
        asked=asked,
        path=folder.path,
        family=family.name,
        repository=folder.repository,
        commit=folder.commit,
        licence=folder.licence,
        bytes=sum(part.bytes for part in parts),
        parameters=sum(part.parameters for part in parts),
        parts=parts,
        predicts="flow" if is_flow(folder.scheduler) else str(folder.scheduler.get("prediction_type", "epsilon")),
        width=width,
        height=height,
        frames=shape.frames,
        fps=shape.fps,
        works=ALL if by_frame else FORWARDS,
        conditioning=("learned",) * family.levels_by_frame + ("reconstruction", "replacement"),
        files=tuple(file.name for file in folder.weight_files()),
    )


def _parts(folder: PublicFolder) -> list[PublicPart]:
    places = {name: folder.path / name for name in ("text_encoder", folder.family.part, "vae")}
    kinds = dict(folder.classes)
    if folder.adapter is not None:
        places["adapter"], kinds["adapter"] = folder.adapter, "MotionAdapter"
    found = []
    for name, place in places.items():
        files = weight_files(place)
        parameters, size = sum(map(count_parameters, files)), sum(file.stat().st_size for file in files)
        found.append(PublicPart(name=name, kind=kinds[name], parameters=parameters, bytes=size))
    return found


def _size(folder: PublicFolder) -> tuple[int, int] | None:
    """Width and height that the network's configuration names, None where it names none."""
    network = read_config(folder.path / folder.family.part / "config.json")
    blocks: Any = read_config(folder.path / "vae" / "config.json").get("block_out_channels")
    side = 2 ** (len(blocks) - 1) if isinstance(blocks, list) else 1
    square, width, height = (network.get(name) for name in ("sample_size", "sample_width", "sample_height"))
    if isinstance(square, int):
        return square * side, square * side
    return (width * side, height * side) if isinstance(width, int) and isinstance(height, int) else None
