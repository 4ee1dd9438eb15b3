"""Laws of the conversion between 8-bit levels and [-1, 1]: round trips, the nearest level, the same bits everywhere."""

import numpy as np
import torch

from vidiff_cli.pixels import (
    LEVELS_PER_UNIT,
    clip_from_uint8,
    clip_to_uint8,
    from_uint8,
    from_uint8_fast,
    quantize_8bit,
    to_uint8,
)

LEVELS = torch.arange(256, dtype=torch.uint8)


def test_every_level_comes_back_from_either_conversion():
    exact, fast = from_uint8(LEVELS), from_uint8_fast(LEVELS)
    assert (float(exact[0]), float(exact[-1])) == (-1.0, 1.0) and exact.dtype == fast.dtype == torch.float32
    assert torch.equal(to_uint8(exact), LEVELS) and torch.equal(to_uint8(fast), LEVELS)
    assert np.array_equal(exact.numpy(), (np.arange(256) / 127.5 - 1).astype(np.float32)), "the nearest float32"
    torch.testing.assert_close(fast, exact, rtol=0, atol=6e-8)


def test_numbers_between_levels_become_the_nearest_and_others_are_clamped():
    for offset in (-0.49, -0.2, 0.2, 0.49):
        assert torch.equal(to_uint8(from_uint8(LEVELS) + offset / LEVELS_PER_UNIT), LEVELS)
    assert to_uint8(torch.tensor([-7.0, 7.0])).tolist() == [0, 255]


def test_quantized_numbers_are_those_that_a_file_gives_back():
    x = torch.linspace(-1.2, 1.2, 10_001)
    rounded = quantize_8bit(x)
    assert torch.equal(rounded, from_uint8(to_uint8(x))) and len(rounded.unique()) == 256
    assert torch.equal(rounded, quantize_8bit(rounded))
    assert float((rounded - x.clamp(-1, 1)).abs().max()) <= 0.5 / LEVELS_PER_UNIT + 1e-6
    assert bool(quantize_8bit(torch.tensor(torch.nan)).isnan()), "a broken network is not written as black"


def test_clips_change_their_layout_and_keep_their_pixels():
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 3), np.uint8)  # n h w c
    video = clip_from_uint8(frames)
    assert video.shape == (1, 3, 2, 3, 5)
    assert float(video[0, 1, 1, 2, 4]) == float(from_uint8(torch.tensor(frames[1, 2, 4, 1])))
    assert np.array_equal(clip_to_uint8(video[0]), frames)
