"""Initial noise of windows: fresh, reused (FreeNoise), from the frames before, or from a first result (FreeInit).

Shapes: b clips, c channels, t frames of a window, h w pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from vidiff_cli.diffusion.levels import add_noise
from vidiff_cli.diffusion.noise import INDEPENDENT, Prior, freenoise_index, mix_frequencies, seeded
from vidiff_cli.diffusion.samplers import Denoise, Noise
from vidiff_cli.frames import Window


class SampleFn(Protocol):
    """(denoise, z, noise) -> z at the last level: a sampler with its levels closed over. `level` is that of z, where it
    is not the first of them: sampling goes on from there (`levels.levels_from`)."""

    def __call__(self, denoise: Denoise, z: Tensor, noise: Noise, level: float | None = None, /) -> Tensor: ...


InitNoise = Callable[[Window, int, Tensor, Tensor], tuple[Tensor, float | None]]
"""(window, its number, known: b c t h w, fresh noise: b c t h w) -> (z to begin with, its level or None for the first).

Fresh noise is drawn for every window and has the covariance of the prior. `known` counts where the window observes."""

OWN, BANK = (
    2,
    3,
)  # seeded(seed, number, OWN): noise of frames that FreeNoise has none left for; (seed, 0, BANK): all other
FREE_INIT_LEVEL = -4.0  # log-SNR; see free_init


def fresh(window: Window, number: int, known: Tensor, noise: Tensor) -> tuple[Tensor, float | None]:
    """Noise of its own for every window."""
    return noise, None


def free_noise(
    *, window: int, stride: int, first: int = 0, seeds: Sequence[int], prior: Prior = INDEPENDENT
) -> InitNoise:
    """FreeNoise: all windows begin with the noises of the first one, shuffled (`noise.freenoise_index`), so that a long
    video keeps to what it shows. A frame has the same noise in every window.

    `window` is the model's, `stride` the frames by which windows move on (window - overlap), `first` the first frame of
    the first window. `seeds` are those of `sample_windows`, one per clip or one for all. Noise within a window is
    white, then has the covariance of the `prior`: where two of its frames would have the same noise (windows with gaps,
    or not in step with the stride), the frames that it makes come first, and others have one of their own.
    """

    def start(planned: Window, number: int, known: Tensor, noise: Tensor) -> tuple[Tensor, float | None]:
        each = len(noise) // len(seeds)  # clips of a seed: one, or all of them
        parts = []
        for position, seed in enumerate(seeds):
            like = noise[position * each : (position + 1) * each]
            shape = (each, like.shape[1], window, *like.shape[3:])
            bank = torch.randn(shape, generator=seeded(seed, 0, BANK), dtype=like.dtype)
            part = torch.randn(like.shape, generator=seeded(seed, number, OWN), dtype=like.dtype)
            used: set[int] = set()
            for place in sorted(range(len(planned.frames)), key=lambda at: planned.frames[at] in planned.observed):
                index = freenoise_index(planned.frames[place] - first, window=window, stride=stride, seed=seed)
                if index not in used:
                    part[:, :, place] = bank[:, :, index]
                used.add(index)
            parts.append(prior.correlate(part))
        return torch.cat(parts).to(noise.device), None

    return start


def previous_frames(level: float, start: InitNoise = fresh) -> InitNoise:
    """Begins at `level`, with z = alpha x + sigma noise where x repeats for every frame the nearest one observed.

    The higher the level, the more of x is left: the new frames look like the old ones, and move less. A window that
    observes nothing begins as `start` says, whose noise is taken otherwise too.
    """

    def begin(window: Window, number: int, known: Tensor, noise: Tensor) -> tuple[Tensor, float | None]:
        started = start(window, number, known, noise)
        seen = [place for place, frame in enumerate(window.frames) if frame in window.observed]
        if not seen:
            return started
        frames = window.frames
        nearest = [min(seen, key=lambda place: abs(frames[place] - frame)) for frame in frames]
        levels = torch.full((len(known), len(frames)), level, dtype=torch.float64, device=known.device)
        return add_noise(known[:, :, nearest], started[0], levels), level

    return begin


def free_init(sample: SampleFn, *, passes: int, level: float = FREE_INIT_LEVEL, prior: Prior = INDEPENDENT) -> SampleFn:
    """FreeInit: samples, brings the result back to `level`, keeps the low frequencies of that, and samples again from
    there with other high ones (`noise.mix_frequencies`); `passes` samplings in all, 1 being `sample` itself.

    The level is not the first one of sampling, which is -20: nothing of the result is left there (alpha = 5e-5), and
    every pass would be another video. The published method goes back to about -5, the last step of the schedule of
    Stable Diffusion. The higher the level, the more is kept; but high frequencies begin as noise of variance 1 where
    noise of the level has sigma^2, and come out stronger by 1 / sigma^2 = 1 + e^level: 2 % at -4, 14 % at -2.

    Noise is new in every pass. The published method adds the noise that the first pass began with; but a result has
    grown from that noise, so that the two add up: with an exact denoiser frames vary by a third more after one pass
    from -5.4. With new noise their law stays. Source: Wu et al. 2024 (FreeInit), algorithm 1.
    """
    if passes < 1:
        raise ValueError(f"{passes} passes of FreeInit: expected at least 1")

    def again(denoise: Denoise, z: Tensor, noise: Noise, begin: float | None = None, /) -> Tensor:
        x = sample(denoise, z, noise) if begin is None else sample(denoise, z, noise, begin)
        levels = torch.full((len(z), z.shape[2]), level, dtype=torch.float64, device=z.device)
        for _ in range(passes - 1):
            noisy = add_noise(x, noise(z, None), levels)
            mixed = mix_frequencies(prior.whiten(noisy), prior.whiten(noise(z, None)))
            x = sample(denoise, prior.correlate(mixed), noise, level)
        return x

    return again
