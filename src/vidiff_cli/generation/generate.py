"""Generate the frames of a job, window after window, into a frame store.

Shapes: b clips, n frames of the whole video, t frames of a window; on the network's side b c n h w in [-1, 1], in a
store uint8.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from vidiff_cli.diffusion.samplers import Denoise
from vidiff_cli.events import Event, Note
from vidiff_cli.frames import Window
from vidiff_cli.generation.budget import count_passes
from vidiff_cli.generation.frame_store import FrameStore, MemoryFrameArray
from vidiff_cli.generation.made_frames import note_stale, resume_windows, write_windows
from vidiff_cli.generation.resume_journal import WindowJournal
from vidiff_cli.generation.rolling import generate_rolling
from vidiff_cli.generation.sampling_setup import SamplingSetup
from vidiff_cli.generation.video_job import VideoJob, batch_windows
from vidiff_cli.generation.window_codec import latent_shape, window_codec
from vidiff_cli.generation.window_denoiser import window_denoiser
from vidiff_cli.models.families import VideoModel
from vidiff_cli.sampling.windows import CONTEXT, sample_windows, window_noise


def generate(
    model: VideoModel,
    setup: SamplingSetup,
    job: VideoJob,
    store: FrameStore,
    *,
    journal: WindowJournal | None = None,
    what: str = "windows",
) -> Iterator[Event]:
    """Sample the windows of a job and write what they make into `store`, which holds the given frames.

    With a `journal` every finished window is kept, and a repeated call goes on after the last one. The caller removes
    the journal when the result is safe.

    Args:
        model: The loaded model.
        setup: How windows are sampled.
        job: Windows, times, prompts and seeds of b clips.
        store: Frames of the b clips by rank; those that windows observe are read from it.
        journal: Progress of an interrupted call, with the store's made frames.
        what: Unit of the progress.

    Yields:
        Progress per window, notes on the time that remains.

    Raises:
        VidiffError: The network's numbers are not finite, or the store cannot be written.
    """
    if journal is not None:
        yield from note_stale(journal)
    if model.compile_before(count_passes(setup, job)):
        yield Note("The network is compiled first, which takes a minute or more.")
    if job.rolling is not None:
        yield from generate_rolling(model, setup, job, job.rolling, store, journal=journal)
        return
    batches, start = batch_windows(job.windows, len(job.seeds), model.windows_at_once), 0
    if journal is not None:
        start = yield from resume_windows(journal, job.windows, store, batches)
    codec = window_codec(model.codec, job, store, model.device)
    batches_made = sample_windows(
        codec.windows,
        [batch for batch in batches if batch.start >= start],
        codec.read,
        denoise=partial(_denoiser, model, setup, job, codec.windows),
        sample=setup.sample,
        condition=setup.conditioner,
        seeds=job.seeds,
        prior=setup.prior,
        context_noise=setup.context_noise,
        init_noise=setup.init_noise(codec.windows, job.seeds),
        finish=codec.finish,
    )
    yield from write_windows(job.windows, batches_made, store, start=start, journal=journal, what=what)


def generate_clips(model: VideoModel, setup: SamplingSetup, job: VideoJob, frames: np.ndarray) -> np.ndarray:
    """Generate short videos in memory: `frames` (b n h w c) uint8 with the given ones in place; returns all of them."""
    clips, count, height, width, _ = frames.shape
    shape = latent_shape(model.codec, clips, height, width)
    latents = None if shape is None else MemoryFrameArray(np.zeros((count, *shape), np.float32))
    store = FrameStore(MemoryFrameArray(frames.swapaxes(0, 1).copy()), latents=latents)
    for _ in generate(model, setup, job, store):
        pass
    return store.read(range(frames.shape[1])).swapaxes(0, 1)


def _denoiser(
    model: VideoModel,
    setup: SamplingSetup,
    job: VideoJob,
    all_windows: Sequence[Window],
    windows: Sequence[Window],
    known: Tensor,
    observed: Tensor,
) -> Denoise:
    """The denoiser of windows that are sampled together: their times, their prompts, and the observed values (known: b
    c m h w, observed: b m)."""
    seconds, prompts = list[list[float]](), list[str]()
    numbers = [all_windows.index(window) for window in windows]
    for number in numbers:
        window_prompts = job.prompts(number)
        frames = job.windows[number].frames[:: model.codec.temporal]
        seconds += [[float(job.times[frame] - job.times[frames[0]]) for frame in frames]] * len(window_prompts)
        prompts += window_prompts
    return window_denoiser(
        model,
        setup,
        times=torch.tensor(seconds, dtype=torch.float32, device=model.device),
        prompts=prompts,
        known=known,
        observed=observed,
        noise=window_noise(job.seeds, numbers, len(known) // len(windows), CONTEXT),
    )
