"""`vidiff evaluate`: how good generated videos are, in numbers that carry their protocol."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vidiff_cli.config.evaluate import EvaluateSettings
from vidiff_cli.config.world import ADDRESS
from vidiff_cli.device import choose_device
from vidiff_cli.errors import UsageError, VidiffError
from vidiff_cli.evaluation import model_samples
from vidiff_cli.evaluation.clip_score import open_clip_scorer
from vidiff_cli.evaluation.distances import frechet_distance, kernel_estimate
from vidiff_cli.evaluation.extractors import open_extractors
from vidiff_cli.evaluation.measure_videos import MeasureContext, Measured, measure_videos
from vidiff_cli.evaluation.measures import CAPTION_ACCURACY, CLIP_SCORE, FIDELITY, FROM_MIDDLE, REAL_WARPING, TEMPORAL
from vidiff_cli.evaluation.protocol import cautions, choose_view, describe_comparison, describe_protocol
from vidiff_cli.evaluation.report import (
    JSON,
    PLOT,
    TABLE,
    EvaluateReport,
    Result,
    check_target,
    table_rows,
    write_report,
)
from vidiff_cli.evaluation.video_sets import (
    Item,
    VideoSet,
    dataset_set,
    files_set,
    make_pairs,
    world_set,
)
from vidiff_cli.evaluation.view import View
from vidiff_cli.events import EventStream, Note, task
from vidiff_cli.generation.load_model import open_model_as
from vidiff_cli.generation.sampling_setup import resolve_sampling
from vidiff_cli.metrics.bootstrap import ConfidenceInterval, bootstrap_mean
from vidiff_cli.path_kind import MODEL_KINDS, path_kind
from vidiff_cli.system.launcher import ProcessInfo
from vidiff_cli.system.ranks import Ranks, meet

__all__ = ["EvaluateReport", "evaluate", "table_rows"]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sides:
    """Both sides in one view; `truth` has the real video of each generated one where they are compared in pairs."""

    real: VideoSet
    generated: VideoSet
    view: View
    truth: list[Item] | None = None


@task
def evaluate(settings: EvaluateSettings) -> EventStream[EvaluateReport | None]:
    """Compares generated videos with real ones, or a run's samples with its held-out clips.

    Videos are read one after the other: memory does not grow with their number. Several processes of a launcher share
    the sampling and measuring; the first one reports, the others return None. Raises VidiffError for videos, weights
    or a folder that cannot be used, and for too few videos.
    """
    start = time.monotonic()
    launch = ProcessInfo.from_environment(os.environ)
    with meet(launch, settings.output) as ranks:
        check_target(settings.output, overwrite=settings.overwrite)
        launch.take_device(settings.device)
        device = choose_device(settings.device, deterministic=settings.deterministic)
        extractors = list(open_extractors(settings.extractors, device, expect=settings.expect))
        clip = open_clip_scorer(settings.clip_model, device) if settings.clip else None
        sides = yield from _open_sides(settings, ranks)
        tools = MeasureContext(
            view=sides.view,
            extractors=extractors if min(len(sides.real.items), len(sides.generated.items)) > 1 else (),
            given=_given_frames(settings, sides),
            temporal=settings.temporal,
            clip=clip,
            device=device,
            world=sides.real.facts["kind"] == "world",
        )
        warnings = [*_dataset_warnings(sides), *cautions(sides.real, sides.generated, tools, sides.truth is not None)]
        yield from (Note(text, "warning") for text in warnings)
        yield from describe_comparison(sides.view, tools.given, sides.truth, clip)
        real = yield from measure_videos(sides.real, tools, ranks, what="real videos")
        generated = yield from measure_videos(sides.generated, tools, ranks, what="generated videos", truth=sides.truth)
        if not ranks.is_main:
            return None
    results = yield from _results(settings, tools, real, generated)
    report = EvaluateReport(
        folder=settings.output,
        json=settings.output / JSON,
        table=settings.output / TABLE,
        plot=settings.output / PLOT,
        protocol=describe_protocol(
            sides.real,
            sides.generated,
            tools,
            sides.truth,
            (real, generated),
            bootstrap=settings.bootstrap,
            seed=settings.seed,
        ),
        results=tuple(results),
        by_frame={
            measure.name: tuple(float(total / count) if count else None for total, count in sums.T)
            for measure, sums in generated.by_frame.items()
        },
        warnings=tuple(warnings),
        seconds=time.monotonic() - start,
    )
    write_report(report)
    yield Note(f"Written: {report.json}, {report.table.name} and {report.plot.name}.")
    return report


def _open_sides(settings: EvaluateSettings, ranks: Ranks) -> EventStream[_Sides]:
    """Opens both sides; of a run, samples the generated one."""
    first, second = settings.real, settings.generated
    if second is not None and path_kind(first) in MODEL_KINDS:
        fix = "name the run last, or alone"
        raise UsageError("the first one to compare must be real", found=f"the run {first}", fix=fix)
    if second is None and path_kind(first) not in MODEL_KINDS:
        fix = "name the generated videos, or a run to sample from"
        raise UsageError(f"nothing to compare {first} with", fix=fix)
    run = first if second is None else second if path_kind(second) in MODEL_KINDS else None
    real = yield from _open_real(settings, run)
    if run is not None:
        return (yield from _sample_run(settings, run, real, ranks))
    assert second is not None
    generated = dataset_set(second, "all") if path_kind(second) == "dataset" else (yield from files_set(second))
    generated = generated.subset(settings.count)
    truth = make_pairs(real.items, generated.items, settings.paired)
    view = _view(settings, [*real.items, *generated.items])
    if min(len(real.items), len(generated.items)) < 2 and truth is None:
        found = f"{len(real.items)} real and {len(generated.items)} generated"
        fix = "give more, or --paired to compare one by one"
        raise VidiffError("too few videos for a distance", found=found, expected="at least two on each side", fix=fix)
    return _Sides(real=real, generated=generated, view=view, truth=truth)


def _open_real(settings: EvaluateSettings, run: Path | None) -> EventStream[VideoSet]:
    """Opens the real side: as named, else the clips that the run was trained on."""
    first, alone = settings.real, settings.generated is None
    world = None if run is None or settings.dataset is not None else model_samples.training_world(run)
    if world is not None and (alone or str(first) == ADDRESS):
        return world_set(world, settings.side, settings.count or world.held_out)
    source = settings.dataset or model_samples.training_dataset(first) if alone else first
    is_data = alone or path_kind(source) == "dataset"
    real = dataset_set(source, settings.side) if is_data else (yield from files_set(source))
    return real.subset(settings.count)


def _sample_run(settings: EvaluateSettings, run: Path, real: VideoSet, ranks: Ranks) -> EventStream[_Sides]:
    """Samples as many videos from a run as there are real ones, with their captions as prompts."""
    if settings.paired:
        raise UsageError("samples of a run have no real video of their own", fix="leave out --paired")
    asked = {"model": run, "device": settings.device, "deterministic": settings.deterministic, "seed": settings.seed}
    sampling = settings.sampling.model_copy(update=asked)
    model = open_model_as(sampling)
    setup = resolve_sampling(model, sampling)
    count = settings.count or len(real.items)
    if count < 2 or len(real.items) < 2:
        raise VidiffError("a distribution takes at least two videos", found=f"{count} and {len(real.items)}")
    placeholders = model_samples.placeholders(model, count, settings.num_frames)
    view = _view(settings, [*real.items, *placeholders])
    captions = [item.prompt or "" for item in real.items]
    prompts = [captions[number % len(captions)] for number in range(count)]
    generated = yield from model_samples.sample_set(
        model,
        setup,
        run,
        prompts,
        placeholders[0].frames,
        settings.output.parent,
        ranks,
        seed=sampling.seed or 0,
        record=sampling.model_dump(mode="json", exclude={"output", "overwrite", "sidecar", "compare", "lossless"}),
    )
    return _Sides(real=real, generated=generated, view=view)


def _view(settings: EvaluateSettings, items: list[Item]) -> View:
    return choose_view(items, frames=settings.num_frames, width_height=settings.width_height, fps=settings.fps)


def _dataset_warnings(sides: _Sides) -> Iterator[str]:
    """Warns where a run is compared with other clips than those that it was trained on."""
    real, generated = sides.real.facts, sides.generated.facts
    if generated["kind"] == "samples" and real["kind"] != "world":
        run = Path(generated["path"])
        if model_samples.is_other_dataset(run, sides.real):
            yield f"{real['path']} is not the dataset that {run} was trained on, or has changed since."


def _given_frames(settings: EvaluateSettings, sides: _Sides) -> frozenset[int]:
    """The frames that do not count: as asked, else those that the sidecars of all generated videos agree on."""
    asked, frames = settings.given_frames, sides.view.frames
    recorded = {item.given for item in sides.generated.items}
    given = asked if asked is not None else (recorded.pop() if len(recorded) == 1 else None) or frozenset()
    if asked and max(asked) >= frames:
        found = f"frame {max(asked)}"
        raise VidiffError("--given names frames that do not exist", found=found, expected=f"below {frames}")
    given = frozenset(frame for frame in given if frame < frames)
    if len(given) == frames:
        raise VidiffError("all frames were given", found=f"{frames}", fix="raise --num-frames, or pass --given 0")
    return given


def _results(
    settings: EvaluateSettings, tools: MeasureContext, real: Measured, generated: Measured
) -> EventStream[list[Result]]:
    results = list[Result]()
    for extractor in tools.extractors:
        features = real.features[extractor.name], generated.features[extractor.name]
        what = f"bootstrap ({extractor.name})"
        value, halves = yield from frechet_distance(
            *features, replicates=settings.bootstrap, seed=settings.seed, what=what
        )
        results.append(_distance(extractor.frechet_name, value, halves))
        results.append(_distance(extractor.kernel_name, *kernel_estimate(*features, seed=settings.seed)))
    for kind, measures in (
        ("fidelity", FIDELITY),
        ("time", (*TEMPORAL, REAL_WARPING)),
        ("text", (CLIP_SCORE, *CAPTION_ACCURACY.values(), FROM_MIDDLE)),
    ):
        for measure in measures:
            ours, theirs = (
                bootstrap_mean(side.numbers.get(measure, ()), seed=settings.seed) for side in (generated, real)
            )
            if ours.videos:
                results.append(
                    Result(
                        name=measure.name,
                        kind=kind,
                        unit=measure.unit,
                        better=measure.better,
                        generated=ours,
                        real=theirs if theirs.videos else None,
                    )
                )
    return results


def _distance(name: str, value: ConfidenceInterval, halves: ConfidenceInterval | None) -> Result:
    return Result(name=name, kind="distance", unit="", better="lower", generated=value, real=halves)
