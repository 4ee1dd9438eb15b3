"""Download of a planned repository into the cache of the hub's client, as the client lays it out.

`blobs/HASH` holds the bytes, `snapshots/COMMIT/NAME` links to them, `refs/REVISION` names the commit. A file is
`blobs/HASH.incomplete` until its hash is that of the repository; links and the reference follow when all files are
whole. The client itself (2.4) starts a file anew when its process ends; here the next process continues it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from vidiff_cli.errors import VidiffError
from vidiff_cli.events import Event, EventStream, Note, Progress
from vidiff_cli.models.public.client import hub_errors
from vidiff_cli.models.public.fetch import RepositoryPlan, has_blob
from vidiff_cli.models.public.folder import file_sha256, remember_sha256
from vidiff_cli.models.public.hub import COMMIT, repository_folder
from vidiff_cli.models.public.transfer import HubFile, Sink, StoppedError, damaged, get_file, hash_of
from vidiff_cli.system.atomic_files import remove, sync_to_disk, unwritable, write_text
from vidiff_cli.system.locks import alone

MARGIN = 64 * 2**20  # bytes that stay free on the disk
PAUSE_SECONDS = 0.2  # between looks at a download
CHUNK = 8 * 2**20
MEGA = 10**6


def check_space(plans: tuple[RepositoryPlan, ...]) -> None:
    """VidiffError where the disk of the cache has no room for what is missing."""
    needed = sum(_to_get(plan, file) for plan in plans for file in plan.missing)
    for plan in plans:
        place = repository_folder(plan.name.repository)
        there = next(folder for folder in (place, *place.absolute().parents) if folder.is_dir())
        free = shutil.disk_usage(there).free
        if needed and needed + MARGIN > free:
            raise VidiffError(
                f"not enough room in {place.parent}",
                found=f"{free / 1e9:.1f} GB free",
                expected=f"{needed / 1e9:.1f} GB",
                fix="make room, or name a folder on another disk in HF_HOME",
            )


def download(plan: RepositoryPlan) -> EventStream[Path]:
    """Get what is missing of a repository and returns the folder of its files.

    Raises VidiffError: the hub cannot be reached or refuses, a file is damaged, the disk is full, another fetch works.
    """
    folder = repository_folder(plan.name.repository)
    try:
        (folder / "blobs").mkdir(parents=True, exist_ok=True)
        with alone(folder / ".vidiff-fetch.lock", folder, fix="wait for the other fetch"):
            total = -(-sum(file.bytes for file in plan.files) // MEGA)
            before = 0
            for file in plan.files:
                yield from _whole_file(plan, file, folder, before, total)
                before += file.bytes
            yield Progress(what="MB", done=total, total=total)
            return _publish(plan, folder)
    except OSError as error:
        raise unwritable(folder, error) from error


def _whole_file(plan: RepositoryPlan, file: HubFile, folder: Path, before: int, total: int) -> Iterator[Event]:
    """Make sure that a file's blob is there and has the right hash; a wrong one is removed."""
    blob = folder / "blobs" / file.blob
    if has_blob(folder, file):
        if _hash_on_disk(blob, file) == file.blob:
            return
        yield Note(f"{file.name} on this machine is damaged: it is fetched again.", "warning")
    part = blob.with_name(f"{file.blob}.incomplete")
    yield from _get(plan, file, part, before, total)
    chunks = _chunks(part)
    if hash_of(chunks, file) != file.blob:
        remove(part)
        raise damaged(plan.name, file)
    sync_to_disk(part)
    remove(blob)
    os.replace(part, blob)
    if len(file.blob) == 64:
        remember_sha256(blob, file.blob)


def _get(plan: RepositoryPlan, file: HubFile, part: Path, before: int, total: int) -> Iterator[Progress]:
    """Download the rest of a file on another thread, and say how far it is."""
    failed: list[BaseException] = []
    with part.open("ab") as stream:
        if stream.tell() > file.bytes:
            stream.seek(0)
            stream.truncate()
        sink = Sink(stream, most=file.bytes)

        def work() -> None:
            try:
                get_file(plan.name, plan.commit, file, sink)
            except BaseException as error:
                failed.append(error)

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        try:
            while worker.is_alive():
                worker.join(PAUSE_SECONDS)
                yield Progress(what="MB", done=(before + sink.done) // MEGA, total=total, detail=file.name)
        finally:
            sink.stop = True
            worker.join(2 * PAUSE_SECONDS)  # it may wait for the network: it is a daemon, and writes no more
    if failed and not isinstance(failed[0], StoppedError):
        with hub_errors(plan.name):
            raise failed[0]


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            yield chunk


def _hash_on_disk(blob: Path, file: HubFile) -> str:
    return file_sha256(blob) if len(file.blob) == 64 else hash_of(_chunks(blob), file)


def _to_get(plan: RepositoryPlan, file: HubFile) -> int:
    """Bytes of a missing file that are still to come."""
    part = repository_folder(plan.name.repository) / "blobs" / f"{file.blob}.incomplete"
    return file.bytes - (min(part.stat().st_size, file.bytes) if part.is_file() else 0)


def _publish(plan: RepositoryPlan, folder: Path) -> Path:
    """Link all files, which are whole, into the snapshot; a new snapshot appears in one step."""
    snapshot = folder / "snapshots" / plan.commit
    staging = folder / f".snapshot-{secrets.token_hex(4)}"
    target = snapshot if snapshot.is_dir() else staging
    try:
        for file in plan.files:
            _link(target / file.name, file, folder)
        if target is staging:
            snapshot.parent.mkdir(exist_ok=True)
            os.replace(staging, snapshot)
    finally:
        remove(staging)
    if not COMMIT.fullmatch(plan.name.wanted):
        reference = folder / "refs" / plan.name.wanted
        reference.parent.mkdir(parents=True, exist_ok=True)
        write_text(reference, plan.commit)
    return snapshot


def _link(link: Path, file: HubFile, folder: Path) -> None:
    """A relative link to a blob, as deep as the file's name; where links cannot be made, a copy."""
    if link.is_file() and link.resolve() == (folder / "blobs" / file.blob).resolve():
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{link.name}.tmp-{secrets.token_hex(4)}")
    up = "../" * (2 + file.name.count("/"))
    try:
        temporary.symlink_to(f"{up}blobs/{file.blob}")
    except OSError:
        shutil.copyfile(folder / "blobs" / file.blob, temporary)
    os.replace(temporary, link)
