"""Carry out a completion plan: the model's frames, the result with its sound, its checks and its sidecar."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from vidiff_cli.events import EventStream, Note
from vidiff_cli.generation.announce import announce_completion, describe_guidance
from vidiff_cli.generation.completion import (
    CompletionOptions,
    CompletionPlan,
    WindowPlanReport,
    complete,
    describe_plan,
    open_output,
    plot_plan,
)
from vidiff_cli.generation.open_input import input_hash
from vidiff_cli.generation.output import SoundTrack, verify_lossless, write_comparison, write_video
from vidiff_cli.generation.output_files import OutputOptions
from vidiff_cli.generation.sampling_setup import SamplingSetup
from vidiff_cli.generation.seams import Seams, flicker_of, measure_seams
from vidiff_cli.metrics.drift import Drift, warnings
from vidiff_cli.metrics.flicker import Flicker
from vidiff_cli.models.families import VideoModel


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
    model: VideoModel | None,
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
        model: The model; None where the estimate by motion is taken alone.
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
    began, line = time.monotonic(), plan.timeline
    yield from describe_plan(plan)
    if setup is not None:
        yield from describe_guidance(setup, plan.windows, plan.rolling)
    for part in plan.clip.parts:
        for remark in part.remarks:
            yield Note(f"{part.info.path.name}: {remark}.", "warning" if remark.startswith("damaged") else "info")
    if options.dry_run:
        return (yield from plot_plan(plan, output))
    with open_output(plan, output, model) as target:
        yield from announce_completion(
            model,
            options,
            plan.prompts,
            seed=target.seed,
            given=len(plan.clip),
            fps=line.fps,
            estimate_only=plan.detail == "estimate",
        )
        done = yield from complete(model, setup, plan, target)
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
        target.finish(model, facts)
        return report


def _facts(report: CompletionReport, *, seams: bool) -> dict[str, Any]:
    """Facts of a result for its sidecar."""
    common = {"made": report.made, "fps": str(report.fps), "condition": report.condition}
    if not seams:
        return {"frames": report.frames} | common | {"flicker": report.flicker and asdict(report.flicker)}
    drift = asdict(report.drift) if report.drift else None
    return {"given": report.given} | common | {"seam_jump": report.seam_jump, "drift": drift}
