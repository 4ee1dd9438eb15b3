"""The stages of a cascade: frames that a model has made go through models of larger frames, or of frames between.

Each stage takes the 8-bit frames of the one before as `vidiff upscale --detail model` and `vidiff interpolate --detail
model` take a film, with the same noise. Shapes: t frames, h w pixels, c = 3 RGB; uint8.
"""

from __future__ import annotations

import glob
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np

from vidiff_cli.errors import VidiffError
from vidiff_cli.events import Event, EventStream, Note
from vidiff_cli.frames import Window, plan
from vidiff_cli.generation.announce import announce_model
from vidiff_cli.generation.cascade_folder import find_cascade, read_cascade, stage_file
from vidiff_cli.generation.clip_frames import ClipFrames, scene_ranges
from vidiff_cli.generation.frame_store import FrameStore, MemoryFrameArray
from vidiff_cli.generation.frames_stage import FramesSetup, estimate_frames_seconds, fill_frames, frames_setup
from vidiff_cli.generation.load_model import ModelOptions, open_frames_model, open_upscaler, task_of
from vidiff_cli.generation.resume_journal import WindowJournal, journal_path, remove_journal, window_journal
from vidiff_cli.generation.source_clip import Size
from vidiff_cli.generation.upscale_budget import check_memory, check_sides, estimate_upscale_seconds
from vidiff_cli.generation.upscaling import (
    UpscaleSetup,
    default_overlap,
    upscale_into,
)
from vidiff_cli.models.acceleration import CompileChoice
from vidiff_cli.models.codec import is_gray
from vidiff_cli.models.families import VideoModel
from vidiff_cli.models.unet_model import UNetModel
from vidiff_cli.sampling.tiles import TILE
from vidiff_cli.system.atomic_files import remove
from vidiff_cli.timeline import Timeline, plans

FIX = "name an upscaler with --then"


@dataclass(frozen=True, kw_only=True, slots=True)
class StageOptions:
    """An upscaler as `open_upscaler` takes it."""

    model: Path | None
    device: str
    dtype: str
    compile: CompileChoice
    deterministic: bool
    by: Literal["upscaler"] = "upscaler"


Stage = UpscaleSetup | FramesSetup
"""A model of larger frames, or of the frames between."""


def open_stages(options: ModelOptions, then: Sequence[Path]) -> list[Stage]:
    """The stages `then`, or without any those of the cascade that the options name. VidiffError: a model that is no
    stage, several of the frames between, a damaged cascade."""
    paths = list(then)
    if not paths and (folder := find_cascade(options.model)) is not None:
        paths = [stage_file(folder, place) for place in range(len(read_cascade(folder).stages))]
    stages = [open_stage(_options(options, path), fix=FIX) for path in paths]
    check_one_rate([stage.model for stage in stages])
    return stages


def open_stage(options: StageOptions, *, fix: str) -> Stage:
    """The stage that options name. VidiffError, with this fix, for any other model."""
    if options.model is not None and task_of(options.model) == "frames":
        return frames_setup(open_frames_model(options))
    return stage_setup(open_upscaler(options, None, fix=fix))


def _options(options: ModelOptions, path: Path) -> StageOptions:
    return StageOptions(
        model=path,
        device=options.device,
        dtype=options.dtype,
        compile=options.compile,
        deterministic=options.deterministic,
    )


def check_one_rate(models: Sequence[UNetModel]) -> None:
    """Raise VidiffError for several models of the frames between."""
    if (count := sum(model.only_between for model in models)) > 1:
        fix = "take one of them: it makes as many frames as are wanted"
        raise VidiffError("a cascade has one stage of the frames between", found=count, fix=fix)


def rate_factor(stages: Sequence[Stage]) -> int:
    """Rate after all stages, in rates of the base."""
    return math.prod(stage.factor for stage in stages)


def with_factor(stages: Sequence[Stage], factor: int) -> list[Stage]:
    """The stages with another factor of that of the frames between."""
    return [replace(stage, factor=factor) if isinstance(stage, FramesSetup) else stage for stage in stages]


def note_replaced(options: ModelOptions, then: Sequence[Path]) -> Iterator[Event]:
    """Say where --then takes the place of a cascade's own stages."""
    if then and find_cascade(options.model) is not None:
        yield Note(f"--then takes the place of the upscalers that {options.model} names.")


def stage_setup(model: UNetModel) -> UpscaleSetup:
    """An upscaler taken once, in as many steps as it was distilled to or else one, at the weight 1: there is no film
    to measure another on."""
    return UpscaleSetup(
        model=model,
        passes=1,
        steps=model.steps,
        sampler="dpmpp-2m",
        samples=1,
        augmentation=0.0,
        prompt="",
        tile=TILE,
    )


def final_size(stages: Sequence[Stage], size: Size) -> Size:
    """Height and width of frames after all stages."""
    for stage in stages:
        size = size[0] * stage.scale, size[1] * stage.scale
    return size


def check_stages(stages: Sequence[Stage], base: VideoModel, size: Size, frames: int) -> None:
    """Raise VidiffError for stages that do not follow a base, or whose frames, of those of a `size`, are too large."""
    large = size
    for stage in stages:
        large = final_size([stage], large)
        check_channels(base.name, stage.model.name, gray=is_gray(base.codec), then_gray=is_gray(stage.model.codec))
        check_sides(*large, fix="take fewer stages")
    for place, stage in enumerate(stages, 1):
        large = final_size(stages[:place], size)
        check_memory(stage, frames * rate_factor(stages), *large, fix="take fewer stages")


def check_channels(base: str, stage: str, *, gray: bool, then_gray: bool) -> None:
    """Raise VidiffError for a stage of gray frames after a model of color, and the other way around."""
    if gray != then_gray:
        kinds = {True: "gray frames", False: "frames in color"}
        raise VidiffError(
            f"{stage} does not go with {base}",
            found=f"a stage of {kinds[then_gray]}",
            expected=f"one of {kinds[gray]}, as the model makes them",
        )


def announce_stages(stages: Sequence[Stage], size: Size, seed: int, prompts: Sequence[str]) -> Iterator[Event]:
    """Say which stages follow a base of this size, and embed their prompts."""
    for stage in stages:
        size = final_size([stage], size)
        yield from announce_model(stage.model, seed, prompts if stage.model.reads_text else [])
        if isinstance(stage, FramesSetup):
            yield Note(f"It makes {stage.factor - 1} frame{'s' * (stage.factor > 2)} between two others.")
        else:
            yield Note(f"It makes the frames {stage.scale} times larger, to {size[1]}x{size[0]}.")


def estimate_stages(stages: Sequence[Stage], size: Size, frames: int) -> float:
    """Wall seconds that a video of `frames` of `size` (h w) takes in all stages, as one scene."""
    seconds = 0.0
    for stage in stages:
        if isinstance(stage, FramesSetup):
            seconds += estimate_frames_seconds(stage, size, frames)
            frames = stage.count(frames)
            continue
        overlap = default_overlap(stage.model, stage.steps)
        windows = plan(frames, (), window=stage.model.frames, overlap=overlap)
        seconds += estimate_upscale_seconds(stage, windows, size)
        size = final_size([stage], size)
    return seconds


@contextmanager
def stage_journals(
    stages: Sequence[Stage], target: Path, key: str, seed: int, *, keep: bool = True
) -> Iterator[list[WindowJournal]]:
    """The journals of a clip's large frames, one of each stage, hidden beside the `target` of a call.

    `key` stands for all that decides the clip, `seed` is its own; without `keep` nothing outlives the process.
    """
    with ExitStack() as stack:
        yield [
            stack.enter_context(window_journal(_stage_target(target, f"{place}_s{seed}"), key, seed, keep=keep))
            for place in range(1, len(stages) + 1)
        ]


def remove_clip_journals(stages: Sequence[Stage], target: Path, seeds: Sequence[int]) -> None:
    """Remove what the stages of clips have kept."""
    for seed, place in product(seeds, range(1, len(stages) + 1)):
        remove_journal(_stage_target(target, f"{place}_s{seed}"))


def remove_stage_journals(target: Path) -> None:
    """Remove all that the stages of a call have kept, and what those of another one left beside the same target."""
    for path in target.parent.glob(f"{glob.escape(journal_path(_stage_target(target, '')).stem)}*.partial*"):
        remove(path)


def _stage_target(target: Path, which: str) -> Path:
    return target.with_name(f"{target.name}_stage-{which}")


def pass_stages(
    stages: Sequence[Stage],
    source: ClipFrames,
    count: int,
    *,
    prompt: str,
    seed: int,
    journals: Sequence[WindowJournal] = (),
) -> EventStream[ClipFrames]:
    """Take a clip through all stages.

    Args:
        stages: The stages, in order.
        source: The frames as a model has made them.
        count: Number of frames.
        prompt: What they show; "" for no prompt.
        seed: Seed of all noise.
        journals: Those of `stage_journals`, which keep the frames of finished windows and must stay open for the
            result to be read; none keeps them in memory.

    Returns:
        The frames of the last stage.

    Raises:
        VidiffError: As `write_windows`.
    """
    for place, stage in enumerate(stages):
        height, width, _ = source.store.made.shape[1:]
        shape, made = (1, *final_size([stage], (height, width)), 3), stage.count(count)
        journal = journals[place] if journals else None
        array = MemoryFrameArray(np.zeros((made, *shape), np.uint8)) if journal is None else journal.frames(shape)
        setup, what = replace(stage, prompt=prompt), f"windows of stage {place + 1}, seed {seed}"
        if isinstance(setup, FramesSetup):
            source = yield from fill_frames(setup, source, count, array, seed=seed, journal=journal, what=what)
        else:
            store, windows = FrameStore(array), _plan(setup, source, count)
            yield from upscale_into(setup, source, windows, store, seed=seed, journal=journal, what=what)
            source = ClipFrames(store=store, clip=0, fps=source.fps)
        count = made
    return source


def pass_frames(stages: Sequence[Stage], frames: np.ndarray, fps: Fraction, *, prompt: str, seed: int) -> np.ndarray:
    """Take frames (t h w c) through all stages, in memory: (T H W c)."""
    source = ClipFrames(store=FrameStore(MemoryFrameArray(frames[:, None])), clip=0, fps=fps)
    events, count = pass_stages(stages, source, len(frames), prompt=prompt, seed=seed), len(frames)
    for stage in stages:
        count = stage.count(count)
    while True:
        try:
            next(events)
        except StopIteration as done:
            return done.value.read(range(count))


def _plan(setup: UpscaleSetup, source: ClipFrames, count: int) -> list[Window]:
    """The windows of each scene, as of a film."""
    times = tuple(number / source.fps for number in range(count))
    line = Timeline(
        times=times, given={}, written=tuple(range(count)), fps=source.fps, segments=tuple(scene_ranges(source, count))
    )
    return plans(line, window=setup.model.frames, overlap=default_overlap(setup.model, setup.steps))
