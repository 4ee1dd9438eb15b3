"""Datasets without files: the clips of the synthetic worlds, each drawn when it is asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import overload

import numpy as np

from vidiff_cli import __version__
from vidiff_cli.config.train import TrainSettings
from vidiff_cli.config.world import ADDRESS, FILMS, FilmSettings, StreamSettings
from vidiff_cli.dataset.dataset import Dataset, open_dataset
from vidiff_cli.dataset.index import SIDES, Index, ShardFile
from vidiff_cli.dataset.schema import Clip, DatasetSpec
from vidiff_cli.errors import VidiffError
from vidiff_cli.worlds import film_draws, films, scenes
from vidiff_cli.worlds.splits import HoldOut, draw_scene, split_phrases


def open_clips(settings: TrainSettings) -> Dataset:
    """The clips to train on: those of a dataset folder, or of a world. VidiffError as `open_dataset`."""
    if not is_world(settings.dataset):
        return open_dataset(settings.dataset)
    address = str(settings.dataset)
    if address not in WORLDS:
        raise VidiffError("unknown world", found=address, expected=" or ".join(WORLDS))
    return WORLDS[address](settings)


def is_world(dataset: Path) -> bool:
    """True for the address of a world; a folder of that name wins."""
    return str(dataset).startswith("world:") and not dataset.is_dir()


class DrawnClips(Dataset):
    """Clips of a world, all of one size, length and rate, the train ones first, then the held-out ones.

    A subclass says what clip `index` shows at some times (`draw`), its name and its captions (`row`).
    """

    def __init__(self, address: str, settings: StreamSettings | FilmSettings, *, seconds: float, captions: int) -> None:
        self.settings = settings
        rate = Fraction(settings.fps)
        self.seconds = np.arange(int(Fraction(seconds) * rate) + 1) / float(rate)
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
            captions=all_alike(captions),
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
            captions_matched=count * captions,
            captions_missing=0,
            seconds_of_video=count * seconds,
            bytes=0,
            fingerprint=hashlib.sha256(settings.model_dump_json().encode()).hexdigest(),
            settings=settings.model_dump(mode="json"),
        )
        super().__init__(Path(address), spec, index, {})
        self.clips = _Rows(self)

    def draw(self, index: int, seconds: np.ndarray) -> np.ndarray:
        """The frames of clip `index` at some times: (t, h, w, 3) uint8."""
        raise NotImplementedError

    def row(self, index: int) -> tuple[str, list[str]]:
        """The name of clip `index` and its captions."""
        raise NotImplementedError

    def number(self, index: int) -> tuple[int, bool]:
        """The number of clip `index` on its side of the split, and whether that is the held-out one."""
        held_out = index >= self.settings.clips
        return index - self.settings.clips * held_out, held_out

    def view(self, index: int) -> np.ndarray:
        return self.draw(index, self.seconds)

    def window(self, index: int, frames: range) -> np.ndarray:
        return self.draw(index, self.seconds[frames.start : frames.stop : frames.step])

    def digest(self) -> str:
        return hashlib.sha256(json.dumps([str(self.folder), self.spec.fingerprint]).encode()).hexdigest()


class WorldClips(DrawnClips):
    """The world of shapes. The held-out clips are of combinations of words that no train clip has."""

    settings: StreamSettings

    def __init__(self, settings: StreamSettings) -> None:
        super().__init__(ADDRESS, settings, seconds=scenes.SECONDS, captions=1)

    def __reduce__(self) -> tuple[Callable[[StreamSettings], Dataset], tuple[StreamSettings]]:
        return WorldClips, (self.settings,)

    def scene(self, index: int) -> scenes.Scene:
        """The scene of clip `index`."""
        number, held_out = self.number(index)
        side: HoldOut = "held-out" if held_out else "train"
        return draw_scene(self.settings.part, self.settings.seed, number, side=side)

    def draw(self, index: int, seconds: np.ndarray) -> np.ndarray:
        return scenes.render(self.scene(index), seconds, canvas=self.settings.size)

    def row(self, index: int) -> tuple[str, list[str]]:
        return f"{self.settings.part}-{index}", [self.scene(index).caption]

    def captions(self) -> tuple[str, ...]:
        """Phrases with every word of the train clips' captions, which are too many."""
        return split_phrases(self.settings.part)


class FilmClips(DrawnClips):
    """The world of films, which have no captions. The held-out ones are of photographs that no train film shows."""

    settings: FilmSettings

    def __init__(self, settings: FilmSettings) -> None:
        super().__init__(FILMS, settings, seconds=films.SECONDS, captions=0)

    def __reduce__(self) -> tuple[Callable[[FilmSettings], Dataset], tuple[FilmSettings]]:
        return FilmClips, (self.settings,)

    def draw(self, index: int, seconds: np.ndarray) -> np.ndarray:
        number, held_out = self.number(index)
        film = film_draws.draw_film(self.settings.seed, number, held_out=held_out)
        return films.render(film, seconds, canvas=self.settings.size)

    def row(self, index: int) -> tuple[str, list[str]]:
        return f"film-{index}", []


def _shapes(settings: TrainSettings) -> Dataset:
    if settings.text.kind == "clip":
        raise VidiffError(
            "The captions of the world are too many for CLIP",
            found="--text clip",
            fix="--text learned",
        )
    return WorldClips(settings.world)


WORLDS: Mapping[str, Callable[[TrainSettings], Dataset]] = MappingProxyType(
    {ADDRESS: _shapes, FILMS: lambda settings: FilmClips(settings.films)}
)


class _Rows(Sequence[Clip]):
    """The rows of the clips, made when they are asked for."""

    def __init__(self, world: DrawnClips) -> None:
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
        name, captions = self._world.row(number)
        return Clip(
            id=name,
            source=f"{self._world.folder} number {number}",
            start_seconds=0.0,
            fps=settings.fps,
            frames=len(self._world.seconds),
            captions=captions,
            split="train" if number < settings.clips else "val",
            shard="",
            group=None,
            width=settings.size,
            height=settings.size,
        )
