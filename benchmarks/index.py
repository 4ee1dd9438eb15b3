"""Opening a dataset of a million clips: with its index, and for the first time, when the index is made.

    python -m benchmarks index [--clips N]

Makes the dataset in a temporary folder (about 700 MB for a million): rows as vidiff prep writes them, clips of one tiny
frame, shards of 1,300 clips. Every opening is a process of its own and counts from `open_dataset` to a dataset that can
be asked (imports are not counted); the files are in the system's cache, as after prep. Writes
benchmarks/results/index.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from vidiff_cli.dataset.dataset import Clip, DatasetSpec, open_dataset, write_clips, write_shards, write_spec

OPENINGS, READS = 7, 20_000
SIDE, PER_SHARD, PER_SOURCE = 4, 1300, 40
WORDS = tuple(f"word{number}" for number in range(20))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.open:
        print(json.dumps(opening(given.open)))
        return
    from machine import save

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make(folder, given.clips)
        first = apart(folder)
        later = [apart(folder) for _ in range(OPENINGS)]
        size = {name: (folder / name).stat().st_size for name in ("clips.jsonl", "clips.index")}
        shards = len(list((folder / "data").iterdir()))
    figures = {"clips": given.clips, "shards": shards, "bytes": size, "first": first}
    figures |= {name: median(each[name] for each in later) for name in later[0]}
    print(json.dumps(figures, indent=2), file=sys.stderr)
    save("index", figures)


def make(folder: Path, clips: int) -> None:
    """A dataset of so many clips, as vidiff prep would leave it, without an index."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (256, 1, SIDE, SIDE, 3), dtype=np.uint8)

    def frames() -> Iterator[tuple[str, np.ndarray]]:
        return ((name(number), pixels[number % 256]) for number in range(clips))

    shard_of = write_shards(folder, frames(), shard_bytes=PER_SHARD * pixels[0].nbytes)
    sides = {"train": clips - clips // 20, "val": clips // 20}

    def rows() -> Iterator[Clip]:
        for number in range(clips):
            yield Clip(
                id=name(number),
                source=f"videos/batch-{number // 10_000:04d}/video-{number // PER_SOURCE:07d}.mp4",
                start_seconds=round(number % PER_SOURCE * 0.64, 6),
                fps="0",
                frames=1,
                captions=[" ".join(WORDS[number % 7 : 8 + number % 11])],
                split="train" if number < sides["train"] else "val",
                shard=shard_of[name(number)],
                group=None,
                width=SIDE,
                height=SIDE,
                scores={"motion": number % 997 / 100, "contrast": number % 89 / 2, "brightness": number % 251 / 1},
            )

    write_clips(folder, rows())
    spec = DatasetSpec(
        vidiff="0",
        width=SIDE,
        height=SIDE,
        frames=1,
        fps="25",
        buckets={f"{SIDE}x{SIDE}": clips},
        sources=clips // PER_SOURCE,
        kept=clips // PER_SOURCE,
        clips=clips,
        splits=sides,
        captions_matched=clips // PER_SOURCE,
        captions_missing=0,
        seconds_of_video=0.0,
        bytes=0,
        fingerprint="",
        settings={},
    )
    write_spec(folder, spec)


def name(number: int) -> str:
    return f"{number // PER_SOURCE:012x}-{number % PER_SOURCE:05d}"


def apart(folder: Path) -> dict[str, Any]:
    """Measures taken by a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "index", "--open", os.fspath(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def opening(folder: Path) -> dict[str, Any]:
    """Seconds to open, then microseconds for a row and for the frames of a clip at random places; and the memory that
    the open dataset holds."""
    before = memory()
    began, busy = time.perf_counter(), time.process_time()
    dataset = open_dataset(folder)
    opened, spent = time.perf_counter() - began, time.process_time() - busy
    held = memory() - before
    chosen = np.random.default_rng(1).integers(len(dataset), size=READS).tolist()
    began = time.perf_counter()
    rows = [dataset.clips[index].captions for index in chosen]
    row_time = time.perf_counter() - began
    began = time.perf_counter()
    read = [dataset.frames(index) for index in chosen]
    frame_time = time.perf_counter() - began
    assert len(rows) == len(read) == READS
    return {
        "open_seconds": opened,
        "open_cpu_seconds": spent,
        "row_microseconds": row_time / READS * 1e6,
        "frames_microseconds": frame_time / READS * 1e6,
        "held_mb": held / 1e6,
    }


def memory() -> int:
    """Resident bytes of this process; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
