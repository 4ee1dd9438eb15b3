"""`vidiff world`: writes clips of a synthetic world, with captions and ground truth where they exist."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from vidiff_cli.config.world import FilmFolderSettings, WorldSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import EventStream, Note, Progress, task
from vidiff_cli.system.locks import hidden_folder
from vidiff_cli.system.writer_threads import writer_threads
from vidiff_cli.video.encode import encode
from vidiff_cli.worlds import scenes, shapes
from vidiff_cli.worlds.shapes import draw_numbered
from vidiff_cli.worlds.splits import draw_scene

TRUTH = "trajectories.json"  # arrives last: a folder that has it is complete
STAGING = ".world-"
SMALLEST = 16  # pixels: a small plus has bars of more than one
_OWN_FILES = re.compile(rf"clip-\d{{5,}}\.(mp4|txt)|{re.escape(TRUTH)}|{re.escape(STAGING)}.*")

Truth = dict[str, object]
Draw = Callable[[int], tuple[Truth, Callable[[], np.ndarray]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldReport:
    """Result: `captions` is the number of different ones, `seed` the seed used, `seconds` the wall time."""

    folder: Path
    clips: int
    captions: int
    seed: int
    seconds: float


@task
def world(settings: WorldSettings | FilmFolderSettings) -> EventStream[WorldReport]:
    """Writes clip-00000.mp4 with its caption in clip-00000.txt and so on, and the truth about all in trajectories.json.

    Films have no captions. Clip i depends on the seed and i alone. The clips appear in the folder only when all are
    made. Raises VidiffError for a folder that is not empty (with `overwrite`: that has other files than such clips),
    and for clips too long for the canvas.
    """
    began = time.monotonic()
    seed = secrets.randbelow(2**31) if settings.seed is None else settings.seed
    draw = _drawing(settings, seed)
    draw(0)  # settings that make no scene fail here, before anything is written
    _check_folder(settings.folder, overwrite=settings.overwrite)
    yield Note(f"Making {settings.clips} clips in {settings.folder} with seed {seed}.")
    truths = []
    with _staging(settings.folder) as staging, writer_threads() as (pool, _):
        jobs = [pool.submit(_make, staging, draw, number, settings) for number in range(settings.clips)]
        for number, job in enumerate(jobs):
            name, truth = job.result()
            truths.append({"file": f"{name}.mp4", "seed": seed, "number": number} | truth)
            yield Progress(what="clips", done=number + 1, total=settings.clips)
        (staging / TRUTH).write_text(_one_a_line(truths), encoding="utf-8")
        _publish(staging, settings.folder)
    return WorldReport(
        folder=settings.folder,
        clips=settings.clips,
        captions=len({truth["caption"] for truth in truths if "caption" in truth}),
        seed=seed,
        seconds=time.monotonic() - began,
    )


def _make(staging: Path, draw: Draw, number: int, settings: WorldSettings | FilmFolderSettings) -> tuple[str, Truth]:
    truth, frames = draw(number)
    name = f"clip-{number:05d}"
    encode(staging / f"{name}.mp4", frames(), settings.fps, crf=settings.crf)
    if "caption" in truth:
        (staging / f"{name}.txt").write_text(f"{truth['caption']}\n", encoding="utf-8")
    return name, truth


def _drawing(settings: WorldSettings | FilmFolderSettings, seed: int) -> Draw:
    if isinstance(settings, FilmFolderSettings):
        return partial(_film, settings, seed)
    return partial(_simple if settings.part == "simple" else _larger, settings, seed)


def _film(settings: FilmFolderSettings, seed: int, number: int) -> tuple[Truth, Callable[[], np.ndarray]]:
    """A film (`worlds/films.py`); its truth is the recipe."""
    from vidiff_cli.worlds import films
    from vidiff_cli.worlds.film_draws import draw_film

    seconds = np.arange(settings.frames) / float(settings.fps)
    frames = partial(films.render, draw_film(seed, number), seconds, canvas=settings.size)
    return {"fps": str(settings.fps)}, frames


def _simple(settings: WorldSettings, seed: int, number: int) -> tuple[Truth, Callable[[], np.ndarray]]:
    """One shape on black (`worlds/shapes.py`)."""
    scene = draw_numbered(seed, number, canvas=settings.size, frames=settings.frames, fps=settings.fps)
    truth = {
        "caption": scene.caption,
        "attributes": scene.attributes,
        "fps": str(scene.fps),
        "positions": _rounded(scene.positions),
    }
    return truth, partial(shapes.render, scene)


def _larger(settings: WorldSettings, seed: int, number: int) -> tuple[Truth, Callable[[], np.ndarray]]:
    """A part of the larger world (`worlds/scenes.py`); positions in pixels, a list for every object."""
    if (settings.frames - 1) / settings.fps > scenes.SECONDS or settings.size < SMALLEST:
        raise VidiffError(
            "clip too long or too small for the larger world",
            found=f"{settings.frames} frames at {settings.fps} fps of {settings.size} pixels",
            expected=f"at most {int(scenes.SECONDS * settings.fps) + 1} frames, at least {SMALLEST} pixels",
            fix="change --num-frames, --fps or --size, or take --part simple",
        )
    scene = draw_scene(settings.part, seed, number, side=settings.side)
    seconds = np.arange(settings.frames) / float(settings.fps)
    truth = {
        "caption": scene.caption,
        **scene.words,
        "fps": str(settings.fps),
        "positions": [_rounded(settings.size * thing.centers(seconds)) for thing in scene.things],
    }
    return truth, partial(scenes.render, scene, seconds, canvas=settings.size)


def _rounded(positions: np.ndarray) -> list[list[float]]:
    return [[round(x, 6), round(y, 6)] for x, y in positions.tolist()]


def _one_a_line(truths: list[dict[str, object]]) -> str:
    """JSON with one clip a line, readable and comparable line by line."""
    return "[\n" + ",\n".join(json.dumps(truth) for truth in truths) + "\n]\n"


def _check_folder(folder: Path, *, overwrite: bool) -> None:
    """Raises VidiffError unless the folder is missing or empty or, with `overwrite`, holds only clips of a world."""
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise VidiffError(f"{folder} is not a folder", fix="give the name of a folder")
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith(STAGING))
    foreign = [name for name in names if not _OWN_FILES.fullmatch(name)]
    if foreign:
        fix = "give another folder" + (": --overwrite replaces only clips of a world" if overwrite else "")
        raise VidiffError(f"The folder {folder} holds other files", found=foreign[0], fix=fix)
    if names and not overwrite:
        raise VidiffError(
            f"The folder {folder} is not empty", found=names[0], fix="give another folder, or --overwrite"
        )


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """A hidden folder inside `folder` (on the same disk) for unfinished files; a later call removes leftovers."""
    existed = folder.is_dir()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with hidden_folder(folder, STAGING) as staging:
            yield staging
    finally:
        if not existed and not any(folder.iterdir()):
            folder.rmdir()


def _publish(staging: Path, folder: Path) -> None:
    """Replaces the files of an earlier run by the finished ones, the truth last."""
    (folder / TRUTH).unlink(missing_ok=True)
    for old in folder.iterdir():
        if old.is_dir() and old.name != staging.name:  # left by a run that was killed
            shutil.rmtree(old)
        elif not old.is_dir() and not old.name.startswith(STAGING):
            old.unlink()
    for new in sorted(staging.iterdir(), key=lambda path: (path.name == TRUTH, path.name)):
        os.replace(new, folder / new.name)
