"""The one loop of every command: go through the windows of a plan and sample what each makes, given what it observes.

Shapes: b clips, c channels, n frames of the whole video, t frames of a window, h w pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Generator, Tensor

from vidiff_cli.diffusion.noise import INDEPENDENT, Prior, seeded
from vidiff_cli.diffusion.samplers import Denoise, Noise
from vidiff_cli.frames import Window

Sample = Callable[[Denoise, Tensor, Noise], Tensor]
"""(denoise, z at the first level, noise) -> z at the last level: a sampler with its levels closed over."""

Condition = Callable[..., Denoise]
"""(denoise, known: b c t h w, observed: b t) -> denoise: a way to condition, with its weight closed over. One that
shows observed frames with noise also takes `noise=`, a `Noise`."""

CONTEXT = 1  # seeded(seed, window) is for the sampler, seeded(seed, window, CONTEXT) for the noise of observed frames


def eight_bits(x: Tensor) -> Tensor:
    """x in [-1, 1] at the nearest of 256 values: what a file holds, so that a continued run sees what it would read."""
    # In float64, for a GPU divides float32 by multiplying with the reciprocal: other last bits than those of a file.
    return (((x.clamp(-1, 1) + 1) * 127.5).round().double() / 127.5 - 1).to(x.dtype)


def fill(
    windows: Sequence[Window],
    frames: Tensor,
    *,
    denoise: Callable[[Window], Denoise],
    sample: Sample,
    condition: Condition,
    seeds: Sequence[int],
    prior: Prior = INDEPENDENT,
    context_noise: bool = False,
    finish: Callable[[Tensor], Tensor] = eight_bits,
    start: int = 0,
) -> Iterator[Tensor]:
    """Yields the video (b c n h w) after each window, with the frames that the window makes filled in.

    `frames` (b c n h w) holds the given frames at their places, and those of windows before `start`; what stands
    elsewhere is not looked at. Given frames are never taken from a sampler. `denoise(window)` is the denoiser for a
    window's frames, `condition` is applied where the window observes any. `seeds` is one per clip, so that a clip does
    not depend on its neighbours, or one for the whole batch; every draw follows from (seed, number of the window).
    The sampler's noise has the covariance of the `prior`. With `context_noise` the condition is handed white noise of
    another stream. `finish` is applied to what is made, before later windows observe it.
    """
    video = frames.clone()
    for number, window in enumerate(windows[start:], start):
        index = torch.tensor(window.frames, device=video.device)
        noise = _noise(seeds, number, prior=prior)
        known = video[:, :, index]
        denoiser = denoise(window)
        if window.observed:
            mask = torch.tensor([frame in window.observed for frame in window.frames], device=video.device)
            known = torch.where(mask[:, None, None], known, torch.zeros_like(known))
            more = {"noise": _noise(seeds, number, CONTEXT)} if context_noise else {}
            denoiser = condition(denoiser, known, mask.expand(len(video), -1), **more)
        made = finish(sample(denoiser, noise(known, None), noise))
        for place, frame in enumerate(window.frames):
            if frame in window.makes:
                video[:, :, frame] = made[:, :, place]
        yield video.clone()


def _noise(seeds: Sequence[int], *parts: int, prior: Prior = INDEPENDENT) -> Noise:
    """Noise from the streams of (seed, *parts), drawn on the CPU: the same on every device. White but for a `prior`."""
    streams = [seeded(seed, *parts) for seed in seeds]

    def draw(like: Tensor, generator: Generator | None) -> Tensor:
        if len(streams) == 1:
            return prior.of(torch.randn(like.shape, generator=streams[0], dtype=like.dtype)).to(like.device)
        if len(streams) != len(like):
            raise ValueError(f"{len(streams)} seeds for {len(like)} clips; expected one each, or one for all")
        clips = [prior.of(torch.randn(1, *like.shape[1:], generator=stream, dtype=like.dtype)) for stream in streams]
        return torch.cat(clips).to(like.device)

    return draw
