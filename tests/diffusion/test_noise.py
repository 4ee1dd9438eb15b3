"""Seeds: a stream follows from all that it is for."""

import torch

from vidiff_cli.diffusion.noise import seeded, white


def test_equal_parts_give_equal_draws_and_others_do_not() -> None:
    parts = [(0,), (1,), (0, 1), (1, 0), (0, 1, 2), (2, 1, 0), (-1,), (2**63, 5)]
    draws = [torch.randn(8, generator=seeded(*each)) for each in parts]
    assert all(
        torch.equal(draw, torch.randn(8, generator=seeded(*each))) for each, draw in zip(parts, draws, strict=True)
    )
    for first in range(len(parts)):
        assert not any(torch.equal(draws[first], other) for other in draws[first + 1 :]), parts[first]


def test_a_trailing_zero_is_a_part_too() -> None:
    """The weights of a run follow from (seed), the noise of its first sample from (seed, 0, 0)."""
    first = [torch.randn(8, generator=seeded(*parts)) for parts in ((3,), (3, 0), (3, 0, 0))]
    assert not torch.equal(first[0], first[1]) and not torch.equal(first[1], first[2])


def test_the_global_generator_is_neither_used_nor_moved() -> None:
    before = torch.get_rng_state()
    torch.randn(4, generator=seeded(7))
    assert torch.equal(torch.get_rng_state(), before)


def test_white_noise_has_the_shape_and_type_of_its_like() -> None:
    like = torch.zeros(2, 3, 4, 8, 8, dtype=torch.float64)
    noise = white(like, seeded(0))
    assert noise.shape == like.shape and noise.dtype == like.dtype
    assert (
        abs(float(noise.mean())) < 5 / like.numel() ** 0.5
        and abs(float(noise.var()) - 1) < 5 * (2 / like.numel()) ** 0.5
    )
