"""`vidiff upscale`: a video at several times its size."""

from __future__ import annotations

from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path

from vidiff_cli.config.upscale import UpscaleSettings
from vidiff_cli.device import choose_device
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import EventStream, Note, task
from vidiff_cli.generation.budget import check_amount
from vidiff_cli.generation.calibrate import find_scenes
from vidiff_cli.generation.completion import WindowPlanReport, photo_fps, plot_windows
from vidiff_cli.generation.load_model import open_upscaler
from vidiff_cli.generation.open_input import open_input
from vidiff_cli.generation.output_files import OutputOptions
from vidiff_cli.generation.source_clip import Size, SourceClip, read_clip
from vidiff_cli.generation.upscale_budget import check_memory, check_sides
from vidiff_cli.generation.upscale_video import UpscalePlan, UpscaleReport, upscale_video
from vidiff_cli.generation.upscaling import (
    GuidedUpscaleSetup,
    UpscaleSetup,
    count_upscale_passes,
    default_overlap,
)
from vidiff_cli.models.unet_model import UNetModel
from vidiff_cli.timeline import Timeline, plans
from vidiff_cli.video.probe import VideoInfo

CUBIC_SCALE = 2  # where neither a scale nor a model is named


@task
def upscale(
    settings: UpscaleSettings, *, opened: UNetModel | None = None
) -> EventStream[UpscaleReport | WindowPlanReport]:
    """Make the frames of a video larger, by a model of super-resolution; rate and sound stay.

    `opened`: the model of the settings, where the caller has it.
    Raises VidiffError for an input, a model or an output that cannot be used, before anything is made.
    """
    info = open_input(settings.input, settings.reading)
    model = opened
    if settings.detail == "estimate":
        model = None
        choose_device(settings.device, deterministic=settings.deterministic)
    elif model is None:
        model = open_upscaler(settings, settings.scale)
    own = CUBIC_SCALE
    if model is not None:
        own = model.scale or _guided_scale(model, info)
    scale, size = _result_size(settings, info, own)
    setup = None if model is None else _setup(settings, model, scale, own)
    options = OutputOptions.from_record("upscale", settings.output, settings.model_dump(mode="json"))
    if info.is_image:
        options = replace(options, picture=size)
    clip = _read(setup, info, size, options.folder)
    plan, line = _plan(settings, setup, clip, size)
    yield from _describe(plan, setup)
    if settings.dry_run:
        batches = [range(number, number + 1) for number in range(len(plan.windows))]
        return (yield from plot_windows(line, plan.windows, batches, options))
    return (yield from upscale_video(setup, plan, options, audio=settings.audio))


def _result_size(settings: UpscaleSettings, info: VideoInfo, own: int) -> tuple[Fraction, Size]:
    """Scale and size (h w) of the result: sides that the scale does not make whole become even. VidiffError for a
    result that is not larger than the input, or too large."""
    height, width = info.height, info.width
    if settings.size is None:
        scale = settings.exact_scale or Fraction(own)
    else:
        scale = Fraction(settings.size, min(height, width))
        if scale <= 1:
            raise VidiffError(
                f"{settings.input} is not smaller than --size {settings.size}",
                found=f"{width}x{height}",
                expected="a size above its short side",
                fix="choose a larger --size",
            )
    size = _side(height, scale), _side(width, scale)
    check_sides(*size, fix="choose a smaller --size or --scale")
    return scale, size


def _side(side: int, scale: Fraction) -> int:
    exact = side * scale
    return int(exact) if exact.denominator == 1 else max(2, 2 * round(exact / 2))


def _guided_scale(model: UNetModel, info: VideoInfo) -> int:
    """The scale from an input to the frames of a model of videos. VidiffError for an input that does not fit."""
    width, height = model.width, model.height
    scale = width // info.width
    if scale < 2 or (info.width * scale, info.height * scale) != (width, height):
        raise VidiffError(
            f"{model.name} makes frames of {width}x{height}",
            found=f"{info.width}x{info.height} in {info.path}",
            expected=f"a whole fraction of that, such as {width // 2}x{height // 2}",
            fix="use an upscaler, which takes any size",
        )
    return scale


def _setup(settings: UpscaleSettings, model: UNetModel, scale: Fraction, own: int) -> UpscaleSetup:
    """VidiffError for noise on the input that the model was not trained with, and a scale that guidance cannot
    reach."""
    most = model.settings.augmentation
    if settings.augmentation > most:
        raise VidiffError(
            "this model was trained on inputs of less noise"
            if most
            else "this model was trained on inputs without noise",
            found=f"--augmentation {settings.augmentation:g}",
            expected=f"at most {most:g}",
        )
    passes = count_upscale_passes(scale, own)
    if not model.scale and passes > 1:
        raise VidiffError(f"{model.name} makes the input {own} times as large", found=f"a scale of {float(scale):g}")
    setup = UpscaleSetup(
        model=model,
        passes=passes,
        steps=settings.steps or model.steps,
        sampler=settings.sampler,
        samples=settings.samples,
        augmentation=settings.augmentation,
        prompt=settings.prompt or "",
        tile=settings.tile,
    )
    if model.scale:
        return setup
    return GuidedUpscaleSetup(**{each.name: getattr(setup, each.name) for each in fields(setup)}, guided_scale=own)


def _read(setup: UpscaleSetup | None, info: VideoInfo, size: Size, folder: Path) -> SourceClip:
    """Read the input at its own size. VidiffError where disk or memory cannot hold what is to be made of it."""
    expected = 1 if info.is_image else max(1, int((info.duration_seconds or 0) * info.fps))
    if setup is not None:
        size = info.height * setup.scale, info.width * setup.scale
        check_memory(setup, expected, *size)
        check_amount(expected, size[1], size[0], folder)
    own = info.width, info.height
    clip = read_clip(info, folder, own, own, fps=None if info.is_image else info.fps)  # a steady rate, as the result's
    if setup is not None:
        check_memory(setup, len(clip), *size)
        check_amount(len(clip), size[1], size[0], folder)
    return clip


def _plan(
    settings: UpscaleSettings, setup: UpscaleSetup | None, clip: SourceClip, size: Size
) -> tuple[UpscalePlan, Timeline]:
    """The windows of each scene. VidiffError for an overlap that leaves nothing to make."""
    whole = range(len(clip))
    scenes = tuple(find_scenes(clip)) if settings.scenes else (whole,)
    rate = clip.fps or photo_fps(setup and setup.model)
    line = Timeline(times=clip.times, given={}, written=tuple(whole), fps=rate, segments=scenes)
    windows = []
    if setup is not None:
        windows = plans(line, window=setup.model.frames, overlap=_overlap(settings, setup))
    measured = settings.detail == "both" and settings.by == "upscaler"
    plan = UpscalePlan(clip=clip, windows=windows, size=size, rate=rate, measured=measured)
    return plan, line


def _overlap(settings: UpscaleSettings, setup: UpscaleSetup) -> int:
    """Frames that a window observes of the one before. VidiffError for a model that was not trained on known frames."""
    model = setup.model
    if settings.overlap is None:
        return default_overlap(model, setup.steps)
    if settings.overlap and "learned" not in model.conditions:
        raise VidiffError("this model was not trained on given frames", found=f"--overlap {settings.overlap}")
    if settings.overlap >= model.frames:
        expected = f"less than the window of {model.frames}"
        raise VidiffError("--overlap leaves nothing to make", found=settings.overlap, expected=expected)
    return settings.overlap


def _describe(plan: UpscalePlan, setup: UpscaleSetup | None) -> EventStream[None]:
    """Notes on the size of the result, and on what became of the input."""
    clip, (height, width) = plan.clip, plan.size
    by = "enlarged by a cubic, without a model"
    if isinstance(setup, GuidedUpscaleSetup):
        by = f"by a model of frames that large, led by the input in {setup.steps} steps"
    elif setup is not None:
        times = f"{setup.passes} times" if setup.passes > 1 else "once"
        by = f"by a model of {setup.scale_of_pass} times the size, taken {times}"
    own = f"{clip.info.width}x{clip.info.height}"
    frames = f"{len(clip)} frames of {own} become" if len(clip) > 1 else f"1 frame of {own} becomes"
    yield Note(f"{frames} {width}x{height}, {by}.")
    for remark in clip.parts[0].remarks:
        yield Note(f"{clip.info.path.name}: {remark}.", "warning" if remark.startswith("damaged") else "info")
