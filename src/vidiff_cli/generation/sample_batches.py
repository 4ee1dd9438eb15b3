"""Videos of prompts, made in batches: in their order by one process, or shared out to those of a launcher.

The stages of a cascade take one video of a batch after the other; their journals, one for each video and stage, are
kept until the batch is finished. Shared batches have journals of their own beside that of the call, and keep them until
all are made: whatever process is killed, and however many there are the next time, no finished batch is made again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vidiff_cli.events import Event, EventStream, Progress
from vidiff_cli.frames import evenly_spaced
from vidiff_cli.generation.budget import estimate_seconds, note_long, save_memory
from vidiff_cli.generation.cascade import (
    estimate_stages,
    pass_stages,
    remove_clip_journals,
    remove_stage_journals,
    stage_journals,
)
from vidiff_cli.generation.clip_frames import ClipFrames
from vidiff_cli.generation.frame_store import FrameStore
from vidiff_cli.generation.generate import generate
from vidiff_cli.generation.output_files import check_files
from vidiff_cli.generation.resume_journal import (
    WindowJournal,
    is_written,
    kept_sheet,
    remove_journal,
    window_journal,
)
from vidiff_cli.generation.sample_call import SampleCall, write_sample_sidecar
from vidiff_cli.generation.video_job import VideoJob
from vidiff_cli.generation.window_codec import latent_shape
from vidiff_cli.models.codec import z_shape
from vidiff_cli.system.ranks import Ranks
from vidiff_cli.video.encode import encode

SHEET_FRAMES = 96  # kept of a video for it
SHEET_ROWS = 16  # of --compare: more make a picture that nobody looks at
BATCH = "videos"  # the progress of a batch before its videos are taken through the stages, as it begins
Frames = list[np.ndarray]  # of the rows of a sheet


def make_in_order(call: SampleCall, journal: WindowJournal, paths: Sequence[Path]) -> EventStream[Frames]:
    """Makes the videos that the journal lacks, batch after batch. Returns the frames of a sheet's rows."""
    begun = journal.videos + (call.batch_size if journal.complete else 0)
    for number, path in enumerate(paths[journal.videos :], journal.videos):
        check_files(path, call.options, call.fps, again=number < begun)
    rows = journal.sheet_frames()
    firsts = range(journal.videos, len(paths), call.batch_size)
    for first in firsts:
        numbers = range(first, min(first + call.batch_size, len(paths)))
        if first == firsts[0]:
            yield from _prepare(call, len(numbers), (len(paths) - first) / len(numbers))
        rows += yield from _make_batch(call, journal, numbers, paths)
        journal.next_batch(numbers.stop, rows)
        if journal.kept:
            remove_clip_journals(call.stages, call.target, [journal.seed + number for number in numbers])
    return rows


def make_shared(
    call: SampleCall, journal: WindowJournal | None, ranks: Ranks, paths: Sequence[Path]
) -> EventStream[Frames]:
    """Makes this process's batches of the videos; rank 0, which has the `journal`, waits for all of them.

    Args:
        call: What is made.
        journal: The journal of the call; None in the other processes.
        ranks: The processes.
        paths: The files.

    Returns:
        The frames of a sheet's rows, in rank 0.

    Raises:
        VidiffError: A file is in the way, before anything is made; or making one fails.
    """
    shared = _Shared(call=call, seed=0, batch=0, finished=0)
    if journal is not None:
        batch = journal.shared or min(call.batch_size, -(-len(paths) // ranks.world))
        shared = _Shared(call=call, seed=journal.seed, batch=batch, finished=journal.videos)
        begun = journal.videos + (call.batch_size if journal.complete else 0)
        for number, path in enumerate(paths[journal.videos :], journal.videos):
            again = number < begun or is_written(shared.target(number // batch * batch), shared.key)
            check_files(path, call.options, call.fps, again=again)
        journal.begin_sharing(batch)
        yield from ranks.idle(len(shared.firsts), f"{len(paths)} video{'s' * (len(paths) != 1)}")
    told = ranks.share([shared.seed, shared.batch, shared.finished])
    shared = _Shared(call=call, seed=told[0], batch=told[1], finished=told[2])
    yield from ranks.together(_make_own(shared, ranks, paths))
    if journal is None:
        return []
    rows = journal.sheet_frames()
    for first in shared.firsts:
        rows += kept_sheet(shared.target(first))[max(0, shared.finished - first) :]
    return rows


def remove_journals(call: SampleCall, journal: WindowJournal) -> None:
    """Removes the journal, and those of shared batches: the results are safe."""
    shared = _Shared(call=call, seed=journal.seed, batch=journal.shared, finished=0)
    if call.stages and journal.kept:
        remove_stage_journals(call.target)
    journal.remove()
    for first in shared.firsts if journal.shared else ():
        remove_journal(shared.target(first))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shared:
    """The division of a call into batches of `batch` videos, the first `finished` of which are there."""

    call: SampleCall
    seed: int
    batch: int
    finished: int

    @property
    def firsts(self) -> range:
        """The number of the first video of each batch that is to be made."""
        count = len(self.call.prompts)
        return range(self.finished // self.batch * self.batch, count, self.batch)

    @property
    def key(self) -> str:
        return f"{self.call.key} {self.batch}"

    def target(self, first: int) -> Path:
        """The name that the journal of a batch has its own from."""
        target = self.call.target
        return target.with_name(f"{target.name}_s{self.seed}_{first}")


def _make_own(shared: _Shared, ranks: Ranks, paths: Sequence[Path]) -> EventStream[None]:
    """Makes the batches of this process that are not finished."""
    call, firsts, prepared = shared.call, ranks.part(shared.firsts), False
    for place, first in enumerate(firsts):
        numbers = range(first, min(first + shared.batch, len(paths)))
        with window_journal(shared.target(first), shared.key, shared.seed) as journal:
            if journal.videos and all(paths[number].exists() for number in numbers):
                continue
            if not prepared:
                prepared = True
                yield from _prepare(call, len(numbers), len(firsts) - place)
            again = first < shared.finished or journal.videos > 0
            made = _make_batch(call, journal, numbers, paths, again=again)
            rows = yield from _of_batches(made, place, len(firsts))
            journal.next_batch(len(numbers), rows)
            journal.remove_frames()
            remove_clip_journals(call.stages, call.target, [shared.seed + number for number in numbers])


def _of_batches(events: EventStream[Frames], place: int, batches: int) -> EventStream[Frames]:
    """The events of a batch, its progress as that of all batches of this process."""
    with closing(events):
        while True:
            try:
                event = next(events)
            except StopIteration as done:
                return done.value
            if isinstance(event, Progress) and event.total and event.what.startswith(BATCH):
                done, total = place * event.total + event.done, batches * event.total
                yield Progress(what="windows of all videos", done=done, total=total)
            else:
                yield event


def _make_batch(
    call: SampleCall, journal: WindowJournal, numbers: range, paths: Sequence[Path], *, again: bool = False
) -> EventStream[Frames]:
    """Makes the videos of these numbers, with their sidecars.

    Args:
        call: What is made.
        journal: The journal that the windows are kept in, with the seed of the call's first video.
        numbers: Numbers of the videos.
        paths: The files of all videos.
        again: The files may be there, by an interrupted call.

    Returns:
        The frames of the rows of a sheet that are of these videos.

    Raises:
        VidiffError: A video cannot be made or written.
    """
    model, setup = call.model, call.setup
    prompts, again = [call.prompts[number] for number in numbers], again or journal.complete
    job = _job(call, prompts, [journal.seed + number for number in numbers])
    values = latent_shape(model.codec, len(prompts), model.height, model.width)
    store = FrameStore(
        journal.frames((len(prompts), model.height, model.width, 3)),
        latents=None if values is None else journal.latents(values),
    )
    what = f"{BATCH} {numbers.start + 1}-{numbers.stop}"
    yield from generate(model, setup, job, store, journal=journal, what=what)
    rows = Frames()
    for clip, number in enumerate(numbers):
        small = ClipFrames(store=store, clip=clip, fps=call.base_fps)
        rows += yield from _finish(call, journal, small, number, paths[number], again=again)
    return rows


def _finish(
    call: SampleCall, journal: WindowJournal, made: ClipFrames, number: int, path: Path, *, again: bool
) -> EventStream[Frames]:
    """Takes a video of a batch through the stages and writes it, with its sidecar.

    Args:
        call: What is made.
        journal: The journal of the batch. Finished windows of stages, and that the video is finished, are kept beside
            it.
        made: The frames of the base.
        number: Number of the video.
        path: Its file.
        again: The file may be there, by an interrupted call.

    Returns:
        The frames of its row of a sheet.

    Raises:
        VidiffError: The video cannot be made or written.
    """
    options, prompt, seed = call.options, call.prompts[number], journal.seed + number
    key = f"{journal.key} {number}"
    with stage_journals(call.stages, call.target, key, seed, keep=journal.kept) as kept:
        if kept and kept[-1].videos and path.exists():
            return kept[-1].sheet_frames()
        made = yield from pass_stages(call.stages, made, call.base_total, prompt=prompt, seed=seed, journals=kept)
        frames = made.in_order(range(call.total))
        encode(path, frames, call.fps, lossless=options.lossless, overwrite=options.overwrite, again=again)
        has_row = options.compare and number < SHEET_ROWS
        rows = [made.read(evenly_spaced(call.total, SHEET_FRAMES))] if has_row else []
        if options.sidecar:
            write_sample_sidecar(call, path, prompt, seed)
        if kept:
            kept[-1].next_batch(1, rows)
        for each in kept:
            each.remove_frames()
        return rows


def _job(call: SampleCall, prompts: Sequence[str], seeds: Sequence[int]) -> VideoJob:
    return VideoJob(
        windows=call.windows, times=call.times, prompts=lambda number: prompts, seeds=seeds, rolling=call.rolling
    )


def _prepare(call: SampleCall, videos: int, batches: float) -> Iterator[Event]:
    """Saves memory for batches of so many videos, where it is needed, and tells how long all of them will take."""
    model, job = call.model, _job(call, call.prompts[:videos], range(videos))
    shape = z_shape(model.codec, videos, len(call.windows[0].frames), model.height, model.width)
    yield from save_memory(model, call.setup, shape)
    seconds = estimate_seconds(model, call.setup, job, shape)
    seconds += videos * estimate_stages(call.stages, (model.height, model.width), call.base_total)
    yield from note_long(seconds * batches)
