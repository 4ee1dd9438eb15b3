"""`vidiff extend`: more of a video, after its end or before its beginning, or back to it; or a video from a photo."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

from vidiff_cli.checkpoint import file_hash
from vidiff_cli.config.generate import ExtendSettings
from vidiff_cli.errors import UsageError, VidiffError
from vidiff_cli.events import EventStream, Note, task
from vidiff_cli.generation import completion, output
from vidiff_cli.generation.announce import announce_completion
from vidiff_cli.generation.budget import check_amount
from vidiff_cli.generation.load_model import LoadedModel
from vidiff_cli.generation.output_files import OutputOptions, slug
from vidiff_cli.generation.sampling_setup import resolve_sampling
from vidiff_cli.generation.seams import PAST, measure_seams
from vidiff_cli.generation.source_clip import read_clip, working_size
from vidiff_cli.generation.video_job import choose_overlap
from vidiff_cli.metrics.drift import Drift, warnings
from vidiff_cli.sampling.color_anchor import match_color_statistics
from vidiff_cli.timeline import extension, loop
from vidiff_cli.video.probe import VideoInfo, probe

DEFAULT_SECONDS = 2.0
ANCHORS = 16  # given frames that --drift-control first holds to


@dataclass(frozen=True, kw_only=True, slots=True)
class ExtendReport:
    """The video written: `given` of its frames are the input's, `made` are new.

    `seam_jump` is the change across each window's seam over the usual change between given frames (1 is seamless; None
    where the given frames do not change), `drift` the statistics of the given frames and of each window.
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
) -> EventStream[ExtendReport | completion.WindowPlanReport]:
    """Extend a video by --seconds or --num-frames; its own frames stay as they are.

    Every finished window is kept beside the output, so that an interrupted call goes on where it was.
    `opened`: the model of the settings, where the caller has it.
    Raises VidiffError for an input, a model or an output that cannot be used, before anything is made.
    """
    began = time.monotonic()
    if settings.seconds is not None and settings.num_frames is not None:
        raise UsageError("give only one of --seconds and --num-frames")
    info = probe(settings.input)
    if settings.fps is not None and not info.is_image:
        fix = "--fps is for photos"
        raise VidiffError(f"{settings.input} keeps its own rate", found=f"--fps {settings.fps}", fix=fix)
    model = opened or completion.open_completion_model(
        settings.model,
        detail=settings.detail,
        size=settings.size,
        device=settings.device,
        dtype=settings.dtype,
        clip_model=settings.clip_model,
    )
    setup = None if model is None else resolve_sampling(model, settings, completes=True)
    if model is not None and model.settings.frames == 1:
        raise VidiffError("this model makes single pictures", fix="train on videos to extend one")
    options = OutputOptions.from_record("extend", settings.output, settings.model_dump(mode="json"))
    plan = _plan(settings, model, info, options.folder)
    yield from completion.describe_plan(plan)
    if settings.dry_run:
        return (yield from completion.plot_plan(plan, options))
    with completion.open_output(plan, options, model) as target:
        yield from announce_completion(
            model,
            settings,
            settings.prompt,
            seed=target.seed,
            given=len(plan.clip),
            fps=plan.rate,
            estimate_only=settings.detail == "estimate",
        )
        done = yield from completion.complete(model, setup, plan, target)
        made = sum(rank not in plan.timeline.given for rank in plan.timeline.written)
        delay = Fraction(made) / plan.rate if settings.before else Fraction(0)
        sound = output.SoundTrack(delay=delay, stop=settings.loop) if settings.audio else None
        done = yield from output.write_video(plan, target, done, sound=sound, device=settings.device)
        seams = measure_seams(plan, done)
        for text in warnings(seams.drift.windows, seams.drift.given) if seams.drift else ():
            yield Note(text, "warning")
        report = ExtendReport(
            path=target.path,
            given=len({*plan.timeline.given} & {*plan.timeline.written}),
            made=made,
            fps=plan.rate,
            width=plan.size[1],
            height=plan.size[0],
            seed=target.seed,
            condition=done.condition,
            windows=len(done.windows),
            seam_jump=seams.jumps,
            drift=seams.drift,
            given_difference=output.verify_lossless(plan, target),
            sheet=output.write_comparison(plan, target, done),
            seconds=time.monotonic() - began,
        )
        facts = {"given": report.given, "made": made, "fps": str(plan.rate), "condition": done.condition}
        facts |= {"seam_jump": seams.jumps, "drift": asdict(seams.drift) if seams.drift else None}
        target.finish(model, facts | {"input_sha256": file_hash(settings.input)})
        return report


def _plan(
    settings: ExtendSettings, model: LoadedModel | None, info: VideoInfo, folder: Path
) -> completion.CompletionPlan:
    """Read the input and plan its new frames."""
    overlap = choose_overlap(settings.overlap, PAST if model is None else model.settings.frames)
    steady = None if info.is_image else info.fps  # a variable rate becomes a steady one
    clip = read_clip(info, folder, *working_size(info, model, settings.size), fps=steady)
    rate = (settings.fps or completion.photo_fps(model)) if info.is_image else clip.fps
    new, count = settings.num_frames or max(1, round((settings.seconds or DEFAULT_SECONDS) * rate)), len(clip)
    height, width = clip.size
    check_amount(count + new, width, height, folder)
    if settings.loop:
        timeline = loop(count, rate, new=new, shown=overlap)
    else:
        timeline = extension(count, rate, new=new, before=settings.before)
    prompts, anchor = settings.prompt or ("",), None
    if model is not None and settings.drift_control == "first":
        nearest = range(min(ANCHORS, count)) if settings.before else range(max(0, count - ANCHORS), count)
        anchor = match_color_statistics(clip.frames.read(nearest))
    return completion.plan_completion(
        model,
        clip,
        timeline,
        overlap=overlap,
        scheme=settings.scheme,
        prompt=lambda number: prompts[min(number, len(prompts) - 1)],
        size=settings.size,
        detail=settings.detail,
        samples=settings.samples,
        scenes=settings.scenes,
        name=f"{slug(settings.input.stem)}-{'looped' if settings.loop else 'extended'}",
        anchor=anchor,
    )
