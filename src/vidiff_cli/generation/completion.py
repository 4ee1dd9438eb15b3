"""What extend and interpolate share: a timeline, the windows that make what it lacks, and where the result goes.

Shapes: n frames, h w pixels, c = 3 RGB; uint8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np

from vidiff_cli.config.generate import CompletionSettings, ExtendSettings, InterpolateSettings
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import Event, EventStream, Note
from vidiff_cli.frames import Scheme, Window
from vidiff_cli.generation import generate as gen
from vidiff_cli.generation.calibrate import calibrate
from vidiff_cli.generation.frame_store import FrameStore
from vidiff_cli.generation.load_model import LoadedModel
from vidiff_cli.generation.resume_journal import WindowJournal, window_journal
from vidiff_cli.generation.source_clip import Size, SourceClip
from vidiff_cli.sampling import color_anchor
from vidiff_cli.sampling.merge import GainOf
from vidiff_cli.timeline import Timeline, plans, split_at_cuts

PHOTO_FPS = Fraction(24)  # where no model has a rate
ANCHORS = 16  # given frames that --drift-control first holds to

Settings = ExtendSettings | InterpolateSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class CompletedVideo:
    """All frames of a timeline by rank: the given ones as they were read, the others made, at the clip's size.

    `gain_of`: how much of the model's frames is added to the estimates. `doubts`: the uncertainty (h w, uint8 levels)
    of frames that were written.
    """

    reel: FrameStore
    windows: Sequence[Window]
    condition: str
    gain_of: GainOf | None = None
    doubts: Mapping[int, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputTarget:
    """The file of the result, what keeps finished windows until then, and the seed. `again`: an interrupted call made
    all windows, so that the files of the result may be there."""

    path: Path
    journal: WindowJournal
    seed: int
    again: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class CompletionPlan:
    """What is to be completed, in which order, with which prompt for each window."""

    timeline: Timeline
    windows: Sequence[Window]
    rate: Fraction  # of the result: of the timeline but in slow motion
    what: str  # for its name
    prompt: Callable[[int], str] = lambda number: ""


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowPlanReport:
    """What --dry-run tells: the picture of the plan, and its counts of frames and windows."""

    path: Path
    frames: int
    given: int
    made: int
    windows: int
    lines: tuple[str, ...]


def plan_completion(
    settings: CompletionSettings,
    model: LoadedModel | None,
    clip: SourceClip,
    timeline: Timeline,
    *,
    overlap: int,
    what: str,
    scheme: Scheme = "autoregressive",
    prompt: Callable[[int], str],
    rate: Fraction | None = None,
) -> CompletionPlan:
    """The windows of a timeline; none without a model. Frames across a cut, and between two equal frames, are copies:
    nothing is made there."""
    timeline = split_at_cuts(timeline, starts=clip.starts if settings.scenes else (), same=clip.same)
    windows = [] if model is None else plans(timeline, window=model.settings.frames, overlap=overlap, scheme=scheme)
    return CompletionPlan(timeline=timeline, windows=windows, prompt=prompt, rate=rate or timeline.fps, what=what)


def output_path(settings: Settings, work: CompletionPlan, size: Size, seed: int | None) -> Path:
    """The file of the result where none is asked for."""
    own = "" if seed is None else f"_s{seed}"
    end = f"{len(work.timeline.written)}f_{size[1]}x{size[0]}{'.mkv' if settings.lossless else '.mp4'}"
    return settings.output or Path(f"{gen.slug(settings.input.stem)}-{work.what}{own}_{end}")


@contextmanager
def open_output(
    settings: Settings, model: LoadedModel | None, clip: SourceClip, work: CompletionPlan
) -> Iterator[OutputTarget]:
    """Where the result goes, kept from other processes: as asked, else named after the input and the seed.

    The name of the journal has no random seed: the same command finds it, and the seed of the interrupted call in it.
    VidiffError if the result cannot be written, or is being made by another process.
    """
    key = gen.journal_key(settings, model, work.timeline.times, [clip.digest])
    size = output_size(settings, clip)
    with window_journal(output_path(settings, work, size, settings.seed), key, settings.seed) as journal:
        target, again = output_path(settings, work, size, journal.seed), journal.complete
        path = gen.check_files(target, settings, work.rate, again=again, compared=(compare_path(target),))
        journal.clear(gen.sidecar_path(path), gen.sheet_path(path), compare_path(path))
        yield OutputTarget(path=path, journal=journal, seed=journal.seed, again=again)


def photo_fps(model: LoadedModel | None) -> Fraction:
    """The rate of a video made of photos, which have none: that of the model's training."""
    return PHOTO_FPS if model is None else model.fps


def compare_path(path: Path) -> Path:
    """out.mp4 -> out_compare.mp4."""
    return path.with_name(path.stem + "_compare.mp4")


def output_size(settings: CompletionSettings, clip: SourceClip) -> tuple[int, int]:
    """Height and width of the result."""
    if settings.size == "model":
        return clip.size
    height, width = clip.info.height, clip.info.width
    if settings.size == "film":
        return height, width
    scale = Fraction(settings.size, min(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def describe_plan(settings: CompletionSettings, clip: SourceClip, work: CompletionPlan) -> Iterator[Event]:
    """What a person should know before anything is made: the size, and what is not made at all."""
    (height, width), info = clip.size, clip.info
    result = output_size(settings, clip)
    if work.windows and result != clip.size:
        yield Note(f"The model works at {width}x{height}; the result has {result[1]}x{result[0]}.")
    if result != (info.height, info.width):
        fix = "--size film keeps the input's"
        yield Note(f"The result has {result[1]}x{result[0]} (the input is {info.width}x{info.height}; {fix}).")
    cuts = len(clip.starts) if settings.scenes else 0
    if cuts:
        yield Note(f"{cuts} scene cut{'s' * (cuts > 1)} in the input: no frame is made from both sides of one.")
    equal = sum(work.timeline.given[rank] in clip.same for rank in work.timeline.given)
    if equal and work.timeline.repeats:
        yield Note(f"{equal} frames of the input repeat the one before: between the two, nothing is made.")


def plot_plan(settings: Settings, clip: SourceClip, work: CompletionPlan) -> EventStream[WindowPlanReport]:
    """--dry-run: the picture of the plan beside where the result would be, and nothing else."""
    from vidiff_cli.viz.plan_plot import PlanView, plan_lines, write_plan_plot

    line = work.timeline
    plan = PlanView(
        windows=work.windows,
        times=line.times,
        given=line.given,
        written=line.written,
        repeats=line.repeats,
        batches=gen.batch_windows(work.windows, 1),
    )
    target = output_path(settings, work, output_size(settings, clip), settings.seed)
    path = target.with_name(target.stem + "_plan.png")
    if path.exists() and not settings.overwrite:
        raise VidiffError(f"{path} exists", fix="choose another name for the result, or pass --overwrite")
    write_plan_plot(path, plan)
    lines = tuple(plan_lines(plan))
    for text in lines:
        yield Note(text)
    made = len(line.times) - len({*line.given, *line.repeats})
    return WindowPlanReport(
        path=path, frames=len(line.written), given=len(line.given), made=made, windows=len(work.windows), lines=lines
    )


def complete(
    model: LoadedModel | None, settings: Settings, clip: SourceClip, work: CompletionPlan, place: OutputTarget
) -> EventStream[CompletedVideo]:
    """Makes what a model has to say of the frames of the timeline that are not given, window after window.

    Given frames are copied into the result, never taken from a sampler. Finished windows are kept in the journal.
    """
    line, (height, width) = work.timeline, clip.size
    count = settings.samples if model is not None and work.windows else 1
    reel = FrameStore(place.journal.frames((count, height, width, 3)), clip.frames, written_sources(line))
    if model is None or not work.windows:
        place.journal.save(0, 0, of=0)
        return CompletedVideo(reel=reel, windows=[], condition="estimate")
    condition = gen.choose_condition(settings, model)
    if settings.condition == "auto":
        trained = "was" if condition == "learned" else "was not"
        yield Note(f"Given frames act by the condition {condition}: the model {trained} trained on given frames.")
    anchor = None
    if isinstance(settings, ExtendSettings) and settings.drift_control == "first":
        nearest = range(min(ANCHORS, len(clip))) if settings.before else range(max(0, len(clip) - ANCHORS), len(clip))
        anchor = color_anchor.match_color_statistics(clip.frames.read(nearest))
    job = gen.VideoJob(
        windows=work.windows,
        times=line.times,
        prompts=lambda number: [work.prompt(number)] * count,
        seeds=[place.seed + number for number in range(count)],
        anchor=anchor,
    )
    if work.windows:
        shape = (count, model.settings.network.channels, len(work.windows[0].frames), height, width)
        yield from gen.save_memory(model, settings, (gen.TOGETHER, *shape[1:]), condition)
        yield from gen.long_note(gen.estimate_seconds(model, settings, job, shape, condition))
    gain_of = (yield from calibrate(model, settings, clip, line, condition)) if settings.detail == "both" else None
    yield from gen.generate(model, settings, job, reel, condition=condition, journal=place.journal)
    return CompletedVideo(reel=reel, windows=work.windows, condition=condition, gain_of=gain_of)


def written_sources(line: Timeline) -> dict[int, int]:
    """The source frame of every rank that is given or a copy."""
    return {**line.given, **{rank: line.given[of] for rank, of in line.repeats.items()}}
