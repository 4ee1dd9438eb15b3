"""Processes that meet in a folder, here as threads: they share values and events, and none waits for a lost one."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from vidiff_cli.errors import UsageError, VidiffError
from vidiff_cli.events import Event, Note, Progress
from vidiff_cli.system import rank_files, ranks
from vidiff_cli.system.launcher import ProcessInfo
from vidiff_cli.system.ranks import Ranks, meet


def run(folder: Path, work: Callable[[Ranks], Any], *, world: int = 3) -> list[Any]:
    """What each rank makes of the work: its result, or its error."""
    results: list[Any] = [None] * world

    def one(rank: int) -> None:
        try:
            with meet(ProcessInfo(rank=rank, world=world, local=rank), folder) as all_ranks:
                results[rank] = work(all_ranks)
        except BaseException as error:
            results[rank] = error

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return results


def told(error: BaseException) -> bool:
    return not getattr(error, "reported_by_other_rank", False)


def drained(generator: Generator[Any, None, Any]) -> tuple[list[Any], Any]:
    values = []
    while True:
        try:
            values.append(next(generator))
        except StopIteration as done:
            return values, done.value


def test_shares_merges_and_parts(tmp_path: Path) -> None:
    """For a folder that is yet to be made, beside those of other launches."""
    (tmp_path / ".ranks-0").mkdir()
    (tmp_path / ".ranks-1").mkdir()
    os.utime(tmp_path / ".ranks-1", (1, 1))

    def work(each: Ranks) -> Any:
        seed = each.share({"seed": 7} if each.is_main else None)

        def own() -> Generator[int, None, int]:
            yield from each.part(range(7))
            return each.rank

        first = drained(each.merge(own(), str, int))
        second = drained(each.merge(own(), lambda value: None if value == 4 else [value], lambda data: data[0]))
        return seed, each.share(each.rank), first, second

    main, *others = run(tmp_path / "not" / "there", work)
    assert main[:2] == ({"seed": 7}, 0) and main[2][0][:1] == [0] and main[2][1] == 0
    assert sorted(main[2][0]) == list(range(7)) and sorted(main[3][0]) == [0, 1, 2, 3, 5, 6]
    assert others == [({"seed": 7}, 0, ([], rank), ([], rank)) for rank in (1, 2)]
    assert [path.name for path in tmp_path.iterdir()] == [".ranks-0"]  # of another launch, at work


def test_what_is_left_of_a_killed_call_is_cleared(tmp_path: Path) -> None:
    place = list[Path]()
    run(tmp_path, lambda each: place.append(each.folder))
    place[0].mkdir()
    for name in ("0-dead.jsonl", "1-dead.jsonl", "2-dead.jsonl"):
        (place[0] / name).write_text('["hello", null]\n["welcome", ["1-dead.jsonl"]]\n["end", null]\n')
    assert run(tmp_path, lambda each: each.share(each.rank)) == [0, 0, 0] and not list(tmp_path.iterdir())


def test_events_of_all(tmp_path: Path) -> None:
    """Progress is that of the whole; notes are those of the first, warnings everybody's."""

    def work(each: Ranks) -> Any:
        def own() -> Generator[Event, None, str]:
            yield Note(f"hello from {each.rank}")
            for done in range(3):
                yield Progress(what="things", done=done, total=2)
            yield Note(f"careful {each.rank}", "warning")
            return "done"

        return drained(each.together(own()))

    (events, result), *others = run(tmp_path, work)
    notes = [event for event in events if isinstance(event, Note)]
    assert result == "done" and others == [([], "done")] * 2
    assert notes[0] == Note("hello from 0") and {note.text for note in notes[1:]} == {f"careful {n}" for n in range(3)}
    last = [event for event in events if isinstance(event, Progress)][-1]
    assert (last.done, last.total) == (6, 6)


@pytest.mark.parametrize("rank", [0, 2])
def test_an_error_ends_all_and_is_told_once(tmp_path: Path, rank: int) -> None:
    def work(each: Ranks) -> None:
        def own() -> Generator[int, None, None]:
            for number in range(10_000):
                if each.rank == rank and number == 3:
                    raise UsageError("this will not do")
                yield number
                threading.Event().wait(0.01)

        drained(each.merge(own(), str, int))

    found = run(tmp_path, work)
    assert [told(error) for error in found] == [True, False, False]
    assert isinstance(found[0], UsageError) and str(found[0]) == "this will not do." and not list(tmp_path.iterdir())


def test_an_interrupt_ends_all(tmp_path: Path) -> None:
    def work(each: Ranks) -> None:
        if each.rank == 1:
            raise KeyboardInterrupt
        drained(each.merge((threading.Event().wait(0.05) for _ in range(1000)), str, int))  # type: ignore[arg-type]

    found = run(tmp_path, work)
    assert isinstance(found[0], KeyboardInterrupt) and [told(error) for error in found] == [True, False, False]


def test_one_that_does_not_come_or_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "JOIN_SECONDS", 0.5)
    for rank in (0, 1):
        sentence = f"1 of 2 processes did not start: found no sign of process {2 - rank} for 0.5 seconds"
        with pytest.raises(VidiffError, match=sentence), meet(ProcessInfo(rank=rank, world=2, local=rank), tmp_path):
            pass
    monkeypatch.setattr(ranks, "JOIN_SECONDS", 60.0)
    monkeypatch.setattr(rank_files, "SILENT_SECONDS", 1.0)

    def work(each: Ranks) -> None:
        each.share(1)
        if each.rank:  # killed: its file gets no more lines
            each.close()
            each._voice = None
        else:
            drained(each.merge((number for number in range(2)), str, int))  # type: ignore[arg-type]

    lost, _ = run(tmp_path, work, world=2)
    assert "process 2 of 2 does not answer: found no sign of it for 1 seconds" in str(lost)


def test_a_folder_that_cannot_be_written_is_told_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    found = run(tmp_path, lambda each: None)
    assert [told(error) for error in found] == [True, False, False]
    assert "could not be written: found permission denied" in str(found[0])


def test_one_process_needs_no_files(tmp_path: Path) -> None:
    with meet(ProcessInfo(rank=0, world=1, local=0), tmp_path) as alone:
        assert alone.share(5) == 5 and alone.part([1, 2]) == [1, 2] and not list(alone.idle(0, "nothing"))
        assert not list(tmp_path.iterdir())


def test_balanced_parts() -> None:
    """Every item once, in order, and evenly where that can be; equal ones in turn."""
    sizes = [30.0, 5.0, 0.0, 90.0, 31.0, 1.0, 28.0]  # one is unknown, so about 31
    parts = [Ranks(ProcessInfo(rank=rank, world=3, local=rank)).balanced_part(range(7), sizes) for rank in range(3)]
    assert sorted(number for part in parts for number in part) == list(range(7)) and parts[0] == [3]
    assert all(part == sorted(part) for part in parts)
    loads = [sum(sizes[number] or 31 for number in part) for part in parts[1:]]
    assert abs(loads[0] - loads[1]) < 5
    equal = [Ranks(ProcessInfo(rank=rank, world=3, local=rank)).balanced_part("abcdefg", [2] * 7) for rank in range(3)]
    assert equal == [["a", "d", "g"], ["b", "e"], ["c", "f"]]
