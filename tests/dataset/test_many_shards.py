"""A dataset of more shards than a process may open files, and files that cannot be read for no fault of theirs."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from limited import run_limited

from vidiff_cli.config.train import LoaderSettings, ObjectiveSettings
from vidiff_cli.dataset.dataset import open_dataset, read_rows, read_spec
from vidiff_cli.dataset.shards import Shard, ShardMaps
from vidiff_cli.errors import VidiffError
from vidiff_cli.system.shortage import ShortageError
from vidiff_cli.training.loader import BatchSpec, ClipSource, draw_batches

SHARDS = 300
SMALL = ["--set", "network.base_channels=8", "--set", "network.head_dim=8", "--set", "network.embedding=16"]
SMALL += [
    "--set",
    "network.channel_mult=[1]",
    "--set",
    "network.context_dim=16",
    "--frames",
    "4",
    "--batch-size",
    "16",
    "--precision",
    "fp32",
]
SMALL += ["--sample-every", "0", "--device", "cpu", "--text", "learned"]


@pytest.fixture
def folder(tmp_path: Path, store: Callable[..., Path]) -> Path:
    """Clips whose every pixel is the clip's number, each in a shard of its own."""
    clips = [np.full((4, 16, 16, 3), (number % 256, number // 256, 0), np.uint8) for number in range(SHARDS)]
    made = store(tmp_path / "many", clips, shard_bytes=1)
    assert len(list((made / "data").iterdir())) == SHARDS
    return made


@pytest.fixture
def few_files() -> Iterator[None]:
    """At most 40 more open files than now."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 40, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def number_of(frames: np.ndarray) -> int:
    return int(frames[0, 0, 0, 0]) + 256 * int(frames[0, 0, 0, 1])


def test_every_clip_of_many_shards_is_read_under_a_low_limit(folder: Path, few_files: None) -> None:
    dataset = open_dataset(folder)
    for _ in range(2):
        assert [number_of(dataset.frames(index)) for index in range(SHARDS)] == list(range(SHARDS))


@pytest.mark.parametrize("workers", [0, 3])
def test_batches_come_from_many_shards_under_a_low_limit(folder: Path, few_files: None, workers: int) -> None:
    dataset = open_dataset(folder)
    spec = BatchSpec(
        objective=ObjectiveSettings(image_fraction=0.5),
        loader=LoaderSettings(workers=workers, flip=False),
        size=25,
        window=4,
        frame_strides=(1,),
        seed=0,
    )
    source = ClipSource(rows=dataset.clips, read=dataset.window)
    steps = SHARDS // spec.size
    batches = draw_batches(source, spec, start=0, stop=steps, device=torch.device("cpu"))
    assert sorted(row for batch in batches for row in batch.rows) == list(range(SHARDS))


@pytest.mark.parametrize(
    "command",
    [pytest.param(["train", "--steps", "2", *SMALL], marks=pytest.mark.slow), ["info"], ["preview", "-n", "200"]],
    ids=lambda command: command[0],
)
def test_commands_need_no_file_per_shard(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run_limited(command[0], folder, *command[1:])
    assert done.returncode == 0, done.stderr


def test_maps_that_were_used_last_are_kept_and_a_view_outlives_its_own() -> None:
    opened: list[int] = []

    def opener(number: int) -> Callable[[], np.ndarray]:
        return lambda: (opened.append(number), np.full(3, number))[1]

    maps = ShardMaps(2)
    first = maps.get(0, opener(0))[1:]
    for number in (1, 0, 2, 0, 1):
        assert maps.get(number, opener(number)).tolist() == [number] * 3
    assert opened == [0, 1, 2, 1] and first.tolist() == [0, 0]


def read_shard(folder: Path) -> object:
    return Shard(folder / "data" / "shard-00000.safetensors")


def read_clip_rows(folder: Path) -> object:
    return list(read_rows(folder / "clips.jsonl"))


@pytest.mark.parametrize("read", [read_shard, read_clip_rows, read_spec])
@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EACCES])
def test_what_cannot_be_opened_is_not_called_damaged(
    tmp_path: Path,
    store: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    read: Callable[[Path], object],
    number: int,
) -> None:
    folder = store(tmp_path, [np.zeros((2, 4, 4, 3), np.uint8)] * 2)

    def fail(*arguments: Any, **keywords: Any) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(VidiffError, match=os.strerror(number).lower()) as caught:
        read(folder)
    assert "damaged" not in str(caught.value) and "overwrite" not in str(caught.value)
    assert isinstance(caught.value, ShortageError) == (number not in (errno.EIO, errno.EACCES))
