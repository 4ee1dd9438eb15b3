"""`vidiff models`: the models on this machine, and the public ones that are known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vidiff_cli.checkpoint import AVERAGE
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import EventStream, task
from vidiff_cli.generation.load_model import RUNS, find_checkpoint
from vidiff_cli.models.public.fetch import SINGLE
from vidiff_cli.models.public.folder import is_public_folder, read_config, read_folder, read_index
from vidiff_cli.models.public.hub import (
    CASCADE,
    CHECKPOINT,
    COMMIT,
    INDEX,
    HubName,
    Snapshot,
    find_snapshot,
    hub_cache,
    parse_hub_name,
)
from vidiff_cli.models.public.known import KNOWN, KnownModel, find_known
from vidiff_cli.models.public.licence import read_licence
from vidiff_cli.path_kind import BUILTIN

OWN = "vidiff"
PREFIX = "models--"  # of a repository's folder in the cache


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalModel:
    """A model on this machine. `name` is for --model; `note` says why it cannot be used, or what it needs."""

    name: str
    place: Literal["package", "run", "hub"]
    family: str
    bytes: int
    licence: str | None
    commit: str | None
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedModel:
    """A known public model, and whether its files are on this machine."""

    model: KnownModel
    fetched: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelsReport:
    """Models on this machine, and known ones."""

    here: tuple[LocalModel, ...]
    known: tuple[ListedModel, ...]
    cache: Path


@task
def models() -> EventStream[ModelsReport]:
    """Lists the package's model, the runs and cascades under runs/, what was fetched from the hub, and known models.

    Opens no connection and reads no weights. What cannot be used is listed with the reason.
    """
    yield from ()
    listed = [ListedModel(model=model, fetched=all(map(_is_here, model.name.split("+")))) for model in KNOWN]
    return ModelsReport(here=(_builtin(), *_runs(), *_cascades(), *_from_hub()), known=tuple(listed), cache=hub_cache())


def _is_here(name: str) -> bool:
    return find_snapshot(parse_hub_name(name)) is not None


def _builtin() -> LocalModel:
    size = find_checkpoint(BUILTIN).stat().st_size
    return LocalModel(
        name=str(BUILTIN), place="package", family=OWN, bytes=size, licence="apache-2.0", commit=None, note=""
    )


def _runs() -> Iterator[LocalModel]:
    """The runs that `vidiff sample` would find, the newest last."""
    pointers = sorted(RUNS.glob("*/checkpoints/latest"), key=lambda path: path.stat().st_mtime)
    for run in (pointer.parents[1] for pointer in pointers):
        size, note = 0, ""
        try:
            size = find_checkpoint(run).stat().st_size
        except (VidiffError, OSError) as error:
            note = str(error)
        yield LocalModel(name=str(run), place="run", family=OWN, bytes=size, licence=None, commit=None, note=note)


def _cascades() -> Iterator[LocalModel]:
    """The cascades beside the runs."""
    for folder in sorted(path.parent for path in RUNS.glob(f"*/{CASCADE}")):
        size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
        note = "a cascade" if (folder / AVERAGE).is_file() else f"{folder / AVERAGE} is missing"
        yield LocalModel(name=str(folder), place="run", family=OWN, bytes=size, licence=None, commit=None, note=note)


def _from_hub() -> Iterator[LocalModel]:
    """The snapshots in the cache of the hub's client that vidiff can use; other people's models lie there too."""
    for folder in sorted(hub_cache().glob(f"{PREFIX}*/snapshots/*")):
        repository = folder.parents[1].name.removeprefix(PREFIX).replace("--", "/", 1)
        if not folder.is_dir() or not COMMIT.fullmatch(folder.name):
            continue
        snapshot = Snapshot(path=folder, repository=repository, commit=folder.name)
        try:
            name = _name(snapshot)
            described = _describe(folder)
        except VidiffError as error:
            name, described = f"hf:{repository}@{folder.name}", ("unknown", str(error))
        if described is not None:
            known = find_known(repository)
            yield LocalModel(
                name=name,
                place="hub",
                family=described[0],
                bytes=sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
                licence=read_licence(folder) or (known.licence if known else None),
                commit=folder.name,
                note=described[1],
            )


def _name(snapshot: Snapshot) -> str:
    """The shortest name that means a snapshot."""
    refs = snapshot.path.parents[1] / "refs"
    revisions = [str(path.relative_to(refs)) for path in sorted(refs.rglob("*")) if path.is_file()]
    for revision in (None, *revisions, snapshot.commit):
        name = HubName(repository=snapshot.repository, revision=revision)
        if find_snapshot(name) == snapshot:
            return str(parse_hub_name(str(name)))
    raise VidiffError(f"{snapshot.path} does not have a name")


def _describe(folder: Path) -> tuple[str, str] | None:
    """Family and note of a snapshot; None for a model of another kind."""
    if is_public_folder(folder):
        index = read_config(folder / INDEX)
        try:
            family, _ = read_index(str(folder), index, with_adapter=False)
        except VidiffError:
            try:
                read_index(str(folder), index, with_adapter=True)
            except VidiffError:
                return None
            return "image model", "needs a motion adapter: MODEL+ADAPTER"
        try:
            read_folder(folder)
        except VidiffError as error:
            return family.name, str(error)
        return family.name, ""
    if (folder / CHECKPOINT).is_file():
        return OWN, ""
    if (folder / "config.json").is_file():
        kind = read_config(folder / "config.json").get("_class_name")
        notes = {"MotionAdapter": "for an image model: MODEL+ADAPTER"}
        return (str(kind), notes.get(str(kind), "for --autoencoder")) if kind in SINGLE else None
    return None
