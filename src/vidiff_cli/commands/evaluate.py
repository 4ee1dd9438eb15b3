"""`vidiff evaluate`: how good generated videos are, in numbers that carry their protocol."""

from __future__ import annotations

import time
from pathlib import Path

from vidiff_cli.config.evaluate import EvaluateSettings
from vidiff_cli.config.world import ADDRESS
from vidiff_cli.device import choose_device
from vidiff_cli.errors import UsageError, VidiffError
from vidiff_cli.evaluation import model_samples
from vidiff_cli.evaluation.clip_score import open_similarity
from vidiff_cli.evaluation.distances import frechet_distance, kernel_estimate
from vidiff_cli.evaluation.extractors import open_extractors
from vidiff_cli.evaluation.measure_videos import MeasureContext, Measured, measure_videos
from vidiff_cli.evaluation.measures import CLIP, FIDELITY, OVER_TIME, TRUE_WARPING, WORDS
from vidiff_cli.evaluation.protocol import cautions, describe_protocol, explained
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
from vidiff_cli.evaluation.view import View, choose_view
from vidiff_cli.events import EventStream, Note, task
from vidiff_cli.generation.load_model import open_model
from vidiff_cli.generation.sampling_setup import resolve_sampling
from vidiff_cli.metrics.bootstrap import ConfidenceInterval, bootstrap_mean
from vidiff_cli.path_kind import MODEL_KINDS, path_kind

__all__ = ["EvaluateReport", "evaluate", "table_rows"]


@task
def evaluate(settings: EvaluateSettings) -> EventStream[EvaluateReport]:
    """Compares generated videos with real ones, or a run's samples with its held-out clips.

    Videos are read one after the other: memory does not grow with their number. Raises VidiffError for videos, weights
    or a folder that cannot be used, and for too few videos.
    """
    began = time.monotonic()
    check_target(settings.output, overwrite=settings.overwrite)
    device = choose_device(settings.device)
    extractors = list(open_extractors(settings, device))
    similarity = open_similarity(settings.clip_model, device) if settings.clip else None
    warnings = list[str]()
    real, generated, view, truth = yield from _sides(settings, warnings)
    given = _given(settings, view, generated)
    tools = MeasureContext(
        view=view,
        extractors=extractors if min(len(real.items), len(generated.items)) > 1 else (),
        given=given,
        temporal=settings.temporal,
        similarity=similarity,
        device=device,
        world=real.facts["kind"] == "world",
    )
    warnings += cautions(real, generated, tools, truth is not None)
    for text in warnings:
        yield Note(text, "warning")
    yield from explained(view, given, truth, similarity)
    found = yield from measure_videos(real, tools, what="real videos")
    made = yield from measure_videos(generated, tools, what="generated videos", truth=truth)
    results = yield from _results(settings, tools, found, made)
    report = EvaluateReport(
        folder=settings.output,
        json=settings.output / JSON,
        table=settings.output / TABLE,
        plot=settings.output / PLOT,
        protocol=describe_protocol(settings, real, generated, tools, truth, (found, made)),
        results=tuple(results),
        by_frame={
            measure.name: tuple(float(total / count) if count else None for total, count in sums.T)
            for measure, sums in made.by_frame.items()
        },
        warnings=tuple(warnings),
        seconds=time.monotonic() - began,
    )
    write_report(report)
    yield Note(f"Written: {report.json}, {report.table.name} and {report.plot.name}.")
    return report


Sides = tuple[VideoSet, VideoSet, View, list[Item] | None]


def _sides(settings: EvaluateSettings, warnings: list[str]) -> EventStream[Sides]:
    """Both sides, the view of them, and the real video for each generated one where they are compared one by one."""
    first, second = settings.real, settings.generated
    if second is not None and path_kind(first) in MODEL_KINDS:
        raise UsageError(
            "the first one to compare is real", found=f"the run {first}", fix="name the run last, or alone"
        )
    if second is None and path_kind(first) not in MODEL_KINDS:
        fix = "name the generated videos, or a run to sample from"
        raise UsageError(f"there is nothing to compare {first} with", fix=fix)
    run = first if second is None else second if path_kind(second) in MODEL_KINDS else None
    stream = None if run is None or settings.dataset is not None else model_samples.training_world(run)
    if stream is not None and (second is None or str(first) == ADDRESS):
        source, real = Path(ADDRESS), world_set(stream, settings.side, settings.count or stream.held_out)
    else:
        source = model_samples.training_dataset(settings, first) if second is None else first
        is_data = second is None or path_kind(source) == "dataset"
        real = dataset_set(source, settings.side) if is_data else (yield from files_set(source))
        real = real.some(settings.count)
    if run is None:
        assert second is not None
        generated = dataset_set(second, "all") if path_kind(second) == "dataset" else (yield from files_set(second))
        generated = generated.some(settings.count)
        truth = make_pairs(real.items, generated.items, settings.paired)
        view = choose_view(settings, [("real", real.items), ("generated", generated.items)])
        _check_enough(real, generated, paired=truth is not None)
        return real, generated, view, truth
    if settings.paired:
        raise UsageError("samples of a run have no real video of their own", fix="leave out --paired")
    if source != Path(ADDRESS) and model_samples.is_other_dataset(run, real):
        warnings.append(f"{source} is not what {run} was trained on, or has changed since.")
    asked = model_samples.sampling_settings(settings, run)
    model = open_model(asked.model, device=asked.device, dtype=asked.dtype, clip_model=asked.clip_model)
    resolve_sampling(model, asked)  # refuses a condition that the model was not trained for before anything is made
    count = settings.count or len(real.items)
    if count < 2 or len(real.items) < 2:
        raise VidiffError("a distribution takes two videos at least", found=f"{count} and {len(real.items)}")
    coming = model_samples.announced(model, count, settings.num_frames)
    view = choose_view(settings, [("real", real.items), ("generated", coming)])
    captions = [item.prompt or "" for item in real.items]
    prompts = [captions[number % len(captions)] for number in range(count)]
    generated = yield from model_samples.samples(model, asked, run, prompts, coming[0].frames, settings.output.parent)
    return real, generated, view, None


def _check_enough(real: VideoSet, generated: VideoSet, *, paired: bool) -> None:
    few = min(len(real.items), len(generated.items))
    if few < 2 and not paired:
        found = f"{len(real.items)} real and {len(generated.items)} generated"
        fix = "give more, or --paired to compare one by one"
        raise VidiffError("too few videos for a distance", found=found, expected="two on each side at least", fix=fix)


def _given(settings: EvaluateSettings, view: View, generated: VideoSet) -> frozenset[int]:
    """The frames that do not count: as said, else what the sidecars of all generated videos agree on."""
    asked = settings.given_frames
    told = {item.given for item in generated.items}
    given = asked if asked is not None else (told.pop() if len(told) == 1 else None) or frozenset()
    if asked and max(asked) >= view.frames:
        found = f"frame {max(asked)}"
        raise VidiffError("--given names frames that are not there", found=found, expected=f"below {view.frames}")
    given = frozenset(frame for frame in given if frame < view.frames)
    if len(given) == view.frames:
        raise VidiffError("all frames were given", found=f"{view.frames}", fix="raise --num-frames, or pass --given 0")
    return given


def _results(
    settings: EvaluateSettings, tools: MeasureContext, real: Measured, made: Measured
) -> EventStream[list[Result]]:
    results = list[Result]()
    for extractor in tools.extractors:
        one, other = real.features[extractor.name], made.features[extractor.name]
        what = f"bootstrap ({extractor.name})"
        value, halves = yield from frechet_distance(
            one, other, replicates=settings.bootstrap, seed=settings.seed, what=what
        )
        results.append(_distance(extractor.frechet_name, value, halves))
        results.append(_distance(extractor.kernel_name, *kernel_estimate(one, other, seed=settings.seed)))
    for kind, measures in (
        ("fidelity", FIDELITY),
        ("time", (*OVER_TIME, TRUE_WARPING)),
        ("text", (CLIP, *WORDS.values())),
    ):
        for measure in measures:
            value = bootstrap_mean(made.numbers.get(measure, ()), seed=settings.seed)
            if value.videos:
                theirs = bootstrap_mean(real.numbers.get(measure, ()), seed=settings.seed)
                results.append(
                    Result(
                        name=measure.name,
                        kind=kind,
                        unit=measure.unit,
                        better=measure.better,
                        generated=value,
                        real=theirs if theirs.videos else None,
                    )
                )
    return results


def _distance(name: str, value: ConfidenceInterval, halves: ConfidenceInterval | None) -> Result:
    return Result(name=name, kind="distance", unit="", better="lower", generated=value, real=halves)
