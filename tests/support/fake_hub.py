"""A local server that answers as the hub does: listings, files by range and redirect, uploads; and its faults."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import pytest

TOKEN = "hf_secretTokenOfTheTests"


class Request(NamedTuple):
    """A request that arrived: `range` is its Range header, `token` is True if it carried the token."""

    method: str
    path: str
    range: str | None
    token: bool


@dataclass(kw_only=True)
class Repository:
    """Files of a repository at one commit. `extra` are entries of the listing without a file."""

    files: dict[str, bytes]
    card: dict[str, Any] = field(default_factory=dict)
    extra: list[dict[str, Any]] = field(default_factory=list)
    gated: bool = False
    private: bool = False

    @property
    def commit(self) -> str:
        """Its commit: a hash of all."""
        return hashlib.sha1(repr(sorted(self.files.items())).encode()).hexdigest()


@dataclass(kw_only=True)
class FakeHub:
    """The server's state. Faults: `breaks[file]` bytes are sent and the connection closed, once; `swapped[file]` is
    sent in its place; `refused` files have status 500; with `redirects` files lie on another host. `moved`: old and
    new names."""

    address: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    breaks: dict[str, int] = field(default_factory=dict)
    swapped: dict[str, bytes] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    redirects: bool = False
    moved: dict[str, str] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)

    def add(self, name: str, folder: Path, **settings: Any) -> Repository:
        """A repository with the files of a folder."""
        files = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        self.repositories[name] = Repository(files=files, **settings)
        return self.repositories[name]

    def asked(self, part: str) -> list[Request]:
        """The requests for paths that contain a text."""
        return [request for request in self.requests if part in request.path]


def is_large(name: str) -> bool:
    """True for a file that the hub keeps as a large one, named by its sha256."""
    return Path(name).suffix in (".safetensors", ".bin", ".ckpt", ".png")


def entry(name: str, content: bytes) -> dict[str, Any]:
    """A file in a listing."""
    pointer: dict[str, Any] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 1}
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return {"rfilename": name, "size": len(content), "blobId": blob, **({"lfs": pointer} if is_large(name) else {})}


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def do_GET(self) -> None:
        path = self._record()
        for old, new in self.hub.moved.items():
            if old in path:
                self.send_response(307)
                self.send_header("Location", self.path.replace(old, new))
                self.send_header("Content-Length", "0")
                return self.end_headers()
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/(.+))?", path):
            return self._info(match[1], match[3] or "main")
        if match := re.fullmatch(r"/(cdn/)?([^/]+/[^/]+)/resolve/([0-9a-f]{40})/(.+)", path):
            return self._file(bool(match[1]), match[2], match[4])
        return self._fail(404, "NotFound")

    def do_POST(self) -> None:
        path, body = self._record(), self._body()
        if not self.hub.requests[-1].token:
            return self._fail(401, "RepoNotFound")
        if path == "/api/validate-yaml":
            return self._json({})
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", path):
            files = [file["path"] for file in json.loads(body)["files"]]
            modes = [
                {"path": file, "uploadMode": "lfs" if is_large(file) else "regular", "shouldIgnore": False}
                for file in files
            ]
            return self._json({"files": modes})
        if path.endswith("/info/lfs/objects/batch"):
            objects = [
                item | {"actions": {"upload": {"href": f"{self.hub.address}/upload/{item['oid']}"}}}
                for item in json.loads(body)["objects"]
            ]
            return self._json({"objects": objects, "transfer": "basic"})
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
            return self._commit(match[1], body)
        return self._fail(404, "NotFound")

    def do_PUT(self) -> None:
        path = self._record()
        self.hub.uploads[path.removeprefix("/upload/")] = self._body()
        self._json({})

    def _record(self) -> str:
        path = unquote(urlsplit(self.path).path)
        token = TOKEN in self.headers.get("Authorization", "")
        self.hub.requests.append(Request(self.command, path, self.headers.get("Range"), token))
        return path

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _info(self, name: str, revision: str) -> None:
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and not self.hub.requests[-1].token):
            return self._fail(404 if self.hub.requests[-1].token else 401, "RepoNotFound")
        if revision not in ("main", repository.commit, "refs/pr/46"):
            return self._fail(404, "RevisionNotFound")
        siblings = [entry(*item) for item in repository.files.items()] + repository.extra
        return self._json(
            {
                "id": name,
                "sha": repository.commit,
                "private": repository.private,
                "cardData": repository.card,
                "siblings": siblings,
            }
        )

    def _file(self, elsewhere: bool, name: str, file: str) -> None:
        repository, hub = self.hub.repositories[name], self.hub
        if repository.gated and not elsewhere and not hub.requests[-1].token:
            return self._fail(401, "GatedRepo")
        if file in hub.refused:
            return self._fail(500, "")
        if hub.redirects and not elsewhere:
            self.send_response(302)
            port = urlsplit(hub.address).port
            self.send_header("Location", f"http://localhost:{port}/cdn/{name}/resolve/{repository.commit}/{file}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        content = hub.swapped.get(file, repository.files[file])
        begin = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1]) if "Range" in self.headers else 0  # type: ignore[index]
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        end = hub.breaks.pop(file, len(content))
        self.wfile.write(content[begin:end])
        if end < len(content):
            self.wfile.flush()
            self.close_connection = True
        return None

    def _create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        if name in self.hub.repositories:
            return self._fail(409, "")
        self.hub.repositories[name] = Repository(files={}, private=wanted.get("visibility") == "private")
        return self._json({"url": f"{self.hub.address}/{name}"})

    def _commit(self, name: str, body: bytes) -> None:
        import base64

        repository = self.hub.repositories[name]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            if line["key"] == "deletedFile":
                del repository.files[value["path"]]
            if line["key"] == "lfsFile":
                repository.files[value["path"]] = self.hub.uploads[value["oid"]]
        url = f"{self.hub.address}/{name}/commit/{repository.commit}"
        self._json({"commitUrl": url, "commitOid": repository.commit})

    def _json(self, value: object, status: int = 200, error: str = "") -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        if error:
            self.send_header("X-Error-Code", error)
            self.send_header("X-Error-Message", error)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _fail(self, status: int, error: str) -> None:
        self._json({"error": error}, status, error)

    def log_message(self, *_: object) -> None: ...


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Nothing: clients hang up where a file is not what they want."""


@contextlib.contextmanager
def fake_hub(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[FakeHub]:
    """Yields the server; the environment names it as the hub, and a cache and a home of its own."""
    hub = FakeHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with _Server(("127.0.0.1", 0), handler) as server:
        hub.address = f"http://127.0.0.1:{server.server_port}"
        use_hub(monkeypatch, hub.address, cache)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield hub
        server.shutdown()


def use_hub(monkeypatch: pytest.MonkeyPatch, address: str, cache: Path) -> None:
    """Let the environment name a hub, without a token."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setenv("HF_HOME", str(cache))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "xdg"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(cache / "token"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # the server speaks plain HTTP
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
