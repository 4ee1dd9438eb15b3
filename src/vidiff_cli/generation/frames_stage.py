"""The temporal stage of a cascade: a clip at a multiple of its rate, whose own frames stay as they are.

Windows, scenes and the condition are those of `vidiff interpolate --detail model`. Shapes: t frames, h w pixels, c = 3
RGB; uint8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import torch

from vidiff_cli.events import EventStream
from vidiff_cli.frames import Window
from vidiff_cli.generation.budget import estimate_seconds
from vidiff_cli.generation.clip_frames import ClipFrames, scene_ranges
from vidiff_cli.generation.frame_store import FrameArray, FrameStore
from vidiff_cli.generation.generate import generate
from vidiff_cli.generation.resume_journal import WindowJournal
from vidiff_cli.generation.sampling_setup import SamplingSetup, resolve_sampling
from vidiff_cli.generation.source_clip import Size
from vidiff_cli.generation.video_job import VideoJob
from vidiff_cli.models.codec import z_shape
from vidiff_cli.models.unet_model import UNetModel
from vidiff_cli.timeline import Timeline, interpolation, plans, split_at_cuts

TENSORS = 18  # of a window's frames that are there at the same time (measured)
OVERLAP = 2  # a window sees at least the two frames around a gap


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainSampling:
    """Options of sampling where nothing is asked for: the defaults of `GenerationSettings`, which this room does not
    know."""

    condition: str = "auto"
    sampler: str = "dpmpp-2m"
    steps: int | None = None
    guidance_scale: float | None = None
    negative_prompt: str | None = None
    reconstruction_weight: float | None = None
    reconstruction_schedule: str = "constant"
    gradient_checkpointing: Literal["auto", "on", "off"] = "auto"
    context_noise: float = 0.0
    history_guidance: float | None = None
    history_level: float = 1.0
    history_parts: int = 1
    langevin: float | None = None
    shift: float = 0.0
    start_noise: str = "fresh"
    freeinit: int = 1
    threshold: float | str = "static"


@dataclass(frozen=True, kw_only=True, slots=True)
class FramesSetup:
    """A model of frames between given ones, which makes `factor` times as many frames of the same size."""

    model: UNetModel
    sampling: SamplingSetup
    factor: int
    prompt: str = ""

    @property
    def scale(self) -> int:
        """Size of its frames in sizes of those that it is given."""
        return 1

    @property
    def tensors(self) -> int:
        """Tensors of a window's frames that are there at the same time."""
        return TENSORS

    def count(self, frames: int) -> int:
        """Number of frames that it makes of so many."""
        return (frames - 1) * self.factor + 1 if frames else 0


def frames_setup(model: UNetModel, factor: int = 2) -> FramesSetup:
    """A model as a stage: in its own number of steps, which is one unless it was distilled."""
    sampling = resolve_sampling(model, PlainSampling(), completes="between")
    return FramesSetup(model=model, sampling=sampling, factor=factor)


def fill_frames(
    setup: FramesSetup,
    source: ClipFrames,
    count: int,
    made: FrameArray,
    *,
    seed: int,
    journal: WindowJournal | None,
    what: str,
) -> EventStream[ClipFrames]:
    """Make the frames between those of a clip.

    Args:
        setup: The model.
        source: The clip.
        count: Number of its frames.
        made: Holds the new frames (1 h w c), in the file of the journal where there is one.
        seed: Seed of all noise.
        journal: Keeps finished windows.
        what: Unit of the progress.

    Returns:
        All frames, the clip's own among them bit for bit; across a cut the last one before it is repeated.

    Raises:
        VidiffError: As `generate`.
    """
    line = _timeline(source.fps, count, setup.factor, [scene.start for scene in scene_ranges(source, count)])
    sources = {**line.given, **{rank: line.given[repeated] for rank, repeated in line.repeats.items()}}
    store = FrameStore(made, source, sources)
    job = _job(setup, line, seed)
    yield from generate(setup.model, setup.sampling, job, store, journal=journal, what=what)
    return ClipFrames(store=store, clip=0, fps=line.fps)


def estimate_frames_seconds(setup: FramesSetup, size: Size, count: int) -> float:
    """Wall seconds for a clip of so many frames of `size` (h w), as one scene."""
    line = _timeline(Fraction(1), count, setup.factor, [])
    job, model = _job(setup, line, 0), setup.model
    if not job.windows:
        return 0.0
    shape = z_shape(model.codec, 1, len(job.windows[0].frames), *size)
    with torch.no_grad():
        return estimate_seconds(model, setup.sampling, job, shape)


def _timeline(fps: Fraction, count: int, factor: int, starts: Sequence[int]) -> Timeline:
    return split_at_cuts(interpolation(count, fps, factor=factor, hold=False), starts=starts)


def _job(setup: FramesSetup, line: Timeline, seed: int) -> VideoJob:
    windows: list[Window] = plans(line, window=setup.model.frames, overlap=OVERLAP)
    return VideoJob(windows=windows, times=line.times, prompts=lambda _: [setup.prompt], seeds=[seed])
