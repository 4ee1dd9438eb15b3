"""Carry out the upscaling of a clip: the large frames, the result with its sound, its sheet and its sidecar."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from vidiff_cli.events import EventStream, Note, Progress
from vidiff_cli.frames import Window
from vidiff_cli.generation.announce import announce_model
from vidiff_cli.generation.budget import note_long
from vidiff_cli.generation.frame_store import FrameStore
from vidiff_cli.generation.made_frames import note_stale
from vidiff_cli.generation.open_input import input_hash
from vidiff_cli.generation.output_files import (
    OutputOptions,
    OutputTarget,
    check_files,
    compare_path,
    open_target,
    sheet_path,
    slug,
)
from vidiff_cli.generation.sidecar import sidecar_path
from vidiff_cli.generation.source_clip import Size, SourceClip
from vidiff_cli.generation.upscale_budget import estimate_upscale_seconds
from vidiff_cli.generation.upscale_weight import measure_weight
from vidiff_cli.generation.upscaling import UpscaleSetup, upscale_into
from vidiff_cli.pixels import clip_from_uint8, clip_to_uint8
from vidiff_cli.resize import resize
from vidiff_cli.video.background_io import Consumer
from vidiff_cli.video.encode import encode
from vidiff_cli.video.picture import is_picture, write_picture


class FramesInOrder(Protocol):
    """Frames (h w c) uint8 by number, in a file."""

    def in_order(self, numbers: Sequence[int], /) -> Iterator[np.ndarray]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class UpscalePlan:
    """A clip, the windows in which it is upscaled (none without a model), the `size` (h w) and the rate of the result.

    `measured`: the weight of the model's correction is measured on the clip.
    """

    clip: SourceClip
    windows: Sequence[Window]
    size: Size
    rate: Fraction
    measured: bool

    @property
    def scale(self) -> float:
        """Scale of the result."""
        return min(self.size) / min(self.clip.size)


@dataclass(frozen=True, kw_only=True, slots=True)
class UpscaleReport:
    """The video written: `frames` of `width` x `height` at `fps`, `scale` times as large as the input.

    `weight` is that of the model's correction of the enlarged frames (None: no model), `windows` those that it made.
    """

    path: Path
    frames: int
    fps: Fraction
    width: int
    height: int
    scale: float
    weight: float | None
    windows: int
    seed: int
    sheet: Path | None
    seconds: float

    @property
    def given(self) -> int:
        """Number of frames of the input."""
        return self.frames

    @property
    def made(self) -> int:
        """Number of frames that were made."""
        return self.frames


def upscale_video(
    setup: UpscaleSetup | None, plan: UpscalePlan, options: OutputOptions, *, audio: bool
) -> EventStream[UpscaleReport]:
    """Upscale a clip and write the result.

    Every finished window is kept beside the output, so that an interrupted call goes on where it was.

    Args:
        setup: How a model upscales; None for the enlarged input alone.
        plan: The clip and its windows.
        options: Where the result goes, and what is written beside it.
        audio: Copy the input's sound.

    Returns:
        The report of the result.

    Raises:
        VidiffError: The output cannot be written, or something that it needs fails.
    """
    began, clip, model = time.monotonic(), plan.clip, setup and setup.model
    height, width = plan.size
    details = f"{len(clip)}f_{width}x{height}"
    with open_target(
        options, f"{slug(clip.info.path.stem)}-upscaled", details, model, clip.times, clip.digest
    ) as target:
        compared = compare_path(target.path)
        path = check_files(target.path, options, plan.rate, again=target.again, compared=(compared,))
        target.journal.clear(sidecar_path(path), sheet_path(path), compared)
        weight = None
        if setup is not None:
            yield from announce_model(setup.model, target.seed, [setup.prompt] if setup.prompt else [])
            left = plan.windows[target.journal.windows :]
            yield from note_long(estimate_upscale_seconds(setup, left, clip.size))
            setup = yield from _weigh(setup, plan)
            weight = setup.weight
        frames = yield from _make(setup, plan, target)
        yield from _write(plan, frames, target, audio=audio)
        report = UpscaleReport(
            path=target.path,
            frames=len(clip),
            fps=plan.rate,
            width=width,
            height=height,
            scale=plan.scale,
            weight=weight,
            windows=len(plan.windows) if weight else 0,
            seed=target.seed,
            sheet=_write_comparison(plan, frames, target),
            seconds=time.monotonic() - began,
        )
        facts = {"frames": report.frames, "fps": str(report.fps), "weight": weight}
        target.finish(model, facts | {"input_sha256": input_hash(clip.info)})
        return report


def _weigh(setup: UpscaleSetup, plan: UpscalePlan) -> EventStream[UpscaleSetup]:
    """The setup with the weight of the model's correction for this film."""
    if not plan.measured:
        return setup
    weight = measure_weight(setup, plan.clip)
    if weight is None:
        yield Note("The input is too small to measure the model on it: its frames are taken as they are.")
        return setup
    yield Note(f"The input, made small, says: {weight:.2f} of what the model corrects is right.")
    if weight == 0:
        yield Note("The model is of no help for this film: it is enlarged without it.", "warning")
    return replace(setup, weight=weight)


def _make(setup: UpscaleSetup | None, plan: UpscalePlan, target: OutputTarget) -> EventStream[FramesInOrder]:
    """The model's frames of a plan, at the scale of all its passes; without a model or with a weight of 0 the clip's
    own, which are enlarged when they are written."""
    clip, journal = plan.clip, target.journal
    if setup is None or setup.weight == 0:
        journal.save(0, 0, of=0)
        return clip.frames
    yield from note_stale(journal)
    shape = tuple(setup.scale * side for side in clip.size)
    store = FrameStore(journal.frames((1, *shape, 3)))
    yield from upscale_into(setup, clip, plan.windows, store, seed=target.seed, journal=journal)
    return store


def _write(plan: UpscalePlan, frames: FramesInOrder, target: OutputTarget, *, audio: bool) -> EventStream[None]:
    """Write the file of the result, with the metadata of the input and its sound, if any."""
    options, again = target.options, target.again
    if options.picture is not None and is_picture(target.path):
        frame = next(_frames(frames, [0], plan.size))
        write_picture(target.path, frame, lossless=options.lossless, overwrite=options.overwrite, again=again)
        return
    source, count = None if plan.clip.info.pictures else plan.clip.info.path, len(plan.clip)
    writing = partial(
        encode,
        target.path,
        fps=plan.rate,
        lossless=options.lossless,
        audio_from=source if audio else None,
        metadata_from=source,
        overwrite=options.overwrite,
        again=again,
    )
    yield Progress(what="frames", done=0, total=count)
    with closing(_frames(frames, range(count), plan.size)) as written, Consumer(writing) as writer:
        for done, frame in enumerate(written, 1):
            writer.give(frame)
            yield Progress(what="frames", done=done, total=count)


def _frames(source: FramesInOrder, numbers: Sequence[int], size: Size) -> Generator[np.ndarray]:
    """Frames (h w c) of a store at the size of the result."""
    for frame in source.in_order(numbers):
        same = frame.shape[:2] == size
        yield frame if same else clip_to_uint8(resize(clip_from_uint8(frame[None]), size)[0])[0]


def _write_comparison(plan: UpscalePlan, frames: FramesInOrder, target: OutputTarget) -> Path | None:
    """--compare: write a sheet of the enlarged input above the result, and a video of both; the sheet's path."""
    if not target.options.compare:
        return None
    from vidiff_cli.viz.contact_sheet import SheetRow, contact_sheet
    from vidiff_cli.viz.side_by_side import side_by_side

    clip, numbers = plan.clip, range(len(plan.clip))
    beside = side_by_side(
        _frames(clip.frames, numbers, plan.size), _frames(frames, numbers, plan.size), labels=("enlarged", "result")
    )
    encode(compare_path(target.path), beside, plan.rate, overwrite=target.options.overwrite, again=target.again)
    rows = [
        SheetRow(label=label, frames=_Resized(each, plan.size, len(clip)))
        for label, each in (("enlarged", clip.frames), ("result", frames))
    ]
    return contact_sheet(rows, sheet_path(target.path))


class _Resized:
    """Frames of a store at the size of the result as one clip (t h w c), for a contact sheet."""

    dtype = np.dtype(np.uint8)

    def __init__(self, source: FramesInOrder, size: Size, count: int) -> None:
        self._source, self._size, self.shape = source, size, (count, *size, 3)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> np.ndarray:
        return next(_frames(self._source, [index], self._size))
