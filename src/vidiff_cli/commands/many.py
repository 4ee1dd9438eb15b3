"""`vidiff interpolate`, `extend` and `upscale` of many films: each by itself, and the next whatever became of the last.

A film is finished when its result is there with a sidecar of the same settings, model and input: the same command
leaves it as it is, so that an interrupted one goes on. Processes of a launcher share the films, by their frames.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from vidiff_cli.checkpoint import file_hash
from vidiff_cli.config.generate import CompletionSettings, InterpolateSettings
from vidiff_cli.config.result import FilmSettings
from vidiff_cli.config.upscale import UpscaleSettings
from vidiff_cli.errors import UsageError, VidiffError, error_sentence
from vidiff_cli.events import Event, EventStream, Note, Progress, Task, task
from vidiff_cli.generation.completion_models import CompletionModels, open_completion_models
from vidiff_cli.generation.films import Film, FilmMessages, FilmReport, result_folders
from vidiff_cli.generation.load_model import open_upscaler
from vidiff_cli.generation.resume_journal import journal_path
from vidiff_cli.generation.sampling_setup import resolve_sampling
from vidiff_cli.generation.sidecar import read_sidecar, resolved_settings
from vidiff_cli.models.unet_model import UNetModel
from vidiff_cli.preparation.scan import MediaSource, scan
from vidiff_cli.system import worker_pool
from vidiff_cli.system.launcher import ProcessInfo
from vidiff_cli.system.locks import hidden_folder
from vidiff_cli.system.ranks import meet
from vidiff_cli.video import ffmpeg
from vidiff_cli.video.encode import RECIPES
from vidiff_cli.video.image_file import SUFFIXES_IMAGE, is_animated
from vidiff_cli.video.picture import FORMATS
from vidiff_cli.video.probe import SUFFIXES_VIDEO, probe
from vidiff_cli.video.targets import HIDDEN

FilmTask = Task[..., Any]
"""A task of the settings of a command that takes films and `opened`, the model where the caller has it; its report
counts frames."""

Opened = CompletionModels | UNetModel | None
"""What a command opens once for all films: its models, or an upscaler."""

# Settings that do not decide what a result looks like, or are compared otherwise (input, model, seed).
FREE = {"input", "model", "seed", "clip_model", "autoencoder", "device", "sidecar", "dry_run"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ManyReport:
    """All films, in the order of their names; none in a process of a launcher that is not the first."""

    films: tuple[FilmReport, ...]
    seconds: float

    @property
    def failed(self) -> int:
        """Number of films that have no result of this command."""
        return sum(film.status == "failed" for film in self.films)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    """One film for a worker process."""

    command: FilmTask
    settings: FilmSettings
    film: Film
    threads: int
    argv: tuple[str, ...]


Made = Generator[tuple[Film, Event | FilmReport], None, None]


@task
def many(command: FilmTask, settings: FilmSettings, inputs: Sequence[Path]) -> EventStream[ManyReport]:
    """Extend, interpolate or upscale, as the `command` does, the films of `inputs` (files, and folders with all videos
    in them and below) into the folder `settings.output`, as `settings` say but for their own input. --jobs films at a
    time.

    Raises VidiffError for inputs, a folder or a model that cannot be used; what fails for one film is in its report.
    """
    began = time.monotonic()
    launch = ProcessInfo.from_environment({} if settings.dry_run else os.environ)
    with meet(launch, settings.output or Path()) as ranks, contextlib.ExitStack() as stack:
        launch.take_device(settings.device)
        films = list[Film]()
        if ranks.is_main:
            films = yield from _probed(_planned(settings, inputs))
            if ranks.world > 1:
                stack.enter_context(result_folders(films))
        films = [Film.from_data(data) for data in ranks.share([film.as_data() for film in films])]
        yield from ranks.idle(len(films), f"{len(films)} film{'s' * (len(films) != 1)}")
        tally, reports = _Tally(films), dict[str, FilmReport]()
        yield tally.progress()
        own_films = ranks.balanced_part(films, [film.frames for film in films])
        own = (_in_turn if settings.jobs == 1 else _at_a_time)(command, settings, own_films)
        messages = FilmMessages(films)
        making = ranks.merge(own, messages.dump, messages.load)
        with closing(making):
            for film, event in making:
                if isinstance(event, FilmReport):
                    reports[film.name] = event
                    tally.end(film, event)
                    if not settings.dry_run:
                        yield _line(event)
                    yield tally.progress()
                elif isinstance(event, Progress):
                    yield tally.progress(film, event)
                elif event.level == "warning":
                    yield Note(f"{film.name}: {event.text}", "warning")
        made = tuple(reports[film.name] for film in films if ranks.is_main)
    return ManyReport(films=made, seconds=time.monotonic() - began)


def _line(done: FilmReport) -> Note:
    if done.reason is not None:
        return Note(f"{done.name}: {done.reason}", "warning")
    if done.report is None:
        return Note(f"{done.name}: finished before, {done.path} stays as it is.")
    return Note(f"{done.name}: {done.report.given} frames given, {done.report.made} made in {done.seconds:.1f} s.")


def _planned(settings: FilmSettings, inputs: Sequence[Path]) -> list[Film]:
    """The films and their results: under the input's name; with its suffix in it where two would have the same."""
    folder = settings.output
    if folder is None:
        raise UsageError("several inputs need a folder for their results", fix="name it with -o")
    if folder.suffix.lower() in {*RECIPES, *FORMATS} or folder.is_file():
        raise UsageError("several inputs need a folder for their results", found=f"-o {folder}")
    if isinstance(settings, InterpolateSettings) and settings.to is not None:
        raise UsageError("--to joins exactly one input", found=", ".join(map(str, inputs)))
    if any(each.is_dir() and folder.exists() and each.samefile(folder) for each in inputs):
        raise UsageError(f"{folder} is the folder of the inputs too", fix="choose another folder with -o")
    sources = _videos(inputs, folder)
    count = Counter(Path(source.name).with_suffix("") for source in sources)
    films = [
        Film(
            name=source.name,
            path=source.path,
            result=folder / (name.with_suffix(suffix) if count[name.with_suffix("")] == 1 else f"{name}{suffix}"),
            problem=source.problem and f"{source.path} cannot be read: {source.problem}.",
        )
        for source in sources
        for name, suffix in [(Path(source.name), _suffix(settings, source.path))]
    ]
    owners, paths = dict[Path, str](), {film.path.resolve() for film in films}
    for film in films:
        other = owners.setdefault(film.result, film.name)
        if other != film.name:
            raise VidiffError(f"{other} and {film.name} would both become {film.result}", fix="rename one of them")
        if film.result.resolve() in paths:
            raise VidiffError(f"{film.result} is an input itself", fix="choose another folder with -o")
    return films


def _suffix(settings: FilmSettings, source: Path) -> str:
    """The extension of the result of an input: a larger photo is a photo."""
    is_photo = source.suffix.lower() in SUFFIXES_IMAGE and not is_animated(source)
    if is_photo and isinstance(settings, UpscaleSettings):
        return ".png"
    return ".mkv" if settings.lossless else ".mp4"


def _videos(inputs: Sequence[Path], folder: Path) -> list[MediaSource]:
    """All that is named itself, and the videos in folders. VidiffError without any."""
    named = {Path(os.path.abspath(each.expanduser())) for each in inputs}
    found = scan([str(each) for each in inputs], exclude=folder).sources
    videos = [source for source in found if source.path in named or source.path.suffix.lower() in SUFFIXES_VIDEO]
    if not videos:
        raise VidiffError(f"no video in {', '.join(map(str, inputs))}", found=f"{len(found)} images")
    return videos


def _probed(films: Sequence[Film]) -> EventStream[list[Film]]:
    """The films with their numbers of frames, or what is the matter with them."""
    probed = []
    for number, film in enumerate(films, 1):
        frames, problem = 0, film.problem
        try:
            if problem is None:
                info = probe(film.path)
                frames = round((info.duration_seconds or 0) * info.fps)
        except VidiffError as error:
            problem = str(error)
        probed.append(Film(name=film.name, path=film.path, result=film.result, frames=frames, problem=problem))
        yield Progress(what="looking at films", done=number, total=len(films))
    return probed


class _Tally:
    """Progress over all films, in frames of the inputs; those of films that are not made do not count."""

    def __init__(self, films: Sequence[Film]) -> None:
        self._films, self._ended = len(films), 0
        self._frames, self._done = sum(film.frames for film in films), 0
        self._began = time.monotonic()

    def end(self, film: Film, report: FilmReport) -> None:
        self._ended += 1
        if report.status == "made":
            self._done += film.frames
        else:
            self._frames -= film.frames
            self._began += report.seconds

    def progress(self, film: Film | None = None, inner: Progress | None = None) -> Progress:
        done, detail = self._done, [f"{self._ended}/{self._films} films"]
        if film is not None and inner is not None and inner.total:
            done += film.frames * inner.done // inner.total if inner.what == "frames" else 0
        if done and (elapsed := time.monotonic() - self._began) > 0:
            detail.append(f"{done / elapsed:.1f} frames/s")
        if film is not None and inner is not None:
            detail.append(f"{film.name}: {inner.what} {inner.done}" + (f"/{inner.total}" if inner.total else ""))
        return Progress(what="frames of all films", done=done, total=self._frames or None, detail=", ".join(detail))


def _in_turn(command: FilmTask, settings: FilmSettings, films: Sequence[Film]) -> Made:
    """One film after the other, with one model for all."""
    if not films:
        return
    model = _open_model(settings)
    for film in films:
        with closing(_film(command, settings, film, model)) as steps:
            for event in steps:
                yield film, event


def _at_a_time(command: FilmTask, settings: FilmSettings, films: Sequence[Film]) -> Made:
    """Several films at a time. The processes end with this one, however that ends."""
    threads, argv = max(1, torch.get_num_threads() // settings.jobs), tuple(sys.argv)
    jobs = [_Job(command=command, settings=settings, film=film, threads=threads, argv=argv) for film in films]
    running = worker_pool.run(
        _apart,
        jobs,
        workers=settings.jobs,
        timeout_seconds=math.inf,
        memory_bytes=sys.maxsize,
        initializer=ffmpeg.keep_in_group,
    )
    try:
        with closing(running):
            for job, result, problem, _ in running:
                if isinstance(result, VidiffError):
                    raise result
                if result is None:
                    yield job.film, _failed(job.film, 0.0, f"the process at work on it ended: {problem}.")
                for event in result or ():
                    yield job.film, event
    finally:  # what processes that were killed were writing
        for folder in {film.result.parent for film in films if film.result.parent.is_dir()}:
            with contextlib.suppress(OSError), hidden_folder(folder, HIDDEN):
                pass


def _apart(job: _Job) -> list[Event | FilmReport] | VidiffError:
    """One film in a process of its own: its notes and its report; or an error that all films would have."""
    ProcessInfo.from_environment(os.environ).take_device(job.settings.device)
    torch.set_num_threads(job.threads)
    sys.argv = list(job.argv)  # for the sidecar
    try:
        events = list(_film(job.command, job.settings, job.film, _model_of_process(job.settings)))  # type: ignore[arg-type]
    except VidiffError as error:
        return error
    return [event for event in events if not isinstance(event, Progress)]


@cache
def _model_of_process(settings: FilmSettings) -> Opened:
    return _open_model(settings)


def _open_model(settings: FilmSettings) -> Opened:
    """The models of all films; VidiffError where one cannot be opened, or not sampled so."""
    if isinstance(settings, UpscaleSettings):
        return None if settings.detail == "estimate" else open_upscaler(settings, settings.scale)
    assert isinstance(settings, CompletionSettings), "the other commands that take films complete them"
    between = isinstance(settings, InterpolateSettings)
    models = open_completion_models(settings, ("video", "frames") if between else ("video",))
    if models.model is not None:
        resolve_sampling(models.model, settings, completes="between" if between else "beyond")
    return models


def _film(command: FilmTask, settings: FilmSettings, film: Film, opened: Opened) -> Generator[Event | FilmReport]:
    """The events of one film, and its report at the end. A UsageError, which all films would have, is raised."""
    began = time.monotonic()
    try:
        if film.problem is not None:
            yield _failed(film, 0.0, film.problem)
            return
        own = settings.model_copy(update={"input": film.path, "output": film.result})
        sidecar = read_sidecar(film.result)
        if film.result.exists():
            if sidecar is not None and _was_made_by(sidecar, command.__name__, own, opened):
                yield FilmReport(name=film.name, path=film.result, status="finished", seconds=time.monotonic() - began)
                return
            if not (settings.overwrite or journal_path(film.result).exists()):
                found = "a file without a sidecar" if sidecar is None else "made otherwise, or of another input"
                fix = "pass --overwrite, or choose another folder"
                raise VidiffError(f"{film.result} exists", found=found, fix=fix)
        elif sidecar is not None:  # its video was removed
            own = own.model_copy(update={"overwrite": True})
        if settings.dry_run:
            yield FilmReport(name=film.name, path=film.result, status="planned", seconds=time.monotonic() - began)
            return
        report = yield from command.events(own, opened=opened)
    except UsageError:
        raise
    except Exception as error:  # of any kind: the next film may be a good one
        yield _failed(film, time.monotonic() - began, error_sentence(error))
        return
    seconds = time.monotonic() - began
    yield FilmReport(name=film.name, path=film.result, status="made", seconds=seconds, report=report)


def _failed(film: Film, seconds: float, reason: str) -> FilmReport:
    return FilmReport(name=film.name, path=film.result, status="failed", seconds=seconds, reason=reason)


def _was_made_by(sidecar: Mapping[str, Any], command: str, settings: FilmSettings, opened: Opened) -> bool:
    """True if a sidecar belongs to a result of these settings, these models and this input."""
    models = opened if isinstance(opened, CompletionModels) else CompletionModels(model=opened)
    model, stages = models.model, models.facts().get("stages", [])
    wanted = resolved_settings(models.settings(settings.model_dump(mode="json")), model, settings.seed)
    said = {name: value for name, value in sidecar["settings"].items() if name not in FREE}
    return (
        sidecar["command"] == command
        and settings.seed in (None, sidecar["seed"])
        and said == {name: value for name, value in wanted.items() if name not in FREE}
        and (sidecar["checkpoint"] or {}).get("sha256") == (model.hash if model else None)
        and sidecar.get("stages", []) == stages
        and sidecar.get("input_sha256") == file_hash(settings.input)
    )
