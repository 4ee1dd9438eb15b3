"""Processes of one launcher that share the work of a command, and speak with one voice.

They meet in a hidden folder, `.ranks-*`, where the results go: each appends lines to a file of its own, which the
others read (`rank_files.py`). So no address is needed, and what is left of killed processes is files, which the next
call removes. Rank 0 leads: it alone speaks and writes what is about the whole, and it waits for the others. An error in
one process ends all, and is reported once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from vidiff_cli.errors import VidiffError
from vidiff_cli.events import Event, EventStream, Note, Progress
from vidiff_cli.system import rank_files
from vidiff_cli.system.atomic_files import unwritable
from vidiff_cli.system.launcher import STARTING, ProcessInfo
from vidiff_cli.system.rank_files import RankListener, RankVoice, error_as_data, error_from_data

FOLDER = ".ranks-"
JOIN_SECONDS = 300.0  # that processes wait for each other at the start
ABANDONED_SECONDS = 3600.0  # without a line in it, after which a folder is removed
LOOK_SECONDS = 0.2  # between two looks at the others' files
NAMES = ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "SLURM_JOB_ID", "SLURM_STEP_ID", "WORLD_SIZE")
AGAIN = "the same command goes on where it was"
T = TypeVar("T")
R = TypeVar("R")


class Ranks:
    """All processes of a command, seen from one of them: `rank` of `world`. A single one needs no files."""

    def __init__(self, launch: ProcessInfo) -> None:
        self.rank, self.world, self._local, self.folder = launch.rank, launch.world, launch.local, Path()
        self._voice: RankVoice | None = None
        self._others: dict[int, RankListener] = {}
        self._looked, self._pause = 0.0, max(LOOK_SECONDS, LOOK_SECONDS / 32 * launch.world)

    @property
    def is_main(self) -> bool:
        """True for the process that speaks, and writes what is about the whole."""
        return self.rank == 0

    def part(self, items: Sequence[T]) -> list[T]:
        """This process's part of the work."""
        return list(items[self.rank :: self.world])

    def balanced_part(self, items: Sequence[T], sizes: Sequence[float]) -> list[T]:
        """This process's part of items of known sizes, in their order: the largest first, each to whom has least. All
        processes pass the same ones; a size of 0 is unknown, and counts as the mean of the others."""
        known = [size for size in sizes if size]
        usual = sum(known) / len(known) if known else 1.0
        loads, own = [0.0] * self.world, list[int]()
        for number in sorted(range(len(items)), key=lambda number: -(sizes[number] or usual)):
            rank = loads.index(min(loads))
            loads[rank] += sizes[number] or usual
            if rank == self.rank:
                own.append(number)
        return [items[number] for number in sorted(own)]

    def share(self, value: T | None) -> T:
        """Rank 0's value on all ranks: plain data, as JSON has it."""
        if self.world > 1 and self.is_main:
            self._say("share", value)
        elif self.world > 1:
            while not self._others[0].shared:
                self._wait({0})
            return self._others[0].shared.popleft()
        return value  # type: ignore[return-value]

    def merge(
        self, own: Generator[T, None, R], dump: Callable[[T], Any], load: Callable[[Any], T]
    ) -> Generator[T, None, R]:
        """Rank 0 yields its own values, and those of the others as they come, until all are done. The others yield
        nothing and send theirs. Returns what `own` returns.

        Args:
            own: This process's values.
            dump: A value as plain data for JSON; None: it is not sent.
            load: A value from such data.

        Returns:
            The result of `own`.

        Raises:
            VidiffError: Another process has failed, or is lost.
        """
        if self.world == 1:
            return (yield from own)
        waiting = set(self._others) if self.is_main else set[int]()
        with closing(own):
            while True:
                try:
                    value = next(own)
                except StopIteration as done:
                    result = done.value
                    break
                if self.is_main:
                    yield value
                    yield from self._told(waiting, load)
                else:
                    if (data := dump(value)) is not None:
                        self._say("item", data)
                    self._look()
        if not self.is_main:
            self._say("done")
        while waiting:
            self._wait(waiting)
            yield from self._told(waiting, load)
        return result

    def together(self, events: EventStream[R]) -> EventStream[R]:
        """The events of all: rank 0's notes, everyone's warnings, and progress of the whole. As `merge`."""
        if self.world == 1:
            return (yield from events)
        last, latest = dict[str, float](), dict[str, dict[int, Progress]]()

        def own() -> Generator[tuple[int, Event], None, R]:
            with closing(events):
                while True:
                    try:
                        yield self.rank, next(events)
                    except StopIteration as done:
                        return done.value

        def dump(of_rank: tuple[int, Event]) -> Any:
            event = of_rank[1]
            if isinstance(event, Note):
                return [self.rank, event.text] if event.level == "warning" else None
            if event.done != event.total and time.monotonic() - last.get(event.what, -1.0) < LOOK_SECONDS:
                return None
            last[event.what] = time.monotonic()
            return [self.rank, event.what, event.done, event.total]

        def load(data: Any) -> tuple[int, Event]:
            if len(data) == 2:
                return data[0], Note(data[1], "warning")
            return data[0], Progress(what=data[1], done=data[2], total=data[3])

        merged = self.merge(own(), dump, load)
        with closing(merged):
            while True:
                try:
                    rank, event = next(merged)
                except StopIteration as done:
                    return done.value
                yield _of_all(latest.setdefault(event.what, {}), rank, event) if isinstance(event, Progress) else event

    def idle(self, parts: int, what: str) -> Iterator[Note]:
        """Tells, once, that there is less work than processes."""
        if self.is_main and self.world > 1 and (spare := self.world - parts) > 0:
            yield Note(f"{what}: {spare} of {self.world} processes have nothing to do.")

    def _told(self, waiting: set[int], load: Callable[[Any], T]) -> Iterator[T]:
        """Yields what others have sent since; those that are done are taken out of `waiting`."""
        self._look()
        for rank in sorted(waiting):
            messages = self._others[rank].messages
            while messages and rank in waiting:
                kind, value = messages.popleft()
                if kind == "done":
                    waiting.discard(rank)
                else:
                    yield load(value)

    def _say(self, kind: str, value: Any = None) -> None:
        assert self._voice is not None
        self._voice.say(kind, value)

    def _look(self, *, now: bool = False) -> None:
        """Reads what others have written: rank 0 of all, the others of rank 0. Raises what has ended one of them."""
        if not now and time.monotonic() - self._looked < self._pause:
            return
        self._looked = time.monotonic()
        for other in self._others.values():
            other.read()
        errors = [other.error for other in self._others.values() if other.error is not None]
        if errors:
            raise error_from_data(min(errors, key=lambda error: "signal" in error), said=not self.is_main)

    def _wait(self, awaited: Collection[int]) -> None:
        """Waits a moment for others, and looks what they have written."""
        time.sleep(self._pause / 2)
        self._look(now=True)
        self._check_answers(awaited)

    def _check_answers(self, awaited: Collection[int]) -> None:
        """Raises VidiffError where all that are waited for are lost: until then there is something to wait for."""
        if not all(self._others[rank].is_silent() for rank in awaited):
            return
        error = VidiffError(
            f"process {min(awaited) + 1} of {self.world} does not answer",
            found=f"no sign of it for {rank_files.SILENT_SECONDS:g} seconds",
            fix=AGAIN,
        )
        error.reported_by_other_rank = self.rank > 1  # type: ignore[attr-defined]
        raise error

    def join(self, place: Path) -> None:
        """Meets the others in a folder. VidiffError where some do not come."""
        self.folder, give_up = place, time.monotonic() + JOIN_SECONDS
        if self.is_main:
            for folder in place.parent.glob(f"{FOLDER}*"):  # of killed calls
                if folder == place or _is_abandoned(folder):
                    shutil.rmtree(folder, ignore_errors=True)
        token, met = secrets.token_hex(8), False
        while not met:
            if self._voice is None or not self._voice.path.exists():  # rank 0 came later, and cleared the folder
                self._close()
                self._begin(place / f"{self.rank}-{token}.jsonl")
            met = self._meet_all(place) if self.is_main else self._meet_main(place, f"{self.rank}-{token}.jsonl")
            if not met and time.monotonic() > give_up:
                missing = sorted(set(range(1, self.world)) - self._others.keys()) if self.is_main else [0]
                error = VidiffError(
                    f"{len(missing)} of {self.world} processes did not start",
                    found=f"no sign of process {missing[0] + 1} for {JOIN_SECONDS:g} seconds",
                    fix=f"{STARTING}, with results in a folder that all of them can write",
                )
                error.reported_by_other_rank = self.rank > 1  # type: ignore[attr-defined]
                raise error
            if not met:
                time.sleep(LOOK_SECONDS / 4)
        if not self.is_main:
            self._say("met")
        while awaited := [rank for rank, other in self._others.items() if not other.met]:
            self._wait(awaited)  # else this file could be gone before it is read

    def _begin(self, path: Path) -> None:
        try:
            path.parent.mkdir(exist_ok=True)
            self._voice = RankVoice(path)
            self._say("hello")
        except FileNotFoundError:  # rank 0 is just clearing the folder
            return
        except OSError as error:
            unwritten = unwritable(path.parent, error)
            unwritten.reported_by_other_rank = self._local > 0  # type: ignore[attr-defined]  # one voice per machine
            raise unwritten from error

    def _meet_all(self, place: Path) -> bool:
        names = {int(path.name.partition("-")[0]): path for path in place.glob("*-*.jsonl")}
        self._others = {rank: RankListener(path) for rank, path in names.items() if 0 < rank < self.world}
        met = len(self._others) == self.world - 1
        if met:
            self._say("welcome", [path.name for path in names.values()])
        return met

    def _meet_main(self, place: Path, own: str) -> bool:
        for path in place.glob("0-*.jsonl"):
            listener = RankListener(path)
            listener.read()
            if own in listener.welcomed:
                listener.met = True
                self._others = {0: listener}
                return True
        return False

    def leave(self, error: BaseException | None) -> None:
        """Tells the others how this process ends. The error of a rank other than 0 is rank 0's to report."""
        if self._voice is None:
            return
        with contextlib.suppress(OSError):  # they find out by its silence
            self._say("end", None if error is None else error_as_data(error))
        if error is None or self.is_main or hasattr(error, "reported_by_other_rank"):
            return
        if not isinstance(error, Exception):  # an interrupt, which all have had, or learn of
            error.reported_by_other_rank = True  # type: ignore[attr-defined]
            return
        main = self._others.get(0)
        while main is not None and not main.ended:  # a launcher would end rank 0 before it has spoken
            if main.is_silent():
                return
            time.sleep(self._pause)
            main.read()
        error.reported_by_other_rank = main is not None  # type: ignore[attr-defined]

    def await_others(self) -> None:
        """Waits, in rank 0, until all have read what they need, and left. Raises what has ended one of them."""
        while self.is_main and (awaited := [rank for rank, other in self._others.items() if not other.ended]):
            self._wait(awaited)

    def close(self) -> None:
        """Closes this process's file; rank 0 removes all, and where it was before, this process what is left."""
        self._close()
        if self.is_main or not any(self.folder.glob("0-*")):
            shutil.rmtree(self.folder, ignore_errors=True)

    def _close(self) -> None:
        if self._voice is not None:
            self._voice.close()


@contextmanager
def meet(launch: ProcessInfo, results: Path) -> Iterator[Ranks]:
    """All processes of a launch while the block runs, in the folder of the results, or the first one above that exists.

    An error in one of them ends all: rank 0 raises it, the others an error with `reported_by_other_rank`. VidiffError
    where a process does not come, or is lost.
    """
    ranks = Ranks(launch)
    if launch.world == 1:
        yield ranks
        return
    place = results.absolute()
    while not place.is_dir():
        place = place.parent
    words = "\0".join(os.environ.get(name, "") for name in NAMES)
    try:
        ranks.join(place / f"{FOLDER}{hashlib.sha256(words.encode()).hexdigest()[:8]}")
        yield ranks
        ranks.leave(None)
        ranks.await_others()
    except BaseException as error:
        ranks.leave(error)
        raise
    finally:
        ranks.close()


def _is_abandoned(folder: Path) -> bool:
    """True if no process of another launch has written into its folder for long."""
    with contextlib.suppress(OSError):
        latest = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
        return time.time() - latest > ABANDONED_SECONDS
    return False


def _of_all(latest: dict[int, Progress], rank: int, event: Progress) -> Progress:
    """Progress of all ranks, by the latest of each."""
    latest[rank] = event
    totals = [each.total for each in latest.values()]
    return Progress(
        what=event.what,
        done=sum(each.done for each in latest.values()),
        total=sum(total or 0 for total in totals) if None not in totals else None,
        detail=event.detail,
    )
