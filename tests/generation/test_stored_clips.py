"""A world of eight clips, whose ideal denoiser is a softmax over them: what comes out must be one of the eight.

Shapes: b clips, c channels, n = t frames, h w pixels.
"""

from functools import partial

import pytest
import torch
from torch import Tensor

from vidiff_cli.diffusion.guidance import clamp_known, hold_known, reconstruct, threshold
from vidiff_cli.diffusion.levels import alpha_sigma, grid
from vidiff_cli.diffusion.samplers import SAMPLERS, Denoise, Noise, ddpm
from vidiff_cli.frames import plan
from vidiff_cli.generation.fill import Condition, fill

COUNT, C, T, SIDE = 8, 3, 8, 4


def stored_clips() -> Tensor:
    """Eight clips (8 c t h w) in [-1, 1], all frames of all clips far apart."""
    clips = torch.rand(COUNT, C, T, SIDE, SIDE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return 1.8 * (clips > 0.5) - 0.9


CLIPS = stored_clips()


def ideal(z: Tensor, level: Tensor) -> Tensor:
    """E[x | z] over the stored clips, at a level per frame: a frame counts by its own signal to noise."""
    alpha, sigma = alpha_sigma(level.double())
    signal = torch.einsum("bcthw,kcthw->bkt", z, CLIPS.to(z.dtype)) * (alpha / sigma**2)[:, None]
    power = CLIPS.square().sum(dim=(1, 3, 4)) * (0.5 * alpha**2 / sigma**2)[:, None]
    chances = (signal - power).sum(dim=2).softmax(dim=1)
    return torch.einsum("bk,kcthw->bcthw", chances, CLIPS.to(z.dtype))


def reconstruction(denoise: Denoise, known: Tensor, observed: Tensor) -> Denoise:
    return clamp_known(reconstruct(denoise, known, observed, 2.0), known, observed)


CONDITIONS: dict[str, Condition] = {
    "replacement": clamp_known,
    "reconstruction": reconstruction,
    "learned": hold_known,
}


def generate(name: str, condition: Condition, given: list[int], wanted: Tensor, seeds: list[int]) -> Tensor:
    """Through plan and fill: the video (b c t h w) with the frames `given` of the clips `wanted`."""

    def sample(denoise: Denoise, z: Tensor, noise: Noise) -> Tensor:
        sampler = partial(ddpm, noise=noise) if name == "ddpm" else SAMPLERS[name]
        return sampler(threshold(denoise), z, grid(32))

    frames = torch.zeros_like(wanted)
    frames[:, :, given] = wanted[:, :, given]
    windows = plan(T, given, window=T, overlap=T // 2)
    (video,) = fill(windows, frames, denoise=lambda window: ideal, sample=sample, condition=condition, seeds=seeds)
    return video


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_free_sampling_returns_stored_clips_and_all_of_them(name: str) -> None:
    count = 96
    made = generate(name, clamp_known, [], torch.zeros(count, *CLIPS.shape[1:], dtype=CLIPS.dtype), list(range(count)))
    distance = (made[:, None] - CLIPS).abs().flatten(2).amax(dim=2)  # b k
    assert float(distance.amin(dim=1).max()) < 1e-2
    assert distance.argmin(dim=1).bincount(minlength=COUNT).min() > 0


@pytest.mark.parametrize("given", [[0, 1, 2, 3], [0, 3, 6], [7], [0, 7]], ids=["extend", "interpolate", "last", "loop"])
@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_given_frames_bring_their_clip_back(name: str, condition: str, given: list[int]) -> None:
    made = generate(name, CONDITIONS[condition], given, CLIPS, list(range(COUNT)))
    assert torch.equal(made[:, :, given], CLIPS[:, :, given])
    assert float((made - CLIPS).abs().max()) < 1e-2
