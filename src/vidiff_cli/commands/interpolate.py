"""`vidiff interpolate`: a video at a higher frame rate, by making the frames between; or two joined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from vidiff_cli.config.generate import InterpolateSettings, parse_at
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import Event, EventStream, Note, task
from vidiff_cli.generation.budget import check_amount
from vidiff_cli.generation.complete_video import CompletionReport, complete_video
from vidiff_cli.generation.completion import (
    CompletionPlan,
    WindowPlanReport,
    photo_fps,
    plan_completion,
)
from vidiff_cli.generation.completion_models import CompletionModels, open_completion_models
from vidiff_cli.generation.frames_stage import frames_setup
from vidiff_cli.generation.open_input import open_input
from vidiff_cli.generation.output import SoundTrack
from vidiff_cli.generation.output_files import OutputOptions, slug
from vidiff_cli.generation.placed_pictures import PicturePlace, place_pictures
from vidiff_cli.generation.sampling_setup import resolve_sampling
from vidiff_cli.generation.source_clip import SourceClip, cover, read_clip, working_size
from vidiff_cli.generation.upscale_budget import check_memory
from vidiff_cli.models.families import VideoModel
from vidiff_cli.models.unet_model import UNetModel
from vidiff_cli.timeline import Timeline, better_rate, interpolation, join, leaves_out_most
from vidiff_cli.video.probe import VideoInfo

WINDOW = 16  # frames, where no model has one of its own
OVERLAP = 2  # a window sees at least the two given frames around a gap


@task
def interpolate(
    settings: InterpolateSettings, *, opened: CompletionModels | None = None
) -> EventStream[CompletionReport | WindowPlanReport]:
    """Bring a video to --fps, or multiply its rate; given frames at an output time are written as they are. With
    --to, make the frames between two videos or photos.

    `opened`: the models of the settings, where the caller has them.
    Raises VidiffError for an input, a model or an output that cannot be used, before anything is made.
    """
    info = open_input(settings.input, settings.reading)
    other = None if settings.to is None else open_input(settings.to, settings.reading)
    if info.is_image and other is None:
        fix = "give a second one with --to, or use vidiff extend"
        raise VidiffError(f"{settings.input} is a single picture", expected="a video of two frames or more", fix=fix)
    if settings.fps is not None and other is not None and not info.is_image:
        fix = "--fps is for photos"
        raise VidiffError(f"{settings.input} keeps its own rate", found=f"--fps {settings.fps}", fix=fix)
    models = opened or open_completion_models(settings, ("video", "frames"))
    model = models.model
    setup = None if model is None else resolve_sampling(model, settings, completes="between")
    if model is not None and model.frames < 3:
        raise VidiffError("this model's window is too short to interpolate", found=f"{model.frames} frames")
    if isinstance(model, UNetModel) and model.only_between:
        width, height = working_size(info, model, settings.size)[1]
        fix = "choose a smaller --size, or --detail estimate"
        check_memory(frames_setup(model), model.frames, height, width, fix=fix)
    options = OutputOptions.from_record("interpolate", settings.output, settings.model_dump(mode="json"))
    plan = _plan(settings, models, info, other, options.folder)
    yield from _warn_left_out(plan)
    sound = _sound(settings, plan) if settings.audio else None
    return (yield from complete_video(models, setup, plan, options, settings, sound=sound, seams=False))


def _plan(
    settings: InterpolateSettings, models: CompletionModels, info: VideoInfo, other: VideoInfo | None, folder: Path
) -> CompletionPlan:
    """Read the inputs and plan the frames between."""
    if other is not None:
        clip, timeline, overlap = _join(settings, models.model, info, other, folder)
    else:
        clip, timeline, overlap = _multiply_rate(settings, models.model, info, folder)
    rate = clip.fps if settings.slow_motion else timeline.fps
    clip, timeline = place_pictures(
        clip, timeline, [PicturePlace(*parse_at(each)) for each in settings.at], rate=rate, folder=folder
    )
    return plan_completion(
        models,
        clip,
        timeline,
        settings,
        overlap=overlap,
        prompts=(settings.prompt or "",),
        rate=rate,
        name=f"{slug(settings.input.stem)}-{f'{float(rate):g}fps' if other is None else 'joined'}",
    )


def _multiply_rate(
    settings: InterpolateSettings, model: VideoModel | None, info: VideoInfo, folder: Path
) -> tuple[SourceClip, Timeline, int]:
    """One video, its timeline at another rate, and the overlap of windows."""
    factor = settings.slow_motion or settings.factor or (None if settings.fps else 2)
    scaled, crop = working_size(info, model, settings.size)
    expected = (info.duration_seconds or 0) * float(settings.fps or info.fps * (factor or 1))
    check_amount(int(expected), *crop, folder)
    clip = read_clip(info, folder, scaled, crop)
    if len(clip) < 2:
        fix = "vidiff extend goes on from a single frame"
        raise VidiffError(f"{settings.input} has a single frame", expected="a video of two frames or more", fix=fix)
    stay = _last_stay(clip)
    check_amount(len(clip) + int((clip.times[-1] + stay) * (settings.fps or clip.fps * (factor or 1))), *crop, folder)
    timeline = interpolation(
        len(clip),
        clip.fps,
        times=_own_times(clip),
        factor=factor,
        fps=settings.fps,
        hold=settings.hold,
        last_seconds=stay,
    )
    return clip, timeline, OVERLAP if model is None else min(OVERLAP, model.frames - 1)


def _last_stay(clip: SourceClip) -> Fraction:
    """Seconds that the last frame is shown: as in its file, but for what a container's rounding makes of a frame."""
    frame = 1 / clip.fps
    stay = clip.last_seconds or frame
    return frame if abs(stay - frame) < frame / 10 else stay


def _join(
    settings: InterpolateSettings, model: VideoModel | None, info: VideoInfo, other: VideoInfo, folder: Path
) -> tuple[SourceClip, Timeline, int]:
    """Two inputs, the timeline with frames between them at the rate and the size of the first, and the overlap."""
    scaled, crop = working_size(info, model, settings.size)
    first = read_clip(info, folder, scaled, crop, fps=None if info.is_image else info.fps)
    photos = settings.fps or (photo_fps(model) if other.is_image else other.fps)
    fps = Fraction(photos) if info.is_image else first.fps
    clip = read_clip(other, folder, cover(other, crop), crop, fps=None if other.is_image else fps, after=first)
    window = WINDOW if model is None else model.frames
    gap = settings.gap or max(1, window // 2)
    check_amount(len(clip) + gap, crop[0], crop[1], folder)
    return clip, join(len(first), len(clip) - len(first), fps, gap=gap), window // 2


def _sound(settings: InterpolateSettings, plan: CompletionPlan) -> SoundTrack:
    line, after = plan.timeline, None
    if settings.to is not None and settings.to.is_file():
        first = plan.clip.number_of(plan.clip.parts[0].count)
        after = settings.to, line.times[next(rank for rank, number in line.given.items() if number == first)]
    return SoundTrack(speed=Fraction(1, settings.slow_motion or 1), stop=not settings.hold, after=after)


def _own_times(clip: SourceClip) -> Sequence[Fraction] | None:
    """The times of frames that are off a steady grid by more than a container's rounding; None: they keep their
    rate."""
    varies = any(abs(time - number / clip.fps) > Fraction(1, 1000) for number, time in enumerate(clip.times))
    return clip.times if varies else None


def _warn_left_out(plan: CompletionPlan) -> Iterator[Event]:
    """Warn where a rate leaves most given frames out of the result, and name one that keeps them."""
    line, clip = plan.timeline, plan.clip
    count, kept = len(line.given), len({*line.written} & {*line.given})
    if len(clip.parts) > 1 or not leaves_out_most(kept, count, len(line.written)):
        return
    rate = better_rate(len(clip.times), clip.fps, line.fps, times=_own_times(clip))
    fix = "" if rate is None else f"; --fps {rate} keeps them in step"
    text = f"{count - kept} of {count} given frames fall between the frames of {_rate(line.fps)} and are left out{fix}."
    yield Note(text, "warning")


def _rate(fps: Fraction) -> str:
    return f"{fps} fps" if fps.denominator == 1 else f"{float(fps):.3f} fps"
