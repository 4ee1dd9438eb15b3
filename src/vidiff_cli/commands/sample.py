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
from vidiff_cli.generation import generate as gen
from vidiff_cli.generation.frame_store import FrameStore
from vidiff_cli.generation.load_model import LoadedModel
from vidiff_cli.generation.resume_journal import WindowJournal, window_journal
from vidiff_cli.text.prompts_file import read_prompts
from vidiff_cli.video.encode import encode

MOST_VIDEOS = 100_000  # of one call
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
    """Makes videos: `count` of each prompt, video i with seed + i. More frames than the model's window are made by
    sliding it.

    Raises VidiffError for a model or an output that cannot be used, before anything is made.
    """
    began = time.monotonic()
    prompts = _prompts(settings)
    if len(prompts) * settings.count > MOST_VIDEOS:
        found = f"{len(prompts):,} prompts, {settings.count:,} videos of each"
        raise VidiffError("that is too much to make at once", found=found, expected=f"at most {MOST_VIDEOS:,} videos")
    prompts = [prompt for prompt in prompts for _ in range(settings.count)]
    model = gen.open_model(settings)
    if settings.noise not in (None, model.settings.diffusion.noise):
        raise VidiffError(
            f"{model.name} was trained with another noise",
            found=f"--noise {settings.noise}",
            expected=model.settings.diffusion.noise,
            fix="leave it out",
        )
    total, fps = settings.num_frames or model.settings.frames, Fraction(settings.fps or model.fps)
    height, width, folder = model.settings.height, model.settings.width, gen.output_folder(settings)
    gen.check_amount(total * min(settings.batch_size, len(prompts)), width, height, folder)
    windows, condition = _windows(settings, model, total), gen.choose_condition(settings, model)
    times = [Fraction(frame) / fps for frame in range(total)]
    with _journal(settings, model, prompts, times) as journal:
        seed = journal.seed
        yield from gen.announce_model(model, settings, seed, prompts)
        if settings.strict_prompt:
            _check_words(model, prompts)
        yield from gen.warn_fps(model, fps)
        paths = _paths(settings, prompts, seed, total, model)
        begun = journal.videos + (settings.batch_size if journal.complete else 0)
        for number, path in enumerate(paths[journal.videos :], journal.videos):
            gen.check_files(path, settings, fps, again=number < begun)
        frames_before = journal.sheet_frames()
        rows = [(prompt or "(no prompt)", frames) for prompt, frames in zip(prompts, frames_before, strict=False)]
        for first in range(journal.videos, len(prompts), settings.batch_size):
            batch = slice(first, first + settings.batch_size)
            some, again = prompts[batch], journal.complete
            job = gen.VideoJob(
                windows=windows,
                times=times,
                prompts=lambda number, some=some: some,
                seeds=[seed + number for number in range(first, first + len(some))],
            )
            if first == 0:
                shape = (len(some), model.settings.network.channels, min(total, model.settings.frames), height, width)
                yield from gen.save_memory(model, settings, shape, condition)
                seconds = gen.estimate_seconds(model, settings, job, shape, condition)
                yield from gen.long_note(seconds * len(prompts) / len(some))
            what, reel = (
                f"videos {first + 1}-{first + len(some)}",
                FrameStore(journal.frames((len(some), height, width, 3))),
            )
            yield from gen.generate(model, settings, job, reel, condition=condition, journal=journal, what=what)
            for clip, (path, prompt, own) in enumerate(zip(paths[batch], some, job.seeds, strict=True)):
                frames = reel.in_order(range(total), clip)
                encode(path, frames, fps, lossless=settings.lossless, overwrite=settings.overwrite, again=again)
                if settings.compare and len(rows) < SHEET_ROWS:
                    rows.append((prompt or "(no prompt)", reel.read(evenly_spaced(total, SHEET_FRAMES))[:, clip]))
                if settings.sidecar:
                    alone = settings.model_copy(update={"prompts": (prompt,), "count": 1, "prompts_file": None})
                    facts = {"prompt": prompt, "frames": total, "fps": str(fps), "condition": condition}
                    gen.write_sidecar(path, "sample", alone, model, own, facts)
            journal.next_batch(first + len(some), [frames for _, frames in rows])
        report = SampleReport(
            paths=tuple(paths),
            prompts=tuple(prompts),
            seeds=tuple(seed + number for number in range(len(prompts))),
            frames=total,
            fps=fps,
            width=width,
            height=height,
            sheet=_sheet(rows, total, gen.sheet_path(paths[0])) if rows else None,
            seconds=time.monotonic() - began,
        )
        journal.remove()
        return report


@contextmanager
def _journal(
    settings: SampleSettings, model: LoadedModel, prompts: list[str], times: Sequence[Fraction]
) -> Iterator[WindowJournal]:
    """What keeps finished windows and videos. VidiffError where another process makes the very same files."""
    suffix, own = ".mkv" if settings.lossless else ".mp4", "" if settings.seed is None else f"_s{settings.seed}"
    size = f"{len(times)}f_{model.settings.width}x{model.settings.height}"
    target = settings.output or Path(f"{gen.slug(prompts[0])}{own}_{size}{suffix}")
    key = gen.journal_key(settings, model, times, prompts)
    with window_journal(target, key, settings.seed, share=settings.output is None and settings.seed is None) as journal:
        yield journal


def _sheet(rows: list[tuple[str, np.ndarray]], total: int, path: Path) -> Path:
    from vidiff_cli.viz.contact_sheet import SheetRow, contact_sheet

    numbers = evenly_spaced(total, SHEET_FRAMES)
    return contact_sheet([SheetRow(label=label, frames=frames, numbers=numbers) for label, frames in rows], path)


def _prompts(settings: SampleSettings) -> list[str]:
    """The prompts given and those of the file; without any, one empty prompt."""
    found = read_prompts(settings.prompts_file) if settings.prompts_file is not None else []
    return [*settings.prompts, *found] or [""]


def _check_words(model: LoadedModel, prompts: list[str]) -> None:
    """VidiffError for words that the model has never seen: for one without captions, all of them."""
    fix = "leave out --strict-prompt"
    if model.video_model.text is None and any(prompts):
        raise VidiffError("the model was trained without captions", found="a prompt", fix=fix)
    if unknown := [word for prompt in prompts for word in model.unknown_words(prompt)]:
        raise VidiffError("the model has never seen some words", found=", ".join(dict.fromkeys(unknown)), fix=fix)


def _windows(settings: SampleSettings, model: LoadedModel, total: int) -> list[Window]:
    window = model.settings.frames
    if window == 1 and total > 1:
        raise VidiffError("this model makes single pictures", found=f"{total} frames asked for", fix="train on videos")
    return plan(total, (), window=window, overlap=gen.choose_overlap(settings.overlap, window))


def _paths(settings: SampleSettings, prompts: list[str], seed: int, total: int, model: LoadedModel) -> list[Path]:
    """One file per video: -o for a single one; for several -o is their folder, or a name that gets the seed added."""
    output, suffix = settings.output, ".mkv" if settings.lossless else ".mp4"
    if output is not None and len(prompts) == 1:
        return [output]
    size = f"{total}f_{model.settings.width}x{model.settings.height}"
    names = [f"{gen.slug(prompt)}_s{seed + number}_{size}{suffix}" for number, prompt in enumerate(prompts)]
    if output is None:
        return [Path(name) for name in names]
    if output.suffix:
        return [output.with_name(f"{output.stem}_s{seed + number}{output.suffix}") for number in range(len(prompts))]
    return [output / name for name in names]
