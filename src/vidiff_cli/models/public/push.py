"""Send files to a repository on the hub, through the hub's own client, as one commit."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from vidiff_cli.errors import VidiffError
from vidiff_cli.models.public.client import endpoint, hub_client, hub_errors, hub_token
from vidiff_cli.models.public.hub import CASCADE, CHECKPOINT, STAGES, HubName

OF_VIDIFF = frozenset({CHECKPOINT, "config.json", CASCADE, *STAGES})
ANYWHERE = frozenset({".gitattributes", "README.md"})  # in a repository that was made by hand and is empty


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """A commit on the hub."""

    url: str
    commit: str


def push_files(name: HubName, files: Mapping[str, Path | bytes], *, private: bool, message: str) -> Sent:
    """Send files, by their names in the repository, which is made where it does not exist. Those of the run or the
    cascade that was there before, and has no file of that name now, are removed.

    Raises VidiffError: no token, no access, a repository that holds another model, or is public and should be private.
    """
    if name.revision is not None:
        raise VidiffError("a run goes to the main branch", found=str(name), expected=f"hf:{name.repository}")
    if hub_token() is None:
        owner = name.repository.partition("/")[0]
        raise VidiffError(
            "the hub takes no files without a token", fix=f"set HF_TOKEN to one with write access to {owner}"
        )
    with hub_errors(name, writing=True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete
        from huggingface_hub.errors import RepositoryNotFoundError

        client, before = hub_client(), set[str]()
        try:
            info = client.model_info(name.repository)
        except RepositoryNotFoundError:
            client.create_repo(name.repository, private=private)
        else:
            before = {file.rfilename for file in info.siblings or ()}
            _check_target(name, before, is_private=bool(info.private), private=private)
        changes: list[CommitOperationAdd | CommitOperationDelete] = [
            CommitOperationAdd(path_in_repo=place, path_or_fileobj=content) for place, content in sorted(files.items())
        ]
        changes += [CommitOperationDelete(path_in_repo=place) for place in sorted((before & OF_VIDIFF) - files.keys())]
        commit = client.create_commit(name.repository, operations=changes, commit_message=message)
    return Sent(url=f"{endpoint()}/{name.repository}", commit=commit.oid)


def _check_target(name: HubName, files: Set[str], *, is_private: bool, private: bool) -> None:
    """VidiffError for a repository that is not for this run: nothing has been sent yet."""
    if private and not is_private:
        raise VidiffError(f"{name} is public", expected="a private repository", fix="make it private on the hub first")
    others = sorted(files - ANYWHERE)
    if others and CHECKPOINT not in files:
        fix = "give another name: its files would be mixed with those of the run"
        raise VidiffError(f"{name} holds something else than a run of vidiff", found=others[0], fix=fix)
