"""The clips of `vidiff train world:shapes`: a dataset without files, each clip drawn when it is asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import overload

import numpy as np

from vidiff_cli import __version__
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.config.world import ADDRESS, StreamSettings
from vidiff_cli.data.index import SIDES, Index, ShardFile
from vidiff_cli.data.spec import Clip, DatasetSpec
from vidiff_cli.data.store import Dataset, open_dataset
from vidiff_cli.errors import VidiffError
from vidiff_cli.worlds.parts import Side, draw_scene, phrases_of
from vidiff_cli.worlds.scenes import SECONDS, Scene, render


def open_clips(settings: TrainSettings) -> Dataset:
    """The clips to train on: those of a dataset folder, or of the world. VidiffError as `open_dataset`."""
    if not is_world(settings.dataset):
        return open_dataset(settings.dataset)
    if str(settings.dataset) != ADDRESS:
        raise VidiffError("There is no such world", found=settings.dataset, expected=ADDRESS)
    if settings.text.kind == "clip":
        raise VidiffError(
            "The captions of the world are too many for CLIP",
            found="--text clip",
            fix="--text learned",
        )
    return WorldClips(settings.world)


def is_world(dataset: Path) -> bool:
    """Whether it is the address of a world rather than a folder; a folder of that name wins."""
    return str(dataset).startswith("world:") and not dataset.is_dir()


class WorldClips(Dataset):
    """The train clips first, then the held-out ones, whose combinations of words no train clip has."""

    def __init__(self, settings: StreamSettings) -> None:
        self.settings = settings
        self.seconds = np.arange(int(SECONDS * Fraction(settings.fps)) + 1) / float(Fraction(settings.fps))
        count, frames, size = settings.clips + settings.held_out, len(self.seconds), settings.size

        def all_alike(value: int) -> np.ndarray:
            return np.broadcast_to(np.int32(value), count)

        side = np.full(count, SIDES.index("train"), np.int8)
        side[settings.clips :] = SIDES.index("val")
        index = Index(
            row_start=all_alike(0),
            row_bytes=all_alike(0),
            row_sum=all_alike(0),
            frames=all_alike(frames),
            height=all_alike(size),
            width=all_alike(size),
            shard=all_alike(0),
            start=all_alike(0),
            rate=all_alike(0),
            side=side,
            captions=all_alike(1),
            shards=tuple[ShardFile, ...](),
            rates=(settings.fps,),
        )
        spec = DatasetSpec(
            vidiff=__version__,
            width=size,
            height=size,
            frames=frames,
            fps=settings.fps,
            sources=1,
            kept=1,
            clips=count,
            splits={"train": settings.clips, "val": settings.held_out},
            captions_matched=count,
            captions_missing=0,
            seconds_of_video=count * SECONDS,
            bytes=0,
            fingerprint=hashlib.sha256(settings.model_dump_json().encode()).hexdigest(),
            settings=settings.model_dump(mode="json"),
        )
        super().__init__(Path(ADDRESS), spec, index, {})
        self.clips = _Rows(self)

    def __reduce__(self) -> tuple[Callable[[StreamSettings], Dataset], tuple[StreamSettings]]:
        return WorldClips, (self.settings,)

    def scene(self, index: int) -> Scene:
        """What clip `index` shows."""
        train = index < self.settings.clips
        side: Side = "train" if train else "held-out"
        number = index if train else index - self.settings.clips
        return draw_scene(self.settings.part, self.settings.seed, number, side=side)

    def view(self, index: int) -> np.ndarray:
        return render(self.scene(index), self.seconds, canvas=self.settings.size)

    def digest(self) -> str:
        return hashlib.sha256(json.dumps([ADDRESS, self.spec.fingerprint]).encode()).hexdigest()

    def captions(self) -> tuple[str, ...]:
        """Phrases with every word of the train clips' captions, which are too many."""
        return phrases_of(self.settings.part)


class _Rows(Sequence[Clip]):
    """The rows of the clips, made when they are asked for."""

    def __init__(self, world: WorldClips) -> None:
        self._world = world

    def __len__(self) -> int:
        return len(self._world.index)

    @overload
    def __getitem__(self, index: int) -> Clip: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Clip]: ...
    def __getitem__(self, index: int | slice) -> Clip | Sequence[Clip]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        number, settings = range(len(self))[index], self._world.settings
        return Clip(
            id=f"{settings.part}-{number}",
            source=f"{ADDRESS} number {number}",
            start_seconds=0.0,
            fps=settings.fps,
            frames=len(self._world.seconds),
            captions=[self._world.scene(number).caption],
            split="train" if number < settings.clips else "val",
            shard="",
            group=None,
            width=settings.size,
            height=settings.size,
        )
