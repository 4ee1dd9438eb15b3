"""Names of models on the hub, and where their files lie on this machine. Nothing here opens a connection.

A name is hf:OWNER/NAME[@REVISION]; two names or folders joined by "+" are an image model and a motion adapter.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from vidiff_cli.errors import VidiffError
from vidiff_cli.models.public.known import find_known, named_model

PREFIX = "hf:"
JOINED = "+"  # between an image model and a motion adapter
MAIN = "main"
INDEX = "model_index.json"  # in a folder in the diffusers format
CHECKPOINT = "ema.safetensors"  # of a run of vidiff (checkpoint.py)
CASCADE = "cascade.json"  # of a cascade of vidiff
MOST_STAGES = 15  # one of the frames between; each other doubles a side at least, and 2**14 is the longest one
STAGES = tuple(f"stage-{number}.safetensors" for number in range(1, MOST_STAGES + 1))
NAME = re.compile(r"hf:(?P<repository>[\w.-]{1,96}/[\w.-]{1,96})(@(?P<revision>\w[\w.-]*(/\w[\w.-]*)*))?", re.ASCII)
LONGEST_REVISION = 255
COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True, kw_only=True, slots=True)
class HubName:
    """OWNER/NAME and a revision: a branch, a tag or a commit; None is the commit of a known model, else main."""

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{PREFIX}{self.repository}" + (f"@{self.revision}" if self.revision else "")

    @property
    def wanted(self) -> str:
        """The revision to fetch."""
        known = find_known(self.repository)
        return self.revision or (known and known.commit) or MAIN


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
    if match is None or ".." in text or "--" in match["repository"] or len(match["revision"] or "") > LONGEST_REVISION:
        raise VidiffError("not a name on the hub", found=text, expected="hf:OWNER/NAME or hf:OWNER/NAME@REVISION")
    return HubName(repository=match["repository"], revision=match["revision"])


def hub_cache() -> Path:
    """The folder of the hub's client: $HF_HUB_CACHE, $HF_HOME/hub, or ~/.cache/huggingface/hub."""
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or f"{root}/huggingface"
    return Path(os.path.expandvars(os.environ.get("HF_HUB_CACHE") or f"{home}/hub")).expanduser()


def repository_folder(repository: str) -> Path:
    """The folder of a repository in the cache."""
    return hub_cache() / f"models--{repository.replace('/', '--')}"


def find_snapshot(name: HubName) -> Snapshot | None:
    """The files of a name on this machine, None where it was not fetched."""
    wanted = [name.revision] if name.revision else [name.wanted, MAIN]
    commits = (_commit(name.repository, revision) for revision in dict.fromkeys(wanted))
    for commit in filter(None, commits):
        path = repository_folder(name.repository) / "snapshots" / commit
        if path.is_dir():
            return Snapshot(path=path, repository=name.repository, commit=commit)
    return None


def require_snapshot(name: HubName) -> Snapshot:
    """The files of a name on this machine. VidiffError says what they are and how to fetch them."""
    found = find_snapshot(name)
    if found is None:
        raise not_here(str(name))
    return found


def hub_run(model: Path) -> Snapshot | None:
    """A run of vidiff that was fetched from the hub; None for any other --model."""
    if not is_hub_name(str(model)) or JOINED in str(model):
        return None
    found = find_snapshot(parse_hub_name(str(model)))
    if found is None or (found.path / INDEX).exists() or not (found.path / CHECKPOINT).is_file():
        return None
    return found


def not_here(model: str) -> VidiffError:
    """The error for a --model that was not fetched: size and licence where they are known, and the command."""
    known = named_model(model)
    facts = [f"{known.gigabytes:g} GB to fetch"] if known and known.gigabytes else []
    facts += [f"licence {known.licence}"] if known else []
    about = f" ({', '.join(facts)})" if facts else ""
    return VidiffError(f"{model}{about} is not on this machine", fix=f"fetch it with vidiff fetch {model}")


def _commit(repository: str, revision: str) -> str | None:
    """The commit of a revision, as it was when it was fetched."""
    if COMMIT.fullmatch(revision):
        return revision
    try:
        with (repository_folder(repository) / "refs" / revision).open(encoding="utf-8", errors="replace") as file:
            commit = file.read(64).strip()
    except OSError:
        return None
    return commit if COMMIT.fullmatch(commit) else None
