"""Names of models on the hub, and where their files lie on this machine. Nothing here opens a connection.

A name is hf:OWNER/NAME[@REVISION]; two names or folders joined by "+" are an image model and a motion adapter.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from vidiff_cli.errors import VidiffError

PREFIX = "hf:"
NAME = re.compile(r"hf:(?P<repository>[\w.-]{1,96}/[\w.-]{1,96})(@(?P<revision>[\w.\-/]{1,255}))?")
COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True, kw_only=True, slots=True)
class HubName:
    """OWNER/NAME and a revision: a branch, a tag or a commit."""

    repository: str
    revision: str = "main"

    def __str__(self) -> str:
        return f"{PREFIX}{self.repository}" + ("" if self.revision == "main" else f"@{self.revision}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """A repository's files at one commit on this machine."""

    path: Path
    repository: str
    commit: str


def is_hub_name(text: str) -> bool:
    """True for a name on the hub, valid or not."""
    return text.startswith(PREFIX)


def parse_hub_name(text: str) -> HubName:
    """The name in hf:OWNER/NAME[@REVISION]. VidiffError where it is not one."""
    match = NAME.fullmatch(text)
    if match is None or ".." in text:
        raise VidiffError("not a name on the hub", found=text, expected="hf:OWNER/NAME or hf:OWNER/NAME@REVISION")
    return HubName(repository=match["repository"], revision=match["revision"] or "main")


def hub_cache() -> Path:
    """The folder of the hub's client: $HF_HUB_CACHE, $HF_HOME/hub, or ~/.cache/huggingface/hub."""
    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache)
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("HF_HOME") or Path(root) / "huggingface") / "hub"


def repository_folder(repository: str) -> Path:
    """The folder of a repository in the cache."""
    return hub_cache() / f"models--{repository.replace('/', '--')}"


def find_snapshot(name: HubName) -> Snapshot | None:
    """The files of a name on this machine, None where it was not fetched."""
    folder, commit = repository_folder(name.repository), name.revision
    if not COMMIT.fullmatch(commit):
        try:
            commit = (folder / "refs" / name.revision).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return None
    if not COMMIT.fullmatch(commit):
        return None
    path = folder / "snapshots" / commit
    return Snapshot(path=path, repository=name.repository, commit=commit) if path.is_dir() else None


def require_snapshot(name: HubName) -> Snapshot:
    """The files of a name on this machine. VidiffError says how to fetch them."""
    found = find_snapshot(name)
    if found is None:
        raise VidiffError(f"{name} is not on this machine", fix=f"vidiff fetch {name}")
    return found
