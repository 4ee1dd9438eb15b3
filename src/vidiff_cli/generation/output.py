"""The files of a completed video: the video itself, the proof that its given frames are the input's, and what --compare
shows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vidiff_cli.device import choose_device
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import EventStream, Progress
from vidiff_cli.frames import Window
from vidiff_cli.generation.calibrate import Gains
from vidiff_cli.generation.completion import CompletedVideo, CompletionPlan
from vidiff_cli.generation.frame_store import DiskFrameArray, FrameSlice, FrameStore
from vidiff_cli.generation.output_files import OutputTarget, compare_path, sheet_path
from vidiff_cli.generation.source_clip import stream_given
from vidiff_cli.luma import LUMA, to_gray, to_rgb
from vidiff_cli.motion import estimate_clip
from vidiff_cli.motion.warping import field_size, resize
from vidiff_cli.pixels import clip_from_uint8
from vidiff_cli.sampling.full_size import FullFrame, full_frames
from vidiff_cli.sampling.merge import Gain, add_correction
from vidiff_cli.video.background_io import Consumer, read_ahead
from vidiff_cli.video.decode import stream_frames
from vidiff_cli.video.encode import encode
from vidiff_cli.video.restore_resolution import SourceFrames, restore_resolution
from vidiff_cli.video.targets import is_folder

MAX_SEAMS = 8  # that a contact sheet marks


@dataclass(frozen=True, kw_only=True, slots=True)
class SoundTrack:
    """Placement of the first input's sound in the result (see `encode`); `after`: a second input, and when its first
    frame is shown."""

    delay: Fraction = Fraction(0)
    after: tuple[Path, Fraction] | None = None
    speed: Fraction = Fraction(1)
    stop: bool = False


def write_video(
    plan: CompletionPlan, target: OutputTarget, done: CompletedVideo, *, sound: SoundTrack | None, device: str
) -> EventStream[CompletedVideo]:
    """Write the file of the result, with the metadata (title, date, ...) of the first input and its sound, if any.

    `device` computes the motion at the result's size. Returns what was made with the frames as they were written, at
    the clip's size.
    """
    line, clip = plan.timeline, plan.clip
    source = None if clip.info.pictures else clip.info.path
    written = FrameStore(
        DiskFrameArray.temporary(target.path.parent, (1, *clip.frames.shape)), clip.frames, plan.sources
    )
    uncertainty: dict[int, np.ndarray] = {}
    track = sound or SoundTrack()
    writing = partial(
        encode,
        target.path,
        fps=plan.rate,
        lossless=target.options.lossless,
        audio_from=source if sound else None,
        audio_delay=track.delay,
        audio_speed=track.speed,
        audio_stop=track.stop,
        audio_after=track.after,
        metadata_from=source,
        overwrite=target.options.overwrite,
        again=target.again,
    )
    height, width = clip.size
    repeats, count = Counter(line.written), 0
    yield Progress(what="frames", done=0, total=len(line.written))
    with closing(_frames(plan, done, device)) as frames, Consumer(writing) as writer:
        for made in frames:
            for _ in range(repeats[made.rank]):
                writer.give(made.frame)
            if made.rank not in line.given and made.rank not in line.repeats:
                small = Image.fromarray(made.frame).resize((width, height), Image.Resampling.BOX)
                written.write([made.rank], np.asarray(small)[None, None])
                if target.options.compare and made.uncertainty is not None:
                    small = Image.fromarray(made.uncertainty).resize((width, height), Image.Resampling.BOX)
                    uncertainty[made.rank] = np.asarray(small).clip(0, 255).astype(np.uint8)
            count += repeats[made.rank]
            yield Progress(what="frames", done=count, total=len(line.written))
    return replace(done, store=written, uncertainty=uncertainty)


def _frames(plan: CompletionPlan, done: CompletedVideo, device: str) -> Generator[FullFrame]:
    """Every written frame once, in order: the given ones at the size of the result, the others as the plan's detail
    says."""
    line = plan.timeline
    with closing(read_ahead(_given_frames(plan))) as given:
        if plan.detail == "model" and plan.windows:
            ranks = list(dict.fromkeys(line.written))
            for rank, frame in zip(ranks, _model_frames(plan, done, ranks, given), strict=True):
                made_gray = plan.gray and rank not in plan.sources  # matched to the colors of given frames before
                yield FullFrame(rank=rank, frame=to_rgb(to_gray(frame)) if made_gray else frame)
            return
        correct = _Correction(done, plan, done.gains) if plan.windows and done.gains else None
        yield from full_frames(line, given, correct=correct, device=choose_device(device))


def _model_frames(
    plan: CompletionPlan, done: CompletedVideo, ranks: Sequence[int], given: Iterator[np.ndarray]
) -> Iterator[np.ndarray]:
    """The model's frames, with the given ones at their places, at the size of the result."""
    if not plan.model_size:
        return restore_resolution(done.store, plan.sources, ranks, given, large=done.large)
    large = done.large
    if large is None:
        return done.store.in_order(ranks)
    sources = SourceFrames(given)
    return (sources.frame(plan.sources[rank]) if rank in plan.sources else large[rank] for rank in ranks)


class _Correction:
    """Adds what the model's small frames know better than the estimates that it was shown.

    Those of a window that observes given frames alone are what the frames at full size are estimated from too. Further
    on a model was shown what follows from its own frames: there its frame counts as it is. What a gray model knows
    better is of luma: it is added to all three colors alike, so that the color stays that of the estimate. Upscaled
    frames then correct the result at their size, with a weight of their own.
    """

    def __init__(self, done: CompletedVideo, plan: CompletionPlan, gains: Gains) -> None:
        self._store, self._line, self._gains, self._gray = done.store, plan.timeline, gains, plan.gray
        self._large = done.large
        self._window_of = {rank: window for window in plan.windows for rank in window.makes}
        self._latest: tuple[Window, Tensor] | None = None

    def __call__(self, rank: int, estimate: Tensor, uncertainty: Tensor) -> Tensor:
        window, gain = self._window_of[rank], self._gains.small(rank)
        shown = None
        if window.observed <= {*self._line.given, *self._line.repeats}:
            shown = self._shown(window)[:, :, window.frames.index(rank)].to(estimate)
        corrected = self._add(estimate, uncertainty, self._store[rank], gain, shown)
        if self._large is None or self._gains.large is None:
            return corrected
        return self._add(corrected, uncertainty, self._large[rank], self._gains.large(rank), None)

    def _add(
        self, estimate: Tensor, uncertainty: Tensor, frame: np.ndarray, gain: Gain, shown: Tensor | None
    ) -> Tensor:
        small = clip_from_uint8(frame[None])[:, :, 0].to(estimate)
        if self._gray:
            small = small[:, :1]
            shown = _luma(resize(estimate, field_size(small))) if shown is None else shown
        return add_correction(estimate, uncertainty, small, gain, shown=shown)

    def _shown(self, window: Window) -> Tensor:
        """The estimates of a window (1 c t h w) as its model was shown them."""
        if self._latest is None or self._latest[0] is not window:
            frames = self._store.read(window.frames)[:, 0]
            video = clip_from_uint8(to_gray(frames) if self._gray else frames)
            observed = torch.tensor([[frame in window.observed for frame in window.frames]])
            first = self._line.times[window.frames[0]]
            times = torch.tensor([[float(self._line.times[frame] - first) for frame in window.frames]])
            self._latest = window, estimate_clip(video, observed, times)[0]
        return self._latest[1]


def _luma(frame: Tensor) -> Tensor:
    """(1 3 h w) -> (1 1 h w)."""
    return (frame * frame.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)


def _given_frames(plan: CompletionPlan) -> Iterator[np.ndarray]:
    """All given frames at the size of the result."""
    if plan.size == plan.clip.size and plan.model_size:
        return plan.clip.frames.in_order(range(len(plan.clip)))
    return stream_given(plan.clip, plan.size)


def verify_lossless(plan: CompletionPlan, target: OutputTarget) -> int | None:
    """Measure how far the given frames in a lossless file are from what was read, in 8-bit levels; None for other
    files. VidiffError where they differ at all."""
    path = target.path
    if not target.options.lossless or is_folder(path) or path.suffix.lower() != ".mkv":
        return None
    line, largest = plan.timeline, 0
    for reading in stream_frames(path):  # a second one begins anew
        ranks, number, frame, largest = iter(line.written), -1, None, 0
        given = _given_frames(plan)
        for _, block in reading.blocks:
            for written, rank in zip(block, ranks, strict=False):
                if rank not in line.given:
                    continue
                while number < line.given[rank]:
                    number, frame = number + 1, next(given)
                largest = max(largest, int(np.abs(written.astype(np.int16) - frame).max()))
    if largest:
        raise VidiffError(
            f"the given frames in {path} are not those of {plan.clip.info.path}",
            found=f"a difference of {largest} of 255",
            expected="none, in a lossless file",
        )
    return largest


def write_comparison(plan: CompletionPlan, target: OutputTarget, done: CompletedVideo) -> Path | None:
    """--compare: write a contact sheet beside the result, and a video that shows the input beside it; the sheet's
    path."""
    if not target.options.compare:
        return None
    from vidiff_cli.viz.side_by_side import side_by_side

    line, sources = plan.timeline, plan.sources
    known = sorted(sources)
    # the input as it is at that time: its last frame so far
    shown = [sources[known[max(0, bisect_right(known, rank) - 1)]] for rank in line.written]
    beside = side_by_side(plan.clip.frames.in_order(shown), done.store.in_order(line.written))
    encode(compare_path(target.path), beside, plan.rate, overwrite=target.options.overwrite, again=target.again)
    return compare_sheet(plan, done, sheet_path(target.path))


def compare_sheet(plan: CompletionPlan, done: CompletedVideo, path: Path) -> Path:
    """Write a sheet of the given frames above the result, in which given frames and seams are marked, and of the
    uncertainty of each pixel."""
    from vidiff_cli.viz.contact_sheet import SheetRow, contact_sheet

    line, clip, store = plan.timeline, plan.clip, done.store
    window_of = {rank: number for number, window in enumerate(done.windows) for rank in window.makes}
    window_of = window_of or {rank: 0 for rank in line.written if rank not in plan.sources}
    made = [window_of.get(rank) for rank in line.written]  # None: not made
    meetings = [number for number in range(1, len(made)) if made[number] != made[number - 1]]
    seams = [number for number in meetings if None in (made[number - 1], made[number])]
    given = {number: number for number in range(len(clip))}
    marked = [number for number, rank in enumerate(line.written) if rank in line.given]
    rows = [
        SheetRow(label="given", frames=FrameSlice(FrameStore(store.made, clip.frames, given), range(len(clip)))),
        SheetRow(
            label="result",
            frames=FrameSlice(store, line.written),
            given=marked,
            seams=seams if len(seams) <= MAX_SEAMS else (),  # an interpolation has two at every frame
            borders=sorted(set(meetings) - set(seams)),
        ),
    ]
    if done.uncertainty:
        frames = _UncertaintyFrames(done.uncertainty, line.written, clip.size)
        rows.append(SheetRow(label="uncertainty", frames=frames, given=marked))
    return contact_sheet(rows, path)


class _UncertaintyFrames:
    """The uncertainty of every written frame as a picture (t h w c): white is an error of 32 levels or more."""

    dtype = np.dtype(np.uint8)

    def __init__(self, uncertainty: Mapping[int, np.ndarray], ranks: tuple[int, ...], size: tuple[int, int]) -> None:
        self._uncertainty, self._ranks, self._none = uncertainty, ranks, np.zeros(size, np.uint8)
        self.shape = (len(ranks), *size, 3)

    def __len__(self) -> int:
        return len(self._ranks)

    def __getitem__(self, index: int) -> np.ndarray:
        levels = self._uncertainty.get(self._ranks[index], self._none)
        return np.minimum(255, levels.astype(np.uint16) * 8).astype(np.uint8)[..., None].repeat(3, axis=-1)
