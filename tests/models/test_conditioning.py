"""What a level and a time become before the network sees them."""

import math

import pytest
import torch
from torch import Tensor

from vidiff_cli.diffusion.levels import cosine
from vidiff_cli.models.conditioning import FrameEmbedding, gap_features, sinusoidal

WIDTH = 64


def told_of(level: Tensor) -> Tensor:
    """What the first layer for levels is handed: (n) -> (n, width)."""
    embedding, seen = FrameEmbedding(WIDTH, 0), []
    embedding.level.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    level = level[None]
    embedding(level, torch.zeros(*level.shape, 4), torch.zeros(level.shape, dtype=torch.bool), None)
    return seen[0][0]


def test_a_level_is_told_by_its_place_on_the_cosine_schedule() -> None:
    """As 1000 u in a sinusoid made for steps 0 to 1000: log-SNR itself fills a small part of its range, u even less."""
    u = torch.linspace(0, 1, 101, dtype=torch.float64)
    seen = told_of(cosine(u).float())
    torch.testing.assert_close(seen, sinusoidal(1000 * u, WIDTH), rtol=0, atol=0.1)  # the ends are cut off at +-20
    apart = (seen[1:] - seen[:-1]).abs().amax(dim=1)
    assert float(apart.min()) > 0.2, "two levels that a sampler visits in turn look alike"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_levels_keep_their_digits_in_half_precision(dtype: torch.dtype) -> None:
    """e^10 and 1000 u are computed in float32 whatever the network computes in, and the ends are finite."""
    level = torch.tensor([-math.inf, -40.0, -20.0, -19.9, 0.0, 0.01, 19.9, 20.0, 40.0, math.inf])
    plain = told_of(level)
    with torch.autocast("cpu", dtype):
        half = told_of(level)
    assert plain.isfinite().all() and torch.equal(plain, half)
    assert not torch.allclose(plain[4], plain[5], atol=1e-3)


def test_gaps_are_told_in_frames_of_the_base_rate() -> None:
    """Log time to the neighbors, 0 for one frame; and whether there is a neighbor."""
    times, alone = torch.tensor([[0.0, 1.0, 3.0, 3.5]]), torch.zeros(1, 4, dtype=torch.bool)
    two, half = math.log(2), math.log(0.5)
    expected = [[0.0, 0.0, 0.0, 1.0], [0.0, two, 1.0, 1.0], [two, half, 1.0, 1.0], [half, 0.0, 1.0, 0.0]]
    torch.testing.assert_close(gap_features(times, alone)[0], torch.tensor(expected))
    torch.testing.assert_close(gap_features(times + 100, alone), gap_features(times, alone), rtol=0, atol=1e-4)
    image = torch.tensor([[False, False, True, False]])
    assert gap_features(times, image)[0, 2:].tolist() == [[0.0] * 4] * 2, "nothing stands beside an image"
