"""`vidiff sample`: videos from prompts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
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
from vidiff_cli.generation.budget import check_amount, estimate_seconds, note_long, save_memory
from vidiff_cli.generation.frame_store import FrameStore
from vidiff_cli.generation.generate import generate
from vidiff_cli.generation.load_model import open_model_as
from vidiff_cli.generation.output_files import OutputOptions, check_files, journal_key, sheet_path, slug, target_path
from vidiff_cli.generation.resume_journal import WindowJournal, window_journal
from vidiff_cli.generation.rolling import check_rolling
from vidiff_cli.generation.sampling_setup import resolve_sampling
from vidiff_cli.generation.sidecar import write_sidecar
from vidiff_cli.generation.video_job import VideoJob, choose_overlap
from vidiff_cli.generation.window_codec import latent_shape
from vidiff_cli.models.codec import ceil_length, floor_length, z_shape
from vidiff_cli.models.families import VideoModel
from vidiff_cli.rolling import RollingPlan
from vidiff_cli.text.prompts_file import read_prompts
from vidiff_cli.video.encode import encode

MAX_VIDEOS = 100_000  # of one call
SHEET_FRAMES = 96  # kept of a video for it
SHEET_ROWS = 16  # of --compare: more make a picture that nobody looks at


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
    sliding it.

    Raises VidiffError for a model or an output that cannot be used, before anything is made.
    """
    began = time.monotonic()
    prompts = _prompts(settings)
    model = open_model_as(settings)
    setup = resolve_sampling(model, settings)
    if settings.noise not in (None, model.prior.name):
        raise VidiffError(
            f"{model.name} was trained with another noise",
            found=f"--noise {settings.noise}",
            expected=model.prior.name,
            fix="leave it out",
        )
    options = OutputOptions.from_record("sample", settings.output, settings.model_dump(mode="json"))
    total, fps = settings.num_frames or model.frames, Fraction(settings.fps or model.fps)
    height, width = model.height, model.width
    check_amount(total * min(settings.batch_size, len(prompts)), width, height, options.folder)
    windows = _windows(settings, model, total)
    rolling = _rolling(settings, model, total)
    made = max(max(window.frames) for window in windows) + 1  # more than are written, where a model makes groups
    times = [Fraction(frame) / fps for frame in range(made)]
    with _journal(options, model, prompts, times) as journal:
        seed = journal.seed
        yield from announce_model(model, seed, prompts, negative=settings.negative_prompt)
        if settings.strict_prompt:
            _check_words(model, prompts)
        yield from warn_fps(model, fps)
        yield from describe_guidance(setup, windows, rolling)
        paths = output_paths(options, prompts, seed, _details(model, total))
        begun = journal.videos + (settings.batch_size if journal.complete else 0)
        for number, path in enumerate(paths[journal.videos :], journal.videos):
            check_files(path, options, fps, again=number < begun)
        frames_before = journal.sheet_frames()
        rows = [(prompt or "(no prompt)", frames) for prompt, frames in zip(prompts, frames_before, strict=False)]
        for first in range(journal.videos, len(prompts), settings.batch_size):
            batch = slice(first, first + settings.batch_size)
            batch_prompts, again = prompts[batch], journal.complete
            job = VideoJob(
                windows=windows,
                times=times,
                prompts=lambda number, batch_prompts=batch_prompts: batch_prompts,
                seeds=[seed + number for number in range(first, first + len(batch_prompts))],
                rolling=rolling,
            )
            if first == 0:
                shape = z_shape(model.codec, len(batch_prompts), len(windows[0].frames), height, width)
                yield from save_memory(model, setup, shape)
                seconds = estimate_seconds(model, setup, job, shape)
                yield from note_long(seconds * len(prompts) / len(batch_prompts))
            values = latent_shape(model.codec, len(batch_prompts), height, width)
            store = FrameStore(
                journal.frames((len(batch_prompts), height, width, 3)),
                latents=None if values is None else journal.latents(values),
            )
            what = f"videos {first + 1}-{first + len(batch_prompts)}"
            yield from generate(model, setup, job, store, journal=journal, what=what)
            for clip, (path, prompt, own_seed) in enumerate(zip(paths[batch], batch_prompts, job.seeds, strict=True)):
                frames = store.in_order(range(total), clip)
                encode(path, frames, fps, lossless=options.lossless, overwrite=options.overwrite, again=again)
                if options.compare and len(rows) < SHEET_ROWS:
                    rows.append((prompt or "(no prompt)", store.read(evenly_spaced(total, SHEET_FRAMES))[:, clip]))
                if options.sidecar:
                    record = {**options.record, "prompts": [prompt], "count": 1, "prompts_file": None}
                    facts: dict[str, object] = {
                        "prompt": prompt,
                        "frames": total,
                        "fps": str(fps),
                        "condition": setup.condition,
                    }
                    if len(windows) > 1:
                        facts["history_guidance"] = setup.history_guidance
                    write_sidecar(path, "sample", record, model, own_seed, facts)
            journal.next_batch(first + len(batch_prompts), [frames for _, frames in rows])
        report = SampleReport(
            paths=tuple(paths),
            prompts=tuple(prompts),
            seeds=tuple(seed + number for number in range(len(prompts))),
            frames=total,
            fps=fps,
            width=width,
            height=height,
            sheet=_sheet(rows, total, sheet_path(paths[0])) if rows else None,
            seconds=time.monotonic() - began,
        )
        journal.remove()
        return report


@contextmanager
def _journal(
    options: OutputOptions, model: VideoModel, prompts: list[str], times: Sequence[Fraction]
) -> Iterator[WindowJournal]:
    """The journal of finished windows and videos. VidiffError where another process makes the very same files."""
    target = target_path(options, slug(prompts[0]), _details(model, len(times)), options.seed)
    key = journal_key(options.record, model, times, prompts)
    with window_journal(target, key, options.seed, share=options.path is None and options.seed is None) as journal:
        yield journal


def _details(model: VideoModel, total: int) -> str:
    """End of a file's name: number and size of frames."""
    return f"{total}f_{model.width}x{model.height}"


def _sheet(rows: list[tuple[str, np.ndarray]], total: int, path: Path) -> Path:
    from vidiff_cli.viz.contact_sheet import SheetRow, contact_sheet

    numbers = evenly_spaced(total, SHEET_FRAMES)
    return contact_sheet([SheetRow(label=label, frames=frames, numbers=numbers) for label, frames in rows], path)


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
    if total <= window and settings.history_guidance not in (None, 1):
        raise VidiffError(
            "--history-guidance is for videos of several windows, which observe the one before",
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


def output_paths(options: OutputOptions, prompts: list[str], seed: int, details: str) -> list[Path]:
    """One file per video: -o for a single one; for several -o is their folder, or a name that gets the seed added."""
    path = options.path
    if path is not None and len(prompts) == 1:
        return [path]
    if path is not None and path.suffix:
        return [path.with_name(f"{path.stem}_s{seed + number}{path.suffix}") for number in range(len(prompts))]
    names = [f"{slug(prompt)}_s{seed + number}_{details}{options.suffix}" for number, prompt in enumerate(prompts)]
    return [Path(name) if path is None else path / name for name in names]
