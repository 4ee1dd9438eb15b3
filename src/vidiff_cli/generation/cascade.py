"""The stages of a cascade: frames that a model has made go through upscalers, one after the other.

Each stage takes the 8-bit frames of the one before as `vidiff upscale --detail model` takes a film, with the same
noise. Shapes: t frames, h w pixels, c = 3 RGB; uint8.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise, product
from pathlib import Path
from typing import Literal

import numpy as np

from vidiff_cli.errors import VidiffError
from vidiff_cli.events import Event, EventStream, Note
from vidiff_cli.frames import Window, plan
from vidiff_cli.generation.announce import announce_model
from vidiff_cli.generation.cascade_folder import find_cascade, read_cascade, stage_file
from vidiff_cli.generation.frame_store import FrameStore, MemoryFrameArray
from vidiff_cli.generation.load_model import ModelOptions, open_upscaler
from vidiff_cli.generation.resume_journal import WindowJournal, journal_path, remove_journal, window_journal
from vidiff_cli.generation.source_clip import LEAST_FOR_CUTS, Size
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
from vidiff_cli.system.atomic_files import remove
from vidiff_cli.timeline import Timeline, plans
from vidiff_cli.video.scene_detection import SceneScorer, scene_starts

TILE = 512  # pixels: the side that a network sees at a time
BLOCK = 32  # frames that are read at a time for their scenes
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


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipFrames:
    """Frames of one clip of a store, and their rate."""

    store: FrameStore
    clip: int
    fps: Fraction

    @property
    def frames(self) -> ClipFrames:
        return self

    def read(self, numbers: Sequence[int], /) -> np.ndarray:
        """Frames (n h w c)."""
        return self.store.read(numbers)[:, self.clip]

    def in_order(self, numbers: Sequence[int], /) -> Iterator[np.ndarray]:
        """The frames (h w c) of these numbers, one after the other."""
        return self.store.in_order(numbers, self.clip)


def open_stages(options: ModelOptions, then: Sequence[Path]) -> list[UpscaleSetup]:
    """The upscalers `then`, or without any those of the cascade that the options name. VidiffError: a model that does
    not upscale, a damaged cascade."""
    paths = list(then)
    if not paths and (folder := find_cascade(options.model)) is not None:
        paths = [stage_file(folder, place) for place in range(len(read_cascade(folder).stages))]
    return [
        stage_setup(
            open_upscaler(
                StageOptions(
                    model=path,
                    device=options.device,
                    dtype=options.dtype,
                    compile=options.compile,
                    deterministic=options.deterministic,
                ),
                None,
                fix=FIX,
            )
        )
        for path in paths
    ]


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


def final_size(stages: Sequence[UpscaleSetup], size: Size) -> Size:
    """Height and width of frames after all stages."""
    for stage in stages:
        size = size[0] * stage.scale, size[1] * stage.scale
    return size


def check_stages(stages: Sequence[UpscaleSetup], base: VideoModel, size: Size, frames: int) -> None:
    """Raise VidiffError for stages that do not follow a base, or whose frames, of those of a `size`, are too large."""
    large = size
    for stage in stages:
        large = final_size([stage], large)
        check_channels(base.name, stage.model.name, gray=is_gray(base.codec), then_gray=is_gray(stage.model.codec))
        check_sides(*large, fix="take fewer stages")
    for place, stage in enumerate(stages, 1):
        check_memory(stage, frames, *final_size(stages[:place], size), fix="take fewer stages")


def check_channels(base: str, stage: str, *, gray: bool, then_gray: bool) -> None:
    """Raise VidiffError for an upscaler of gray frames after a model of color, and the other way around."""
    if gray != then_gray:
        kinds = {True: "gray frames", False: "frames in color"}
        raise VidiffError(
            f"{stage} does not go with {base}",
            found=f"an upscaler of {kinds[then_gray]}",
            expected=f"one of {kinds[gray]}, as the model makes them",
        )


def announce_stages(stages: Sequence[UpscaleSetup], size: Size, seed: int, prompts: Sequence[str]) -> Iterator[Event]:
    """Say which upscalers follow a base of this size, and embed their prompts."""
    for stage in stages:
        size = final_size([stage], size)
        yield from announce_model(stage.model, seed, prompts if stage.model.reads_text else [])
        yield Note(f"It makes the frames {stage.scale} times larger, to {size[1]}x{size[0]}.")


def estimate_stages(stages: Sequence[UpscaleSetup], size: Size, frames: int) -> float:
    """Wall seconds that a video of `frames` of `size` (h w) takes in all stages, as one scene."""
    seconds = 0.0
    for stage in stages:
        overlap = default_overlap(stage.model, stage.steps)
        windows = plan(frames, (), window=stage.model.frames, overlap=overlap)
        seconds += estimate_upscale_seconds(stage, windows, size)
        size = final_size([stage], size)
    return seconds


@contextmanager
def stage_journals(
    stages: Sequence[UpscaleSetup], target: Path, key: str, seed: int, *, keep: bool = True
) -> Iterator[list[WindowJournal]]:
    """The journals of a clip's large frames, one of each stage, hidden beside the `target` of a call.

    `key` stands for all that decides the clip, `seed` is its own; without `keep` nothing outlives the process.
    """
    with ExitStack() as stack:
        yield [
            stack.enter_context(window_journal(_stage_target(target, f"{place}_s{seed}"), key, seed, keep=keep))
            for place in range(1, len(stages) + 1)
        ]


def remove_clip_journals(stages: Sequence[UpscaleSetup], target: Path, seeds: Sequence[int]) -> None:
    """Remove what the stages of clips have kept."""
    for seed, place in product(seeds, range(1, len(stages) + 1)):
        remove_journal(_stage_target(target, f"{place}_s{seed}"))


def remove_stage_journals(target: Path) -> None:
    """Remove all that the stages of a call have kept, and what those of another one left beside the same target."""
    for path in target.parent.glob(f"{glob.escape(journal_path(_stage_target(target, '')).stem)}*.partial*"):
        remove(path)


def _stage_target(target: Path, which: str) -> Path:
    return target.with_name(f"{target.name}_stage-{which}")


def upscale_clip(
    stages: Sequence[UpscaleSetup],
    source: ClipFrames,
    count: int,
    *,
    prompt: str,
    seed: int,
    journals: Sequence[WindowJournal] = (),
) -> EventStream[ClipFrames]:
    """Take a clip through all stages.

    Args:
        stages: The upscalers, in order.
        source: The frames as a model has made them.
        count: Number of frames.
        prompt: What they show; "" for no prompt.
        seed: Seed of all noise.
        journals: Those of `stage_journals`, which keep the large frames of finished windows and must stay open for
            the result to be read; none keeps them in memory.

    Returns:
        The large frames.

    Raises:
        VidiffError: As `write_windows`.
    """
    for place, stage in enumerate(stages):
        height, width, _ = source.store.made.shape[1:]
        shape = (1, *final_size([stage], (height, width)), 3)
        journal = journals[place] if journals else None
        large = MemoryFrameArray(np.zeros((count, *shape), np.uint8)) if journal is None else journal.frames(shape)
        store = FrameStore(large)
        windows, what = _plan(stage, source, count), f"windows of stage {place + 1}, seed {seed}"
        setup = replace(stage, prompt=prompt)
        yield from upscale_into(setup, source, windows, store, seed=seed, journal=journal, what=what)
        source = ClipFrames(store=store, clip=0, fps=source.fps)
    return source


def upscale_frames(
    stages: Sequence[UpscaleSetup], frames: np.ndarray, fps: Fraction, *, prompt: str, seed: int
) -> np.ndarray:
    """Take frames (t h w c) through all stages, in memory: (t H W c)."""
    source = ClipFrames(store=FrameStore(MemoryFrameArray(frames[:, None])), clip=0, fps=fps)
    events = upscale_clip(stages, source, len(frames), prompt=prompt, seed=seed)
    while True:
        try:
            next(events)
        except StopIteration as done:
            return done.value.read(range(len(frames)))


def _plan(setup: UpscaleSetup, source: ClipFrames, count: int) -> list[Window]:
    """The windows of each scene, as of a film."""
    times = tuple(number / source.fps for number in range(count))
    line = Timeline(
        times=times, given={}, written=tuple(range(count)), fps=source.fps, segments=tuple(_scenes(source, count))
    )
    return plans(line, window=setup.model.frames, overlap=default_overlap(setup.model, setup.steps))


def _scenes(source: ClipFrames, count: int) -> list[range]:
    scorer = SceneScorer()
    for first in range(0, count, BLOCK):
        scorer.add(source.read(range(first, min(first + BLOCK, count))))
    cuts = scene_starts(scorer.scores()) if count >= LEAST_FOR_CUTS else ()
    return [range(low, high) for low, high in pairwise(sorted({0, *cuts, count}))]
