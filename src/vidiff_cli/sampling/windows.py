"""The one loop of every command: go through the windows of a plan and sample what each makes, given what it observes.

Shapes: b clips, c channels, n frames of the whole video, t frames of a window, m frames that a window makes, h w
pixels. Windows that do not look at one another are sampled together, as a batch of k b clips.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Generator, Tensor

from vidiff_cli.diffusion.noise import INDEPENDENT, Prior, seeded
from vidiff_cli.diffusion.samplers import Denoise, Noise
from vidiff_cli.frames import Window
from vidiff_cli.pixels import quantize_8bit
from vidiff_cli.sampling.initial_noise import InitNoise, SampleFn, fresh

Conditioner = Callable[..., Denoise]
"""(denoise, known: b c t h w, observed: b t) -> denoise: a way to condition, with its weight closed over. One that
shows observed frames with noise also takes `noise=`, a `Noise`."""

CONTEXT = 1  # seeded(seed, window) is for the sampler, seeded(seed, window, CONTEXT) for the noise of observed frames


def sample_windows(
    windows: Sequence[Window],
    batches: Sequence[range],
    read_frames: Callable[[Sequence[int]], Tensor],
    *,
    denoise: Callable[[Sequence[Window], Tensor, Tensor], Denoise],
    sample: SampleFn,
    condition: Conditioner,
    seeds: Sequence[int],
    prior: Prior = INDEPENDENT,
    context_noise: bool = False,
    init_noise: InitNoise = fresh,
    finish: Callable[[Window, Tensor], Tensor] | None = None,
) -> Iterator[list[Tensor]]:
    """Sample windows of frames, batch after batch. Given frames are never taken from a sampler.

    Every draw follows from (seed, number of the window), whatever the batch.

    Args:
        windows: The windows of a plan, in order.
        batches: Numbers of windows that are sampled at once (`frames.batch_independent_windows`).
        read_frames: Gives finished frames (b c n h w); the consumer stores what is yielded before the next batch.
        denoise: Gives the denoiser of k windows stacked to (k b) clips, from the windows, `known` (k b c t h w) and
            `observed` (k b t), where `known` counts.
        sample: The sampler, with its levels closed over.
        condition: Applied to the denoiser of windows that observe any frame.
        seeds: One per clip, so that a clip does not depend on its neighbors, or one for all b.
        prior: Covariance over frames of the sampler's noise.
        context_noise: Hand the condition white noise of another stream, for observed frames.
        init_noise: Gives what a window starts from, and at which level.
        finish: Gives what a window makes from all of its z (b c t h w); if not given, its made frames rounded to 8
            bits.

    Yields:
        What the windows of each batch make: (b c m h w) for each, their frames in ascending order.
    """
    for batch in batches:
        batch_windows = [windows[number] for number in batch]
        known = torch.cat([read_known(window, read_frames) for window in batch_windows])
        clips = len(known) // len(batch_windows)
        masks = torch.tensor([[frame in window.observed for frame in window.frames] for window in batch_windows])
        mask = masks.to(known.device, non_blocking=True).repeat_interleave(clips, dim=0)
        denoiser = denoise(batch_windows, known, mask)
        if batch_windows[0].observed:
            more = {"noise": window_noise(seeds, batch, clips, CONTEXT)} if context_noise else {}
            denoiser = condition(denoiser, known, mask, **more)
        noise = window_noise(seeds, batch, clips, prior=prior)
        parts = zip(batch_windows, batch, known.split(clips), noise(known, None).split(clips), strict=True)
        starts = [init_noise(window, number, seen, drawn) for window, number, seen, drawn in parts]
        z, level = torch.cat([start for start, _ in starts]), starts[0][1]
        sampled = (sample(denoiser, z, noise) if level is None else sample(denoiser, z, noise, level)).split(clips)
        made = []
        for window, part in zip(batch_windows, sampled, strict=True):
            made.append(finish(window, part) if finish else quantize_8bit(take_made(window, part)))
        yield made


def take_made(window: Window, z: Tensor) -> Tensor:
    """The frames of a window's z (b c t h w) that it makes (b c m h w), in ascending order."""
    if len(window.makes) == len(window.frames):
        return z
    return z[:, :, [place for place, frame in enumerate(window.frames) if frame in window.makes]]


def read_known(window: Window, read_frames: Callable[[Sequence[int]], Tensor]) -> Tensor:
    """The observed frames of a window in their places (b c t h w), zeros in the others."""
    seen = sorted(window.observed)
    frames = read_frames(seen)
    known = frames.new_zeros(*frames.shape[:2], len(window.frames), *frames.shape[3:])
    known[:, :, [window.frames.index(frame) for frame in seen]] = frames
    return known


def window_noise(
    seeds: Sequence[int], numbers: Sequence[int], clips: int, *parts: int, prior: Prior = INDEPENDENT
) -> Noise:
    """Noise for windows of these numbers, from the streams of (seed, number, *parts), drawn on the CPU: the same on
    every device and in every batch. White but for a `prior`."""
    streams = [[seeded(seed, number, *parts) for seed in seeds] for number in numbers]
    if len(seeds) not in (1, clips):
        raise ValueError(f"{len(seeds)} seeds for {clips} clips; expected one each, or one for all")

    def draw(like: Tensor, generator: Generator | None) -> Tensor:
        each = clips // len(seeds)
        shape = (each, *like.shape[1:])
        drawn = [
            prior.correlate(torch.randn(shape, generator=stream, dtype=like.dtype))
            for window_streams in streams
            for stream in window_streams
        ]
        noise = torch.cat(drawn) if len(drawn) > 1 else drawn[0]
        return noise.to(like.device, non_blocking=True)

    return draw
