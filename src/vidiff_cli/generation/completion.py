"""Complete a source clip: a timeline, and the windows that make the frames it lacks.

Shapes: n frames, h w pixels, c = 3 RGB; uint8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from torch import Tensor

from vidiff_cli.device import choose_device
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import Event, EventStream, Note
from vidiff_cli.frames import Scheme, Window
from vidiff_cli.generation.budget import estimate_seconds, note_long, save_memory
from vidiff_cli.generation.calibrate import calibrate
from vidiff_cli.generation.frame_store import FrameStore
from vidiff_cli.generation.generate import generate
from vidiff_cli.generation.load_model import ModelOptions, newest_run, open_model_as
from vidiff_cli.generation.output_files import (
    OutputOptions,
    OutputTarget,
    check_files,
    compare_path,
    open_target,
    sheet_path,
)
from vidiff_cli.generation.rolling import check_rolling
from vidiff_cli.generation.sampling_setup import SamplingOptions, SamplingSetup
from vidiff_cli.generation.sidecar import sidecar_path
from vidiff_cli.generation.source_clip import ResultSize, Size, SourceClip, output_size
from vidiff_cli.generation.video_job import VideoJob, batch_windows
from vidiff_cli.generation.window_codec import latent_shape
from vidiff_cli.models.codec import floor_length, is_gray, z_shape
from vidiff_cli.models.families import VideoModel
from vidiff_cli.rolling import RollingPlan, roll_beyond
from vidiff_cli.sampling.merge import GainOf
from vidiff_cli.timeline import Timeline, pad_to_groups, plans, split_at_cuts

PHOTO_FPS = Fraction(24)  # where no model has a rate

Detail = Literal["both", "estimate", "model"]
"""What new frames are made of: the estimate by motion, the model's frames, or both."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CompletionPlan:
    """A source clip, the timeline to complete, the windows that make what is missing (none without a model), and a
    prompt for each window (the last one is that of all further ones).

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

    `gain_of`: how much of the model's frames is added to the estimates. `uncertainty` (h w, uint8 levels) by rank of
    frames that were written.
    """

    store: FrameStore
    windows: Sequence[Window]
    condition: str
    gain_of: GainOf | None = None
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


class CompletionOptions(SamplingOptions, ModelOptions, Protocol):
    """The options that commands which complete a clip have in common (described in their settings)."""

    @property
    def size(self) -> ResultSize: ...
    @property
    def detail(self) -> Detail: ...
    @property
    def samples(self) -> int: ...
    @property
    def scenes(self) -> bool: ...
    @property
    def dry_run(self) -> bool: ...


def open_completion_model(options: CompletionOptions) -> VideoModel | None:
    """The model of a completion; None where the estimate by motion is taken alone, because it is asked for, or because
    no model is named and there is no run. VidiffError as `open_model`, and for options that need a model."""
    if options.detail != "estimate" and (options.model is not None or newest_run() is not None):
        return open_model_as(options)
    option = "--detail model" if options.detail == "model" else "--size model" if options.size == "model" else None
    if option is not None:
        found = "--detail estimate" if options.detail == "estimate" else "no run under runs/"
        raise VidiffError(f"{option} needs a model", found=found, fix="name one with --model")
    choose_device(options.device, deterministic=options.deterministic)  # of the motion
    return None


def plan_completion(
    model: VideoModel | None,
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
        model: The model, whose window length counts; without one there are no windows.
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
    """
    starts = clip.starts if options.scenes else ()
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
    return CompletionPlan(
        clip=clip,
        timeline=timeline,
        windows=windows,
        windows_at_once=1 if model is None else model.windows_at_once,
        gray=model is not None and is_gray(model.codec),
        prompts=prompts,
        rate=rate or timeline.fps,
        size=output_size(clip, options.size),
        model_size=options.size == "model",
        detail=options.detail,
        samples=options.samples,
        cuts=len(starts),
        name=name,
        anchor=anchor,
        rolling=rolling,
    )


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
def open_output(plan: CompletionPlan, options: OutputOptions, model: VideoModel | None) -> Iterator[OutputTarget]:
    """The target of a completion, kept from other processes. VidiffError if it cannot be written."""
    digest, times = plan.clip.digest, plan.timeline.times
    with open_target(options, plan.name, plan.details, model, times, digest) as target:
        compared = compare_path(target.path)
        path = check_files(target.path, options, plan.rate, again=target.again, compared=(compared,))
        target.journal.clear(sidecar_path(path), sheet_path(path), compared)
        yield target


def describe_plan(plan: CompletionPlan) -> Iterator[Event]:
    """Notes on the size of the result, and on what is not made at all."""
    clip, line = plan.clip, plan.timeline
    (height, width), info, result = clip.size, clip.info, plan.size
    if plan.windows and result != clip.size:
        yield Note(f"The model works at {width}x{height}; the result has {result[1]}x{result[0]}.")
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


def complete(
    model: VideoModel | None, setup: SamplingSetup | None, plan: CompletionPlan, target: OutputTarget
) -> EventStream[CompletedVideo]:
    """Generate the model's frames of a plan, window after window; finished windows are kept in the journal.

    Given frames are copied into the result, never taken from a sampler.
    """
    line, clip, (height, width) = plan.timeline, plan.clip, plan.clip.size
    count = plan.samples if model is not None and plan.windows else 1
    made = target.journal.frames((count, height, width, 3))
    if model is None or setup is None or not plan.windows:
        store = FrameStore(made, clip.frames, plan.sources)
        target.journal.save(0, 0, of=0)
        return CompletedVideo(store=store, windows=[], condition="estimate")
    if setup.automatic:
        trained = "was" if setup.condition == "learned" else "was not"
        yield Note(f"Given frames act by the condition {setup.condition}: the model {trained} trained on given frames.")
    job = VideoJob(
        windows=plan.windows,
        times=line.times,
        prompts=lambda number: [plan.prompts[min(number, len(plan.prompts) - 1)]] * count,
        seeds=[target.seed + number for number in range(count)],
        anchor=plan.anchor,
        rolling=plan.rolling,
    )
    values = latent_shape(model.codec, count, height, width)
    store = FrameStore(made, clip.frames, plan.sources, None if values is None else target.journal.latents(values))
    shape = z_shape(model.codec, count, len(plan.windows[0].frames), height, width)
    yield from save_memory(model, setup, (model.windows_at_once, *shape[1:]))
    yield from note_long(estimate_seconds(model, setup, job, shape))
    gain_of = (yield from calibrate(model, setup, clip, line, plan.samples)) if plan.detail == "both" else None
    yield from generate(model, setup, job, store, journal=target.journal)
    return CompletedVideo(store=store, windows=plan.windows, condition=setup.condition, gain_of=gain_of)
