"""Complete a source clip: a timeline, and the windows that make the frames it lacks.

Shapes: n frames, h w pixels, c = 3 RGB; uint8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor

from vidiff_cli.errors import VidiffError
from vidiff_cli.events import Event, EventStream, Note
from vidiff_cli.frames import Scheme, Window
from vidiff_cli.generation.budget import check_amount
from vidiff_cli.generation.calibrate import Gains
from vidiff_cli.generation.cascade import check_stages, final_size
from vidiff_cli.generation.completion_models import CompletionModels, CompletionOptions, Detail
from vidiff_cli.generation.frame_store import FrameStore
from vidiff_cli.generation.large_frames import LargeFrames, needed_stages
from vidiff_cli.generation.output_files import (
    OutputOptions,
    OutputTarget,
    check_files,
    compare_path,
    open_target,
    sheet_path,
)
from vidiff_cli.generation.rolling import check_rolling
from vidiff_cli.generation.sidecar import sidecar_path
from vidiff_cli.generation.source_clip import ResultSize, Size, SourceClip, output_size
from vidiff_cli.generation.upscaling import UpscaleSetup
from vidiff_cli.generation.video_job import batch_windows
from vidiff_cli.models.codec import floor_length, is_gray
from vidiff_cli.models.families import VideoModel
from vidiff_cli.rolling import RollingPlan, roll_beyond
from vidiff_cli.timeline import Timeline, pad_to_groups, plans, split_at_cuts

PHOTO_FPS = Fraction(24)  # where no model has a rate


@dataclass(frozen=True, kw_only=True, slots=True)
class CompletionPlan:
    """A source clip, the timeline to complete, the windows that make what is missing (none without a model), a prompt
    for each window (the last one is that of all further ones), and the upscalers (`stages`) that the model's frames go
    through.

    `rate` of the result is that of the timeline but in slow motion; `size` (h w) of the result; `model_size`: frames
    are written as the model sees them, cropped. `windows_at_once` is the model's; `gray`: what it makes is gray.
    `detail`: what new frames are made of; `samples`: a model's frames are the mean of so many. `cuts` between scenes.
    `name` of the result without its seed; `anchor` and `rolling` as in `VideoJob`.
    """

    clip: SourceClip
    timeline: Timeline
    windows: Sequence[Window]
    windows_at_once: int = 1
    gray: bool = False
    prompts: Sequence[str]
    rate: Fraction
    size: Size
    model_size: bool
    detail: Detail
    samples: int
    cuts: int
    name: str
    anchor: Callable[[Tensor], Tensor] | None = None
    rolling: RollingPlan | None = None
    stages: Sequence[UpscaleSetup] = ()

    @property
    def made(self) -> list[int]:
        """The ranks of written frames that neither are given nor repeat one, in order."""
        return sorted({*self.timeline.written} - {*self.timeline.given, *self.timeline.repeats})

    @property
    def large_size(self) -> Size:
        """Height and width of the model's frames after all stages: not more than the result has."""
        large = final_size(self.stages, self.clip.size)
        return large if large[0] <= self.size[0] and large[1] <= self.size[1] else self.size

    @property
    def sources(self) -> dict[int, int]:
        """The source frame of every rank that is given or repeats a given one."""
        line = self.timeline
        return {**line.given, **{rank: line.given[repeated] for rank, repeated in line.repeats.items()}}

    @property
    def details(self) -> str:
        """End of the result's name: number and size of its frames."""
        return f"{len(self.timeline.written)}f_{self.size[1]}x{self.size[0]}"


@dataclass(frozen=True, kw_only=True, slots=True)
class CompletedVideo:
    """All frames of a timeline by rank: the given ones as they were read, the others made, at the clip's size.

    `large`: the made ones as upscalers made them larger. `gains`: how much of the model's frames is added to the
    estimates. `uncertainty` (h w, uint8 levels) by rank of frames that were written.
    """

    store: FrameStore
    windows: Sequence[Window]
    condition: str
    large: LargeFrames | None = None
    gains: Gains | None = None
    uncertainty: Mapping[int, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowPlanReport:
    """Report of --dry-run: its counts of frames and windows, and the picture of the plan if there is an --output."""

    path: Path | None
    frames: int
    given: int
    made: int
    windows: int
    lines: tuple[str, ...]


def plan_completion(
    models: CompletionModels,
    clip: SourceClip,
    timeline: Timeline,
    options: CompletionOptions,
    *,
    overlap: int,
    scheme: Scheme | Literal["rolling"] = "autoregressive",
    prompts: Sequence[str],
    rate: Fraction | None = None,
    name: str,
    anchor: Callable[[Tensor], Tensor] | None = None,
) -> CompletionPlan:
    """Plan the completion of a timeline.

    Frames across a cut, and between two equal frames, repeat a given one: nothing is made there.

    Args:
        models: The model, whose window length counts (without one there are no windows), and its upscalers, of which
            those are taken that the size of the result needs.
        clip: The source clip, with its scenes and repeated frames.
        timeline: Times of all frames, given and missing.
        options: Size, detail, samples and scenes of the result.
        overlap: Frames that a window observes of what was before.
        scheme: Order in which frames are made.
        prompts: The prompt of each window; the last one is that of all further ones.
        rate: Frames per second of the result, if not those of the timeline.
        name: Name of the result without its seed and its extension.
        anchor: Applied to what a window made, before it is rounded.

    Returns:
        The plan.

    Raises:
        VidiffError: A scheme or an upscaler that the model does not go with.
    """
    model, starts = models.model, clip.starts if options.scenes else ()
    timeline = split_at_cuts(timeline, starts=starts, same=clip.same)
    windows: list[Window] = []
    rolling = None
    if model is not None:
        if model.codec.temporal > 1:
            timeline = _in_groups(model, timeline, scheme)
        overlap = floor_length(model.codec, overlap)
        order = "autoregressive" if scheme == "rolling" else scheme
        windows = plans(timeline, window=model.frames, overlap=overlap, scheme=order)
        if scheme == "rolling":
            rolling = _rolling(model, timeline, options, overlap)
    size = _output_size(clip, options.size, models.stages)
    stages = needed_stages(models.stages, clip.size, size)
    if model is not None:
        check_stages(stages, model, clip.size, len(timeline.times))
    return CompletionPlan(
        clip=clip,
        timeline=timeline,
        windows=windows,
        windows_at_once=1 if model is None else model.windows_at_once,
        gray=model is not None and is_gray(model.codec),
        prompts=prompts,
        rate=rate or timeline.fps,
        size=size,
        model_size=options.size == "model" or (model is not None and model.only_between),
        detail=options.detail,
        samples=options.samples,
        cuts=len(starts),
        name=name,
        anchor=anchor,
        rolling=rolling,
        stages=stages,
    )


def _output_size(clip: SourceClip, size: ResultSize, stages: Sequence[UpscaleSetup]) -> Size:
    """Height and width of the result; that of the model is that of its last stage."""
    return final_size(stages, clip.size) if size == "model" else output_size(clip, size)


def _rolling(model: VideoModel, timeline: Timeline, options: CompletionOptions, overlap: int) -> RollingPlan:
    """The plan of a rolling window. VidiffError for a model or a timeline that has none."""
    check_rolling(model, options)
    try:
        return roll_beyond(timeline, window=model.frames, overlap=overlap)
    except ValueError as error:
        found = "frames to make between given ones"
        fix = "leave out --loop and --at, or choose another --scheme"
        raise VidiffError("--scheme rolling makes frames beyond one end of a video", found=found, fix=fix) from error


def _in_groups(model: VideoModel, timeline: Timeline, scheme: str) -> Timeline:
    """The timeline by the groups of frames that a model's codec encodes together. VidiffError where it cannot be."""
    group = model.codec.temporal
    subject = f"{model.name} encodes {group} frames as one, after the frames before them"
    if scheme != "autoregressive":
        raise VidiffError(subject, found=f"--scheme {scheme}", expected="autoregressive")
    try:
        return pad_to_groups(timeline, group)
    except ValueError as error:
        found = "frames to make before or between given ones, where no such group is known"
        raise VidiffError(subject, found=found, fix="use vidiff extend, forwards, or another model") from error


def photo_fps(model: VideoModel | None) -> Fraction:
    """The rate of a video made of photos, which have none: that of the model's training."""
    return PHOTO_FPS if model is None else model.fps


@contextmanager
def open_output(plan: CompletionPlan, options: OutputOptions, models: CompletionModels) -> Iterator[OutputTarget]:
    """The target of a completion, kept from other processes. VidiffError if it cannot be written."""
    digest, times = " ".join([plan.clip.digest, *models.hashes]), plan.timeline.times
    if plan.stages:
        check_amount(len(plan.made), plan.large_size[1], plan.large_size[0], options.folder)
    with open_target(options, plan.name, plan.details, models.model, times, digest) as target:
        compared = compare_path(target.path)
        path = check_files(target.path, options, plan.rate, again=target.again, compared=(compared,))
        target.journal.clear(sidecar_path(path), sheet_path(path), compared)
        yield target


def describe_plan(plan: CompletionPlan, stages: Sequence[UpscaleSetup]) -> Iterator[Event]:
    """Notes on the size of the result, the `stages` that were asked for, and what is not made at all."""
    clip, line = plan.clip, plan.timeline
    (height, width), info, result = clip.size, clip.info, plan.size
    if plan.windows and result != clip.size:
        yield Note(f"The model works at {width}x{height}; the result has {result[1]}x{result[0]}.")
    for place, stage in enumerate(stages, 1):
        large, name = final_size(stages[:place], clip.size), stage.model.name
        if place <= len(plan.stages):
            yield Note(f"{name} makes its frames {stage.scale} times larger, to {large[1]}x{large[0]}.")
        else:
            yield Note(f"{name} is not needed: the frames before it are as large as the result.")
    if result != (info.height, info.width):
        fix = "--size film keeps the input's"
        yield Note(f"The result has {result[1]}x{result[0]} (the input is {info.width}x{info.height}; {fix}).")
    if plan.gray and plan.windows and plan.detail == "model":
        yield Note("The model was trained on luma: its frames are gray; --detail both keeps the colors.")
    if plan.cuts:
        yield Note(
            f"{plan.cuts} scene cut{'s' * (plan.cuts > 1)} in the input: no frame is made from both sides of one."
        )
    equal = sum(line.given[rank] in clip.same for rank in line.given)
    if equal and line.repeats:
        yield Note(f"{equal} frames of the input repeat the one before: between the two, nothing is made.")


def plot_plan(plan: CompletionPlan, options: OutputOptions) -> EventStream[WindowPlanReport]:
    """Describe the plan (--dry-run). Writes nothing but, with --output, a picture of the plan beside the result."""
    line = plan.timeline
    windows = plan.windows if plan.rolling is None else list(plan.rolling.windows())
    batches = batch_windows(windows, 1, 1 if plan.rolling else plan.windows_at_once)
    return (yield from plot_windows(line, windows, batches, options))


def plot_windows(
    line: Timeline, windows: Sequence[Window], batches: Sequence[range], options: OutputOptions
) -> EventStream[WindowPlanReport]:
    """Describe the windows of a timeline, and those of them that are sampled at once, as `plot_plan`."""
    from vidiff_cli.viz.plan_plot import PlanView, plan_lines, write_plan_plot

    view = PlanView(
        windows=windows,
        times=line.times,
        given=line.given,
        written=line.written,
        repeats=line.repeats,
        batches=batches,
    )
    path = options.path and options.path.with_name(options.path.stem + "_plan.png")
    if path is not None:
        if path.exists() and not options.overwrite:
            raise VidiffError(f"{path} exists", fix="choose another name for the result, or pass --overwrite")
        write_plan_plot(path, view)
    lines = tuple(plan_lines(view))
    for text in lines:
        yield Note(text)
    made = len(line.times) - len({*line.given, *line.repeats})
    return WindowPlanReport(
        path=path, frames=len(line.written), given=len(line.given), made=made, windows=len(windows), lines=lines
    )
