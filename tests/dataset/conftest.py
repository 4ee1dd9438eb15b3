"""Small datasets made of arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vidiff_cli.dataset.dataset import SHARD_BYTES, Clip, DatasetSpec, write_clips, write_shards, write_spec

Store = Callable[..., Path]


@pytest.fixture
def store():
    """store(folder, clips, row, **spec): a dataset of clips (t h w c), the second one for validation. `row(n)` changes
    values of a clip's row."""

    def make(
        folder: Path,
        clips: Sequence[np.ndarray],
        row: Callable[[int], dict[str, Any]] = lambda n: {},
        *,
        shard_bytes: int = SHARD_BYTES,
        **spec: Any,
    ) -> Path:
        shard_of = write_shards(folder, ((f"clip-{n}", clip) for n, clip in enumerate(clips)), shard_bytes=shard_bytes)
        rows = []
        for n, clip in enumerate(clips):
            values = {"source": f"{n}.mp4", "start_seconds": 0.0, "fps": "25", "captions": [f"caption {n}"]}
            values |= {"split": "val" if n == 1 else "train", "group": None, "scores": {}}
            shape = {"frames": len(clip), "height": clip.shape[1], "width": clip.shape[2]}
            rows.append(Clip(**{"id": f"clip-{n}", "shard": shard_of[f"clip-{n}"], **values, **shape, **row(n)}))
        write_clips(folder, rows)
        sizes = Counter((clip.width, clip.height) for clip in rows).most_common()
        values = {"width": sizes[0][0][0], "height": sizes[0][0][1], "frames": max(clip.frames for clip in rows)}
        values |= {"buckets": {f"{width}x{height}": count for (width, height), count in sizes}, "fps": "25"}
        counts = dict.fromkeys(("sources", "kept", "clips", "captions_matched"), len(rows)) | {"captions_missing": 0}
        values |= counts | {"splits": {"train": len(rows) - 1, "val": 1}, "seconds_of_video": 1.0, "bytes": 1}
        write_spec(folder, DatasetSpec(**{"vidiff": "0", "fingerprint": "", "settings": {}, **values, **spec}))
        return folder

    return make
