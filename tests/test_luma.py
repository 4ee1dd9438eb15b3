"""Luma in 8 bits: the nearest level to the weighted sum, exactly; gray stays what it is."""

from fractions import Fraction

import numpy as np

from vidiff_cli.luma import LUMA, THOUSANDTHS, to_gray, to_rgb


def test_luma_is_the_nearest_level() -> None:
    colors = np.random.default_rng(0).integers(0, 256, (2, 9, 7, 3), np.uint8)
    colors[0, 0, :3] = [(255, 255, 255), (0, 0, 0), (255, 0, 255)]
    found = to_gray(colors)
    assert found.shape == (2, 9, 7, 1) and found.dtype == np.uint8
    for color, level in zip(colors.reshape(-1, 3).tolist(), found.ravel().tolist(), strict=True):
        exact = sum(Fraction(weight, 1000) * value for weight, value in zip(THOUSANDTHS, color, strict=True))
        assert abs(level - exact) <= Fraction(1, 2)
    assert [weight / 1000 for weight in THOUSANDTHS] == list(LUMA) and sum(THOUSANDTHS) == 1000


def test_gray_frames_keep_their_levels_and_come_back_as_rgb() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    shown = to_rgb(levels)
    assert shown.shape == (1, 16, 16, 3) and np.array_equal(to_gray(shown), levels)
    assert to_rgb(shown) is shown
