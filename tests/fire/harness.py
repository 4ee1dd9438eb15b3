"""Commands under fire: killed at random moments and run again until they end by themselves, compared byte for byte with
what an uninterrupted command leaves.

    python tests/fire/harness.py --rounds 50 --seed 0        # prints a table; exit status 1 if any round failed

A round starts one command as a person would, in a folder of its own, ends it one to four times in a row (SIGKILL,
SIGTERM, SIGINT or SIGHUP; after a random part of its usual duration, or at the instant at which a half-written or a
finished file or folder appears) and then lets it finish. What must hold then: the same files with the same bytes as
without any interruption (of metrics.jsonl all but the wall time of a step), nothing half-written anywhere, no process
left behind, and for each signal that can be caught one line, no traceback, and the exit code of the command line.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

CODES = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129}
LAST_LINE = {signal.SIGTERM: "Terminated.", signal.SIGINT: "Interrupted.", signal.SIGHUP: "Terminated."}
SIGNALS = (signal.SIGKILL, *CODES)
START_SECONDS = 0.1  # within them Python itself may not have got as far as to hear a signal
PATIENCE_SECONDS = 900.0  # a busy machine is no fault
TRAP = Path(__file__).resolve().with_name("trap")
SMALL = [
    f"network.{key}={value}"
    for key, value in dict(base_channels=8, channel_mult="[1]", head_dim=8, embedding=16, context_dim=16).items()
]
TIMES = ("seconds_per_step", "clips_per_second", "share_of_peak", "memory_mb")  # differ in a row


@dataclass(frozen=True, kw_only=True)
class Case:
    """A command, what it is given (links to what `prepare` made), and where its files are seen to appear."""

    name: str
    arguments: tuple[str, ...]
    inputs: tuple[str, ...]
    writing: tuple[str, ...]
    weight: int = 1  # how often it has its turn


CASES = (
    Case(
        name="prep",
        weight=2,
        arguments=("prep", "clips", "-o", "out", "--size", "32", "--frames", "8", "--workers", "2"),
        inputs=("clips",),
        writing=("out/.journal/*/.*.part", "out/data/.*.tmp-*", "out/.*.tmp-*", "out/*"),
    ),
    Case(
        name="train",
        weight=3,
        arguments=(
            *("train", "dataset", "-o", "out", "--preset", "tiny", "--precision", "fp32", "--steps", "7"),
            *("--batch-size", "4", "--set", "frames=4", "--checkpoint-every", "3", "--sample-every", "5"),
            *("--validate-every", "4"),
            *(part for each in SMALL for part in ("--set", each)),
        ),
        inputs=("dataset",),
        writing=("out/checkpoints/.*.tmp-*", "out/checkpoints/*", "out/.*.tmp-*", "out/samples/.*"),
    ),
    Case(
        name="extend",
        weight=3,
        arguments=(
            *("extend", "clip.mp4", "--model", "model", "-o", "out/long.mkv", "--num-frames", "16", "--steps", "4"),
            *("--compare", "--dtype", "fp32", "--seed", "5"),
        ),
        inputs=("clip.mp4", "model"),
        writing=("out/.*.tmp-*", "out/.vidiff-*", "out/*"),
    ),
    Case(
        name="roll",
        arguments=(
            *("extend", "clip.mp4", "--model", "model", "-o", "out/long.mkv", "--num-frames", "16", "--steps", "4"),
            *("--scheme", "rolling", "--dtype", "fp32", "--seed", "5"),
        ),
        inputs=("clip.mp4", "model"),
        writing=("out/.*.tmp-*", "out/.vidiff-*", "out/*"),
    ),
    Case(
        name="sample",
        arguments=(
            *("sample", "a red circle", "a blue square", "--model", "model", "-o", "out/", "--num-frames", "10"),
            *("--steps", "3", "--count", "2", "--batch-size", "2", "--compare", "--dtype", "fp32", "--seed", "5"),
        ),
        inputs=("model",),
        writing=("./.*.tmp-*", "out/.vidiff-*", "out/.*.tmp-*", "out/*"),
    ),
    Case(
        name="interpolate",
        arguments=(
            *("interpolate", "clip.mp4", "--model", "model", "-o", "out/smooth.mp4", "--factor", "2", "--steps", "2"),
            *("--dtype", "fp32", "--seed", "5"),
        ),
        inputs=("clip.mp4", "model"),
        writing=("out/.*.tmp-*", "out/.vidiff-*", "out/*"),
    ),
    Case(
        name="upscale",
        arguments=(
            *("upscale", "clip.mp4", "--model", "builtin", "-o", "out/large.mkv", "--scale", "2", "--compare"),
            *("--dtype", "fp32", "--seed", "5"),
        ),
        inputs=("clip.mp4",),
        writing=("out/.*.tmp-*", "out/.vidiff-*", "out/*"),
    ),
)


class Fault(Exception):
    """Something that must hold does not."""


@dataclass
class Whole:
    """What an uninterrupted command left and how long it took; its files by path, None for a folder."""

    files: dict[str, bytes | None]
    seconds: float


@dataclass
class Tally:
    """What was done to a case."""

    rounds: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    finished_first: int = 0
    runs: int = 0
    faults: list[str] = field(default_factory=list)


def environment(home: Path) -> dict[str, str]:
    """One thread, so that the figures are the same everywhere; temporary files where they can be counted."""
    (home / "tmp").mkdir(exist_ok=True)
    return os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(home / "tmp")}


def start(arguments: tuple[str, ...], place: Path, more: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """The real command, in its own process group, with `place` as its working directory and `more` in its
    environment."""
    return subprocess.Popen(
        [sys.executable, "-m", "vidiff_cli", *arguments],
        cwd=place,
        env=environment(place.parent) | dict(more or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_hear_signals,
    )


def _hear_signals() -> None:
    for number in CODES:  # in a background job, or under nohup, some are ignored, and so by what is started from there
        signal.signal(number, signal.SIG_DFL)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Waits for the end: exit code and stderr. Fault where it does not come, or the command failed on its own."""
    try:
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise Fault("no end in sight") from None
    return process.returncode, said


def run(arguments: tuple[str, ...], place: Path) -> None:
    """Runs a command to its end, which must be a good one."""
    code, said = finish(start(arguments, place))
    if code:
        raise Fault(f"exit code {code}: {said.strip().splitlines()[-1:]}")


def prepare(home: Path) -> None:
    """home/inputs: the clips, the dataset, the model and the video that the cases work on."""
    place = home / "inputs"
    place.mkdir(parents=True)
    run(("world", "shapes", "clips", "-n", "12", "--size", "64", "--seed", "1"), place)
    run(("prep", "clips", "-o", "dataset", "--size", "16", "--frames", "8"), place)
    train = next(case for case in CASES if case.name == "train")
    asked = (*train.arguments[:3], "model", *train.arguments[4:], "--steps", "4", "--sample-every", "0")
    run((*asked, "--set", "objective.levels.independent=0.5"), place)  # so that it rolls
    shutil.copy2(place / "clips" / "clip-00000.mp4", place / "clip.mp4")


def fresh(case: Case, home: Path) -> Path:
    """An empty folder with nothing but the inputs. Always of the same name: some results hold paths."""
    place = home / "work"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for name in case.inputs:
        (place / name).symlink_to(home / "inputs" / name)
    return place


def uninterrupted(case: Case, home: Path) -> Whole:
    """The same command left alone."""
    place, began = fresh(case, home), time.monotonic()
    run(case.arguments, place)
    return Whole(files=files_of(place, home), seconds=time.monotonic() - began)


def files_of(place: Path, home: Path) -> dict[str, bytes | None]:
    """Everything in the working folder but the inputs, and in the folder for temporary files, by path."""
    found: dict[str, bytes | None] = {}
    for root in (place, home / "tmp"):
        for path in sorted(root.rglob("*")):
            if not path.is_symlink():
                name = str(path.relative_to(home))
                found[name] = None if path.is_dir() else _without_times(path)
    return found


def _without_times(path: Path) -> bytes:
    content = path.read_bytes()
    if path.name != "metrics.jsonl":
        return content
    rows = [json.loads(line) for line in content.splitlines()]
    return "\n".join(json.dumps({k: v for k, v in row.items() if k not in TIMES}) for row in rows).encode()


def compare(found: dict[str, bytes | None], whole: dict[str, bytes | None]) -> None:
    """Fault where the files are not the same, or not with the same bytes."""
    if extra := sorted(found.keys() - whole.keys()):
        raise Fault(f"left behind: {', '.join(extra[:5])}")
    if missing := sorted(whole.keys() - found.keys()):
        raise Fault(f"missing: {', '.join(missing[:5])}")
    if other := sorted(name for name in whole if found[name] != whole[name]):
        raise Fault(f"other bytes in {', '.join(other[:5])}")


def shoot(case: Case, place: Path, number: signal.Signals, at: Callable[[], bool], limit: float) -> int | None:
    """Starts the command and sends the signal once `at` says so; its exit code, None if it finished before."""
    process, began = start(case.arguments, place), time.monotonic()
    while process.poll() is None and not at() and time.monotonic() - began < limit:
        time.sleep(0.0002)
    early = time.monotonic() - began < START_SECONDS
    process.send_signal(number)  # to the parent alone: what it started is on its own then
    return ended(process, number, early=early)


def trap(case: Case, place: Path, number: signal.Signals, pattern: str, count: int) -> int | None:
    """Starts the command, which gets the signal when it is about to name the count-th file of a pattern (relative to
    `place`) that it has written: trap/sitecustomize.py. Its exit code, None if it finished, without so many files."""
    path = os.pathsep.join(filter(None, (str(TRAP), os.environ.get("PYTHONPATH"))))
    armed = {"FIRE_TRAP": f"{number.value} {count} {place / pattern}", "PYTHONPATH": path}
    return ended(start(case.arguments, place, armed), number)


def ended(process: subprocess.Popen[str], number: signal.Signals, *, early: bool = False) -> int | None:
    """The exit code of a command that was sent the signal, None where it had finished before. Fault where it ends in
    another way than it should; `early`: it may not have heard it."""
    code, said = finish(process)
    if code == 0:
        return None
    if number == signal.SIGKILL:
        if code != -signal.SIGKILL:
            raise Fault(f"exit code {code}: {said.strip().splitlines()[-1:]}")
    elif code == -number:
        if said.strip() and not early:
            raise Fault(f"after {number.name} at the start: {said.strip().splitlines()[-1]}")
    elif code != CODES[number] or "Traceback" in said or said.rstrip().splitlines()[-1] != LAST_LINE[number]:
        raise Fault(f"after {number.name} exit code {code}: {said.strip()[-400:]}")
    return code


def moment(case: Case, place: Path, whole: Whole, draw: random.Random) -> tuple[Callable[[], bool], float]:
    """When to shoot: a random part of the usual duration, or when the n-th of its files is there (a little later)."""
    if draw.random() < 0.5:
        return (lambda: False), draw.uniform(0, whole.seconds * 1.05)
    skip, pattern, later = draw.randrange(12), draw.choice(case.writing), draw.choice((0.0, 0.0, 0.002, 0.02))
    seen: set[str] = set()

    def half_written() -> bool:
        with contextlib.suppress(OSError):  # a folder that is just being renamed
            seen.update(str(path) for path in place.glob(pattern))
        if len(seen) <= skip:
            return False
        time.sleep(later)
        return True

    return half_written, whole.seconds * 2


def round_of(case: Case, home: Path, whole: Whole, draw: random.Random, tally: Tally, *, most: int = 4) -> None:
    """One round; a Fault is noted in the tally."""
    place = fresh(case, home)
    story: list[str] = []
    tally.rounds += 1
    try:
        for _ in range(draw.randint(1, most)):
            number = draw.choice((signal.SIGKILL, *SIGNALS))
            at, limit = moment(case, place, whole, draw)
            began = time.monotonic()
            code = shoot(case, place, number, at, limit)
            tally.runs += 1
            story.append(f"{number.name} {time.monotonic() - began:.2f}s {code}")
            if code is None:
                tally.finished_first += 1
                break
            tally.ended[number.name] += 1
        else:
            run(case.arguments, place)
            tally.runs += 1
        nothing_runs_on(place)
        compare(files_of(place, home), whole.files)
    except Fault as fault:
        tally.faults.append(f"{case.name}: {fault} (after {'; '.join(story)})")
        shutil.rmtree(home / "tmp", ignore_errors=True)


def nothing_runs_on(place: Path) -> None:
    """No process that a killed command started may go on working in the folder: not for longer than a moment."""
    patience = time.monotonic() + 60.0
    while left := sorted(set(_processes_in(place))):
        if time.monotonic() > patience:
            raise Fault(f"still running: {left[0]}")
        time.sleep(0.05)


def _processes_in(place: Path) -> Iterator[str]:
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(place) in command or os.readlink(folder / "cwd") == str(place):
                yield command


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50, help="in all, spread over the commands")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=[case.name for case in CASES], action="append", help="this command only")
    parser.add_argument("--kills", type=int, default=4, help="most interruptions in a row")
    asked = parser.parse_args()
    cases = [case for case in CASES if not asked.only or case.name in asked.only]
    turns = [case for weight in (1, 2, 3) for case in cases if case.weight >= weight]
    draw, tallies = random.Random(asked.seed), {case.name: Tally() for case in cases}
    with tempfile.TemporaryDirectory(prefix="fire-") as folder:
        home = Path(folder).resolve()
        prepare(home)
        wholes = {case.name: uninterrupted(case, home) for case in cases}
        for case in cases:
            compare(uninterrupted(case, home).files, wholes[case.name].files)  # else no round could hold
            print(f"{case.name}: {wholes[case.name].seconds:.1f} s uninterrupted", file=sys.stderr)
        for number in range(asked.rounds):
            case = turns[number % len(turns)]
            before = len(tallies[case.name].faults)
            round_of(case, home, wholes[case.name], draw, tallies[case.name], most=asked.kills)
            print(f"round {number}: {case.name}", file=sys.stderr, flush=True)
            for fault in tallies[case.name].faults[before:]:
                print(f"round {number}: {fault}", file=sys.stderr)
    names = [number.name for number in SIGNALS]
    print(" ".join(f"{title:>14}" for title in ("command", "rounds", "runs", *names, "finished first", "faults")))
    for name, tally in tallies.items():
        ended = [tally.ended[each] for each in names]
        row = (name, tally.rounds, tally.runs, *ended, tally.finished_first, len(tally.faults))
        print(" ".join(f"{each:>14}" for each in row))
    return 1 if any(tally.faults for tally in tallies.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
