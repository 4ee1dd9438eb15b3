"""One file of a repository: its bytes from the hub, and its hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, Any

from vidiff_cli.errors import VidiffError
from vidiff_cli.models.public.client import endpoint, request_headers
from vidiff_cli.models.public.hub import HubName


@dataclass(frozen=True, kw_only=True, slots=True)
class HubFile:
    """A file of a repository; `blob` is its sha256, or git's id where it is small."""

    name: str
    bytes: int
    blob: str


class StoppedError(Exception):
    """A download was told to stop."""


class Sink:
    """A file being written by the client: counts `done`, refuses more than `most` bytes, and stops when told to."""

    def __init__(self, stream: IO[bytes], *, most: int) -> None:
        self._stream, self._most = stream, most
        self.done, self.stop = stream.tell(), False

    def write(self, chunk: bytes) -> int:
        """Append bytes."""
        if self.stop:
            raise StoppedError
        if self.done + len(chunk) > self._most:
            raise VidiffError("the hub sends more than it announced", expected=f"{self._most:,} bytes")
        self.done += len(chunk)
        return self._stream.write(chunk)

    def tell(self) -> int:
        """Bytes so far."""
        return self.done

    def seek(self, place: int) -> int:
        """Go back, where the hub cannot continue a file."""
        self.done = self._stream.seek(place)
        return self.done

    def truncate(self) -> int:
        """Drop what follows."""
        return self._stream.truncate()


class _NoBar:
    """The client's progress bar, not shown."""

    def __init__(self, *_: object, **__: object) -> None: ...
    def __enter__(self) -> _NoBar:
        return self

    def __exit__(self, *_: object) -> None: ...
    def update(self, _: float | None = 1) -> None: ...
    def close(self) -> None: ...


def get_file(name: HubName, commit: str, file: HubFile, sink: Sink) -> None:
    """Get what a sink does not have yet of a file. The client asks again where a connection breaks, for the rest alone.

    Raises the client's errors (`hub_errors`).
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get

    url = hf_hub_url(name.repository, file.name, revision=commit, endpoint=endpoint())
    writable: Any = sink
    bar: Any = _NoBar
    http_get(url, writable, resume_size=sink.done, headers=request_headers(), expected_size=file.bytes, tqdm_class=bar)


def hash_of(chunks: Iterable[bytes], file: HubFile) -> str:
    """The hash of bytes of the kind that a file's `blob` is."""
    if len(file.blob) == 64:
        state = hashlib.sha256()
    else:
        state = hashlib.sha1(f"blob {file.bytes}\0".encode(), usedforsecurity=False)
    for chunk in chunks:
        state.update(chunk)
    return state.hexdigest()


def damaged(name: HubName, file: HubFile) -> VidiffError:
    """The error for a file that is not what the repository says it is."""
    fix = "it was not kept: fetch it again"
    return VidiffError(f"{name}: {file.name} came damaged", found="another hash", expected=file.blob, fix=fix)
