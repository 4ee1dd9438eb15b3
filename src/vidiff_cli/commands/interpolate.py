"""`vidiff interpolate`: a video at a higher frame rate, by making the frames between; or two joined."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from vidiff_cli.checkpoint import file_hash
from vidiff_cli.config.generate import InterpolateSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import EventStream, task
from vidiff_cli.generation import generate as gen
from vidiff_cli.generation.completion import (
    CompletedVideo,
    CompletionPlan,
    OutputTarget,
    WindowPlanReport,
    complete,
    describe_plan,
    open_output,
    output_size,
    photo_fps,
    plan_completion,
    plot_plan,
)
from vidiff_cli.generation.load_model import LoadedModel
from vidiff_cli.generation.output import SoundSource, verify_lossless, write_comparison, write_video
from vidiff_cli.generation.source_clip import SourceClip, cover, read_clip, working_size
from vidiff_cli.timeline import interpolation, join
from vidiff_cli.video.probe import VideoInfo, probe

WINDOW = 16  # frames, where no model has one of its own
OVERLAP = 2  # a window sees at least the two given frames around a gap


@dataclass(frozen=True, kw_only=True, slots=True)
class InterpolateReport:
    """The video written: `frames` at `fps`, of which `given` are the input's, `made` are new and `held` repeat another:
    the last one, or one before a scene cut or a repeated frame.

    `given_difference`: how far the given frames in a lossless file are from the input's, in 8-bit levels.
    """

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
    given_difference: int | None
    sheet: Path | None
    seconds: float


@task
def interpolate(
    settings: InterpolateSettings, *, opened: LoadedModel | None = None
) -> EventStream[InterpolateReport | WindowPlanReport]:
    """Brings a video to --fps, or multiplies its rate; given frames at an output time are written as they are. With
    --to, makes the frames between two videos or photos.

    `opened`: the model of the settings, where the caller has it.
    Raises VidiffError for an input, a model or an output that cannot be used, before anything is made.
    """
    began = time.monotonic()
    info = probe(settings.input)
    other = None if settings.to is None else probe(settings.to)
    if info.is_image and other is None:
        fix = "give a second one with --to, or use vidiff extend"
        raise VidiffError(f"{settings.input} is a single picture", expected="a video of two frames or more", fix=fix)
    if settings.fps is not None and other is not None and not info.is_image:
        fix = "--fps is for photos"
        raise VidiffError(f"{settings.input} keeps its own rate", found=f"--fps {settings.fps}", fix=fix)
    model = opened or gen.open_completing_model(settings)
    if model is not None and model.settings.frames < 3:
        raise VidiffError("this model's window is too short to interpolate", found=f"{model.settings.frames} frames")
    clip, work = _joined(settings, model, info, other) if other is not None else _faster(settings, model, info)
    yield from describe_plan(settings, clip, work)
    if settings.dry_run:
        return (yield from plot_plan(settings, clip, work))
    with open_output(settings, model, clip, work) as place:
        if model is None:
            yield from gen.introduce_estimate(settings, len(clip))
        else:
            yield from gen.announce_model(model, settings, place.seed, [settings.prompt or ""])
            yield from gen.warn_fps(model, work.timeline.fps)
        done = yield from complete(model, settings, clip, work, place)
        report = yield from _write(settings, model, clip, work, place, done, began)
        place.journal.remove()
        return report


def _faster(
    settings: InterpolateSettings, model: LoadedModel | None, info: VideoInfo
) -> tuple[SourceClip, CompletionPlan]:
    """One video, and the frames that it lacks at another rate."""
    factor = settings.slow_motion or settings.factor or (None if settings.fps else 2)
    scaled, crop = working_size(info, model, settings)
    announced = (info.duration_seconds or 0) * float(settings.fps or info.fps * (factor or 1))
    gen.check_amount(int(announced), *crop, gen.output_folder(settings))
    clip = read_clip(info, gen.output_folder(settings), scaled, crop)
    if len(clip) < 2:
        fix = "vidiff extend goes on from a single frame"
        raise VidiffError(f"{settings.input} has a single frame", expected="a video of two frames or more", fix=fix)
    wanted = (clip.times[-1] + 1 / clip.fps) * (settings.fps or clip.fps * (factor or 1))
    gen.check_amount(len(clip) + int(wanted), *crop, gen.output_folder(settings))
    timeline = interpolation(
        len(clip),
        clip.fps,
        times=clip.times if _varies(clip.times, clip.fps) else None,
        factor=factor,
        fps=settings.fps,
        hold=settings.hold,
    )
    rate = clip.fps if settings.slow_motion else timeline.fps
    what, overlap = f"{float(rate):g}fps", OVERLAP if model is None else min(OVERLAP, model.settings.frames - 1)
    return clip, plan_completion(
        settings,
        model,
        clip,
        timeline,
        overlap=overlap,
        what=what,
        prompt=lambda number: settings.prompt or "",
        rate=rate,
    )


def _joined(
    settings: InterpolateSettings, model: LoadedModel | None, info: VideoInfo, other: VideoInfo
) -> tuple[SourceClip, CompletionPlan]:
    """Two inputs and the frames between them, at the rate and the size of the first."""
    folder, (scaled, crop) = gen.output_folder(settings), working_size(info, model, settings)
    first = read_clip(info, folder, scaled, crop, fps=None if info.is_image else info.fps)
    fps = (
        Fraction(settings.fps or (other.fps if not other.is_image else photo_fps(model)))
        if info.is_image
        else first.fps
    )
    steady = None if other.is_image else fps
    clip = read_clip(other, folder, cover(other, crop), crop, fps=steady, after=first)
    window = WINDOW if model is None else model.settings.frames
    gap, overlap = settings.gap or max(1, window // 2), window // 2
    gen.check_amount(len(clip) + gap, crop[0], crop[1], folder)
    timeline = join(len(first), len(clip) - len(first), fps, gap=gap)
    prompt = settings.prompt or ""
    return clip, plan_completion(
        settings, model, clip, timeline, overlap=overlap, what="joined", prompt=lambda number: prompt
    )


def _write(
    settings: InterpolateSettings,
    model: LoadedModel | None,
    clip: SourceClip,
    work: CompletionPlan,
    place: OutputTarget,
    done: CompletedVideo,
    began: float,
) -> EventStream[InterpolateReport]:
    line = work.timeline
    after = None
    if settings.to is not None:
        shown = line.times[next(rank for rank, number in line.given.items() if number == clip.parts[0].count)]
        after = settings.to, shown
    sound = SoundSource(speed=Fraction(1, settings.slow_motion or 1), stop=not settings.hold, after=after)
    done = yield from write_video(settings, clip, work, place, done, sound)
    given = set(line.written) & set(line.given)
    made = set(line.written) - set(line.given) - set(line.repeats)
    height, width = output_size(settings, clip)
    report = InterpolateReport(
        path=place.path,
        frames=len(line.written),
        given=len(given),
        made=len(made),
        held=len(line.written) - len(given) - len(made),
        fps=work.rate,
        width=width,
        height=height,
        seed=place.seed,
        condition=done.condition,
        windows=len(done.windows),
        given_difference=verify_lossless(settings, clip, work, place.path),
        sheet=write_comparison(settings, clip, work, done, place),
        seconds=time.monotonic() - began,
    )
    if settings.sidecar:
        facts = {"frames": report.frames, "made": report.made, "fps": str(work.rate), "condition": report.condition}
        facts["input_sha256"] = file_hash(settings.input)
        gen.write_sidecar(place.path, "interpolate", settings, model, place.seed, facts)
    return report


def _varies(times: Sequence[Fraction], fps: Fraction) -> bool:
    """Whether frames are off a steady grid by more than a container's rounding."""
    return any(abs(time - number / fps) > Fraction(1, 1000) for number, time in enumerate(times))
