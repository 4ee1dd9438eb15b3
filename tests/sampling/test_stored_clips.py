"""A world of eight clips, whose ideal denoiser is a softmax over them: what comes out must be one of the eight.

Shapes: b clips, c channels, n = t frames, h w pixels.
"""

from functools import partial

import pytest
import torch
from in_memory import fill
from torch import Tensor

from vidiff_cli.diffusion.guidance import clamp_known, hold_known, reconstruct, threshold
from vidiff_cli.diffusion.levels import alpha_sigma, grid
from vidiff_cli.diffusion.samplers import SAMPLERS, Denoise, Noise, ddpm
from vidiff_cli.frames import plan
from vidiff_cli.sampling.windows import Conditioner

COUNT, C, T, SIDE = 8, 3, 8, 4


def stored_clips() -> Tensor:
    """Eight clips (8 c t h w) in [-1, 1], all frames of all clips far apart."""
    clips = torch.rand(COUNT, C, T, SIDE, SIDE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return 1.8 * (clips > 0.5).double() - 0.9


CLIPS = stored_clips()


def ideal(z: Tensor, level: Tensor) -> Tensor:
    """E[x | z] over the stored clips, at a level per frame: a frame counts by its own signal to noise."""
    alpha, sigma = alpha_sigma(level.double())
    signal = torch.einsum("bcthw,kcthw->bkt", z, CLIPS.to(z.dtype)) * (alpha / sigma**2)[:, None]
    power = CLIPS.square().sum(dim=(1, 3, 4)) * (0.5 * alpha**2 / sigma**2)[:, None]
    chances = (signal - power).sum(dim=2).softmax(dim=1)
    return torch.einsum("bk,kcthw->bcthw", chances, CLIPS.to(z.dtype))


def guided(weight: float) -> Conditioner:
    return lambda denoise, known, observed: clamp_known(reconstruct(denoise, known, observed, weight), known, observed)


def generate(
    name: str, condition: Conditioner, given: list[int], wanted: Tensor, seeds: list[int], *, langevin: float = 0.0
) -> Tensor:
    """Through plan and fill: the video (b c t h w) with the frames `given` of the clips `wanted`."""

    def sample(denoise: Denoise, z: Tensor, noise: Noise) -> Tensor:
        sampler = partial(ddpm, noise=noise, correct=langevin) if name == "ddpm" else SAMPLERS[name]
        return sampler(threshold(denoise), z, grid(32))

    frames = torch.zeros_like(wanted)
    frames[:, :, given] = wanted[:, :, given]
    windows = plan(T, given, window=T, overlap=T // 2)
    (video,) = fill(windows, frames, denoise=lambda *_: ideal, sample=sample, condition=condition, seeds=seeds)
    return video


def share_right(name: str, condition: Conditioner, given: list[int], *, langevin: float = 0.0) -> float:
    """Share of 128 videos whose made frames are those of the clip that the given frames belong to, to 1e-2."""
    wanted = CLIPS.repeat(16, 1, 1, 1, 1)
    made = generate(name, condition, given, wanted, list(range(len(wanted))), langevin=langevin)
    assert torch.equal(made[:, :, given], wanted[:, :, given])
    return float(((made - wanted).abs().flatten(1).amax(dim=1) < 1e-2).double().mean())


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_free_sampling_returns_stored_clips_and_all_of_them(name: str) -> None:
    count = 96
    made = generate(name, clamp_known, [], torch.zeros(count, *CLIPS.shape[1:], dtype=CLIPS.dtype), list(range(count)))
    distance = (made[:, None] - CLIPS).abs().flatten(2).amax(dim=2)  # b k
    assert float(distance.amin(dim=1).max()) < 1e-2
    assert distance.argmin(dim=1).bincount(minlength=COUNT).min() > 0


EXTEND, INTERPOLATE = [0, 1, 2, 3], [0, 3, 6]


@pytest.mark.parametrize("given", [EXTEND, INTERPOLATE, [0], [7], [0, 7]], ids=str)
@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_the_learned_condition_always_finds_the_clip(name: str, given: list[int]) -> None:
    assert share_right(name, hold_known, given) == 1.0


@pytest.mark.parametrize(("given", "least"), [(EXTEND, 0.9), (INTERPOLATE, 0.7)], ids=["extend", "interpolate"])
@pytest.mark.parametrize(
    ("name", "weight", "langevin"), [("ddpm", 2.0, 0.1), ("ddim", 5.0, 0.0), ("dpmpp-2m", 5.0, 0.0)]
)
def test_reconstruction_finds_the_clip_where_replacement_often_does_not(
    name: str, weight: float, langevin: float, given: list[int], least: float
) -> None:
    """Replacement is better than chance, and no more: the other frames may have chosen another clip before."""
    replaced = share_right(name, clamp_known, given, langevin=langevin)
    found = share_right(name, guided(weight), given, langevin=langevin)
    assert 2 / COUNT < replaced < found and found >= least
    assert share_right(name, guided(50.0), given, langevin=langevin) >= 0.95


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_one_frame_needs_a_larger_weight(name: str) -> None:
    shares = [share_right(name, guided(weight), [7]) for weight in (0.0, 2.0, 10.0, 50.0)]
    assert shares == sorted(shares) and shares[0] < 0.4 and shares[-1] > 0.65
