"""What extend and interpolate share: a video that is read at the model's size, a timeline, and the frames that it
lacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from vidiff_cli.config.generate import ExtendSettings, InterpolateSettings
from vidiff_cli.frames import Scheme, Timeline, Window, plan
from vidiff_cli.tasks import generate as gen
from vidiff_cli.tasks.events import Event, Note, Steps
from vidiff_cli.tasks.model import Model
from vidiff_cli.tasks.window_journal import WindowJournal, window_journal
from vidiff_cli.video.decode import Decoded, decode
from vidiff_cli.video.probe import VideoInfo


@dataclass(frozen=True, kw_only=True, slots=True)
class Completed:
    """All frames of a timeline, uint8 (n h w c): the given ones as they were read, the others made."""

    pixels: np.ndarray
    windows: Sequence[Window]
    condition: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """The file of the result, what keeps finished windows until then, and the seed. `again`: an interrupted call made
    all windows, so that the files of the result may be there."""

    path: Path
    journal: WindowJournal
    seed: int
    again: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What is to be completed, in which order, with which prompt for each window."""

    place: Place
    timeline: Timeline
    overlap: int
    scheme: Scheme = "autoregressive"
    prompt: Callable[[int], str] = lambda number: ""


def read_input(info: VideoInfo, model: Model, *, fps: Fraction | None = None) -> Decoded:
    """The frames of an input at the model's size: short side the model's, long side cropped to the network's
    multiple."""
    scaled, crop = gen.network_size(info.width, info.height, model)
    return decode(info.path, size=scaled, crop=crop, fps=fps, max_bytes=gen.MOST_BYTES)


@contextmanager
def choose_place(
    settings: ExtendSettings | InterpolateSettings,
    model: Model,
    what: str,
    clip: Decoded,
    timeline: Timeline,
    fps: Fraction,
) -> Iterator[Place]:
    """Where the result goes, kept from other processes: as asked, else named after the input and the seed.

    The name of the journal has no random seed: the same command finds it, and the seed of the interrupted call in it.
    VidiffError if the result cannot be written, or is being made by another process.
    """
    height, width = clip.frames.shape[1:3]
    end = f"{len(timeline.written)}f_{width}x{height}{'.mkv' if settings.lossless else '.mp4'}"
    name = f"{gen.slug(settings.input.stem)}-{what}"
    seeded = f"{name}_{end}" if settings.seed is None else f"{name}_s{settings.seed}_{end}"
    key = gen.key_of(settings, model, timeline.times, clip.frames)
    with window_journal(settings.output or Path(seeded), key, settings.seed) as journal:
        target = settings.output or Path(f"{name}_s{journal.seed}_{end}")
        again = journal.complete
        path = gen.check_files(target, settings, fps, again=again)
        journal.clear(gen.sidecar_of(path), gen.sheet_of(path))
        yield Place(path=path, journal=journal, seed=journal.seed, again=again)


def size_note(info: VideoInfo, clip: Decoded) -> Iterator[Event]:
    """Says so where the result has another size than the input."""
    height, width = clip.frames.shape[1:3]
    if (width, height) != (info.width, info.height):
        yield Note(f"Working at {width}x{height}, the model's size (the input is {info.width}x{info.height}).")


def complete(
    model: Model, settings: ExtendSettings | InterpolateSettings, clip: Decoded, work: Work
) -> Steps[Completed]:
    """Makes the frames of the timeline that are not given, window after window.

    Given frames are copied into the result, never taken from a sampler. Finished windows are kept in the journal.
    """
    timeline, window = work.timeline, model.settings.frames
    total, given = len(timeline.times), sorted(timeline.given)
    sources = clip.frames[[timeline.given[rank] for rank in given]]
    height, width = clip.frames.shape[1:3]
    frames = torch.zeros(1, model.settings.network.channels, total, height, width)
    frames[:, :, given] = gen.as_video(sources)
    windows = plan(total, given, window=window, overlap=work.overlap, scheme=work.scheme)
    condition = gen.choose_condition(settings, model)
    job = gen.Job(
        windows=windows,
        times=timeline.times,
        prompts=lambda number: [work.prompt(number)],
        seeds=[work.place.seed],
    )
    if windows:
        shape = (1, frames.shape[1], min(window, total), height, width)
        yield from gen.long_note(gen.estimate_seconds(model, settings, job, shape, condition))
    video = yield from gen.run(
        gen.generate(model, settings, job, frames, condition=condition, journal=work.place.journal)
    )
    pixels = gen.as_frames(video[0])
    pixels[given] = sources
    return Completed(pixels=pixels, windows=windows, condition=condition)
