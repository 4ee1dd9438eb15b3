"""`vidiff interpolate`: a video at a higher frame rate, by making the frames between."""

from __future__ import annotations

import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from vidiff_cli.config.generate import InterpolateSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.frames import interpolation
from vidiff_cli.tasks import generate as gen
from vidiff_cli.tasks.complete import Completed, Work, choose_place, complete, read_input, size_note
from vidiff_cli.tasks.events import Steps, task
from vidiff_cli.tasks.model import Model
from vidiff_cli.video.decode import Decoded
from vidiff_cli.video.encode import encode
from vidiff_cli.video.probe import VideoInfo, probe

OVERLAP = 2  # a window sees at least the two given frames around a gap


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
    """Brings a video to --fps, or multiplies its rate; given frames at an output time are written as they are.

    Raises VidiffError for an input, a model or an output that cannot be used, before anything is made.
    """
    began = time.monotonic()
    info = probe(settings.input)
    if info.is_image:
        raise VidiffError(f"{settings.input} is a single picture", expected="a video of two frames or more")
    model = gen.open_model(settings)
    if model.settings.frames < 3:
        raise VidiffError("this model's window is too short to interpolate", found=f"{model.settings.frames} frames")
    clip = read_input(info, model)
    if len(clip.frames) < 2:
        raise VidiffError(f"{settings.input} has a single frame", expected="a video of two frames or more")
    factor = settings.slow_motion or settings.factor or (None if settings.fps else 2)
    height, width = clip.frames.shape[1:3]
    wanted = (clip.times[-1] + 1 / clip.fps) * (settings.fps or clip.fps * (factor or 1))
    gen.check_amount(len(clip.frames) + int(wanted), width, height)
    timeline = interpolation(
        len(clip.frames),
        clip.fps,
        times=clip.times if _varies(clip) else None,
        factor=factor,
        fps=settings.fps,
        hold=settings.hold,
    )
    rate = clip.fps if settings.slow_motion else timeline.fps
    with choose_place(settings, model, f"{float(rate):g}fps", clip, timeline, rate) as place:
        yield from gen.introduce(model, settings, place.seed, [settings.prompt or ""])
        yield from gen.rate_note(model, timeline.fps)
        yield from size_note(info, clip)
        overlap = min(OVERLAP, model.settings.frames - 1)
        work = Work(place=place, timeline=timeline, overlap=overlap, prompt=lambda number: settings.prompt or "")
        done = yield from complete(model, settings, clip, work)
        report = _write(settings, model, info, clip, work, done, rate, began)
        place.journal.remove()
        return report


def _write(
    settings: InterpolateSettings,
    model: Model,
    info: VideoInfo,
    clip: Decoded,
    work: Work,
    done: Completed,
    rate: Fraction,
    began: float,
) -> InterpolateReport:
    timeline = work.timeline
    pixels = done.pixels[list(timeline.written)]
    encode(
        work.place.path,
        pixels,
        rate,
        lossless=settings.lossless,
        audio_from=settings.input if info.has_audio and not settings.slow_motion else None,
        overwrite=settings.overwrite,
        again=work.place.again,
    )
    written, marks = set(timeline.written), [n for n, rank in enumerate(timeline.written) if rank in timeline.given]
    report = InterpolateReport(
        path=work.place.path,
        frames=len(pixels),
        given=len(written & set(timeline.given)),
        made=len(written - set(timeline.given)),
        held=len(pixels) - len(written),
        fps=rate,
        width=pixels.shape[2],
        height=pixels.shape[1],
        seed=work.place.seed,
        condition=done.condition,
        windows=len(done.windows),
        sheet=gen.compare_sheet(work.place.path, clip.frames, pixels, marks) if settings.compare else None,
        seconds=time.monotonic() - began,
    )
    if settings.sidecar:
        facts = {"frames": report.frames, "made": report.made, "fps": str(rate), "condition": report.condition}
        gen.write_sidecar(work.place.path, "interpolate", settings, model, work.place.seed, facts)
    return report


def _varies(clip: Decoded) -> bool:
    """Whether the frames are off a steady grid by more than a container's rounding."""
    return any(abs(time - number / clip.fps) > Fraction(1, 1000) for number, time in enumerate(clip.times))
