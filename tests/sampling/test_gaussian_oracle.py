"""Extension of exact Gaussian videos: the proof that reconstruction guidance is right, with nothing trained.

A video is a stationary Gaussian process over time, one pixel wide, so that the ideal denoiser of a window is a matrix.
Given are 16 true frames, and 48 more are made, window after window (T = 16, overlap 8). What a method gets wrong shows
at the seams (jump: variance of x[k] - x[k - 1] across a seam, over the truth) and in the Frechet distance of all 64
frames to the truth. Shapes: videos (b 1 n 1 1), float64; b clips, n frames.
"""

import functools
import math
from dataclasses import dataclass

import pytest
import torch
from gaussian import covariance, guided, ideal
from gaussian import frechet as frechet_of_laws
from in_memory import fill
from torch import Tensor

from vidiff_cli.diffusion.guidance import clamp_known, hold_known
from vidiff_cli.diffusion.levels import alpha_sigma, grid
from vidiff_cli.diffusion.noise import INDEPENDENT, PRIORS, Prior
from vidiff_cli.diffusion.samplers import SAMPLERS, Denoise, Noise, ddpm
from vidiff_cli.frames import plan
from vidiff_cli.sampling.windows import Conditioner, take_made

CLIPS, FRAMES, WINDOW, OVERLAP, GIVEN, STEPS = 4096, 64, 16, 8, 16, 64
SEAMS = range(GIVEN, FRAMES, WINDOW - OVERLAP)


def truth(process: str, seed: int, clips: int = CLIPS) -> Tensor:
    """Whole true videos (b 1 n 1 1)."""
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(clips, FRAMES, generator=generator, dtype=torch.float64)
    root = torch.linalg.cholesky(covariance(process, range(FRAMES)) + 1e-10 * torch.eye(FRAMES, dtype=torch.float64))
    return (white @ root.T)[:, None, :, None, None]


LOWPASS = Prior(name="lowpass", strength=0.5)


METHODS: dict[str, tuple[Conditioner, float]] = {
    "exact conditional": (hold_known, 0.0),
    "replacement": (clamp_known, 0.0),
    "replacement + Langevin": (clamp_known, 0.1),
    "guidance + Langevin": (guided(2.0), 0.1),
    "guidance + Langevin, of its covariance": (guided(2.0, LOWPASS.covariance(WINDOW)), 0.1),
}


@dataclass(frozen=True)
class Measured:
    jump: float
    distance: float


@functools.cache
def extend(process: str, method: str, prior: Prior = INDEPENDENT) -> Measured:
    """64 frames from 16 true ones, by plan, fill and ddpm, and what came out."""
    condition, correct = METHODS[method]
    clips = CLIPS // 2 if prior.is_white else CLIPS // 8

    def sample(denoise: Denoise, z: Tensor, noise: Noise) -> Tensor:
        return ddpm(denoise, z, grid(STEPS), correct=correct, noise=noise)

    given = truth(process, seed=0, clips=clips)
    given[:, :, GIVEN:] = math.nan  # nothing may look at it
    windows = plan(FRAMES, range(GIVEN), window=WINDOW, overlap=OVERLAP)
    denoise = ideal(process, range(WINDOW), prior)
    with torch.no_grad():
        for video in fill(
            windows,
            given,
            denoise=lambda *_: denoise,
            sample=sample,
            condition=condition,
            prior=prior,
            seeds=[1],
            finish=take_made,
        ):
            given = video
    assert torch.equal(given[:, :, :GIVEN], truth(process, seed=0, clips=clips)[:, :, :GIVEN])
    return measure(process, given.reshape(clips, FRAMES))


def measure(process: str, video: Tensor) -> Measured:
    """Jump over the seams, and the distance to the truth."""
    k = covariance(process, range(FRAMES))
    jumps = [float((video[:, seam] - video[:, seam - 1]).var()) for seam in SEAMS]
    jump = sum(jumps) / len(jumps) / float(2 * (k[0, 0] - k[0, 1]))
    return Measured(jump=jump, distance=frechet(process, video))


def frechet(process: str, video: Tensor) -> float:
    """Of videos (b n) to the process: the squared mean, and what their covariances are apart."""
    law = covariance(process, range(video.shape[1]))
    return float(video.mean(dim=0).square().sum()) + frechet_of_laws(torch.cov(video.T), law)


BOTH = pytest.mark.parametrize("process", ["AR(1)", pytest.param("Matern-5/2", marks=pytest.mark.slow)])


@BOTH
def test_the_oracle_measures_itself_right(process: str) -> None:
    """True videos have jump 1 and almost no distance; the denoiser's residual has the variance of the posterior."""
    measured = measure(process, truth(process, seed=2).reshape(CLIPS, FRAMES))
    assert measured.jump == pytest.approx(1.0, abs=0.05) and measured.distance < 0.1
    x = truth(process, seed=3)[:, :, :WINDOW]
    level = torch.linspace(-3.0, 6.0, WINDOW, dtype=torch.float64).expand(CLIPS, -1)
    alpha, sigma = (scale[0] for scale in alpha_sigma(level))
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    z = alpha[:, None, None] * x + sigma[:, None, None] * noise
    residual = (ideal(process, range(WINDOW))(z, level) - x).reshape(CLIPS, WINDOW)
    k = covariance(process, range(WINDOW))
    posterior = k - alpha * k @ torch.linalg.solve(
        alpha[:, None] * k * alpha + torch.diag(sigma**2), alpha[:, None] * k
    )
    torch.testing.assert_close(residual.var(dim=0), posterior.diag(), rtol=0.12, atol=0)


@BOTH
def test_replacement_alone_leaves_seams(process: str) -> None:
    plain, corrected = extend(process, "replacement"), extend(process, "replacement + Langevin")
    assert plain.jump >= 2.0
    assert plain.jump > corrected.jump >= 1.4 and plain.distance > corrected.distance


@BOTH
def test_guidance_joins_what_replacement_does_not(process: str) -> None:
    plain, better = extend(process, "replacement"), extend(process, "guidance + Langevin")
    assert 0.6 <= better.jump <= 1.4
    assert plain.distance >= 2.0 * better.distance
    assert extend(process, "replacement + Langevin").distance > 1.5 * better.distance


@BOTH
def test_the_learned_condition_is_the_best_of_all(process: str) -> None:
    exact = extend(process, "exact conditional")
    assert 0.8 <= exact.jump <= 1.2
    others = [name for name in METHODS if name != "exact conditional" and "of its" not in name]
    assert all(exact.distance < extend(process, other).distance for other in others)


def made_freely(prior: Prior, sampler: str, *, of_model: Prior, started: bool = True, correct: float = 0.0) -> float:
    """Distance of 16 frames, none given, of a model of the noise `of_model`; with `started` z begins with the prior."""

    def sample(denoise: Denoise, z: Tensor, noise: Noise) -> Tensor:
        if not started:
            z = of_model.correlate(torch.randn(z.shape, generator=torch.Generator().manual_seed(5), dtype=z.dtype))
        if sampler == "ddpm":
            return ddpm(denoise, z, grid(48), correct=correct, noise=noise)
        return SAMPLERS[sampler](denoise, z, grid(48))

    (video,) = fill(
        plan(WINDOW, (), window=WINDOW, overlap=OVERLAP),
        torch.zeros(1024, 1, WINDOW, 1, 1, dtype=torch.float64),
        denoise=lambda *_: ideal("AR(1)", range(WINDOW), of_model),
        sample=sample,
        condition=clamp_known,
        seeds=[3],
        prior=prior,
        finish=take_made,
    )
    return frechet("AR(1)", video.reshape(-1, WINDOW))


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize(("sampler", "correct"), [("ddpm", 0.0), ("ddpm", 0.1), ("ddim", 0.0), ("dpmpp-2m", 0.0)])
def test_every_prior_reproduces_the_law_and_needs_its_own_noise_for_it(name: str, sampler: str, correct: float) -> None:
    """In all that is drawn: the first z, and the noise of every step and of every correction."""
    prior = Prior(name=name, strength=0.0 if name == "independent" else 0.6)
    right = made_freely(prior, sampler, of_model=prior, correct=correct)
    assert right < 0.2
    if name != "independent":
        assert made_freely(INDEPENDENT, sampler, of_model=prior, correct=correct) > 4 * right
        if sampler == "ddpm":
            assert made_freely(INDEPENDENT, sampler, of_model=prior, started=False, correct=correct) > 4 * right


def test_guidance_with_correlated_noise_needs_its_covariance() -> None:
    """Seams are closed with the factor, and not without it; what is learned is still the best."""
    process = "AR(1)"
    plain, better = (extend(process, f"guidance + Langevin{rest}", LOWPASS) for rest in ("", ", of its covariance"))
    assert 0.6 <= better.jump <= 1.4 and plain.jump > 1.8
    assert better.distance < min(plain.distance, extend(process, "replacement", LOWPASS).distance / 4)
    assert extend(process, "exact conditional", LOWPASS).distance < better.distance
