"""`vidiff sample`: videos from prompts."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from vidiff_cli.config.generate import SampleSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import EventStream, task
from vidiff_cli.frames import Window, evenly_spaced, plan
from vidiff_cli.generation.announce import announce_model, describe_guidance, warn_fps
from vidiff_cli.generation.budget import check_amount
from vidiff_cli.generation.cascade import (
    Stage,
    announce_stages,
    check_stages,
    note_replaced,
    open_stages,
    rate_factor,
    with_factor,
)
from vidiff_cli.generation.load_model import open_model_as
from vidiff_cli.generation.output_files import OutputOptions, journal_key, sheet_path
from vidiff_cli.generation.resume_journal import WindowJournal, window_journal
from vidiff_cli.generation.rolling import check_rolling
from vidiff_cli.generation.sample_batches import SHEET_FRAMES, make_in_order, make_shared, remove_journals
from vidiff_cli.generation.sample_call import SampleCall, output_paths
from vidiff_cli.generation.sampling_setup import resolve_sampling
from vidiff_cli.generation.video_job import choose_overlap
from vidiff_cli.models.codec import ceil_length, floor_length
from vidiff_cli.models.families import VideoModel
from vidiff_cli.rolling import RollingPlan
from vidiff_cli.system.launcher import ProcessInfo
from vidiff_cli.system.ranks import meet
from vidiff_cli.text.prompts_file import read_prompts

MAX_VIDEOS = 100_000  # of one call


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleReport:
    """The videos written, each with its prompt and seed; `seconds` is the wall time."""

    paths: tuple[Path, ...]
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    frames: int
    fps: Fraction
    width: int
    height: int
    sheet: Path | None
    seconds: float


@task
def sample(settings: SampleSettings) -> EventStream[SampleReport]:
    """Make videos: `count` of each prompt, video i with seed + i. More frames than the model's window are made by
    sliding it. Processes of a launcher share the videos; the first one speaks, and makes the sheet.

    Raises VidiffError for a model or an output that cannot be used, before anything is made.
    """
    began = time.monotonic()
    launch = ProcessInfo.from_environment(os.environ)
    options = OutputOptions.from_record("sample", settings.output, settings.model_dump(mode="json"))
    with meet(launch, options.folder) as ranks:
        launch.take_device(settings.device)
        prompts = ranks.share(_prompts(settings) if ranks.is_main else [])  # a file may be a pipe
        call = _open(settings, options, prompts)
        if not ranks.is_main:
            seed, paths = ranks.share(0), list[Path]()
            paths = output_paths(options, prompts, seed, call.details)
            yield from make_shared(call, None, ranks, paths)
            return _report(call, paths, seed, began)
        with _journal(call) as journal:
            yield from announce_model(call.model, journal.seed, prompts, negative=settings.negative_prompt)
            if settings.strict_prompt:
                _check_words(call.model, prompts)
            yield from warn_fps(call.model, call.base_fps)
            yield from describe_guidance(call.setup, call.windows, call.rolling)
            yield from note_replaced(settings, settings.then)
            yield from announce_stages(call.stages, (call.model.height, call.model.width), journal.seed, prompts)
            paths = output_paths(options, prompts, ranks.share(journal.seed), call.details)
            if ranks.world > 1 or journal.shared:
                rows = yield from make_shared(call, journal, ranks, paths)
            else:
                rows = yield from make_in_order(call, journal, paths)
            sheet = _sheet(prompts, rows, call.total, sheet_path(paths[0])) if rows else None
            report = _report(call, paths, journal.seed, began, sheet=sheet)
            remove_journals(call, journal)
            return report


def _open(settings: SampleSettings, options: OutputOptions, prompts: list[str]) -> SampleCall:
    """Open the model and plan the windows. VidiffError for what cannot be made."""
    stages, model = open_stages(settings, settings.then), open_model_as(settings)
    setup = resolve_sampling(model, settings)
    if settings.noise not in (None, model.prior.name):
        raise VidiffError(
            f"{model.name} was trained with another noise",
            found=f"--noise {settings.noise}",
            expected=model.prior.name,
            fix="leave it out",
        )
    stages, fps = _at_rate(stages, model, settings.fps)
    factor = rate_factor(stages)
    total = settings.num_frames or (model.frames - 1) * factor + 1
    base_total = -(-(total - 1) // factor) + 1
    check_amount(base_total * min(settings.batch_size, len(prompts)), model.width, model.height, options.folder)
    check_stages(stages, model, (model.height, model.width), base_total)
    windows = _windows(settings, model, base_total)
    rolling = _rolling(settings, model, base_total)
    made = max(max(window.frames) for window in windows) + 1  # more than are written, where a model makes groups
    times = [frame * factor / fps for frame in range(made)]
    call = SampleCall(
        model=model,
        setup=setup,
        stages=stages,
        options=options,
        prompts=prompts,
        windows=windows,
        rolling=rolling,
        times=times,
        base_total=base_total,
        total=total,
        fps=fps,
        batch_size=settings.batch_size,
        key=journal_key(options.record, model, times, [*prompts, *(stage.model.hash for stage in stages)]),
    )
    if stages:
        check_amount(total, call.size[1], call.size[0], options.folder)
    return call


def _at_rate(stages: list[Stage], model: VideoModel, fps: Fraction | None) -> tuple[list[Stage], Fraction]:
    """The stages and the rate of the result. A stage of the frames between doubles the model's rate, or makes of the
    fastest rate that the model was trained at, or one below it, the rate that is asked for."""
    if rate_factor(stages) == 1:
        return stages, Fraction(fps or model.fps)
    wanted, fastest = Fraction(fps or 2 * model.fps), model.rates[1]
    stages = with_factor(stages, max(2, math.ceil(wanted / fastest)))
    return stages, wanted


@contextmanager
def _journal(call: SampleCall) -> Iterator[WindowJournal]:
    """The journal of finished windows and videos. VidiffError where another process makes the very same files."""
    options = call.options
    share = options.path is None and options.seed is None
    with window_journal(call.target, call.key, options.seed, share=share) as journal:
        yield journal


def _report(call: SampleCall, paths: list[Path], seed: int, began: float, *, sheet: Path | None = None) -> SampleReport:
    return SampleReport(
        paths=tuple(paths),
        prompts=tuple(call.prompts),
        seeds=tuple(seed + number for number in range(len(paths))),
        frames=call.total,
        fps=call.fps,
        width=call.size[1],
        height=call.size[0],
        sheet=sheet,
        seconds=time.monotonic() - began,
    )


def _sheet(prompts: list[str], rows: list[np.ndarray], total: int, path: Path) -> Path:
    from vidiff_cli.viz.contact_sheet import SheetRow, contact_sheet

    numbers = evenly_spaced(total, SHEET_FRAMES)
    labelled = zip(prompts, rows, strict=False)
    return contact_sheet(
        [SheetRow(label=prompt or "(no prompt)", frames=frames, numbers=numbers) for prompt, frames in labelled], path
    )


def _prompts(settings: SampleSettings) -> list[str]:
    """The prompts given and those of the file, each as often as asked; without any, the empty prompt."""
    path = settings.prompts_file
    found = [] if path is None else read_prompts(path, encoding=settings.encoding, offered=True)
    prompts = [*settings.prompts, *found] or [""]
    if len(prompts) * settings.count > MAX_VIDEOS:
        found = f"{len(prompts):,} prompts, {settings.count:,} videos of each"
        raise VidiffError("too many videos requested", found=found, expected=f"at most {MAX_VIDEOS:,}")
    return [prompt for prompt in prompts for _ in range(settings.count)]


def _check_words(model: VideoModel, prompts: list[str]) -> None:
    """Refuse words that the model has never seen: for one without captions, all of them."""
    fix = "leave out --strict-prompt"
    if not model.reads_text and any(prompts):
        raise VidiffError("the model was trained without captions", found="a prompt", fix=fix)
    if unknown := [word for prompt in prompts for word in model.unknown_words(prompt)]:
        raise VidiffError("the model has never seen some words", found=", ".join(dict.fromkeys(unknown)), fix=fix)


def _windows(settings: SampleSettings, model: VideoModel, total: int) -> list[Window]:
    window = model.frames
    if window == 1 and total > 1:
        raise VidiffError("this model makes single pictures", found=f"{total} frames asked for", fix="train on videos")
    overlap = floor_length(model.codec, choose_overlap(settings.overlap, window))
    asked = ["--history-guidance"] * (settings.history_guidance not in (None, 1))
    asked += ["--history-parts"] * (settings.history_parts > 1)
    if total <= window and asked:
        raise VidiffError(
            f"{asked[0]} is for videos of several windows, which observe the one before",
            found=f"{total} frames",
            expected=f"more than the model's window of {window}",
            fix="leave it out, or give --num-frames",
        )
    return plan(ceil_length(model.codec, total), (), window=window, overlap=overlap)


def _rolling(settings: SampleSettings, model: VideoModel, total: int) -> RollingPlan | None:
    """The plan of --scheme rolling. VidiffError for a model that has none."""
    if settings.scheme != "rolling":
        return None
    if model.codec.temporal > 1:
        subject = f"{model.name} encodes {model.codec.temporal} frames as one, after the frames before them"
        raise VidiffError(subject, found="--scheme rolling", expected="autoregressive")
    check_rolling(model, settings)
    overlap = choose_overlap(settings.overlap, model.frames)
    return RollingPlan(way=range(total), known=0, window=model.frames, overlap=overlap)
