"""`vidiff extend`: more of a video, after its end or before its beginning, or back to it; or a video from a photo."""

from __future__ import annotations

from pathlib import Path

from vidiff_cli.config.generate import ExtendSettings, parse_at
from vidiff_cli.errors import UsageError, VidiffError
from vidiff_cli.events import EventStream, task
from vidiff_cli.generation.budget import check_amount
from vidiff_cli.generation.complete_video import CompletionReport, complete_video
from vidiff_cli.generation.completion import (
    CompletionPlan,
    WindowPlanReport,
    photo_fps,
    plan_completion,
)
from vidiff_cli.generation.completion_models import CompletionModels, open_completion_models
from vidiff_cli.generation.open_input import open_input
from vidiff_cli.generation.output import SoundTrack
from vidiff_cli.generation.output_files import OutputOptions, slug
from vidiff_cli.generation.placed_pictures import PicturePlace, place_pictures
from vidiff_cli.generation.sampling_setup import resolve_sampling
from vidiff_cli.generation.seams import PAST
from vidiff_cli.generation.source_clip import read_clip, working_size
from vidiff_cli.generation.video_job import choose_overlap
from vidiff_cli.luma import to_gray, to_rgb
from vidiff_cli.models.codec import is_gray
from vidiff_cli.sampling.color_anchor import match_color_statistics
from vidiff_cli.timeline import extension, loop
from vidiff_cli.video.probe import VideoInfo

DEFAULT_SECONDS = 2.0
ANCHORS = 16  # given frames that --drift-control first holds to


@task
def extend(
    settings: ExtendSettings, *, opened: CompletionModels | None = None
) -> EventStream[CompletionReport | WindowPlanReport]:
    """Extend a video by --seconds or --num-frames; its own frames stay as they are.

    `opened`: the models of the settings, where the caller has them.
    Raises VidiffError for an input, a model or an output that cannot be used, before anything is made.
    """
    if settings.seconds is not None and settings.num_frames is not None:
        raise UsageError("give only one of --seconds and --num-frames")
    info = open_input(settings.input, settings.reading, fps=settings.fps)
    if settings.fps is not None and not (info.is_image or info.pictures):
        fix = "--fps is for photos and folders of frames"
        raise VidiffError(f"{settings.input} keeps its own rate", found=f"--fps {settings.fps}", fix=fix)
    models = opened or open_completion_models(settings)
    model = models.model
    setup = None if model is None else resolve_sampling(model, settings, completes="beyond")
    if model is not None and model.frames == 1:
        raise VidiffError("this model makes single pictures", fix="train on videos to extend one")
    options = OutputOptions.from_record("extend", settings.output, settings.model_dump(mode="json"))
    plan = _plan(settings, models, info, options.folder)
    line, first = plan.timeline, plan.clip.number_of(0)
    delay = next(line.times[rank] for rank in sorted(line.given) if line.given[rank] == first)
    sound = SoundTrack(delay=delay, stop=settings.loop) if settings.audio else None
    return (yield from complete_video(models, setup, plan, options, settings, sound=sound, seams=True))


def _plan(settings: ExtendSettings, models: CompletionModels, info: VideoInfo, folder: Path) -> CompletionPlan:
    """Read the input and plan its new frames."""
    model = models.model
    overlap = choose_overlap(settings.overlap, PAST if model is None else model.frames)
    steady = None if info.is_image else info.fps  # a variable rate becomes a steady one
    clip = read_clip(info, folder, *working_size(info, model, settings.size), fps=steady)
    rate = (settings.fps or photo_fps(model)) if info.is_image else clip.fps
    new, count = settings.num_frames or max(1, round((settings.seconds or DEFAULT_SECONDS) * rate)), len(clip)
    check_amount(count + new, clip.size[1], clip.size[0], folder)
    looped = loop(count, rate, new=new, shown=overlap) if settings.loop else None
    nearest = range(min(ANCHORS, count)) if settings.before else range(max(0, count - ANCHORS), count)
    anchored = model is not None and settings.drift_control == "first"
    anchors = clip.frames.read(nearest)
    if model is not None and is_gray(model.codec):
        anchors = to_rgb(to_gray(anchors))
    anchor = match_color_statistics(anchors) if anchored else None
    line = looped or extension(count, rate, new=new, before=settings.before)
    clip, line = place_pictures(
        clip, line, [PicturePlace(*parse_at(each)) for each in settings.at], rate=rate, folder=folder
    )
    return plan_completion(
        models,
        clip,
        line,
        settings,
        overlap=overlap,
        scheme=settings.scheme,
        prompts=settings.prompt or ("",),
        name=f"{slug(settings.input.stem)}-{'looped' if settings.loop else 'extended'}",
        anchor=anchor,
    )
