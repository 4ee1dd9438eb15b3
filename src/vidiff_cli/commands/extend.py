"""`vidiff extend`: more of a video, after its end or before its beginning, or back to it; or a video from a photo."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from vidiff_cli.checkpoint import file_hash
from vidiff_cli.config.generate import ExtendSettings
from vidiff_cli.errors import UsageError, VidiffError
from vidiff_cli.events import EventStream, Note, task
from vidiff_cli.frames import Window
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
from vidiff_cli.generation.source_clip import SourceClip, read_clip, working_size
from vidiff_cli.metrics.drift import Drift, frame_stats, warnings
from vidiff_cli.timeline import Timeline, extension, loop
from vidiff_cli.video.probe import probe

DEFAULT_SECONDS = 2.0
PAST = 16  # given frames that an estimate follows from
COMPARED = 16  # given frames, nearest to the new ones, that drift is measured against


@dataclass(frozen=True, kw_only=True, slots=True)
class ExtendReport:
    """The video written: `given` of its frames are the input's, `made` are new.

    `seam_jump` is the change across each window's seam over the usual change between given frames (1 is seamless; None
    where the given frames do not change), `drift` what the given frames and those of each window look like, in numbers.
    `given_difference`: how far the given frames in a lossless file are from the input's, in 8-bit levels.
    """

    path: Path
    given: int
    made: int
    fps: Fraction
    width: int
    height: int
    seed: int
    condition: str
    windows: int
    seam_jump: tuple[float, ...] | None
    drift: Drift | None
    given_difference: int | None
    sheet: Path | None
    seconds: float


@task
def extend(
    settings: ExtendSettings, *, opened: LoadedModel | None = None
) -> EventStream[ExtendReport | WindowPlanReport]:
    """Extends a video by --seconds or --num-frames; its own frames stay as they are.

    Every finished window is kept beside the output, so that an interrupted call goes on where it was.
    `opened`: the model of the settings, where the caller has it.
    Raises VidiffError for an input, a model or an output that cannot be used, before anything is made.
    """
    began = time.monotonic()
    if settings.seconds is not None and settings.num_frames is not None:
        raise UsageError("give only one of --seconds and --num-frames")
    info = probe(settings.input)
    if settings.fps is not None and not info.is_image:
        raise VidiffError(
            f"{settings.input} keeps its own rate", found=f"--fps {settings.fps}", fix="--fps is for photos"
        )
    model = opened or gen.open_completing_model(settings)
    if model is not None and model.settings.frames == 1:
        raise VidiffError("this model makes single pictures", fix="train on videos to extend one")
    window, folder = PAST if model is None else model.settings.frames, gen.output_folder(settings)
    overlap = gen.choose_overlap(settings.overlap, window)
    steady = None if info.is_image else info.fps  # a variable rate becomes a steady one
    clip = read_clip(info, folder, *working_size(info, model, settings), fps=steady)
    rate = (settings.fps or photo_fps(model)) if info.is_image else clip.fps
    new = settings.num_frames or max(1, round((settings.seconds or DEFAULT_SECONDS) * rate))
    height, width = clip.size
    gen.check_amount(len(clip) + new, width, height, folder)
    prompts = settings.prompt or ("",)
    work = plan_completion(
        settings,
        model,
        clip,
        _timeline(settings, len(clip), rate, new, overlap),
        overlap=overlap,
        scheme=settings.scheme,
        what="looped" if settings.loop else "extended",
        prompt=lambda number: prompts[min(number, len(prompts) - 1)],
    )
    yield from describe_plan(settings, clip, work)
    if settings.dry_run:
        return (yield from plot_plan(settings, clip, work))
    with open_output(settings, model, clip, work) as place:
        if model is None:
            yield from gen.introduce_estimate(settings, len(clip))
        else:
            yield from gen.announce_model(model, settings, place.seed, settings.prompt)
            yield from gen.warn_fps(model, rate)
        done = yield from complete(model, settings, clip, work, place)
        report = yield from _write(settings, model, clip, work, place, done, began)
        place.journal.remove()
        return report


def _timeline(settings: ExtendSettings, count: int, rate: Fraction, new: int, overlap: int) -> Timeline:
    if settings.loop:
        return loop(count, rate, new=new, shown=overlap)
    return extension(count, rate, new=new, before=settings.before)


def _write(
    settings: ExtendSettings,
    model: LoadedModel | None,
    clip: SourceClip,
    work: CompletionPlan,
    place: OutputTarget,
    done: CompletedVideo,
    began: float,
) -> EventStream[ExtendReport]:
    line = work.timeline
    given, made = sorted(set(line.given) & set(line.written)), [rank for rank in line.written if rank not in line.given]
    new = len(made)
    delay = Fraction(new) / work.rate if settings.before else Fraction(0)
    done = yield from write_video(settings, clip, work, place, done, SoundSource(delay=delay, stop=settings.loop))
    frames = lambda ranks: done.reel.read(ranks)[:, 0]  # noqa: E731
    windows = done.windows or _as_windows(made, set(line.given))
    ours = _of_the_scene(line, windows)
    jumps, drift = seam_jumps(frames, windows, ours), _drift(frames, windows, ours)
    for text in warnings(drift.windows, drift.given) if drift else ():
        yield Note(text, "warning")
    height, width = output_size(settings, clip)
    report = ExtendReport(
        path=place.path,
        given=len(given),
        made=new,
        fps=work.rate,
        width=width,
        height=height,
        seed=place.seed,
        condition=done.condition,
        windows=len(done.windows),
        seam_jump=jumps,
        drift=drift,
        given_difference=verify_lossless(settings, clip, work, place.path),
        sheet=write_comparison(settings, clip, work, done, place),
        seconds=time.monotonic() - began,
    )
    if settings.sidecar:
        facts = {"given": len(given), "made": new, "fps": str(work.rate), "condition": done.condition}
        facts |= {"seam_jump": jumps, "drift": asdict(drift) if drift else None}
        facts["input_sha256"] = file_hash(settings.input)
        gen.write_sidecar(place.path, "extend", settings, model, place.seed, facts)
    return report


def _as_windows(made: Sequence[int], given: set[int]) -> list[Window]:
    """What no model made, as windows of `PAST` frames that follow from the given ones, for the report."""
    windows = []
    for first in range(0, len(made), PAST):
        some = frozenset(made[first : first + PAST])
        observed = (
            frozenset(range(min(some) - 1, max(some) + 2)) & given
            if first == 0 or max(some) == made[-1]
            else frozenset()
        )
        windows.append(Window(frames=tuple(sorted(some | observed)), observed=observed, makes=some))
    return windows


def _of_the_scene(line: Timeline, windows: Sequence[Window]) -> list[int]:
    """The given ranks of the scene that goes on: a cut is no usual change, and what was before it looks otherwise."""
    scene = next((scene for scene in line.segments if windows and windows[0].frames[0] in scene), range(0))
    return [rank for rank in sorted(line.given) if rank in scene]


Frames = Callable[[Sequence[int]], np.ndarray]
"""Frames (n h w c) uint8 of these ranks."""


def seam_jumps(frames: Frames, windows: Sequence[Window], given: Sequence[int]) -> tuple[float, ...] | None:
    """Mean square change where a window's frames meet those it observed, over that between neighboring given frames.

    None where there are no two neighboring given frames that differ.
    """
    there = set(given)
    usual = np.mean([_change(frames, frame) for frame in given if frame + 1 in there] or [0.0])
    if usual == 0.0:
        return None
    seams = []
    for window in windows:
        edges = {place for frame in window.makes for place in (frame - 1, frame)}
        meeting = [
            _change(frames, edge)
            for edge in sorted(edges)
            if (edge in window.makes) != (edge + 1 in window.makes) and {edge, edge + 1} & window.observed
        ]
        seams += [round(float(max(meeting) / usual), 3)] if meeting else []
    return tuple(seams)


def _change(frames: Frames, frame: int) -> float:
    """Mean square difference of a frame and the next."""
    before, after = frames([frame, frame + 1]).astype(np.float32)
    return float(np.square(after - before).mean())


def _drift(frames: Frames, windows: Sequence[Window], given: Sequence[int]) -> Drift | None:
    """Each window against the given frames that are nearest to what is made; None where nothing is."""
    if not windows or not given:
        return None
    first = min(windows[0].makes)
    nearest = sorted(sorted(given, key=lambda rank: abs(rank - first))[:COMPARED])
    looks = []
    for window in windows:
        made = sorted(window.makes)
        before = frames([made[0] - 1])[0] if made[0] - 1 in window.observed else None
        looks.append(frame_stats(frames(made), before, ranks=made))
    return Drift(given=frame_stats(frames(nearest), ranks=nearest), windows=tuple(looks))
