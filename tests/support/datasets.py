"""Datasets written without prep: clips of any size, length and rate."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vidiff_cli.dataset.dataset import Clip, DatasetSpec, write_clips, write_shards, write_spec


def write_dataset(folder: Path, clips: Iterable[dict[str, Any]], *, channels: Literal[1, 3] = 3) -> Path:
    """A dataset of clips of random pixels that are described by `frames`, `height`, `width`, more fields of Clip."""
    rng, described = np.random.default_rng(0), list(clips)
    rows = [
        {"id": f"clip-{number:05d}", "source": f"{number}.mp4", "start_seconds": 0.0, "fps": "8", "split": "train"}
        | {"captions": ["a dog"], "group": None}
        | fields
        for number, fields in enumerate(described)
    ]
    pixels = (
        (row["id"], rng.integers(0, 256, (row["frames"], row["height"], row["width"], channels), np.uint8))
        for row in rows
    )
    shard_of = write_shards(folder, pixels)
    write_clips(folder, [Clip(**row, shard=shard_of[row["id"]]) for row in rows])
    sizes = [f"{row['width']}x{row['height']}" for row in rows]
    width, height = map(int, max(sizes, key=sizes.count).split("x"))
    spec = DatasetSpec(
        vidiff="0",
        width=width,
        height=height,
        channels=channels,
        frames=max(row["frames"] for row in rows),
        fps="8",
        aspect="keep",
        buckets={size: sizes.count(size) for size in sizes},
        sources=len(rows),
        kept=len(rows),
        clips=len(rows),
        splits={"train": len(rows), "val": 0},
        captions_matched=len(rows),
        captions_missing=0,
        seconds_of_video=1.0,
        bytes=1,
        fingerprint="",
        settings={},
    )
    write_spec(folder, spec)
    return folder
