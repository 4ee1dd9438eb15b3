"""Seeds: a stream follows from all that it is for. Priors: unit variance in every frame, and the covariance they state.
Noise that is used again is white in every window, and what is renewed has unit variance at every frequency.

Shapes: noise (b c t h w), covariances over frames (t, t).
"""

import math

import pytest
import torch
from torch import Tensor

from vidiff_cli.config.model import NOISE_STRENGTHS, DiffusionSettings
from vidiff_cli.diffusion.noise import (
    CUTOFF,
    FLOOR,
    INDEPENDENT,
    PRIORS,
    Prior,
    freenoise_index,
    low_pass,
    mix_frequencies,
    seeded,
    white,
)

T = 6
CORRELATED = [name for name in PRIORS if name != "independent"]


def drawn(prior: Prior, alone: Tensor | None = None) -> Tensor:
    """Two clips of noise, (2, t, 60,000): every pixel is a sample."""
    like = torch.empty(2, 3, T, 100, 200)
    noise = prior.correlate(white(like, seeded(0)), alone)
    return noise.transpose(1, 2).reshape(2, T, -1)


def close(found: Tensor, expected: Tensor) -> None:
    """Within five standard errors of a covariance of 60,000 samples."""
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=5 * math.sqrt(2 / 60_000))


def test_a_stream_follows_from_every_part_of_its_seed_alone() -> None:
    """A trailing zero is a part too. The global generator is neither used nor moved."""
    parts = [(0,), (1,), (0, 0), (0, 1), (1, 0), (0, 1, 0), (0, 1, 2), (2, 1, 0), (-1,), (2**63, 5)]
    before = torch.get_rng_state()
    draws = [torch.randn(8, generator=seeded(*each)) for each in parts]
    assert torch.equal(torch.get_rng_state(), before)
    for draw, each in zip(draws, parts, strict=True):
        assert torch.equal(draw, torch.randn(8, generator=seeded(*each)))
    assert len(torch.stack(draws).unique(dim=0)) == len(parts)


@pytest.mark.parametrize("strength", [0.3, 0.9])
@pytest.mark.parametrize("name", PRIORS)
def test_noise_has_the_covariance_that_its_prior_states(name: str, strength: float) -> None:
    prior = Prior(name=name, strength=strength)
    noise, places = drawn(prior), torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])
    for clip in noise:
        close(torch.cov(clip), prior.covariance(T))
    assert abs(float(noise.mean())) < 0.02
    assert abs(float((noise[0] * noise[1]).mean())) < 0.02, "clips have nothing in common"
    standard = torch.distributions.Normal(0.0, 1.0).cdf(places)
    for frame in noise[0]:
        torch.testing.assert_close((frame[:, None] < places).float().mean(dim=0), standard, rtol=0, atol=0.011)
    plain = white(torch.empty(2, 3, T, 5, 5, dtype=torch.float64), seeded(0))
    assert plain.dtype == torch.float64 and (name != "independent" or prior.correlate(plain) is plain)
    torch.testing.assert_close(prior.whiten(prior.correlate(plain)), plain, rtol=0, atol=1e-10)


@pytest.mark.parametrize("strength", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("name", PRIORS)
def test_a_covariance_is_one(name: str, strength: float) -> None:
    """Ones on the diagonal, the strength beside it, symmetric, no direction without noise; the same anywhere."""
    s = Prior(name=name, strength=strength).covariance(32)
    assert s.dtype == torch.float64 and torch.equal(s.diag(), torch.ones(32, dtype=torch.float64))
    beside = 0.0 if name == "independent" else strength
    torch.testing.assert_close(s.diag(1), torch.full((31,), beside, dtype=torch.float64), rtol=0, atol=1e-15)
    assert torch.equal(s, s.T) and float(torch.linalg.eigvalsh(s)[0]) > FLOOR / 2 * 0.99
    assert torch.equal(s[:7, :7], Prior(name=name, strength=strength).covariance(7))
    assert torch.equal(s[5:12, 5:12], s[:7, :7]), "the same anywhere"


@pytest.mark.parametrize("a", [0.5, 1.0, 2.0])
def test_mixed_and_progressive_are_those_of_their_paper(a: float) -> None:
    """By their processes: one noise for all and one each; an autoregression. a^2 and 1 share the variance."""
    own, eye = 1 / (1 + a * a), torch.eye(T, dtype=torch.float64)
    mixed = torch.full((T, T), a * a * own, dtype=torch.float64) + own * eye
    torch.testing.assert_close(Prior(name="mixed", strength=a * a * own).covariance(T), mixed, rtol=0, atol=1e-14)
    keep = a / math.sqrt(1 + a * a)
    rows = [eye[0]]
    for frame in range(1, T):
        rows.append(keep * rows[-1] + math.sqrt(own) * eye[frame])
    made = torch.stack(rows)
    torch.testing.assert_close(
        Prior(name="progressive", strength=keep).covariance(T), made @ made.T, rtol=0, atol=1e-14
    )


def test_lowpass_is_a_gaussian_filter_whose_variance_is_made_one_again() -> None:
    """By a filter on a grid of 100 points a frame; what is missing to one is white."""
    strength, fine = 0.5, 100
    width = 0.5 / math.sqrt(-math.log(strength / (1 - FLOOR)))
    grid = torch.arange(-10 * fine, (T + 10) * fine, dtype=torch.float64) / fine
    kernels = torch.stack([(-((grid - frame) ** 2) / (2 * width**2)).exp() for frame in range(T)])
    filtered = kernels @ kernels.T
    assert float(filtered[0, 0]) != pytest.approx(1.0, abs=0.1), "without it the variance is another"
    expected = (1 - FLOOR) * filtered / filtered[0, 0] + FLOOR * torch.eye(T, dtype=torch.float64)
    torch.testing.assert_close(Prior(name="lowpass", strength=strength).covariance(T), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", CORRELATED)
def test_frames_alone_keep_their_noise_and_share_it_with_none(name: str) -> None:
    prior = Prior(name=name, strength=0.8)
    alone = torch.tensor([[False, True, False, False, True, False], [False] * T])
    noise, plain = drawn(prior, alone), drawn(INDEPENDENT)
    assert torch.equal(noise[0][alone[0]], plain[0][alone[0]])
    apart = (alone[0][:, None] | alone[0]) & ~torch.eye(T, dtype=torch.bool)
    close(torch.cov(noise[0]), prior.covariance(T).masked_fill(apart, 0.0))
    close(torch.cov(noise[1]), prior.covariance(T))


def test_unknown_priors_and_strengths_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown noise prior 'pink'; known: independent, mixed, progressive"):
        Prior(name="pink")
    for strength in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match=r"expected 0 to 0\.99"):
            Prior(name="mixed", strength=strength)


def test_settings_hold_the_strength_that_is_used() -> None:
    assert set(NOISE_STRENGTHS) == set(PRIORS)
    for name, strength in NOISE_STRENGTHS.items():
        settings = DiffusionSettings.model_validate({"noise": name})
        assert settings.noise_strength == strength == settings.model_dump()["noise_strength"]
        Prior(name=settings.noise, strength=settings.noise_strength)
        assert DiffusionSettings.model_validate_json(settings.model_dump_json()) == settings
    assert DiffusionSettings.model_validate({"noise": "mixed", "noise_strength": 0.25}).noise_strength == 0.25
    inherited = {"noise_strength": 0.0}  # of a checkpoint without a prior, to be trained on with one
    assert DiffusionSettings.model_validate(inherited | {"noise": "shared"}).noise_strength == 0.9
    assert DiffusionSettings.model_validate({"target": "v"}).noise == "independent", "as an old checkpoint has it"
    with pytest.raises(ValueError, match="goes with a noise other than independent"):
        DiffusionSettings.model_validate({"noise_strength": 0.25})


@pytest.mark.parametrize(("window", "stride"), [(16, 8), (16, 4), (16, 1), (16, 16), (7, 3), (1, 1)])
def test_noise_is_used_again_window_after_window(window: int, stride: int) -> None:
    """Every window in step has all noises once; what is new in it is what the last one let go, in another order."""

    def noises(block: int, seed: int = 3) -> list[int]:
        first = block * stride
        return [
            freenoise_index(place, window=window, stride=stride, seed=seed) for place in range(first, first + window)
        ]

    assert noises(0) == list(range(window))
    orders = []
    for block in range(-30, 30):
        here, following = noises(block), noises(block + 1)
        assert sorted(here) == list(range(window))
        assert here[stride:] == following[: window - stride], "a frame has the same noise in every window"
        new, gone = following[window - stride :], here[:stride]
        assert sorted(new) == sorted(gone)
        orders.append(tuple(gone.index(each) for each in new))
    if stride >= 4:
        assert len(set(orders)) > 10 and orders.count(tuple(range(stride))) < 10, "shuffled, not always the same way"
        assert noises(9) != noises(9, seed=4), "by the seed"
    for gap in (0, window + 1):
        with pytest.raises(ValueError, match=f"expected 1 to {window}"):
            freenoise_index(20, window=window, stride=gap, seed=0)


@pytest.mark.parametrize("shape", [(8, 6, 6), (7, 5, 4), (16, 1, 1), (1, 9, 8)])
def test_the_filter_is_butterworths(shape: tuple[int, int, int]) -> None:
    """1 at frequency 0, a half at the cutoff, and the power 2 order of the distance; the same for f and -f."""
    gain = low_pass(shape)
    assert gain.shape == shape and float(gain[0, 0, 0]) == 1.0
    for place in [(0, 0, 0), (1, 0, 0), (2, 3, 1), (6, 4, 3), (0, 2, 2)]:
        t, h, w = (index % size for index, size in zip(place, shape, strict=True))
        frequencies = [2 * min(index, size - index) / size for index, size in zip((t, h, w), shape, strict=True)]
        distance = math.sqrt(sum(each**2 for each in frequencies))
        assert float(gain[t, h, w]) == pytest.approx(1 / (1 + (distance / CUTOFF) ** 8), rel=1e-12)
        mirrored = gain[-t % shape[0], -h % shape[1], -w % shape[2]]
        assert float(mirrored) == pytest.approx(float(gain[t, h, w]), rel=1e-12)
    assert float(low_pass((8, 1, 1))[1, 0, 0]) == 0.5, "one of eight frequencies is at a quarter of the highest"


@pytest.mark.parametrize("shape", [(16, 1, 1), (8, 6, 5)])
def test_renewed_noise_is_white(shape: tuple[int, int, int]) -> None:
    """By its covariance over all pixels, exactly; low frequencies are the old ones, high ones the new."""
    size = math.prod(shape)
    each = torch.eye(size, dtype=torch.float64).reshape(size, 1, *shape)
    none = torch.zeros_like(each)
    old, new = mix_frequencies(each, none).reshape(size, size), mix_frequencies(none, each).reshape(size, size)
    torch.testing.assert_close(old.T @ old + new.T @ new, torch.eye(size, dtype=torch.float64), rtol=0, atol=1e-10)
    steady = torch.ones(1, 1, *shape, dtype=torch.float64)
    flicker = steady.clone()
    flicker[:, :, 1::2] = -1
    nothing = torch.zeros_like(steady)
    for made, expected, error in (
        (mix_frequencies(steady, nothing), steady, 1e-10),
        (mix_frequencies(nothing, steady), nothing, 1e-10),
        (mix_frequencies(nothing, flicker), flicker, 1e-4),
    ):
        torch.testing.assert_close(made, expected, rtol=0, atol=error)
