"""`vidiff interpolate`: a video at a higher frame rate, by making the frames between."""

from __future__ import annotations

import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch

from vidiff_cli.config.generate import InterpolateSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.frames import interpolation, plan
from vidiff_cli.tasks import generate as gen
from vidiff_cli.tasks.events import Note, Steps, task
from vidiff_cli.video.decode import decode
from vidiff_cli.video.encode import encode
from vidiff_cli.video.probe import probe


@dataclass(frozen=True, kw_only=True, slots=True)
class InterpolateReport:
    """The video written: `frames` at `fps`, of which `given` are the input's, `made` are new and `held` repeat the
    last."""

    path: Path
    frames: int
    given: int
    made: int
    held: int
    fps: Fraction
    width: int
    height: int
    seed: int
    condition: str
    windows: int
    sheet: Path | None
    seconds: float


@task
def interpolate(settings: InterpolateSettings) -> Steps[InterpolateReport]:
    """Brings a video to --fps, or multiplies its rate; given frames that fall on an output time are written as they
    are.

    Raises VidiffError for an input, a model or an output that cannot be used, before anything is made.
    """
    began = time.monotonic()
    info = probe(settings.input)
    if info.is_image:
        raise VidiffError(f"{settings.input} is a single picture", expected="a video of two frames or more")
    if settings.output is not None:
        gen.check_output(settings.output, overwrite=settings.overwrite, lossless=settings.lossless)
    model = gen.open_model(settings)
    window = model.settings.frames
    if window < 3:
        raise VidiffError(
            "this model's window is too short to interpolate", found=f"{window} frames", expected="3 or more"
        )
    scaled, crop = gen.network_size(info.width, info.height, model)
    clip = decode(settings.input, size=scaled, crop=crop)
    if len(clip.frames) < 2:
        raise VidiffError(f"{settings.input} has a single frame", expected="a video of two frames or more")
    factor = settings.slow_motion or settings.factor or (None if settings.fps else 2)
    timeline = interpolation(
        len(clip.frames),
        clip.fps,
        times=clip.times if _varies(clip.times, clip.fps) else None,
        factor=factor,
        fps=settings.fps,
        hold=settings.hold,
    )
    rate = clip.fps if settings.slow_motion else timeline.fps
    path = settings.output or Path(
        f"{gen.slug(settings.input.stem)}_{float(rate):g}fps_{len(timeline.written)}f_{crop[0]}x{crop[1]}"
        f"{'.mkv' if settings.lossless else '.mp4'}"
    )
    gen.check_output(path, overwrite=settings.overwrite, lossless=settings.lossless)
    journal = path.with_name(f".{path.name}.partial")
    seed = gen.fresh_seed(settings.seed, journal)
    yield from gen.introduce(model, settings, seed, [settings.prompt or ""])
    yield from gen.rate_note(model, timeline.fps)
    if crop != (info.width, info.height):
        yield Note(f"Working at {crop[0]}x{crop[1]}, the model's size (the input is {info.width}x{info.height}).")
    total, given = len(timeline.times), sorted(timeline.given)
    windows = plan(total, given, window=window, overlap=min(2, window - 1))
    condition = gen.choose_condition(settings, model)
    job = gen.Job(windows=windows, times=timeline.times, prompts=lambda number: [settings.prompt or ""], seeds=[seed])
    frames = torch.zeros(1, model.settings.network.channels, total, crop[1], crop[0])
    frames[:, :, given] = gen.as_video(clip.frames[[timeline.given[rank] for rank in given]])
    if windows:
        shape = (1, frames.shape[1], min(window, total), crop[1], crop[0])
        yield from gen.long_note(gen.estimate_seconds(model, settings, job, shape, condition))
    video = yield from gen.run(gen.generate(model, settings, job, frames, condition=condition, journal=journal))
    pixels = gen.as_frames(video[0])
    pixels[given] = clip.frames[[timeline.given[rank] for rank in given]]
    encode(
        path,
        pixels[list(timeline.written)],
        rate,
        lossless=settings.lossless,
        audio_from=settings.input if info.has_audio and not settings.slow_motion else None,
        overwrite=settings.overwrite,
    )
    journal.unlink(missing_ok=True)
    written = set(timeline.written)
    report = InterpolateReport(
        path=path,
        frames=len(timeline.written),
        given=len(written & set(given)),
        made=len(written - set(given)),
        held=len(timeline.written) - len(written),
        fps=rate,
        width=crop[0],
        height=crop[1],
        seed=seed,
        condition=condition,
        windows=len(windows),
        sheet=None,
        seconds=time.monotonic() - began,
    )
    if settings.sidecar:
        facts = {"frames": report.frames, "made": report.made, "fps": str(rate), "condition": condition}
        gen.write_sidecar(path, "interpolate", settings, model, seed, facts)
    if settings.compare:
        from dataclasses import replace

        from vidiff_cli.viewing.sheet import Row, contact_sheet

        sheet = path.with_name(path.stem + "_sheet.png")
        marks = [place for place, rank in enumerate(timeline.written) if rank in timeline.given]
        rows = [
            Row(label="given", frames=clip.frames),
            Row(label="interpolated", frames=pixels[list(timeline.written)], given=marks),
        ]
        contact_sheet(rows, sheet)
        report = replace(report, sheet=sheet)
    return report


def _varies(times: tuple[Fraction, ...], fps: Fraction) -> bool:
    """Whether the frames are off a steady grid by more than a container's rounding."""
    return any(abs(time - number / fps) > Fraction(1, 1000) for number, time in enumerate(times))
