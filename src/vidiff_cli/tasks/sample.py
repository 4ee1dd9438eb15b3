"""`vidiff sample`: videos from prompts."""

from __future__ import annotations

import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from vidiff_cli.config.generate import SampleSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.frames import Window, plan
from vidiff_cli.tasks import generate as gen
from vidiff_cli.tasks.events import Steps, task
from vidiff_cli.tasks.model import Model
from vidiff_cli.video.encode import encode

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
def sample(settings: SampleSettings) -> Steps[SampleReport]:
    """Makes videos: `count` of each prompt, video i with seed + i. More frames than the model's window are made by
    sliding it.

    Raises VidiffError for a model or an output that cannot be used, before anything is made.
    """
    began = time.monotonic()
    prompts = [prompt for prompt in read_prompts(settings) for _ in range(settings.count)]
    model = gen.open_model(settings)
    seed = gen.fresh_seed(settings.seed)
    yield from gen.introduce(model, settings, seed, prompts)
    if settings.strict_prompt:
        _check_words(model, prompts)
    total, fps = settings.num_frames or model.settings.frames, settings.fps or model.fps
    windows, condition = _windows(settings, model, total), gen.choose_condition(settings, model)
    yield from gen.rate_note(model, fps)
    paths = [gen.check_files(path, settings, fps) for path in _paths(settings, prompts, seed, total, model)]
    rows: list[tuple[str, np.ndarray]] = []
    for first in range(0, len(prompts), settings.batch_size):
        batch = slice(first, first + settings.batch_size)
        some = prompts[batch]
        job = gen.Job(
            windows=windows,
            times=[Fraction(frame) / fps for frame in range(total)],
            prompts=lambda number, some=some: some,
            seeds=[seed + number for number in range(first, first + len(some))],
        )
        shape = (len(some), model.settings.network.channels, total, model.settings.height, model.settings.width)
        if first == 0:
            window = (*shape[:2], min(total, model.settings.frames), *shape[3:])
            seconds = gen.estimate_seconds(model, settings, job, window, condition)
            yield from gen.long_note(seconds * len(prompts) / len(some))
        video = yield from gen.run(
            gen.generate(
                model,
                settings,
                job,
                torch.zeros(shape),
                condition=condition,
                what=f"videos {first + 1}-{first + len(some)}",
            )
        )
        for clip, path, prompt, own in zip(video, paths[batch], some, job.seeds, strict=True):
            frames = gen.as_frames(clip)
            encode(path, frames, fps, lossless=settings.lossless, overwrite=settings.overwrite)
            if settings.compare and len(rows) < SHEET_ROWS:
                rows.append((prompt or "(no prompt)", frames))
            if settings.sidecar:
                alone = settings.model_copy(update={"prompts": (prompt,), "count": 1, "prompts_file": None})
                facts = {"prompt": prompt, "frames": total, "fps": str(fps), "condition": condition}
                gen.write_sidecar(path, "sample", alone, model, own, facts)
    return SampleReport(
        paths=tuple(paths),
        prompts=tuple(prompts),
        seeds=tuple(seed + number for number in range(len(prompts))),
        frames=total,
        fps=Fraction(fps),
        width=model.settings.width,
        height=model.settings.height,
        sheet=_sheet(rows, gen.sheet_of(paths[0])) if rows else None,
        seconds=time.monotonic() - began,
    )


def _sheet(rows: list[tuple[str, np.ndarray]], path: Path) -> Path:
    from vidiff_cli.viewing.sheet import Row, contact_sheet

    return contact_sheet([Row(label=label, frames=frames) for label, frames in rows], path)


def read_prompts(settings: SampleSettings) -> list[str]:
    """The prompts given and those of the file, one a line; without any, one empty prompt."""
    prompts = list(settings.prompts)
    if settings.prompts_file is not None:
        try:
            lines = settings.prompts_file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise VidiffError(f"cannot read the prompts in {settings.prompts_file}", found=str(error)) from error
        prompts += [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        if not prompts:
            raise VidiffError(f"{settings.prompts_file} has no prompt", expected="one a line")
    return prompts or [""]


def _check_words(model: Model, prompts: list[str]) -> None:
    """VidiffError for words that the model has never seen: for one without captions, all of them."""
    fix = "leave out --strict-prompt"
    if model.learner.text is None and any(prompts):
        raise VidiffError("the model was trained without captions", found="a prompt", fix=fix)
    if unknown := [word for prompt in prompts for word in model.unknown_words(prompt)]:
        raise VidiffError("the model has never seen some words", found=", ".join(dict.fromkeys(unknown)), fix=fix)


def _windows(settings: SampleSettings, model: Model, total: int) -> list[Window]:
    window = model.settings.frames
    if window == 1 and total > 1:
        raise VidiffError("this model makes single pictures", found=f"{total} frames asked for", fix="train on videos")
    return plan(total, (), window=window, overlap=gen.overlap_of(settings.overlap, window))


def _paths(settings: SampleSettings, prompts: list[str], seed: int, total: int, model: Model) -> list[Path]:
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
