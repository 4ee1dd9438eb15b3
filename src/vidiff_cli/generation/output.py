"""The files of a completed video: the video itself, the proof that its given frames are the input's, and what --compare
shows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vidiff_cli.device import choose_device
from vidiff_cli.errors import VidiffError
from vidiff_cli.events import EventStream, Progress
from vidiff_cli.frames import Window
from vidiff_cli.generation import generate as gen
from vidiff_cli.generation.completion import (
    CompletedVideo,
    CompletionPlan,
    OutputTarget,
    Settings,
    compare_path,
    output_size,
    written_sources,
)
from vidiff_cli.generation.frame_store import DiskFrameArray, FrameSlice, FrameStore
from vidiff_cli.generation.source_clip import SourceClip, cover
from vidiff_cli.motion import estimate_clip
from vidiff_cli.pixels import clip_from_uint8
from vidiff_cli.sampling.full_size import FullFrame, full_frames
from vidiff_cli.sampling.merge import GainOf, add_correction
from vidiff_cli.video.background_io import Consumer, read_ahead
from vidiff_cli.video.decode import stream_frames
from vidiff_cli.video.encode import encode, is_folder
from vidiff_cli.video.restore_resolution import restore_resolution, stream_full_size

MOST_SEAMS = 8  # that a contact sheet marks


@dataclass(frozen=True, kw_only=True, slots=True)
class SoundSource:
    """How the sound of the first input goes with the result (see `encode`)."""

    delay: Fraction = Fraction(0)
    after: tuple[Path, Fraction] | None = None  # a second input's, and when its first frame is shown
    speed: Fraction = Fraction(1)
    stop: bool = False


def write_video(
    settings: Settings,
    clip: SourceClip,
    work: CompletionPlan,
    place: OutputTarget,
    done: CompletedVideo,
    sound: SoundSource,
) -> EventStream[CompletedVideo]:
    """The file of the result, with the sound and the facts (title, date, ...) of the first input.

    Returns what was made with the frames as they were written, at the clip's size.
    """
    line, own = work.timeline, settings.input
    written = FrameStore(
        DiskFrameArray.temporary(place.path.parent, (1, *clip.frames.shape)), clip.frames, written_sources(line)
    )
    doubts: dict[int, np.ndarray] = {}
    writing = partial(
        encode,
        place.path,
        fps=work.rate,
        lossless=settings.lossless,
        audio_from=own if settings.audio else None,
        audio_delay=sound.delay,
        audio_speed=sound.speed,
        audio_stop=sound.stop,
        audio_after=sound.after if settings.audio else None,
        metadata_from=own,
        overwrite=settings.overwrite,
        again=place.again,
    )
    height, width = clip.size
    repeats, count = Counter(line.written), 0
    yield Progress(what="frames", done=0, total=len(line.written))
    with closing(_frames(settings, clip, work, done)) as frames, Consumer(writing) as writer:
        for made in frames:
            for _ in range(repeats[made.rank]):
                writer.give(made.frame)
            if made.rank not in line.given and made.rank not in line.repeats:
                small = Image.fromarray(made.frame).resize((width, height), Image.Resampling.BOX)
                written.write([made.rank], np.asarray(small)[None, None])
                if settings.compare and made.uncertainty is not None:
                    doubt = Image.fromarray(made.uncertainty).resize((width, height), Image.Resampling.BOX)
                    doubts[made.rank] = np.asarray(doubt).clip(0, 255).astype(np.uint8)
            count += repeats[made.rank]
            yield Progress(what="frames", done=count, total=len(line.written))
    return CompletedVideo(
        reel=written, windows=done.windows, condition=done.condition, gain_of=done.gain_of, doubts=doubts
    )


def _frames(settings: Settings, clip: SourceClip, work: CompletionPlan, done: CompletedVideo) -> Generator[FullFrame]:
    """Every written frame once, in order: the given ones at the size of the result, the others as --detail says."""
    line = work.timeline
    height, width = output_size(settings, clip)
    whole = (
        clip.frames.in_order(range(len(clip)))
        if (height, width) == clip.size and settings.size == "model"
        else (_whole(clip, (width, height)))
    )
    with closing(read_ahead(whole)) as given:
        if settings.detail == "model" and work.windows:
            ranks = list(dict.fromkeys(line.written))
            at_its_size = settings.size == "model"
            frames = (
                done.reel.in_order(ranks)
                if at_its_size
                else restore_resolution(done.reel, written_sources(line), ranks, given)
            )
            yield from (FullFrame(rank=rank, frame=frame) for rank, frame in zip(ranks, frames, strict=True))
            return
        correct = _Correction(done.reel, work, done.gain_of) if work.windows and done.gain_of else None
        yield from full_frames(line, given, correct=correct, device=choose_device(settings.device))


class _Correction:
    """Adds what the model's small frames know better than the estimates that it was shown.

    Those of a window that observes given frames alone are what the frames at full size are estimated from too. Further
    on a model was shown what follows from its own frames: there its frame counts as it is.
    """

    def __init__(self, reel: FrameStore, work: CompletionPlan, gain_of: GainOf) -> None:
        self._reel, self._line, self._gain_of = reel, work.timeline, gain_of
        self._window_of = {rank: window for window in work.windows for rank in window.makes}
        self._latest: tuple[Window, Tensor] | None = None

    def __call__(self, rank: int, estimate: Tensor, uncertainty: Tensor) -> Tensor:
        small = clip_from_uint8(self._reel[rank][None])[:, :, 0].to(estimate)
        window, gain = self._window_of[rank], self._gain_of(rank)
        if not window.observed <= {*self._line.given, *self._line.repeats}:
            return add_correction(estimate, uncertainty, small, gain)
        shown = self._shown(window)[:, :, window.frames.index(rank)].to(estimate)
        return add_correction(estimate, uncertainty, small, gain, shown=shown)

    def _shown(self, window: Window) -> Tensor:
        """The estimates of a window (1 c t h w) as its model was shown them."""
        if self._latest is None or self._latest[0] is not window:
            video = clip_from_uint8(self._reel.read(window.frames)[:, 0])
            observed = torch.tensor([[frame in window.observed for frame in window.frames]])
            first = self._line.times[window.frames[0]]
            times = torch.tensor([[float(self._line.times[frame] - first) for frame in window.frames]])
            self._latest = window, estimate_clip(video, observed, times)[0]
        return self._latest[1]


def _whole(clip: SourceClip, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """All given frames at the size (w, h) of the result."""
    return chain.from_iterable(
        stream_full_size(part.info, fps=part.fps, size=cover(part.info, size), crop=size) for part in clip.parts
    )


def verify_lossless(settings: Settings, clip: SourceClip, work: CompletionPlan, path: Path) -> int | None:
    """How far the given frames in a lossless file are from what was read, in 8-bit levels; None for other files.

    VidiffError where they differ at all.
    """
    if not settings.lossless or is_folder(path) or path.suffix.lower() != ".mkv":
        return None
    line = work.timeline
    height, width = output_size(settings, clip)
    largest = 0
    for reading in stream_frames(path):  # a second one begins anew
        ranks, number, frame, largest = iter(line.written), -1, None, 0
        given = clip.frames.in_order(range(len(clip))) if settings.size == "model" else _whole(clip, (width, height))
        for _, block in reading.blocks:
            for written, rank in zip(block, ranks, strict=False):
                if rank not in line.given:
                    continue
                while number < line.given[rank]:
                    number, frame = number + 1, next(given)
                largest = max(largest, int(np.abs(written.astype(np.int16) - frame).max()))
    if largest:
        raise VidiffError(
            f"the given frames in {path} are not those of {settings.input}",
            found=f"a difference of {largest} of 255",
            expected="none, in a lossless file",
        )
    return largest


def write_comparison(
    settings: Settings, clip: SourceClip, work: CompletionPlan, done: CompletedVideo, place: OutputTarget
) -> Path | None:
    """--compare: a contact sheet beside the result, and a video that shows the input beside it; the sheet's path."""
    if not settings.compare:
        return None
    from vidiff_cli.viz.side_by_side import side_by_side

    line, sources = work.timeline, written_sources(work.timeline)
    there = sorted(sources)
    # the input as it is at that time: its last frame so far
    shown = [sources[there[max(0, bisect_right(there, rank) - 1)]] for rank in line.written]
    beside = side_by_side(clip.frames.in_order(shown), done.reel.in_order(line.written))
    encode(compare_path(place.path), beside, work.rate, overwrite=settings.overwrite, again=place.again)
    return compare_sheet(work, clip, done, place.path)


def compare_sheet(work: CompletionPlan, clip: SourceClip, done: CompletedVideo, path: Path) -> Path:
    """What was given above the result, in which given frames and seams are marked, and how unsure each pixel is."""
    from vidiff_cli.viz.contact_sheet import SheetRow, contact_sheet

    line, reel = work.timeline, done.reel
    makers = {rank: number for number, window in enumerate(done.windows) for rank in window.makes}
    makers = makers or {rank: 0 for rank in line.written if rank not in written_sources(line)}
    made = [makers.get(rank) for rank in line.written]  # None: not made
    meetings = [number for number in range(1, len(made)) if made[number] != made[number - 1]]
    seams = [number for number in meetings if None in (made[number - 1], made[number])]
    given = {number: number for number in range(len(clip))}
    marked = [number for number, rank in enumerate(line.written) if rank in line.given]
    rows = [
        SheetRow(label="given", frames=FrameSlice(FrameStore(reel.made, clip.frames, given), range(len(clip)))),
        SheetRow(
            label="result",
            frames=FrameSlice(reel, line.written),
            given=marked,
            seams=seams if len(seams) <= MOST_SEAMS else (),  # an interpolation has two at every frame
            borders=sorted(set(meetings) - set(seams)),
        ),
    ]
    if done.doubts:
        rows.append(SheetRow(label="uncertainty", frames=_Doubts(done.doubts, line.written, clip.size), given=marked))
    return contact_sheet(rows, gen.sheet_path(path))


class _Doubts:
    """The uncertainty of every written frame as a picture (t h w c): white is an error of 32 levels or more."""

    dtype = np.dtype(np.uint8)

    def __init__(self, doubts: Mapping[int, np.ndarray], ranks: tuple[int, ...], size: tuple[int, int]) -> None:
        self._doubts, self._ranks, self._none = doubts, ranks, np.zeros(size, np.uint8)
        self.shape = (len(ranks), *size, 3)

    def __len__(self) -> int:
        return len(self._ranks)

    def __getitem__(self, index: int) -> np.ndarray:
        doubt = self._doubts.get(self._ranks[index], self._none)
        return np.minimum(255, doubt.astype(np.uint16) * 8).astype(np.uint8)[..., None].repeat(3, axis=-1)
