"""Carry out a completion plan: the model's frames, the result with its sound, its checks and its sidecar."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from vidiff_cli.events import EventStream, Note
from vidiff_cli.generation.announce import announce_completion, announce_model, describe_guidance
from vidiff_cli.generation.budget import estimate_seconds, note_long, save_memory
from vidiff_cli.generation.calibrate import Larger, calibrate
from vidiff_cli.generation.cascade import estimate_stages, note_replaced, remove_stage_journals, stage_journals
from vidiff_cli.generation.completion import (
    CompletedVideo,
    CompletionPlan,
    WindowPlanReport,
    describe_plan,
    open_output,
    plot_plan,
)
from vidiff_cli.generation.completion_models import CompletionModels, CompletionOptions
from vidiff_cli.generation.frame_store import FrameStore, MemoryFrameArray
from vidiff_cli.generation.generate import generate
from vidiff_cli.generation.large_frames import LargeFrames, at_size, read_given, upscale_made
from vidiff_cli.generation.open_input import input_hash
from vidiff_cli.generation.output import SoundTrack, verify_lossless, write_comparison, write_video
from vidiff_cli.generation.output_files import OutputOptions, OutputTarget
from vidiff_cli.generation.resume_journal import WindowJournal
from vidiff_cli.generation.sampling_setup import SamplingSetup
from vidiff_cli.generation.seams import Seams, flicker_of, measure_seams
from vidiff_cli.generation.video_job import VideoJob
from vidiff_cli.generation.window_codec import latent_shape
from vidiff_cli.metrics.drift import Drift, warnings
from vidiff_cli.metrics.flicker import Flicker
from vidiff_cli.models.codec import z_shape
from vidiff_cli.timeline import Timeline


@dataclass(frozen=True, kw_only=True, slots=True)
class CompletionReport:
    """The video written: `frames` at `fps`, of which `given` are the input's, `made` are new and `held` repeat another:
    the last one, or one before a scene cut or a repeated frame.

    Of an extension, `seam_jump` is the change across each window's seam over the usual change between given frames (1
    is seamless; None where the given frames do not change), `drift` the statistics of the given frames and of each
    window. Of an interpolation, `flicker` compares made frames with the given ones. `given_difference`: how far the
    given frames in a lossless file are from the input's, in 8-bit levels.
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
    seam_jump: tuple[float, ...] | None
    drift: Drift | None
    flicker: Flicker | None
    given_difference: int | None
    sheet: Path | None
    seconds: float


def complete_video(
    models: CompletionModels,
    setup: SamplingSetup | None,
    plan: CompletionPlan,
    output: OutputOptions,
    options: CompletionOptions,
    *,
    sound: SoundTrack | None,
    seams: bool,
) -> EventStream[CompletionReport | WindowPlanReport]:
    """Make what a plan lacks and write the result.

    Every finished window is kept beside the output, so that an interrupted call goes on where it was.

    Args:
        models: The model, None where the estimate by motion is taken alone, and its upscalers.
        setup: How the model samples; None without one.
        plan: The clip, its timeline and the windows.
        output: Where the result goes, and what is written beside it.
        options: The options of the command; with `dry_run` the plan is described and nothing is made.
        sound: Placement of the input's sound; None: no sound.
        seams: Measure seam jumps and drift, as of an extension; else flicker, as of an interpolation.

    Returns:
        The report of the result, or of the plan.

    Raises:
        VidiffError: The output cannot be written, or something that it needs fails.
    """
    began, line, model = time.monotonic(), plan.timeline, models.model
    yield from note_replaced(options, options.then)
    yield from describe_plan(plan, models.stages)
    if setup is not None:
        yield from describe_guidance(setup, plan.windows, plan.rolling)
    for part in plan.clip.parts:
        for remark in part.remarks:
            yield Note(f"{part.info.path.name}: {remark}.", "warning" if remark.startswith("damaged") else "info")
    if options.dry_run:
        return (yield from plot_plan(plan, output))
    output = replace(output, record=models.settings(output.record))
    with (
        open_output(plan, output, models) as target,
        stage_journals(plan.stages, target.path, target.journal.key, target.seed) as journals,
    ):
        yield from announce_completion(
            model,
            options,
            plan.prompts,
            seed=target.seed,
            given=len(plan.clip),
            fps=line.fps,
            estimate_only=plan.detail == "estimate",
        )
        for stage in plan.stages:
            yield from announce_model(stage.model, target.seed, plan.prompts if stage.model.reads_text else [])
        done = yield from complete(models, setup, plan, target, journals)
        done = yield from write_video(plan, target, done, sound=sound, device=options.device)
        found = measure_seams(plan, done) if seams else Seams(jumps=None, drift=None)
        flicker = None if seams else flicker_of(plan, done)
        faults = warnings(found.drift.windows, found.drift.given) if found.drift else []
        for text in [*faults, *(flicker.warnings() if flicker else ())]:
            yield Note(text, "warning")
        given = {*line.written} & {*line.given}
        made = {*line.written} - {*line.given, *line.repeats}
        report = CompletionReport(
            path=target.path,
            frames=len(line.written),
            given=len(given),
            made=len(made),
            held=len(line.written) - len(given) - len(made),
            fps=plan.rate,
            width=plan.size[1],
            height=plan.size[0],
            seed=target.seed,
            condition=done.condition,
            windows=len(done.windows),
            seam_jump=found.jumps,
            drift=found.drift,
            flicker=flicker,
            given_difference=verify_lossless(plan, target),
            sheet=write_comparison(plan, target, done),
            seconds=time.monotonic() - began,
        )
        facts = _facts(report, seams=seams) | {"input_sha256": input_hash(plan.clip.info)}
        if setup is not None and plan.windows:
            facts["history_guidance"] = setup.history_guidance
        remove_stage_journals(target.path)
        target.finish(model, facts | models.facts())
        return report


def _facts(report: CompletionReport, *, seams: bool) -> dict[str, Any]:
    """Facts of a result for its sidecar."""
    common = {"made": report.made, "fps": str(report.fps), "condition": report.condition}
    if not seams:
        return {"frames": report.frames} | common | {"flicker": report.flicker and asdict(report.flicker)}
    drift = asdict(report.drift) if report.drift else None
    return {"given": report.given} | common | {"seam_jump": report.seam_jump, "drift": drift}


def complete(
    models: CompletionModels,
    setup: SamplingSetup | None,
    plan: CompletionPlan,
    target: OutputTarget,
    journals: Sequence[WindowJournal],
) -> EventStream[CompletedVideo]:
    """Generate the model's frames of a plan, window after window, and take them through the stages; finished windows
    are kept in the journal, and in those of the stages (`journals`).

    Given frames are copied into the result, never taken from a sampler.
    """
    model, line, clip, (height, width) = models.model, plan.timeline, plan.clip, plan.clip.size
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
    seconds = estimate_stages(plan.stages, clip.size, len(plan.made))
    yield from note_long(estimate_seconds(model, setup, job, shape) + seconds)
    gains = None
    if plan.detail == "both":
        gains = yield from calibrate(model, setup, clip, line, plan.samples, _larger(plan, target.path.parent))
    yield from generate(model, setup, job, store, journal=target.journal)
    large = None
    if plan.stages and (gains is None or gains.large is not None):
        large = yield from _upscale(plan, store, target, journals)
    return CompletedVideo(store=store, windows=plan.windows, condition=setup.condition, large=large, gains=gains)


def _larger(plan: CompletionPlan, folder: Path) -> Larger | None:
    """The stages of a plan, for its calibration."""
    if not plan.stages:
        return None
    size = plan.large_size

    def upscale(small: np.ndarray, line: Timeline, given: np.ndarray) -> np.ndarray:
        made = [rank for rank in range(len(small)) if rank not in line.given]
        large = upscale_made(
            plan.stages,
            FrameStore(MemoryFrameArray(small[:, None])),
            replace(line, fps=plan.timeline.fps),
            made,
            given=lambda numbers, size: ((number, at_size(given[number][None], size)[0]) for number in numbers),
            seed=0,
            folder=folder,
        )
        return at_size(large.read(range(len(small)))[:, 0], size)

    return Larger(upscale=upscale, read=lambda numbers: read_given(plan.clip, plan.size, numbers, size), size=size)


def _upscale(
    plan: CompletionPlan, store: FrameStore, target: OutputTarget, journals: Sequence[WindowJournal]
) -> EventStream[LargeFrames]:
    """The made frames of a plan after its stages."""
    large = yield from upscale_made.events(
        plan.stages,
        store,
        plan.timeline,
        plan.made,
        given=lambda numbers, size: read_given(plan.clip, plan.size, numbers, size),
        seed=target.seed,
        folder=target.path.parent,
        prompt=plan.prompts[0],
        journals=journals,
    )
    return LargeFrames(store=large, size=plan.large_size)
