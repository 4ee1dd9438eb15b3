"""The models of a completion: one that makes frames, and the upscalers that follow it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from vidiff_cli.config.model import Task
from vidiff_cli.device import choose_device
from vidiff_cli.errors import VidiffError
from vidiff_cli.generation.cascade import open_stages
from vidiff_cli.generation.load_model import ModelOptions, newest_run, open_model_as
from vidiff_cli.generation.sampling_setup import SamplingOptions
from vidiff_cli.generation.source_clip import ResultSize
from vidiff_cli.generation.upscaling import UpscaleSetup
from vidiff_cli.models.families import VideoModel

Detail = Literal["both", "estimate", "model"]
"""Source of new frames: the estimate by motion, the model's frames, or both."""


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
    @property
    def then(self) -> Sequence[Path]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class CompletionModels:
    """The model (None: the estimate by motion alone) and the `stages` that make its frames larger."""

    model: VideoModel | None
    stages: Sequence[UpscaleSetup] = ()

    @property
    def hashes(self) -> list[str]:
        """Hashes of the stages' files."""
        return [stage.model.hash for stage in self.stages]

    def settings(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Settings as JSON with the stages by name, also those of a cascade: enough to repeat a result."""
        return dict(record) | ({"then": [stage.model.name for stage in self.stages]} if self.stages else {})

    def facts(self) -> dict[str, Any]:
        """Facts of the stages for a sidecar; none without any."""
        return {"stages": [dict(stage.model.record()) for stage in self.stages]} if self.stages else {}


def open_completion_models(options: CompletionOptions, tasks: Collection[Task] = ("video",)) -> CompletionModels:
    """The models of a completion, by default that of the newest run for one of the `tasks`; none where the estimate by
    motion is taken alone, because it is asked for, or because no model is named and there is no run.

    A film keeps its rate: of a cascade, the stage of the frames between is left out. VidiffError as `open_model` and
    `open_stages`, for options that need a model, and for stages that have nothing to do.
    """
    if options.detail != "estimate" and (named := options.model or newest_run(tasks)) is not None:
        stages = [stage for stage in open_stages(options, options.then) if isinstance(stage, UpscaleSetup)]
        model = open_model_as(options, named)
        if len(stages) < len(options.then):
            found, fix = "a model of the frames between, with --then", "name it with --model of vidiff interpolate"
            raise VidiffError("a film keeps its rate", found=found, fix=fix)
        if stages and model.only_between:
            fix = "leave out --then"
            raise VidiffError(f"{model.name} makes frames of the film's own size", found="--then", fix=fix)
        return CompletionModels(model=model, stages=stages)
    needing = {
        "--detail model": options.detail == "model",
        "--size model": options.size == "model",
        "--then": bool(options.then),
    }
    option = next((option for option, is_given in needing.items() if is_given), None)
    if option is not None:
        found = "--detail estimate" if options.detail == "estimate" else "no run under runs/"
        raise VidiffError(f"{option} needs a model", found=found, fix="name one with --model")
    choose_device(options.device, deterministic=options.deterministic)  # of the motion
    return CompletionModels(model=None)
