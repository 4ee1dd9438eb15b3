"""History guidance of exact Gaussian videos against closed forms.

The ideal denoiser of a Gaussian process knows every level of every frame, so that the estimate with the observed frames
at any level is a matrix that can be written down. Shapes: videos (b 1 n 1 1), float64; frames a are observed, b made.
"""

from collections.abc import Sequence

import draws
import pytest
import torch
from gaussian import covariance, ideal
from torch import Tensor

from vidiff_cli.diffusion.guidance import (
    average,
    classifier_free,
    guide_from_each,
    hold_known,
    show_known,
    split_observed,
)
from vidiff_cli.diffusion.levels import alpha_sigma, grid
from vidiff_cli.diffusion.samplers import SAMPLERS, Denoise

PROCESS, FRAMES, SEEN, CLIPS = "AR(1)", 8, 3, 5
OBSERVED = (torch.arange(FRAMES) < SEEN).expand(CLIPS, -1)
A, B = slice(0, SEEN), slice(SEEN, FRAMES)


def randn(seed: int) -> Tensor:
    return draws.randn(CLIPS, 1, FRAMES, 1, 1, seed=seed, dtype=torch.float64)


def estimate(
    z: Tensor, level: float, shown: Tensor | None, scales: tuple[float, float], seen: Sequence[int] = range(SEEN)
) -> Tensor:
    """E[x^b | z^b, y^a] (b n) by the blocks of the joint covariance; y^a = alpha_k x^a + sigma_k n, or nothing. `seen`
    are the frames a, whose values `shown` has."""
    k, a = covariance(PROCESS, range(FRAMES)), list(seen)
    alpha, sigma = (float(each) for each in alpha_sigma(torch.tensor(level, dtype=torch.float64)))
    bb = alpha**2 * k[B, B] + sigma**2 * torch.eye(FRAMES - SEEN, dtype=torch.float64)
    if shown is None:
        return z @ torch.linalg.solve(bb, alpha * k[B, B])
    signal, noise = scales
    aa = signal**2 * k[a][:, a] + noise**2 * torch.eye(len(a), dtype=torch.float64)
    ba = alpha * signal * k[B, a]
    joint = torch.cat([torch.cat([bb, ba], 1), torch.cat([ba.T, aa], 1)])
    cross = torch.cat([alpha * k[B, B], signal * k[a, B]])
    return torch.cat([z, shown], 1) @ torch.linalg.solve(joint, cross)


@pytest.mark.parametrize("scale", [1.0, 1.5, 3.0])
@pytest.mark.parametrize("k", [-20.0, -2.0, 1.0])
@pytest.mark.parametrize("level", [-3.0, 0.5, 4.0])
def test_history_guidance_is_its_closed_form(scale: float, k: float, level: float) -> None:
    """x^b = E[x^b | z^b, y_k] + w (E[x^b | z^b, x^a] - E[x^b | z^b, y_k]), with y_k the observed frames at level k: at
    -20 nothing is left of them, and at scale 1 it is the conditional."""
    z, known, noise = randn(1), randn(2), randn(3)
    denoise = ideal(PROCESS, range(FRAMES))
    free = show_known(denoise, known, OBSERVED, level=k, noise=lambda like, _: noise)
    guided = hold_known(classifier_free(denoise, free, scale), known, OBSERVED)
    made = guided(z, torch.full((CLIPS, FRAMES), level, dtype=torch.float64)).reshape(CLIPS, FRAMES)
    assert torch.equal(made[:, A], known.reshape(CLIPS, FRAMES)[:, A])
    own, clean = z.reshape(CLIPS, FRAMES)[:, B], known.reshape(CLIPS, FRAMES)[:, A]
    signal, sigma = (float(each) for each in alpha_sigma(torch.tensor(k, dtype=torch.float64)))
    conditional = estimate(own, level, clean, (1.0, 0.0))
    nothing_left = k == -20.0
    shown = None if nothing_left else signal * clean + sigma * noise.reshape(CLIPS, FRAMES)[:, A]
    away = estimate(own, level, shown, (signal, sigma))
    torch.testing.assert_close(made[:, B], away + scale * (conditional - away), rtol=0, atol=1e-3)
    if scale == 1:
        torch.testing.assert_close(made[:, B], conditional, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp-2m"])
def test_scale_one_samples_the_conditional_bit_for_bit(sampler: str) -> None:
    """And a larger scale moves the frames away from what they would be without the observed ones."""
    known, noise, start = randn(2), randn(3), randn(1)
    denoise = ideal(PROCESS, range(FRAMES))
    free = show_known(denoise, known, OBSERVED, level=-20.0, noise=lambda like, _: noise)

    def sample(scale: float) -> Tensor:
        guided = hold_known(guide_from_each(denoise, [(free, scale)]), known, OBSERVED)
        return SAMPLERS[sampler](guided, start, grid(32))

    plain = SAMPLERS[sampler](hold_known(denoise, known, OBSERVED), start, grid(32))
    assert torch.equal(sample(1.0), plain)
    edge = known[:, 0, SEEN - 1, 0, 0]
    without = SAMPLERS[sampler](denoise, start, grid(32))[:, 0, SEEN, 0, 0]
    distance = [float((sample(scale)[:, 0, SEEN, 0, 0] - without).abs().mean()) for scale in (1.0, 1.5, 2.0)]
    assert distance == sorted(distance) and distance[0] < distance[2]
    assert float((plain[:, 0, SEEN, 0, 0] - edge).abs().mean()) < float((without - edge).abs().mean())


@pytest.mark.parametrize("scale", [1.0, 1.5, 3.0])
@pytest.mark.parametrize("parts", [[[0, 1], [2]], [[0], [1], [2]]])
@pytest.mark.parametrize("level", [-3.0, 0.5, 4.0])
def test_history_in_parts_is_its_closed_form(scale: float, parts: list[list[int]], level: float) -> None:
    """x^b = u + (w / n) sum over i of (E[x^b | z^b, x^ai] - u), with u = E[x^b | z^b]: at w = 1 the mean of the
    conditionals, which is not the conditional."""
    z, known, noise = randn(1), randn(2), randn(3)
    denoise = ideal(PROCESS, range(FRAMES))
    masks = split_observed(OBSERVED, len(parts))
    assert [mask[0].nonzero().flatten().tolist() for mask in masks] == parts

    def without(hidden: Tensor) -> Denoise:
        return show_known(denoise, known, hidden, level=-20.0, noise=lambda like, _: noise)

    seeing = average([without(OBSERVED & ~mask) for mask in masks])
    guided = hold_known(classifier_free(seeing, without(OBSERVED), scale), known, OBSERVED)
    made = guided(z, torch.full((CLIPS, FRAMES), level, dtype=torch.float64)).reshape(CLIPS, FRAMES)
    assert torch.equal(made[:, A], known.reshape(CLIPS, FRAMES)[:, A])
    own, clean = z.reshape(CLIPS, FRAMES)[:, B], known.reshape(CLIPS, FRAMES)
    free = estimate(own, level, None, (1.0, 0.0))
    each = [estimate(own, level, clean[:, part], (1.0, 0.0), part) for part in parts]
    expected = free + sum(scale / len(parts) * (one - free) for one in each)
    torch.testing.assert_close(made[:, B], expected, rtol=0, atol=2e-3)
    if scale == 1:
        torch.testing.assert_close(made[:, B], torch.stack(each).mean(dim=0), rtol=0, atol=2e-3)
        whole = estimate(own, level, clean[:, A], (1.0, 0.0))
        assert level > 0 or float((whole - expected).abs().max()) > 0.05


@pytest.mark.parametrize("parts", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("counts", [[7], [4, 9], [0, 5, 2], [0, 0]])
def test_parts_are_equal_shares_in_the_order_of_time(parts: int, counts: list[int]) -> None:
    """Every observed frame is in one of them; no clip that observes frames has an empty one."""
    generator = torch.Generator().manual_seed(1)
    observed = torch.zeros(len(counts), 12, dtype=torch.bool)
    for row, count in zip(observed, counts, strict=True):
        row[torch.randperm(12, generator=generator)[:count]] = True
    masks = split_observed(observed, parts)
    seen = [count for count in counts if count]
    assert len(masks) == (min(parts, *seen) if seen else 1)
    assert torch.equal(torch.stack(masks).sum(dim=0), observed.long())
    for clip in range(len(counts)):
        places = [mask[clip].nonzero().flatten() for mask in masks]
        sizes, order = [len(each) for each in places], torch.cat(places)
        assert max(sizes) - min(sizes) <= 1 and torch.equal(order, order.sort().values)


def test_one_part_is_the_estimate_itself() -> None:
    denoise = ideal(PROCESS, range(FRAMES))
    (mask,) = split_observed(OBSERVED, 1)
    assert mask is OBSERVED and average([denoise]) is denoise
