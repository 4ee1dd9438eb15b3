"""Videos of prompts, made in batches: in their order by one process, or shared out to those of a launcher.

Shared batches have journals of their own beside that of the call, and keep them until all are made: whatever process
is killed, and however many there are the next time, no finished batch is made again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from vidiff_cli.events import Event, EventStream, Progress
from vidiff_cli.frames import Window, evenly_spaced
from vidiff_cli.generation.budget import estimate_seconds, note_long, save_memory
from vidiff_cli.generation.cascade import ClipFrames, final_size, upscale_clip
from vidiff_cli.generation.frame_store import FrameStore
from vidiff_cli.generation.generate import generate
from vidiff_cli.generation.output_files import OutputOptions, check_files, slug, target_path
from vidiff_cli.generation.resume_journal import (
    WindowJournal,
    is_written,
    kept_sheet,
    remove_journal,
    window_journal,
)
from vidiff_cli.generation.sampling_setup import SamplingSetup
from vidiff_cli.generation.sidecar import write_sidecar
from vidiff_cli.generation.source_clip import Size
from vidiff_cli.generation.upscaling import UpscaleSetup
from vidiff_cli.generation.video_job import VideoJob
from vidiff_cli.generation.window_codec import latent_shape
from vidiff_cli.models.codec import z_shape
from vidiff_cli.models.families import VideoModel
from vidiff_cli.rolling import RollingPlan
from vidiff_cli.system.ranks import Ranks
from vidiff_cli.video.encode import encode

SHEET_FRAMES = 96  # kept of a video for it
SHEET_ROWS = 16  # of --compare: more make a picture that nobody looks at
BATCH = "videos"  # the progress of a batch before its videos are taken through the stages, as it begins
Frames = list[np.ndarray]  # of the rows of a sheet


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleCall:
    """All that decides the videos of a call but their seed: `total` frames of each at `times`, of which the model makes
    a few more where it makes groups. `stages` are upscalers that follow. `key` is that of the journal."""

    model: VideoModel
    setup: SamplingSetup
    stages: Sequence[UpscaleSetup]
    options: OutputOptions
    prompts: Sequence[str]
    windows: Sequence[Window]
    rolling: RollingPlan | None
    times: Sequence[Fraction]
    total: int
    fps: Fraction
    batch_size: int
    key: str

    @property
    def size(self) -> Size:
        """Height and width of the videos."""
        return final_size(self.stages, (self.model.height, self.model.width))

    @property
    def details(self) -> str:
        """End of a file's name: number and size of frames."""
        return f"{self.total}f_{self.size[1]}x{self.size[0]}"

    @property
    def target(self) -> Path:
        """The result that the journal is named after."""
        details = f"{len(self.times)}f_{self.size[1]}x{self.size[0]}"
        return target_path(self.options, slug(self.prompts[0]), details, self.options.seed)


def output_paths(options: OutputOptions, prompts: Sequence[str], seed: int, details: str) -> list[Path]:
    """One file per video: -o for a single one; for several -o is their folder, or a name that gets the seed added."""
    path = options.path
    if path is not None and len(prompts) == 1:
        return [path]
    if path is not None and path.suffix:
        return [path.with_name(f"{path.stem}_s{seed + number}{path.suffix}") for number in range(len(prompts))]
    names = [f"{slug(prompt)}_s{seed + number}_{details}{options.suffix}" for number, prompt in enumerate(prompts)]
    return [Path(name) if path is None else path / name for name in names]


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
        rows += yield from _make_batch(call, journal, journal.seed, numbers, paths)
        journal.next_batch(numbers.stop, rows)
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
            made = _make_batch(call, journal, shared.seed, numbers, paths, again=again)
            rows = yield from _of_batches(made, place, len(firsts))
            journal.next_batch(len(numbers), rows)
            journal.remove_frames()


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
    call: SampleCall,
    journal: WindowJournal,
    seed: int,
    numbers: range,
    paths: Sequence[Path],
    *,
    again: bool = False,
) -> EventStream[Frames]:
    """Makes the videos of these numbers, with their sidecars.

    Args:
        call: What is made.
        journal: The journal that the windows are kept in.
        seed: The seed of the call's first video.
        numbers: Numbers of the videos.
        paths: The files of all videos.
        again: The files may be there, by an interrupted call.

    Returns:
        The frames of the rows of a sheet that are of these videos.

    Raises:
        VidiffError: A video cannot be made or written.
    """
    model, setup, options = call.model, call.setup, call.options
    prompts, again = [call.prompts[number] for number in numbers], again or journal.complete
    job = _job(call, prompts, [seed + number for number in numbers])
    values = latent_shape(model.codec, len(prompts), model.height, model.width)
    store = FrameStore(
        journal.frames((len(prompts), model.height, model.width, 3)),
        latents=None if values is None else journal.latents(values),
    )
    what = f"{BATCH} {numbers.start + 1}-{numbers.stop}"
    yield from generate(model, setup, job, store, journal=journal, what=what)
    rows = Frames()
    for clip, number in enumerate(numbers):
        made = ClipFrames(store=store, clip=clip, fps=call.fps)
        made = yield from upscale_clip(
            call.stages, made, call.total, prompt=prompts[clip], seed=seed + number, folder=options.folder
        )
        frames = made.in_order(range(call.total))
        encode(paths[number], frames, call.fps, lossless=options.lossless, overwrite=options.overwrite, again=again)
        if options.compare and number < SHEET_ROWS:
            rows.append(made.read(evenly_spaced(call.total, SHEET_FRAMES)))
        if options.sidecar:
            _write_sidecar(call, paths[number], prompts[clip], seed + number)
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
    yield from note_long(estimate_seconds(model, call.setup, job, shape) * batches)


def _write_sidecar(call: SampleCall, path: Path, prompt: str, seed: int) -> None:
    record = {**call.options.record, "prompts": [prompt], "count": 1, "prompts_file": None}
    facts: dict[str, object] = {
        "prompt": prompt,
        "frames": call.total,
        "fps": str(call.fps),
        "condition": call.setup.condition,
    }
    if call.stages:
        record["then"] = [stage.model.name for stage in call.stages]
        facts["stages"] = [stage.model.record() for stage in call.stages]
    if len(call.windows) > 1:
        facts["history_guidance"] = call.setup.history_guidance
    write_sidecar(path, "sample", record, call.model, seed, facts)
