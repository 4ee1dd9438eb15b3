"""Films of a command that works on many, and their reports; both as data for the other processes of a launcher."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import TypeAdapter

from vidiff_cli.events import Event, Note, Progress
from vidiff_cli.generation.complete_video import CompletionReport
from vidiff_cli.generation.upscale_video import UpscaleReport
from vidiff_cli.system.atomic_files import unwritable

SENT_SECONDS = 0.5  # between two messages of a process about its progress
REPORTS = TypeAdapter(CompletionReport | UpscaleReport)


class FrameCounts(Protocol):
    """A report that counts given and made frames."""

    @property
    def given(self) -> int: ...
    @property
    def made(self) -> int: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class FilmReport:
    """One film: its `name` relative to what was given, the `path` of its result, and the result's own report.

    `status`: made; finished before; failed, for the `reason` (one sentence); planned: --dry-run, and it would be made.
    """

    name: str
    path: Path
    status: Literal["made", "finished", "failed", "planned"]
    seconds: float
    reason: str | None = None
    report: FrameCounts | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Film:
    """`frames`: about how many the input has, 0 where that is unknown; `problem`: why it cannot be read."""

    name: str
    path: Path
    result: Path
    frames: int = 0
    problem: str | None = None

    def as_data(self) -> dict[str, Any]:
        return asdict(self) | {"path": str(self.path), "result": str(self.result)}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Film:
        return cls(**{**data, "path": Path(data["path"]), "result": Path(data["result"])})


class FilmMessages:
    """Events of `films` as data: their reports, warnings, and progress now and then."""

    def __init__(self, films: Sequence[Film]) -> None:
        self._films, self._sent = {film.name: film for film in films}, 0.0

    def dump(self, made: tuple[Film, Event | FilmReport]) -> dict[str, Any] | None:
        """An event as data; None where it is not worth a message."""
        film, event = made
        if isinstance(event, FilmReport):
            own = None if event.report is None else REPORTS.dump_python(event.report, mode="json")  # type: ignore[arg-type]
            return {
                "film": film.name,
                "status": event.status,
                "seconds": event.seconds,
                "reason": event.reason,
                "report": own,
            }
        if isinstance(event, Note):
            return {"film": film.name, "warning": event.text} if event.level == "warning" else None
        if time.monotonic() - self._sent < SENT_SECONDS:
            return None
        self._sent = time.monotonic()
        return {"film": film.name, "what": event.what, "done": event.done, "total": event.total}

    def load(self, data: Mapping[str, Any]) -> tuple[Film, Event | FilmReport]:
        """The event that `dump` made data of."""
        film = self._films[data["film"]]
        if "warning" in data:
            return film, Note(data["warning"], "warning")
        if "what" in data:
            return film, Progress(what=data["what"], done=data["done"], total=data["total"])
        report = None if data["report"] is None else REPORTS.validate_python(data["report"])
        return film, FilmReport(
            name=film.name,
            path=film.result,
            status=data["status"],
            seconds=data["seconds"],
            reason=data["reason"],
            report=report,
        )


@contextlib.contextmanager
def result_folders(films: Sequence[Film]) -> Iterator[None]:
    """Makes the folders of all results, into which several processes write; at the end, those that are empty go.

    VidiffError: one cannot be made.
    """
    folders = {folder for film in films for folder in film.result.parents}
    missing = sorted((folder for folder in folders if not folder.exists()), key=lambda folder: len(folder.parts))
    for folder in missing:
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise unwritable(folder, error) from error
    try:
        yield
    finally:
        for folder in reversed(missing):
            with contextlib.suppress(OSError):
                folder.rmdir()
