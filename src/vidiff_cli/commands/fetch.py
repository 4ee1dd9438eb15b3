"""`vidiff fetch`: a model from the hub onto this machine, in two tasks with a question between."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from vidiff_cli.config.hub import FetchSettings
from vidiff_cli.events import EventStream, task
from vidiff_cli.models.public.download import check_space, download
from vidiff_cli.models.public.fetch import RepositoryPlan, plan_model
from vidiff_cli.models.public.hub import hub_cache
from vidiff_cli.models.public.known import named_model


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchPlan:
    """Repositories to fetch: `bytes` of all their files, `missing_bytes` of those that are not on this machine."""

    model: str
    repositories: tuple[RepositoryPlan, ...]
    note: str
    bytes: int
    missing_bytes: int
    cache: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchReport:
    """Result: the folders of the files, one a repository, with their commits and licences."""

    model: str
    paths: tuple[Path, ...]
    commits: tuple[str, ...]
    licences: tuple[str | None, ...]
    files: int
    fetched_bytes: int
    seconds: float


@task
def plan_fetch(settings: FetchSettings) -> EventStream[FetchPlan]:
    """Asks the hub for the files of a model and chooses those that are needed. Writes nothing.

    Raises VidiffError: the hub cannot be reached, the model is not there, gated, unknown, or a pickle.
    """
    yield from ()
    plans = plan_model(settings.model, variant=settings.variant)
    known = named_model(settings.model)
    return FetchPlan(
        model=settings.model,
        repositories=plans,
        note=known.note if known else "",
        bytes=sum(file.bytes for plan in plans for file in plan.files),
        missing_bytes=sum(file.bytes for plan in plans for file in plan.missing),
        cache=hub_cache(),
    )


@task
def fetch(plan: FetchPlan) -> EventStream[FetchReport]:
    """Gets the planned files into the cache of the hub's client; an interrupted download goes on where it stopped.

    Raises VidiffError: no room on the disk, the hub cannot be reached, a file is damaged.
    """
    began = time.monotonic()
    check_space(plan.repositories)
    paths = []
    for repository in plan.repositories:
        paths.append((yield from download(repository)))
    return FetchReport(
        model=plan.model,
        paths=tuple(paths),
        commits=tuple(repository.commit for repository in plan.repositories),
        licences=tuple(repository.licence for repository in plan.repositories),
        files=sum(len(repository.files) for repository in plan.repositories),
        fetched_bytes=plan.missing_bytes,
        seconds=time.monotonic() - began,
    )
